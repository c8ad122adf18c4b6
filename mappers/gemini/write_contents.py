"""Writes turns as `contents` and `systemInstruction` (ai.google.dev/api/caching#Content).

The service wants the roles user and model in turns, and the results of a content's calls in the next content, as many
and in the same order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.media import host_of, image_type
from mooltiproxy.mapping.neutral import (
    Audio,
    Document,
    Image,
    Part,
    Reasoning,
    Refusal,
    Request,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)
from mooltiproxy.mapping.signatures import GEMINI, own
from mooltiproxy.mapping.tool_names import renamed_tools

from .names import FUNCTIONS, is_newer, is_older
from .signatures import FIELD, SKIP, signed

IMAGE_HOSTS = frozenset(["generativelanguage.googleapis.com"])
"""Where files lie that were uploaded to the service."""
_FILE_HOSTS = IMAGE_HOSTS | {"www.youtube.com", "youtube.com", "youtu.be"}


@dataclass(slots=True)
class _Content:
    """One content while it is put together: the results, each with its call's place, stand before all else."""

    role: str
    results: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    parts: list[dict[str, Any]] = field(default_factory=list)

    def written(self) -> dict[str, Any]:
        results = [part for _, part in sorted(self.results, key=lambda result: result[0])]
        return {"role": self.role, "parts": results + self.parts}


class ContentsWriter:
    """Writes one request's conversation; names what is left out or changed in `dropped`."""

    def __init__(self, request: Request, dropped: list[str]) -> None:
        self._request = request
        self._dropped = dropped
        self._names = renamed_tools(request, FUNCTIONS)
        self._calls: dict[str, tuple[int, str]] = {}
        self._contents: list[_Content] = []

    def write(self) -> dict[str, Any]:
        """`systemInstruction` and `contents`; raises BadRequest for what has no form here."""
        turns = self._request.turns
        leading = next((at for at, turn in enumerate(turns) if turn.role != "system"), len(turns))
        for turn in turns[leading:]:
            self._add(turn)
        if not self._contents or self._contents[0].role == "model":
            self._drop("clamped messages[0].role assistant->user")
            self._contents.insert(0, _Content("user", parts=[{"text": "."}]))
        if is_newer(self._request.model):
            for content in self._contents:
                _sign(content)
        contents = [content.written() for content in self._contents]
        system = _system(turns[:leading])
        return {"systemInstruction": {"parts": system}, "contents": contents} if system else {"contents": contents}

    def _add(self, turn: Turn) -> None:
        if turn.name:
            self._drop("messages.name")
        role = "model" if turn.role == "assistant" else "user"
        if turn.role == "system":
            self._drop("messages.system")
            turn = Turn("user", [Text(f"<system>\n{_text(turn.parts)}\n</system>")])
        content = self._contents[-1] if self._contents and self._contents[-1].role == role else _Content(role)
        for part in turn.parts:
            if isinstance(part, ToolResult):
                self._add_result(content, part)
            else:
                content.parts += self._part(part)
        if content.parts or content.results:
            self._contents += [] if self._contents and self._contents[-1] is content else [content]

    def _drop(self, entry: str) -> None:
        if entry not in self._dropped:
            self._dropped.append(entry)

    def _part(self, part: Part) -> list[dict[str, Any]]:
        """A part; none for one that says nothing here."""
        if isinstance(part, Text):
            return [signed({"text": part.text}, part.signature)] if part.text or part.signature else []
        if isinstance(part, Reasoning):
            return self._thought(part)
        if isinstance(part, Refusal):
            return [{"text": part.text}] if part.text else []
        if isinstance(part, ToolCall):
            return [self._call(part)]
        return [self._media(part)]

    def _media(self, part: Part) -> dict[str, Any]:
        if isinstance(part, Image) and part.detail not in (None, "auto"):
            self._drop("messages.detail")
        if isinstance(part, Document) and part.name:
            self._drop("messages.filename")
        return _media(part)

    def _thought(self, thought: Reasoning) -> list[dict[str, Any]]:
        """A thought, with its signature where that is the service's own: another's would be refused."""
        signature = own(GEMINI, thought.signature)
        if thought.signature and not signature:
            self._drop("messages.signature")
        return [signed({"text": thought.text, "thought": True}, signature)] if thought.text or signature else []

    def _call(self, call: ToolCall) -> dict[str, Any]:
        name = self._names.get(call.name, call.name)
        self._calls[call.id] = (len(self._calls), name)
        written = {"id": call.id, "name": name, "args": _history_arguments(call)}
        return signed({"functionCall": written}, call.signature)

    def _add_result(self, content: _Content, result: ToolResult) -> None:
        place, name = self._calls.get(result.call_id) or (len(self._calls), result.name)
        if not name:
            message = "messages: a result belongs to no call before it, so that this target cannot be told its function"
            raise BadRequest(message, param="messages")
        texts = [part for part in result.parts if isinstance(part, Text)]
        media = [self._media(part) for part in result.parts if not isinstance(part, Text)]
        response = response_of(_text(texts), is_error=result.is_error)
        written: dict[str, Any] = {"id": result.call_id, "name": name, "response": response}
        inline = [] if is_older(self._request.model) else [part for part in media if "inlineData" in part]
        if inline:
            written["parts"] = inline
        content.results.append((place, {"functionResponse": written}))
        content.parts += [part for part in media if part not in inline]


