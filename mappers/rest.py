"""The endpoints of llm-proxy-api (its README and sources of October 2025), below the prefix that `rest:` names: chat,
two forms of conversation, tags and ping. For clients only.

Streams are the default, and are those of OpenAI's chat completions: what that proxy passed on from its providers.
"""

import time
from dataclasses import replace
from functools import partial
from typing import Any

from mooltiproxy.errors import BadRequest, ProxyError
from mooltiproxy.mapping.dialect import Dialect, Reply
from mooltiproxy.mapping.fields import Fields
from mooltiproxy.mapping.neutral import NOWHERE, Answer, Asked, Refusal, Request, Role, Text, Turn

from .ollama import models
from .openai import chat
from .openai.common import read_sampling

MODEL = ("model_name", "model")
"""The two names of the field, the one that is preferred first."""
NEEDED = "user_last_statement"
HISTORY = "historical_messages"
PROMPT = "chat-conversation-simple"
"""The prompt of the library that a conversation begins with, where the client sends no system prompt."""
_ROLES: tuple[Role, ...] = ("system", "user", "assistant")
_WORDS = {401: "unauthorized", 403: "forbidden", 404: "not_found", 413: "too_large", 429: "too_many_requests"}


def read_chat(body: Any, asked: Asked = NOWHERE) -> Request:
    """A chat completion, streamed unless the client says otherwise; raises BadRequest that names the field at fault."""
    fields = Fields(body)
    _check_there(fields, "messages")
    known = {name: value for name, value in body.items() if name != MODEL[0]}
    said = {"model": fields.text(fields.first(*MODEL)), "stream": _streams(fields)}
    return chat.read_request({**known, **said}, asked)


def read_conversation(body: Any, asked: Asked = NOWHERE, *, extended: bool = False) -> Request:
    """What the user said last, after what was said before, below a prompt of the library, or one that an `extended`
    request brings; raises BadRequest that names the fields at fault."""
    fields = Fields(body)
    _check_there(fields, NEEDED)
    request = Request(model=fields.text(fields.first(*MODEL)), stream=_streams(fields))
    request.turns = [turn for said in fields.objects(HISTORY) for turn in _turns(said)]
    request.turns.append(Turn("user", [Text(fields.required_text(NEEDED))]))
    request.sampling = read_sampling(fields)
    request.sampling.max_tokens = fields.integer(fields.first("max_new_tokens", "max_tokens"), 1)
    words = _system(fields.text("system_prompt") if extended else None, fields.text("language"), asked)
    if words:
        request.turns.insert(0, Turn("system", [Text(words)]))
    request.extra.update(fields.leftovers())
    return request


def _system(said: str | None, language: str | None, asked: Asked) -> str | None:
    """The system prompt: what the client says, be it words or a prompt's name in the library, or else the library's."""
    found = asked.prompt(said or PROMPT, language)
    return found if found is not None else said


def _check_there(fields: Fields, needed: str) -> None:
    """Raises BadRequest that names everything that is missing at once."""
    missing = [name for name in (MODEL[0], needed) if fields.any(fields.first(*_spellings(name))) in (None, "")]
    if missing:
        raise BadRequest(f"required fields are missing: {', '.join(missing)}", param=missing[0])


def _spellings(name: str) -> tuple[str, ...]:
    return MODEL if name in MODEL else (name,)


def _streams(fields: Fields) -> bool:
    return fields.flag("stream") is not False


def _turns(said: Fields) -> list[Turn]:
    """One entry of the history: `{"user": words, "assistant": words}`, either or both, or a message with its role."""
    name = said.text("role")
    if name is not None:
        role = next((role for role in _ROLES if role == name), None)
        if role is None:
            raise said.wrong("role", f"one of {', '.join(_ROLES)}")
        return [Turn(role, [Text(said.required_text("content"))])]
    turns = [Turn(role, [Text(words)]) for role in _ROLES if (words := said.text(role)) is not None]
    if not turns:
        raise BadRequest(f"{said.path}: expected `user`, `assistant` or both, or `role` and `content`", param=HISTORY)
    return turns


def write_conversation(answer: Answer, request: Request) -> dict[str, Any]:
    """A whole answer: its text, and the seconds that it took."""
    text = "".join(part.text for part in answer.choices[0].parts if isinstance(part, Text | Refusal))
    return {"response": text, "generation_time": (time.monotonic_ns() - request.began) / 1e9}


def write_error(error: ProxyError, request_id: str) -> dict[str, Any]:
    """The body of an error answer, and the last event of a stream that fails."""
    word = _WORDS.get(error.status, "internal_error" if error.status >= 500 else "bad_request")
    return {"error": word, "details": str(error), "request_id": request_id}


conversation = replace(
    chat.endpoint,
    name="conversation",
    paths=("/conversation_with_model",),
    read_request=read_conversation,
    write_answer=write_conversation,
)

dialect = Dialect(
    name="rest",
    doc="llm-proxy-api: chat, conversations, tags, ping, passthrough; for clients, where `rest:` names a prefix",
    base="",
    endpoints=(
        replace(chat.endpoint, paths=("/chat",), read_request=read_chat),
        conversation,
        replace(
            conversation,
            name="extended",
            paths=("/extended_conversation_with_model",),
            read_request=partial(read_conversation, extended=True),
        ),
        replace(models.tags_endpoint, paths=("/tags",)),
    ),
    write_error=write_error,
    write_stream_error=write_error,
    replies={"/ping": Reply(b'{"status":true,"body":"pong"}', "application/json")},
    model_fields=MODEL,
    below_prefix=True,
)
