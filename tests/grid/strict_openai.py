"""A strict server of OpenAI's chat completions and legacy completions, without its sockets.

`hear` is the vendor's; `LOCAL` is a server of open models, which takes more fields.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import orjson

from mappers.openai import chat, completions, dialect
from mooltiproxy.mapping.framing import encode_sse

from .conversation import MESSAGE, Asked, Call, Told, pieces_of
from .shapes import at_least, between, check, filled, is_base64, matching, need

NAME = "openai"
DIALECT = replace(dialect, endpoints=(chat.endpoint, completions.endpoint))
CONFIG = {"url": "https://api.openai.com/v1"}
MEDIA_TYPE = "text/event-stream"
TELLS = frozenset(("prompt", "answer", "cached", "reasoning", "ids", "thought"))
STOPS = True

FUNCTION_NAME = matching(r"[a-zA-Z0-9_-]{1,64}")
TEXTS = (str, [{"type": "text", "text": str}])
IMAGE = {"type": "image_url", "image_url": {"url": str, "detail?": ("auto", "low", "high")}}
AUDIO = {"type": "input_audio", "input_audio": {"data": is_base64, "format": ("wav", "mp3")}}
FILE = {"type": "file", "file": ({"file_id": str}, {"filename": str, "file_data": str})}
CALL = {"id": filled, "type": "function", "function": {"name": FUNCTION_NAME, "arguments": str}}
MESSAGE_SHAPE = (
    {"role": ("system", "developer"), "content": TEXTS, "name?": str},
    {"role": "user", "content": (str, [({"type": "text", "text": str}, IMAGE, AUDIO, FILE)]), "name?": str},
    {"role": "assistant", "content": TEXTS, "refusal?": str, "name?": str},
    {"role": "assistant", "content?": (None, *TEXTS), "refusal?": str, "name?": str, "tool_calls": [CALL]},
    {"role": "assistant", "content?": None, "refusal": str, "name?": str},
    {"role": "tool", "tool_call_id": str, "content": TEXTS},
)
TOOL_SHAPE = {
    "type": "function",
    "function": {"name": FUNCTION_NAME, "description?": str, "parameters?": dict, "strict?": bool},
}
ONE_TOOL = {"type": "function", "function": {"name": str}}
CHOICE = (
    "none",
    "auto",
    "required",
    ONE_TOOL,
    {"type": "allowed_tools", "allowed_tools": {"mode": ("auto", "required"), "tools": [ONE_TOOL]}},
)
FORMAT = (
    {"type": ("text", "json_object")},
    {
        "type": "json_schema",
        "json_schema": {"name": FUNCTION_NAME, "description?": str, "schema": dict, "strict?": bool},
    },
)
STOP = (filled, [filled])
SHARED = {
    "model": filled,
    "temperature?": between(0, 2),
    "top_p?": between(0, 1),
    "n?": between(1, 128, int),
    "stop?": STOP,
    "seed?": int,
    "presence_penalty?": between(-2, 2),
    "frequency_penalty?": between(-2, 2),
    "logit_bias?": dict,
    "user?": str,
    "stream?": bool,
    "stream_options?": {"include_usage?": bool, "include_obfuscation?": bool},
}
LOCAL_FIELDS = {
    "top_k?": int,
    "min_p?": float,
    "typical_p?": float,
    "repetition_penalty?": float,
    "max_tokens?": at_least(1),
}
"""What the vendor itself refuses, or has deprecated: for servers of open models."""
CHAT = {
    **SHARED,
    "messages": [MESSAGE_SHAPE],
    "max_completion_tokens?": at_least(1),
    "logprobs?": bool,
    "top_logprobs?": between(0, 20, int),
    "tools?": [TOOL_SHAPE],
    "tool_choice?": CHOICE,
    "parallel_tool_calls?": bool,
    "response_format?": FORMAT,
    "reasoning_effort?": ("none", "minimal", "low", "medium", "high", "xhigh", "max"),
}
COMPLETION = {
    **SHARED,
    "prompt": str,
    "max_tokens": at_least(0),
    "suffix?": str,
    "echo?": bool,
    "best_of?": between(0, 20, int),
    "logprobs?": between(0, 5, int),
}


def hear(body: Any, path: str, *, local: bool = False) -> Asked:
    """What a request asks; raises Refused as the API would refuse it."""
    need(path in ("/v1/chat/completions", "/v1/completions"), f"404 {path}")
    is_text = path == "/v1/completions"
    shape = COMPLETION if is_text else CHAT
    check(body, {**shape, **LOCAL_FIELDS} if local and not is_text else shape)
    need("stream_options" not in body or body.get("stream") is True, "stream_options without stream")
    stop = body.get("stop", [])
    need(isinstance(stop, str) or len(stop) <= 4, "more than four stop strings")
    if is_text:
        asked: dict[str, Any] = {"prompt": body["prompt"], "max_tokens": body["max_tokens"]}
    else:
        asked = _hear_chat(body)
    return Asked(
        **asked,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        temperature=body.get("temperature"),
        streams=body.get("stream", False),
    )


def _hear_chat(body: Mapping[str, Any]) -> dict[str, Any]:
    tools = body.get("tools", [])
    need(tools != [] or "tools" not in body, "tools: empty")
    need(bool(tools) or not {"tool_choice", "parallel_tool_calls"} & body.keys(), "a choice without tools")
    need("top_logprobs" not in body or body.get("logprobs") is True, "top_logprobs without logprobs")
    schema = body.get("response_format", {}).get("json_schema", {})
    if schema.get("strict"):
        check_strict_schema(schema["schema"])
    for tool in tools:
        if tool["function"].get("strict"):
            check_strict_schema(tool["function"]["parameters"])
    return {
        **hear_messages(body["messages"]),
        "tools": {tool["function"]["name"]: tool["function"].get("parameters") for tool in tools},
        "schema": schema.get("schema"),
        "max_tokens": body.get("max_completion_tokens", body.get("max_tokens")),
        "thinks": body.get("reasoning_effort", "none") != "none",
    }


def check_strict_schema(schema: Any) -> None:
    """Refuse a schema that strict mode does not take: objects must be closed, and all their properties required."""
    if isinstance(schema, list):
        for one in schema:
            check_strict_schema(one)
    elif isinstance(schema, dict):
        if schema.get("type") == "object":
            need(schema.get("additionalProperties") is False, "strict: additionalProperties must be false")
            need(sorted(schema.get("required", [])) == sorted(schema.get("properties", {})), "strict: all are required")
        for value in schema.values():
            check_strict_schema(value)


def hear_messages(messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is said, with calls and results; refuses calls without their results right behind them."""
    need(bool(messages), "messages: empty")
    system, said, images = [], [], []
    calls: dict[str, str] = {}
    waiting: list[str] = []
    results = []
    for message in messages:
        role = message["role"]
        if role == "tool":
            identifier = message["tool_call_id"]
            need(identifier in waiting, f"messages: the result of {identifier} is not behind its call")
            waiting.remove(identifier)
            results.append((calls[identifier], text_of(message["content"])))
            continue
        need(not waiting, f"messages: {waiting} have no results")
        for call in message.get("tool_calls", ()):
            need(call["id"] not in calls, f"messages: two calls {call['id']}")
            calls[call["id"]] = orjson.loads(call["function"]["arguments"]).get("city", "")
            waiting.append(call["id"])
        text = text_of(message.get("content"))
        if role in ("system", "developer"):
            system.append(text)
        elif text:
            said.append((role, text))
        images += images_of(message.get("content"))
    need(not waiting, f"messages: {waiting} have no results")
    return {
        "system": "\n\n".join(system),
        "said": tuple(said),
        "images": tuple(images),
        "calls": tuple(calls.values()),
        "results": tuple(results),
    }


