"""A server of Anthropic's API that refuses what the real one refuses, and says little else."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from mooltiproxy.mapping.framing import encode_named_sse
from tests.servers.scripted import STREAM_HEAD, Peer, Received, answer, chunk

KEY = "sk-ant-target"
USAGE = {"input_tokens": 8, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": 9}
THOUGHT = {"type": "thinking", "thinking": "Let me see.", "signature": "c2ln"}
MODEL = {
    "type": "model",
    "id": "m1",
    "display_name": "M 1",
    "created_at": "2026-01-01T00:00:00Z",
    "lifecycle": "active",
}

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_FIELDS = frozenset(
    "model messages max_tokens system temperature top_p top_k stop_sequences stream tools tool_choice thinking "
    "output_config metadata service_tier container cache_control".split()
)
_COUNTED = frozenset("model messages system tools tool_choice thinking output_config cache_control".split())
_TOOL_FIELDS = frozenset("name description input_schema strict cache_control type".split())
_BLOCKS: Mapping[str, frozenset[str]] = {
    "text": frozenset(("text", "cache_control", "citations")),
    "image": frozenset(("source", "cache_control")),
    "document": frozenset(("source", "title", "context", "citations", "cache_control")),
    "tool_use": frozenset(("id", "name", "input", "cache_control")),
    "tool_result": frozenset(("tool_use_id", "content", "is_error", "cache_control")),
    "thinking": frozenset(("thinking", "signature")),
    "redacted_thinking": frozenset(("data",)),
}


class Refused(Exception):
    """A request that the API would answer with 400."""


def check(condition: bool, message: str) -> None:
    if not condition:
        raise Refused(message)


def check_known(where: str, fields: Mapping[str, Any], known: frozenset[str]) -> None:
    for name, value in fields.items():
        check(name in known, f"{where}{name}: Extra inputs are not permitted")
        check(value is not None, f"{where}{name}: Input should not be null")


def check_request(body: Mapping[str, Any], *, counts: bool = False) -> None:
    """Raises Refused as the API would."""
    check_known("", body, _COUNTED if counts else _FIELDS)
    for name in ("model", "messages") if counts else ("model", "messages", "max_tokens"):
        check(name in body, f"{name}: Field required")
    check(0 <= body.get("temperature", 1) <= 1, "temperature: range: 0..1")
    check(all(stop.strip() for stop in body.get("stop_sequences", ())), "stop_sequences: each must hold non-whitespace")
    check_thinking(body)
    for tool in body.get("tools", ()):
        check_known("tools.", tool, _TOOL_FIELDS)
        check(bool(_NAME.fullmatch(tool["name"])), "tools.name: String should match pattern")
        check(tool["input_schema"].get("type") == "object", "tools.input_schema.type: Field required")
    check_messages(body)


def check_thinking(body: Mapping[str, Any]) -> None:
    thinking = body.get("thinking", {})
    if thinking.get("type") not in ("enabled", "adaptive"):
        return
    if thinking["type"] == "enabled":
        budget = thinking["budget_tokens"]
        check(budget >= 1024, "thinking.enabled.budget_tokens: at least 1024")
        check(budget < body.get("max_tokens", budget + 1), "max_tokens must be greater than thinking.budget_tokens")
    check(body.get("temperature", 1) == 1, "temperature may only be set to 1 when thinking is enabled")
    check("top_k" not in body, "top_k must be unset when thinking is enabled")
    choice = body.get("tool_choice", {}).get("type", "auto")
    check(choice in ("auto", "none"), "Thinking may not be enabled when tool_choice forces tool use")


def check_messages(body: Mapping[str, Any]) -> None:
    messages = body["messages"]
    check(bool(messages) and messages[0]["role"] == "user", "messages: first message must use the user role")
    open_calls: list[str] = []
    for message in messages:
        check_known("messages.", message, frozenset(("role", "content")))
        blocks = blocks_of(message)
        for block in blocks:
            check_known("messages.content.", block, _BLOCKS[block["type"]] | {"type"})
            check(
                block["type"] != "text" or bool(block["text"].strip()),
                "messages: text content blocks must be non-empty",
            )
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        first = [block["tool_use_id"] for block in blocks[: len(results)] if block["type"] == "tool_result"]
        check(first == results, "tool_result blocks must come first")
        check(
            sorted(results) == sorted(open_calls),
            "tool_use ids were found without tool_result blocks immediately after",
        )
        open_calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        check(not open_calls or "tools" in body, "tools: Field required")
    last = blocks_of(messages[-1])[-1]
    check(last["type"] != "text" or last["text"] == last["text"].rstrip(), "final text must not end with whitespace")


def blocks_of(message: Mapping[str, Any]) -> list[Any]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def content_for(body: Mapping[str, Any]) -> list[Any]:
    """A thought, then two calls where there are tools and no results yet, else a text."""
    answered = any(block["type"] == "tool_result" for message in body["messages"] for block in blocks_of(message))
    if body.get("tools") and not answered and body.get("tool_choice", {}).get("type") != "none":
        name = body["tools"][0]["name"]
        calls = [
            {"type": "tool_use", "id": f"toolu_{city}", "name": name, "input": {"city": city}}
            for city in ("Paris", "Rome")
        ]
        return [THOUGHT, *calls]
    text = '{"city":"Paris"}' if "format" in body.get("output_config", {}) else "Hi there"
    return [THOUGHT, {"type": "text", "text": text}]


def message_for(body: Mapping[str, Any]) -> dict[str, Any]:
    content = content_for(body)
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": content,
        "stop_reason": "tool_use" if content[-1]["type"] == "tool_use" else "end_turn",
        "stop_sequence": None,
        "usage": USAGE,
    }


def events_for(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The same message as a stream."""
    begun = {**message, "content": [], "stop_reason": None, "usage": {**USAGE, "output_tokens": 1}}
    yield {"type": "message_start", "message": begun}
    for index, block in enumerate(message["content"]):
        empty, deltas = _pieces(block)
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        yield {"type": "ping"}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    ends = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": ends, "usage": {"output_tokens": 9}}
    yield {"type": "message_stop"}