def _system(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """The instruction's parts; several messages are told apart by a blank line."""
    if len(turns) == 1:
        return [{"text": part.text} for part in turns[0].parts if isinstance(part, Text) and part.text]
    text = "\n\n".join(filter(None, (_text(turn.parts) for turn in turns)))
    return [{"text": text}] if text else []


def _text(parts: Sequence[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Text))


def _sign(content: _Content) -> None:
    """The first call of a content must bear a signature; one that another model made has none."""
    first = next((part for part in content.parts if "functionCall" in part), None)
    if first is not None:
        first.setdefault(FIELD, SKIP)


def _history_arguments(call: ToolCall) -> dict[str, Any]:
    arguments = arguments_of(call.arguments)
    if arguments is None:
        message = f"messages: the arguments of the call of {call.name} must be a JSON object for this target"
        raise BadRequest(message, param="messages")
    return arguments


def arguments_of(text: str) -> dict[str, Any] | None:
    """A call's arguments as the object that `args` is; None for a text that is no JSON object."""
    try:
        arguments = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return None
    return arguments if isinstance(arguments, dict) else None


def response_of(text: str, *, is_error: bool) -> dict[str, Any]:
    """What a function returned, as the object that `response` must be."""
    response = arguments_of(text) if text else None
    if is_error:
        return response if response is not None and "error" in response else {"error": text}
    return {"result": text} if response is None else response


def _media(part: Part) -> dict[str, Any]:
    if isinstance(part, Audio):
        return {"inlineData": {"mimeType": f"audio/{part.format}", "data": part.data}}
    if not isinstance(part, Image | Document):
        kind = type(part).__name__.lower()
        raise BadRequest(f"a message for this target cannot hold a part of the kind {kind}", param="messages")
    if part.data is not None:
        return {"inlineData": {"mimeType": _media_type(part, part.data), "data": part.data}}
    if part.url is None or not _is_googles(part.url):
        kind = "images" if isinstance(part, Image) else "files"
        raise BadRequest(f"messages: this target takes {kind} as base64, not by URL or file id", param="messages")
    known = {"mimeType": part.media_type} if part.media_type else {}
    return {"fileData": {**known, "fileUri": part.url}}


def _media_type(part: Image | Document, data: str) -> str:
    if part.media_type:
        return part.media_type
    return (image_type(data) or "image/png") if isinstance(part, Image) else "application/pdf"


def _is_googles(url: str) -> bool:
    """Whether the service reads this address itself: its own files, Cloud Storage, YouTube."""
    return url.startswith("gs://") or (url.startswith("https://") and host_of(url) in _FILE_HOSTS)
