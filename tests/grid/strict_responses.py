"""A strict server of OpenAI's Responses and of nothing else, without its sockets. It knows no stop strings."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from mappers.openai import dialect, responses
from mooltiproxy.mapping.framing import encode_named_sse

from .conversation import MESSAGE, TOOL, Asked, Told, pieces_of
from .shapes import at_least, between, check, filled, matching, need
from .strict_openai import FUNCTION_NAME, check_strict_schema, error

__all__ = ["CONFIG", "DIALECT", "MEDIA_TYPE", "NAME", "STOPS", "TELLS", "answer", "broken", "error", "hear", "stream"]

NAME = "openai responses"
DIALECT = replace(dialect, endpoints=(responses.endpoint,))
CONFIG = {"url": "https://api.openai.com/v1"}
MEDIA_TYPE = "text/event-stream"
TELLS = frozenset(("prompt", "answer", "cached", "reasoning", "ids", "thought", "stop_string"))
STOPS = False
"""Whether the API takes stop strings: where it does not, the proxy cuts at them."""

TEXT = {"type": "input_text", "text": str}
DETAIL = ("auto", "low", "high")
IMAGE = (
    {"type": "input_image", "detail": DETAIL, "image_url": matching("(?s)(https?://|data:image/).+")},
    {"type": "input_image", "detail": DETAIL, "file_id": str},
)
FILE = (
    {"type": "input_file", "file_id": str},
    {"type": "input_file", "file_url": str},
    {"type": "input_file", "filename": str, "file_data": matching("(?s)data:.+")},
)
PARTS = (str, [(TEXT, *IMAGE, *FILE)])
SAID = ({"type": "output_text", "text": str, "annotations": list}, {"type": "refusal", "refusal": str})
ITEM = (
    {"type": "message", "role": ("user", "system", "developer"), "content": PARTS},
    {"type": "message", "role": "assistant", "content": str},
    {"type": "message", "role": "assistant", "id": matching("msg_.+"), "status": "completed", "content": [SAID]},
    {"type": "function_call", "call_id": filled, "name": FUNCTION_NAME, "arguments": str},
    {"type": "function_call_output", "call_id": filled, "output": PARTS},
    {"type": "reasoning", "id?": str, "summary": [{"type": "summary_text", "text": str}], "encrypted_content": filled},
)
FUNCTION = {
    "type": "function",
    "name": FUNCTION_NAME,
    "description?": str,
    "parameters": (None, dict),
    "strict": bool,
}
ONE_TOOL = {"type": "function", "name": FUNCTION_NAME}
FORMAT = (
    {"type": ("text", "json_object")},
    {"type": "json_schema", "name": FUNCTION_NAME, "schema": dict, "strict?": bool},
)
REQUEST = {
    "model": filled,
    "input": [ITEM],
    "instructions?": str,
    "max_output_tokens?": at_least(16),
    "temperature?": between(0, 2),
    "top_p?": between(0, 1),
    "top_logprobs?": between(0, 20, int),
    "tools?": [FUNCTION],
    "tool_choice?": (
        "none",
        "auto",
        "required",
        ONE_TOOL,
        {"type": "allowed_tools", "mode": ("auto", "required"), "tools": [ONE_TOOL]},
    ),
    "parallel_tool_calls?": bool,
    "text?": {"format": FORMAT},
    "reasoning?": {
        "effort?": ("none", "minimal", "low", "medium", "high", "xhigh", "max"),
        "summary?": ("auto", "concise", "detailed"),
    },
    "include?": [("reasoning.encrypted_content", "message.output_text.logprobs")],
    "store": False,
    "stream?": bool,
    "user?": str,
}


def hear(body: Any, path: str) -> Asked:
    """What a request asks; raises Refused as the API would refuse it."""
    need(path == "/v1/responses", f"404 {path}")
    check(body, REQUEST)
    tools = body.get("tools", [])
    need(bool(tools) or not {"tools", "tool_choice", "parallel_tool_calls"} & body.keys(), "a choice without tools")
    output = body.get("text", {}).get("format", {})
    for strict, schema in [
        (output.get("strict"), output.get("schema")),
        *((t["strict"], t["parameters"]) for t in tools),
    ]:
        if strict:
            check_strict_schema(schema)
    return Asked(
        **_hear_items(body["input"], body.get("instructions")),
        tools={tool["name"]: tool["parameters"] for tool in tools},
        schema=output.get("schema"),
        max_tokens=body.get("max_output_tokens"),
        temperature=body.get("temperature"),
        thinks=body.get("reasoning", {}).get("effort", "none") != "none",
        streams=body.get("stream", False),
    )


def _hear_items(items: Sequence[Mapping[str, Any]], instructions: str | None) -> dict[str, Any]:
    """What is said, with calls and results; refuses calls without their results."""
    need(bool(items), "input: empty")
    system, said, images = [instructions] if instructions else [], [], []
    calls: dict[str, str] = {}
    results = []
    for item in items:
        kind = item["type"]
        if kind == "function_call":
            need(item["call_id"] not in calls, f"input: two calls {item['call_id']}")
            calls[item["call_id"]] = orjson.loads(item["arguments"]).get("city", "")
        elif kind == "function_call_output":
            need(item["call_id"] in calls, f"input: no call {item['call_id']}")
            results.append((item["call_id"], _text_of(item["output"])))
        elif kind == "message":
            text = _text_of(item["content"])
            if item["role"] in ("system", "developer"):
                system.append(text)
            elif text:
                said.append((item["role"], text))
            images += _images_of(item["content"])
    need(sorted(calls) == sorted({call for call, _ in results}), "input: no tool output found for a function call")
    return {
        "system": "\n\n".join(system),
        "said": tuple(said),
        "images": tuple(images),
        "calls": tuple(calls.values()),
        "results": tuple((calls[call], text) for call, text in results),
    }


def _text_of(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _images_of(content: Any) -> list[str]:
    parts = content if isinstance(content, list) else []
    urls = [part.get("image_url", "") for part in parts if part["type"] == "input_image"]
    return [url.removeprefix("data:image/png;base64,") for url in urls]


def _items(told: Told) -> list[dict[str, Any]]:
    """The output. A stop string is text like any other here, and the model goes on behind it."""
    items: list[dict[str, Any]] = []
    if told.thought:
        items.append({"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": told.thought}]})
    text = told.text + (f"{told.stop_string} and on" if told.stop_string else "")
    if text:
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        items.append({"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [part]})
    for at, call in enumerate(told.calls):
        arguments = orjson.dumps({"city": call.city}).decode()
        named = {"type": "function_call", "id": f"fc_{at}", "call_id": call.id or f"call_{at}", "name": TOOL}
        items.append({**named, "arguments": arguments, "status": "completed"})
    return items


def _response(told: Told, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    usage = told.usage
    counts = {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached},
        "output_tokens": usage.answer,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": (usage.prompt or 0) + (usage.answer or 0),
    }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1700000000,
        "model": "m1-2026",
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "output": output,
        "usage": None if status == "in_progress" else counts,
    }


def _status(told: Told) -> str:
    return "incomplete" if told.finish == "length" else "completed"


def answer(told: Told, path: str) -> tuple[bytes, dict[str, str]]:
    """A whole answer, with header fields."""
    return orjson.dumps(_response(told, _status(told), _items(told))), {}


def stream(told: Told, path: str) -> list[bytes]:
    """The events of a streamed answer."""
    items = _items(told)
    begun = _response(told, "in_progress", [])
    events: list[dict[str, Any]] = [
        {"type": f"response.{name}", "response": begun} for name in ("created", "in_progress")
    ]
    for index, item in enumerate(items):
        events += _item_events(index, item)
    events.append({"type": f"response.{_status(told)}", "response": _response(told, _status(told), items)})
    return [encode_named_sse({**event, "sequence_number": number}) for number, event in enumerate(events)]


def _item_events(index: int, item: dict[str, Any]) -> list[dict[str, Any]]:
    """One item: added empty, filled, done."""
    place = {"item_id": item["id"], "output_index": index}
    if item["type"] == "reasoning":
        empty, filling = {**item, "summary": []}, _summary_events(place, item["summary"][0])
    elif item["type"] == "message":
        empty, filling = {**item, "status": "in_progress", "content": []}, _text_events(place, item["content"][0])
    else:
        empty, filling = {**item, "status": "in_progress", "arguments": ""}, _argument_events(place, item)
    added = {"type": "response.output_item.added", "output_index": index, "item": empty}
    return [added, *filling, {"type": "response.output_item.done", "output_index": index, "item": item}]


def _summary_events(place: dict[str, Any], part: dict[str, Any]) -> list[dict[str, Any]]:
    kind, here = "response.reasoning_summary", {**place, "summary_index": 0}
    return [
        {"type": f"{kind}_part.added", **here, "part": {**part, "text": ""}},
        *({"type": f"{kind}_text.delta", **here, "delta": piece} for piece in pieces_of(part["text"])),
        {"type": f"{kind}_text.done", **here, "text": part["text"]},
        {"type": f"{kind}_part.done", **here, "part": part},
    ]


def _text_events(place: dict[str, Any], part: dict[str, Any]) -> list[dict[str, Any]]:
    here = {**place, "content_index": 0}
    deltas = [{**here, "delta": piece, "logprobs": []} for piece in pieces_of(part["text"])]
    return [
        {"type": "response.content_part.added", **here, "part": {**part, "text": ""}},
        *({"type": "response.output_text.delta", **delta} for delta in deltas),
        {"type": "response.output_text.done", **here, "text": part["text"], "logprobs": []},
        {"type": "response.content_part.done", **here, "part": part},
    ]


def _argument_events(place: dict[str, Any], item: dict[str, Any]) -> list[dict[str, Any]]:
    kind = "response.function_call_arguments"
    return [
        *({"type": f"{kind}.delta", **place, "delta": piece} for piece in pieces_of(item["arguments"])),
        {"type": f"{kind}.done", **place, "name": item["name"], "arguments": item["arguments"]},
    ]


def broken(path: str) -> list[bytes]:
    """A stream that fails behind its first text."""
    event = {"type": "error", "code": "server_error", "message": MESSAGE, "param": None, "sequence_number": 6}
    return [*stream(Told("Hi"), path)[:6], encode_named_sse(event)]
