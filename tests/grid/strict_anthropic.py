"""A strict server of Anthropic's Messages API, without its sockets."""

from collections.abc import Mapping
from typing import Any

import orjson

from mappers.anthropic import dialect
from mooltiproxy.mapping.framing import encode_named_sse
from tests.servers import strict_anthropic

from .conversation import MESSAGE, Asked, Call, Told, pieces_of
from .shapes import at_least, between, check, filled, is_base64, matching, need

NAME = "anthropic"
DIALECT = dialect
CONFIG = {"url": "https://api.anthropic.com"}
MEDIA_TYPE = "text/event-stream"
TELLS = frozenset(("prompt", "answer", "cached", "reasoning", "ids", "thought", "stop_string"))
STOPS = True

CACHE = {"type": "ephemeral", "ttl?": ("5m", "1h")}
TEXT = {"type": "text", "text": filled, "cache_control?": CACHE, "citations?": list}
IMAGE_TYPE = ("image/jpeg", "image/png", "image/gif", "image/webp")
URL = {"type": "url", "url": matching("https?://.+")}
FILE = {"type": "file", "file_id": str}
IMAGE = {
    "type": "image",
    "source": ({"type": "base64", "media_type": IMAGE_TYPE, "data": is_base64}, URL, FILE),
    "cache_control?": CACHE,
}
PDF = {"type": "base64", "media_type": "application/pdf", "data": is_base64}
PLAIN = {"type": "text", "media_type": "text/plain", "data": str}
DOCUMENT = {"type": "document", "source": (PDF, PLAIN, URL, FILE), "title?": str, "cache_control?": CACHE}
RESULT = {
    "type": "tool_result",
    "tool_use_id": matching("[a-zA-Z0-9_-]+"),
    "content?": (str, [(TEXT, IMAGE, DOCUMENT)]),
    "is_error?": bool,
    "cache_control?": CACHE,
}
CALL = {
    "type": "tool_use",
    "id": matching("[a-zA-Z0-9_-]+"),
    "name": matching("[a-zA-Z0-9_-]{1,128}"),
    "input": dict,
    "cache_control?": CACHE,
}
THOUGHT = ({"type": "thinking", "thinking": str, "signature": filled}, {"type": "redacted_thinking", "data": filled})
MESSAGE_SHAPE = (
    {"role": "user", "content": (filled_text := matching(r"(?s).*\S.*"), [(TEXT, IMAGE, DOCUMENT, RESULT)])},
    {"role": "assistant", "content": (filled_text, [(TEXT, CALL, *THOUGHT)])},
    {"role": "system", "content": (filled_text, [TEXT])},
)
TOOL_SHAPE = {
    "name": matching("[a-zA-Z0-9_-]{1,128}"),
    "description?": str,
    "input_schema": dict,
    "strict?": bool,
    "type?": "custom",
    "cache_control?": CACHE,
}
CHOICE = (
    {"type": ("auto", "any"), "disable_parallel_tool_use?": bool},
    {"type": "tool", "name": str, "disable_parallel_tool_use?": bool},
    {"type": "none"},
)
DISPLAY = ("summarized", "omitted")
THINKING = (
    {"type": "enabled", "budget_tokens": at_least(1024), "display?": DISPLAY},
    {"type": "adaptive", "display?": DISPLAY},
    {"type": "disabled"},
)
REQUEST = {
    "model": filled,
    "messages": [MESSAGE_SHAPE],
    "max_tokens": at_least(1),
    "system?": (str, [TEXT]),
    "temperature?": between(0, 1),
    "top_p?": between(0, 1),
    "top_k?": at_least(0),
    "stop_sequences?": [filled_text],
    "stream?": bool,
    "tools?": [TOOL_SHAPE],
    "tool_choice?": CHOICE,
    "thinking?": THINKING,
    "output_config?": {
        "effort?": ("low", "medium", "high", "xhigh", "max"),
        "format?": {"type": "json_schema", "schema": dict},
    },
    "metadata?": {"user_id?": str},
    "service_tier?": ("auto", "standard_only"),
    "cache_control?": CACHE,
}


