"""A strict server of Ollama's chat and generate, without its sockets.

The real one passes over fields that it does not know; what it would not understand is refused here all the same.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from mappers.ollama import dialect
from mooltiproxy.mapping.framing import encode_ndjson

from .conversation import MESSAGE, Asked, Call, Told, pieces_of
from .shapes import between, check, filled, is_base64, need

NAME = "ollama"
DIALECT = dialect
CONFIG = {"url": "http://127.0.0.1:11434"}
MEDIA_TYPE = "application/x-ndjson"
TELLS = frozenset(("prompt", "answer", "ids", "thought"))
STOPS = True

INTEGERS = "num_keep seed num_predict top_k repeat_last_n num_ctx num_batch num_gpu main_gpu num_thread".split()
NUMBERS = "top_p min_p typical_p temperature repeat_penalty presence_penalty frequency_penalty".split()
OPTIONS = {
    **{f"{name}?": int for name in INTEGERS},
    **{f"{name}?": float for name in NUMBERS},
    "stop?": [filled],
    "use_mmap?": bool,
}
CALL = {"id?": str, "function": {"index?": int, "name": filled, "arguments": dict}}
MESSAGE_SHAPE = (
    {"role": ("system", "user"), "content": str, "images?": [is_base64]},
    {"role": "assistant", "content": str, "thinking?": str, "tool_calls?": [CALL]},
    {"role": "tool", "content": str, "images?": [is_base64], "tool_name?": str, "tool_call_id?": str},
)
TOOL_SHAPE = {"type": "function", "function": {"name": filled, "description?": str, "parameters": dict}}
SHARED = {
    "model": filled,
    "stream": bool,
    "format?": ("json", dict),
    "options?": OPTIONS,
    "think?": (bool, "low", "medium", "high", "max"),
    "keep_alive?": (str, float),
    "logprobs?": bool,
    "top_logprobs?": between(0, 20, int),
    "truncate?": bool,
    "shift?": bool,
}
CHAT = {**SHARED, "messages": [MESSAGE_SHAPE], "tools?": [TOOL_SHAPE]}
GENERATE = {
    **SHARED,
    "prompt": str,
    "suffix?": str,
    "system?": str,
    "raw?": bool,
    "images?": [is_base64],
}
TIMES = {
    "total_duration": 500_000_000,
    "load_duration": 1_000_000,
    "prompt_eval_duration": 100_000_000,
    "eval_duration": 300_000_000,
}


def hear(body: Any, path: str) -> Asked:
    """What a request asks; raises Refused for what the API does not have."""
    need(path in ("/api/chat", "/api/generate"), f"404 {path}")
    check(body, GENERATE if path == "/api/generate" else CHAT)
    options = body.get("options", {})
    output = body.get("format")
    limit = options.get("num_predict")
    return Asked(
        **(_hear_prompt(body) if path == "/api/generate" else _hear_messages(body)),
        tools={tool["function"]["name"]: tool["function"]["parameters"] for tool in body.get("tools", ())},
        schema=output if isinstance(output, dict) else None,
        stop=tuple(options.get("stop", ())),
        max_tokens=limit,
        temperature=options.get("temperature"),
        thinks=bool(body.get("think", False)),
        streams=body["stream"],
    )


def _hear_prompt(body: Mapping[str, Any]) -> dict[str, Any]:
    need(not (body.get("raw") and "system" in body), "raw together with system")
    images = tuple(body.get("images", ()))
    if body.get("raw"):
        return {"prompt": body["prompt"], "images": images}
    return {"said": (("user", body["prompt"]),), "system": body.get("system", ""), "images": images}


def _hear_messages(body: Mapping[str, Any]) -> dict[str, Any]:
    system, said, images, calls, results = [], [], [], {}, []
    for message in body["messages"]:
        images += message.get("images", ())
        for call in message.get("tool_calls", ()):
            calls[call["id"]] = call["function"]["arguments"].get("city", "")
        if message["role"] == "tool":
            need(bool(message.get("tool_name")), "messages: a result without the name of its tool")
            results.append((calls[message["tool_call_id"]], message["content"]))
        elif message["role"] == "system":
            system.append(message["content"])
        elif message["content"]:
            said.append((message["role"], message["content"]))
    heard = {"system": "\n\n".join(system), "said": tuple(said), "images": tuple(images)}
    return {**heard, "calls": tuple(calls.values()), "results": tuple(results)}


def _content(path: str, text: str = "", **more: Any) -> dict[str, Any]:
    head = {"model": "m1:latest", "created_at": "2026-11-14T22:13:20.123456789Z"}
    if path == "/api/generate":
        return {**head, "response": text, **more}
    return {**head, "message": {"role": "assistant", "content": text, **more}}


def _call(at: int, call: Call) -> dict[str, Any]:
    """A call; older servers give no ids."""
    function = {"index": at, "name": call.name, "arguments": {"city": call.city}}
    return {"id": call.id, "function": function} if call.id else {"function": function}


def _end(told: Told) -> dict[str, Any]:
    counts = {"prompt_eval_count": told.usage.prompt, "eval_count": told.usage.answer}
    return {"done": True, "done_reason": "length" if told.finish == "length" else "stop", **TIMES, **counts}


def answer(told: Told, path: str) -> tuple[bytes, dict[str, str]]:
    """A whole answer, with header fields."""
    more: dict[str, Any] = {"thinking": told.thought} if told.thought else {}
    if told.calls:
        more["tool_calls"] = [_call(at, call) for at, call in enumerate(told.calls)]
    return orjson.dumps({**_content(path, told.text, **more), **_end(told)}), {}


def stream(told: Told, path: str) -> list[bytes]:
    """The lines of a streamed answer."""
    lines = [_content(path, thinking=piece) for piece in pieces_of(told.thought)]
    lines += [_content(path, piece) for piece in pieces_of(told.text)]
    lines += [_content(path, tool_calls=[_call(at, call)]) for at, call in enumerate(told.calls)]
    lines = [{**line, "done": False} for line in lines]
    return [encode_ndjson(line) for line in (*lines, {**_content(path), **_end(told)})]


def error() -> bytes:
    """The body of a 429."""
    return orjson.dumps({"error": MESSAGE})


def broken(path: str) -> list[bytes]:
    """A stream that fails behind its first text."""
    return [*stream(Told("Hi"), path)[:-1], encode_ndjson({"error": MESSAGE})]