def text_of(content: Any) -> str:
    """The text of a message's content."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part["type"] == "text")
    return content or ""


def images_of(content: Any) -> list[str]:
    """The base64 images of a message's content."""
    parts = content if isinstance(content, list) else []
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return [url.removeprefix("data:image/png;base64,") for url in urls]


def _usage(told: Told) -> dict[str, Any]:
    usage = told.usage
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.answer,
        "total_tokens": (usage.prompt or 0) + (usage.answer or 0),
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def _call(at: int, call: Call) -> dict[str, Any]:
    arguments = orjson.dumps({"city": call.city}).decode()
    return {"id": call.id or f"call_{at}", "type": "function", "function": {"name": call.name, "arguments": arguments}}


def answer(told: Told, path: str) -> tuple[bytes, dict[str, str]]:
    """A whole answer, with header fields."""
    if path == "/v1/completions":
        choice: dict[str, Any] = {"text": told.text, "finish_reason": told.finish, "logprobs": None, "index": 0}
        kind = "text_completion"
    else:
        message: dict[str, Any] = {"role": "assistant", "content": told.text or None, "refusal": None}
        if told.thought:
            message["reasoning_content"] = told.thought
        if told.calls:
            message["tool_calls"] = [_call(at, call) for at, call in enumerate(told.calls)]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": told.finish}
        kind = "chat.completion"
    head = {"id": "target-1", "object": kind, "created": 1700000000, "model": "m1-2026"}
    return orjson.dumps({**head, "choices": [choice], "usage": _usage(told)}), {}


def stream(told: Told, path: str) -> list[bytes]:
    """The events of a streamed answer."""
    choices: list[dict[str, Any]]
    if path == "/v1/completions":
        choices = [{"text": piece, "finish_reason": None} for piece in pieces_of(told.text)]
        choices.append({"text": "", "finish_reason": told.finish})
        kind = "text_completion"
    else:
        deltas = _deltas(told)
        choices = [{"delta": delta, "finish_reason": None} for delta in deltas]
        choices.append({"delta": {}, "finish_reason": told.finish})
        kind = "chat.completion.chunk"
    head = {"id": "target-1", "object": kind, "created": 1700000000, "model": "m1-2026"}
    chunks = [{**head, "choices": [{"index": 0, "logprobs": None, **one}], "usage": None} for one in choices]
    return [encode_sse(event) for event in (*chunks, {**head, "choices": [], "usage": _usage(told)}, "[DONE]")]


def _deltas(told: Told) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning_content": piece} for piece in pieces_of(told.thought)]
    deltas += [{"content": piece} for piece in pieces_of(told.text)]
    for at, call in enumerate(told.calls):
        whole = _call(at, call)
        arguments = whole["function"].pop("arguments")
        begun = {**whole, "index": at, "function": {**whole["function"], "arguments": ""}}
        deltas.append({"tool_calls": [begun]})
        deltas += [{"tool_calls": [{"index": at, "function": {"arguments": one}}]} for one in pieces_of(arguments)]
    return deltas


LOCAL = SimpleNamespace(
    NAME="openai",
    DIALECT=DIALECT,
    CONFIG={"url": "http://127.0.0.1:8000"},
    hear=partial(hear, local=True),
)


def error() -> bytes:
    """The body of a 429."""
    return orjson.dumps({"error": {"message": MESSAGE, "type": "rate_limit_error", "param": None, "code": None}})


def broken(path: str) -> list[bytes]:
    """A stream that fails behind its first text."""
    event = {"error": {"message": MESSAGE, "type": "server_error", "param": None, "code": None}}
    return [*stream(Told("Hi"), path)[:-3], encode_sse(event)]