def hear(body: Any, path: str) -> Asked:
    """What a request asks; raises Refused as the API would refuse it."""
    need(path == "/v1/messages", f"404 {path}")
    check(body, REQUEST)
    strict_anthropic.check_request(body)
    schema = body.get("output_config", {}).get("format", {}).get("schema")
    _check_closed(schema)
    thinking = body.get("thinking", {}).get("type", "disabled")
    return Asked(
        **_hear_messages(body),
        system=_text_of(body.get("system", "")),
        tools={tool["name"]: tool["input_schema"] for tool in body.get("tools", ())},
        schema=schema,
        stop=tuple(body.get("stop_sequences", ())),
        max_tokens=body["max_tokens"],
        temperature=body.get("temperature"),
        thinks=thinking != "disabled",
        streams=body.get("stream", False),
    )


def _check_closed(schema: Any) -> None:
    if isinstance(schema, dict):
        need(schema.get("type") != "object" or "additionalProperties" in schema, "schema: additionalProperties: false")
        for value in schema.values():
            _check_closed(value)


def _text_of(content: Any) -> str:
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return "".join(block["text"] for block in blocks if block["type"] == "text")


def _hear_messages(body: Mapping[str, Any]) -> dict[str, Any]:
    said, images, calls, results = [], [], {}, []
    for message in body["messages"]:
        blocks = strict_anthropic.blocks_of(message)
        if _text_of(blocks):
            said.append((message["role"], _text_of(blocks)))
        for block in blocks:
            if block["type"] == "image":
                images.append(block["source"]["data"])
            elif block["type"] == "tool_use":
                calls[block["id"]] = block["input"].get("city", "")
            elif block["type"] == "tool_result":
                results.append((calls[block["tool_use_id"]], _text_of(block.get("content", ""))))
    listed = {"said": tuple(said), "images": tuple(images), "results": tuple(results)}
    return {**listed, "calls": tuple(calls.values())}


def _usage(told: Told) -> dict[str, Any]:
    usage = told.usage
    return {
        "input_tokens": (usage.prompt or 0) - (usage.cached or 0),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.answer,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
    }


def _call(at: int, call: Call) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id or f"toolu_{at}", "name": call.name, "input": {"city": call.city}}


def _message(told: Told) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    if told.thought:
        content.append({"type": "thinking", "thinking": told.thought, "signature": "c2ln"})
    if told.text:
        content.append({"type": "text", "text": told.text})
    content += [_call(at, call) for at, call in enumerate(told.calls)]
    reasons = {"stop": "stop_sequence" if told.stop_string else "end_turn", "length": "max_tokens"}
    return {
        "id": "msg_target",
        "type": "message",
        "role": "assistant",
        "model": "m1-2026",
        "content": content,
        "stop_reason": reasons.get(told.finish, "tool_use"),
        "stop_sequence": told.stop_string,
        "usage": _usage(told),
    }


def answer(told: Told, path: str) -> tuple[bytes, dict[str, str]]:
    """A whole answer, with header fields."""
    return orjson.dumps(_message(told)), {}


def stream(told: Told, path: str) -> list[bytes]:
    """The events of a streamed answer."""
    message = _message(told)
    usage = {**message["usage"], "output_tokens": 1}
    begun = {**message, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}, {"type": "ping"}]
    for index, block in enumerate(message["content"]):
        empty, deltas = _pieces(block)
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    end = {name: message[name] for name in ("stop_reason", "stop_sequence")}
    events.append({"type": "message_delta", "delta": end, "usage": message["usage"]})
    return [encode_named_sse(event) for event in (*events, {"type": "message_stop"})]


def _pieces(block: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block as it begins, and what follows."""
    if block["type"] == "text":
        return {**block, "text": ""}, [{"type": "text_delta", "text": one} for one in pieces_of(block["text"])]
    if block["type"] == "tool_use":
        pieces = ["", *pieces_of(orjson.dumps(block["input"]).decode())]
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": one} for one in pieces]
    deltas = [{"type": "thinking_delta", "thinking": one} for one in pieces_of(block["thinking"])]
    signature = {"type": "signature_delta", "signature": block["signature"]}
    return {**block, "thinking": "", "signature": ""}, [*deltas, signature]


def error() -> bytes:
    """The body of a 429."""
    return orjson.dumps(
        {"type": "error", "error": {"type": "rate_limit_error", "message": MESSAGE}, "request_id": "req_1"}
    )


def broken(path: str) -> list[bytes]:
    """A stream that fails behind its first text."""
    event = {"type": "error", "error": {"type": "api_error", "message": MESSAGE}}
    return [*stream(Told("Hi"), path)[:-3], encode_named_sse(event)]
