"""A server of OpenAI's chat completions and of nothing else, as a script for `scripted.upstream`."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from mooltiproxy.mapping.framing import encode_sse
from tests.servers.scripted import STREAM_HEAD, Peer, Received, answer, chunk

PIECES = ("Hi", " there")
TEXT = "".join(PIECES)
ARGUMENTS = {"city": "Paris"}
USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


async def openai_chat(peer: Peer, received: Received) -> None:
    """Says `TEXT`, or calls the first tool with `ARGUMENTS` where it is given tools and no result yet."""
    if not received.line.startswith("POST /v1/chat/completions "):
        await peer.send(answer(b'{"error": {"message": "no such path"}}', status="404 Not Found"))
        return
    body = orjson.loads(received.body)
    if body.get("stream"):
        framed = b"".join(chunk(encode_sse(event)) for event in _events(body))
        await peer.send(STREAM_HEAD + framed + b"0\r\n\r\n")
    else:
        choice = {"index": 0, "message": _message(body), "finish_reason": _finish(body)}
        head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1794694400, "model": "m1"}
        await peer.send(answer(orjson.dumps({**head, "choices": [choice], "usage": USAGE})))


def _calls(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    if not body.get("tools") or body["messages"][-1]["role"] == "tool":
        return []
    function = {"name": body["tools"][0]["function"]["name"], "arguments": orjson.dumps(ARGUMENTS).decode()}
    return [{"id": "call_1", "type": "function", "function": function}]


def _finish(body: Mapping[str, Any]) -> str:
    return "tool_calls" if _calls(body) else "stop"


def _message(body: Mapping[str, Any]) -> dict[str, Any]:
    calls = _calls(body)
    return {"role": "assistant", **({"content": None, "tool_calls": calls} if calls else {"content": TEXT})}


def _events(body: Mapping[str, Any]) -> Iterator[Any]:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1794694400, "model": "m1"}
    calls = [{"index": at, **call} for at, call in enumerate(_calls(body))]
    said = [{"tool_calls": calls}] if calls else [{"content": piece} for piece in PIECES]
    for delta in ({"role": "assistant", "content": ""}, *said):
        yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": _finish(body)}]}
    if (body.get("stream_options") or {}).get("include_usage"):
        yield {**head, "choices": [], "usage": USAGE}
    yield "[DONE]"