def _pieces(block: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if block["type"] == "text":
        return {**block, "text": ""}, [
            {"type": "text_delta", "text": piece} for piece in re.split("(?= )", block["text"])
        ]
    if block["type"] == "thinking":
        thought = {"type": "thinking_delta", "thinking": block["thinking"]}
        return {**block, "thinking": "", "signature": ""}, [
            thought,
            {"type": "signature_delta", "signature": block["signature"]},
        ]
    arguments = orjson.dumps(block["input"]).decode()
    pieces = ("", arguments[:5], arguments[5:])
    return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]


def error(kind: str, message: str) -> bytes:
    return orjson.dumps({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_target"})


async def strict_anthropic(peer: Peer, received: Received) -> None:
    """The script of the server. Of its models, `nope` does not exist, `busy` is, and `dying` breaks off in a stream."""
    method, path, _ = received.line.split()
    body = orjson.loads(received.body or b"{}")
    if received.value("x-api-key") != KEY or received.value("authorization"):
        await peer.send(answer(error("authentication_error", "invalid x-api-key"), status="401 Unauthorized"))
    elif received.value("anthropic-version") is None:
        await peer.send(answer(error("invalid_request_error", "anthropic-version: required"), status="400 Bad Request"))
    elif method == "GET":
        page = {"data": [MODEL], "has_more": False, "first_id": "m1", "last_id": "m1"}
        await peer.send(answer(orjson.dumps(page if path.startswith("/v1/models?") or path == "/v1/models" else MODEL)))
    else:
        await _generate(peer, path.partition("?")[0], body)


async def _generate(peer: Peer, path: str, body: dict[str, Any]) -> None:
    counts = path == "/v1/messages/count_tokens"
    try:
        check_request(body, counts=counts)
    except Refused as refused:
        await peer.send(answer(error("invalid_request_error", str(refused)), status="400 Bad Request"))
        return
    if body["model"] == "nope":
        await peer.send(answer(error("not_found_error", "model: nope"), status="404 Not Found"))
    elif body["model"] == "busy":
        await peer.send(answer(error("overloaded_error", "Overloaded"), "retry-after: 3", status="529 Overloaded"))
    elif counts:
        await peer.send(answer(b'{"input_tokens": 12}'))
    elif not body.get("stream"):
        await peer.send(answer(orjson.dumps(message_for(body))))
    else:
        await _stream(peer, body)


async def _stream(peer: Peer, body: Mapping[str, Any]) -> None:
    events = list(events_for(message_for(body)))
    if body["model"] == "dying":
        events[5:] = [{"type": "error", "error": {"type": "api_error", "message": "it died"}}]
    await peer.send(STREAM_HEAD + b"".join(chunk(encode_named_sse(event)) for event in events) + b"0\r\n\r\n")
