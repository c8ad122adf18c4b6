"""Clients of Anthropic's Messages API, read with the types of its SDK."""

from typing import Any

import orjson
from anthropic.types import Message, MessageDeltaUsage, RawMessageStreamEvent
from anthropic.types import Usage as MessageUsage
from pydantic import TypeAdapter

from mappers.anthropic import dialect, messages

from .clients import ALL, Body, Client, Seen, named
from .conversation import CITY, DESCRIPTION, PNG, TOOL, WEATHER, Call, Feature, Told, Usage
from .shapes import check, need

EVENT: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
ERROR = {"type": "error", "error": {"type": str, "message": str}, "request_id": str}


def asking(*messages: Body, **fields: Any) -> Body:
    """A request with these messages."""
    return {"model": "m1", "max_tokens": 4096, "messages": list(messages), **fields}


def user(content: Any) -> Body:
    """What the user says."""
    return {"role": "user", "content": content}


def call(identifier: str, city: str) -> Body:
    """A call in a history."""
    return {"type": "tool_use", "id": identifier, "name": TOOL, "input": {"city": city}}


HI = asking(user("Say hi"))
TOOLS = [{"name": TOOL, "description": DESCRIPTION, "input_schema": CITY}]
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
BODIES = {
    Feature.PLAIN: {**HI, "temperature": 0.5},
    Feature.STREAM: HI,
    Feature.SYSTEM: asking(user("Say hi"), system="Be brief."),
    Feature.MULTI_TURN: asking(user("Say hi"), {"role": "assistant", "content": "Hi there"}, user("Once more")),
    Feature.TOOLS: asking(user("Weather in Paris?"), tools=TOOLS),
    Feature.PARALLEL: asking(user("Weather in Paris and Rome?"), tools=TOOLS),
    Feature.RESULTS: asking(
        user("Weather in Paris and Rome?"),
        {"role": "assistant", "content": [call("toolu_1", "Paris"), call("toolu_2", "Rome")]},
        user(
            [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "20 degrees"},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": [{"type": "text", "text": "25 degrees"}]},
            ]
        ),
        tools=TOOLS,
    ),
    Feature.IMAGE: asking(user([{"type": "text", "text": "What is this?"}, PICTURE])),
    Feature.REASONING: asking(user("2+2?"), thinking={"type": "enabled", "budget_tokens": 1024}),
    Feature.SCHEMA: asking(
        user("Weather in Paris?"), output_config={"format": {"type": "json_schema", "schema": WEATHER}}
    ),
    Feature.STOP: {**HI, "stop_sequences": ["END"]},
    Feature.LENGTH: {**HI, "max_tokens": 64},
    Feature.USAGE: HI,
    Feature.ERROR: HI,
    Feature.BROKEN: HI,
}
FINISH = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls"}


def usage_of(usage: MessageUsage | MessageDeltaUsage) -> Usage:
    """The counts of an answer: its input leaves the cached tokens out."""
    cached = usage.cache_read_input_tokens or 0
    details = usage.output_tokens_details
    prompt = (usage.input_tokens or 0) + cached + (usage.cache_creation_input_tokens or 0)
    return Usage(prompt, usage.output_tokens, cached, details.thinking_tokens if details else None)


def read(data: bytes) -> Told:
    """A whole message."""
    need(orjson.loads(data).keys() >= {"stop_reason", "stop_sequence"}, "fields are missing that may be null")
    return told_of(Message.model_validate_json(data, strict=True))


def told_of(message: Message) -> Told:
    """What a message that is over says."""
    need(message.model == "m1", "the model is not the one that was asked for")
    texts, thoughts, calls = [], [], []
    for block in message.content:
        if block.type == "text":
            need(bool(block.text), "an empty text")
            texts.append(block.text)
        elif block.type == "thinking":
            thoughts.append(block.thinking)
        elif block.type == "tool_use":
            calls.append(Call(str(block.input["city"]), block.id, block.name))
    need((message.stop_sequence is not None) == (message.stop_reason == "stop_sequence"), "a strange stop_sequence")
    return Told(
        "".join(texts),
        "".join(thoughts),
        tuple(calls),
        FINISH[message.stop_reason or ""],
        message.stop_sequence,
        usage_of(message.usage),
    )


def read_stream(data: bytes) -> Seen:
    """A stream: one block after the other, then the end or an error."""
    pairs = [pair for pair in named(data) if pair[1]["type"] != "ping"]
    error = None
    if pairs[-1][1]["type"] == "error":
        error = read_error(200, pairs.pop()[0])
    reading = _Reading()
    for text, _ in pairs:
        need(not reading.over, "an event behind message_stop")
        reading.add(EVENT.validate_json(text, strict=True))
    need(reading.over or error is not None, "no message_stop")
    return Seen(reading.told(), error)


class _Reading:
    """Puts the events of a stream together, strict about their order."""

    def __init__(self) -> None:
        self.message: Message | None = None
        self.block: Any = None
        self.blocks: list[Any] = []
        self.end: Any = None
        self.over = False

    def add(self, event: RawMessageStreamEvent) -> None:
        if event.type == "message_start":
            need(self.message is None and not event.message.content, "a strange message_start")
            self.message = event.message
            return
        need(self.message is not None, "no message_start")
        if event.type == "content_block_start":
            need(self.block is None and event.index == len(self.blocks), "a block begins out of order")
            self.block = event.content_block.model_dump()
            self.block["json"] = ""
        elif event.type == "content_block_delta":
            need(self.block is not None and event.index == len(self.blocks), "a delta of another block")
            self._delta(event.delta)
        elif event.type == "content_block_stop":
            need(self.block is not None and event.index == len(self.blocks), "the end of another block")
            self.blocks.append(self.block)
            self.block = None
        elif event.type == "message_delta":
            need(self.block is None and self.end is None, "message_delta inside a block")
            self.end = event
        else:
            need(self.end is not None, "message_stop without message_delta")
            self.over = True

    def _delta(self, delta: Any) -> None:
        kinds = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "thinking"}
        need(kinds.get(delta.type, "tool_use") == self.block["type"], f"{delta.type} in {self.block['type']}")
        name = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}.get(delta.type)
        if name:
            self.block[name] += getattr(delta, name)
        else:
            self.block["json"] += delta.partial_json

    def told(self) -> Told:
        if self.end is None:
            return Told("".join(block["text"] for block in (*self.blocks, self.block) if block and "text" in block))
        assert self.message is not None
        for block in self.blocks:
            arguments = block.pop("json")
            if block["type"] == "tool_use":
                block["input"] = orjson.loads(arguments or "{}")
        end = {"stop_reason": self.end.delta.stop_reason, "stop_sequence": self.end.delta.stop_sequence}
        usage = {**self.message.usage.model_dump(), **self.end.usage.model_dump(exclude_none=True)}
        whole = {**self.message.model_dump(), **end, "content": self.blocks, "usage": usage}
        return told_of(Message.model_validate(whole))


def read_error(status: int, data: bytes) -> str:
    """The message of an error, of a whole answer or in a stream."""
    body = orjson.loads(data)
    check(body, ERROR)
    need(status != 429 or body["error"]["type"] == "rate_limit_error", "a strange type")
    return str(body["error"]["message"])


CLIENT = Client(
    "anthropic messages",
    dialect,
    messages.endpoint,
    BODIES,
    read,
    read_stream,
    read_error,
    knows=ALL | {"stop_string"},
)
