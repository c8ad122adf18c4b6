"""Clients of OpenAI's Responses, read with the types of its SDK."""

from typing import Any

import orjson
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from mappers.openai import dialect, responses

from .client_openai import read_error
from .clients import Body, Client, Seen, named
from .conversation import CITY, DESCRIPTION, PNG, TOOL, WEATHER, Call, Feature, Told, Usage
from .shapes import need

EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)


def asking(given: Any, **fields: Any) -> Body:
    """A request with this input."""
    return {"model": "m1", "input": given, "store": False, **fields}


def said(role: str, text: str) -> Body:
    """A message."""
    return {"type": "message", "role": role, "content": text}


def call(identifier: str, city: str) -> Body:
    """A call in a history."""
    arguments = f'{{"city": "{city}"}}'
    return {
        "type": "function_call",
        "id": f"fc_{identifier}",
        "call_id": identifier,
        "name": TOOL,
        "arguments": arguments,
    }


HI = asking("Say hi")
TOOLS = [{"type": "function", "name": TOOL, "description": DESCRIPTION, "parameters": CITY, "strict": False}]
PICTURE = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"}
BODIES = {
    Feature.PLAIN: {**HI, "temperature": 0.5},
    Feature.STREAM: HI,
    Feature.SYSTEM: asking("Say hi", instructions="Be brief."),
    Feature.MULTI_TURN: asking([said("user", "Say hi"), said("assistant", "Hi there"), said("user", "Once more")]),
    Feature.TOOLS: asking("Weather in Paris?", tools=TOOLS),
    Feature.PARALLEL: asking("Weather in Paris and Rome?", tools=TOOLS),
    Feature.RESULTS: asking(
        [
            said("user", "Weather in Paris and Rome?"),
            call("call_1", "Paris"),
            call("call_2", "Rome"),
            {"type": "function_call_output", "call_id": "call_1", "output": "20 degrees"},
            {"type": "function_call_output", "call_id": "call_2", "output": "25 degrees"},
        ],
        tools=TOOLS,
    ),
    Feature.IMAGE: asking([{"role": "user", "content": [{"type": "input_text", "text": "What is this?"}, PICTURE]}]),
    Feature.REASONING: asking("2+2?", reasoning={"effort": "low", "summary": "auto"}),
    Feature.SCHEMA: asking(
        "Weather in Paris?",
        text={"format": {"type": "json_schema", "name": "weather", "strict": True, "schema": WEATHER}},
    ),
    Feature.LENGTH: {**HI, "max_output_tokens": 64},
    Feature.USAGE: HI,
    Feature.ERROR: HI,
    Feature.BROKEN: HI,
}


def read(data: bytes) -> Told:
    """A whole response."""
    return told_of(Response.model_validate_json(data, strict=True))


def told_of(response: Response) -> Told:
    """What a response that is over says."""
    need(response.model == "m1", "the model is not the one that was asked for")
    thoughts, calls = [], []
    for item in response.output:
        if item.type == "reasoning":
            thoughts += [one.text for one in (*item.summary, *(item.content or ()))]
        elif item.type == "function_call":
            calls.append(Call(orjson.loads(item.arguments)["city"], item.call_id, item.name))
        else:
            need(item.type == "message", f"a strange item {item.type}")
    is_cut = response.status == "incomplete"
    need(is_cut or response.status == "completed", f"a strange status {response.status}")
    finish = "length" if is_cut else "tool_calls" if calls else "stop"
    return Told(response.output_text, "".join(thoughts), tuple(calls), finish, usage=_usage_of(response))


def _usage_of(response: Response) -> Usage:
    usage = response.usage
    if usage is None:
        return Usage(None, None, None, None)
    need(usage.total_tokens == usage.input_tokens + usage.output_tokens, "the counts do not add up")
    cached, reasoning = usage.input_tokens_details.cached_tokens, usage.output_tokens_details.reasoning_tokens
    return Usage(usage.input_tokens, usage.output_tokens, cached, reasoning)


def read_stream(data: bytes) -> Seen:
    """A stream, whose last event holds the whole response."""
    pairs = named(data)
    events = [EVENT.validate_json(text, strict=True) for text, _ in pairs]
    need([event.sequence_number for event in events] == list(range(len(events))), "sequence_number does not count")
    need([event.type for event in events[:2]] == ["response.created", "response.in_progress"], "a strange beginning")
    text = _read_items(events)
    last = events[-1]
    if last.type == "response.failed" or last.type == "error":
        message = last.message if last.type == "error" else last.response.error and last.response.error.message
        return Seen(Told(text), message or "")
    need(last.type in ("response.completed", "response.incomplete"), f"a strange end {last.type}")
    told = told_of(Response.model_validate(pairs[-1][1]["response"]))
    need(told.text == text, "the deltas are not the whole text")
    return Seen(told)


def _read_items(events: list[ResponseStreamEvent]) -> str:
    """The text of all deltas; items must be added, filled and done one after the other."""
    item, count, texts, arguments = "", 0, "", ""
    for event in events:
        if event.type == "response.output_item.added":
            need(item == "" and event.output_index == count, "an item begins out of order")
            item, arguments = event.item.id or "", ""
        elif event.type == "response.output_item.done":
            need(item == event.item.id and event.output_index == count, "an item ends that was not begun")
            item, count = "", count + 1
        elif event.type == "response.output_text.delta":
            need(event.item_id == item, "text of another item")
            texts += event.delta
        elif event.type == "response.function_call_arguments.delta":
            need(event.item_id == item, "arguments of another item")
            arguments += event.delta
        elif event.type == "response.function_call_arguments.done":
            need(event.arguments == arguments, "the deltas are not the whole arguments")
    return texts


CLIENT = Client("openai responses", dialect, responses.endpoint, BODIES, read, read_stream, read_error)
