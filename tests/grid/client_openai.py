"""Clients of OpenAI's chat completions, read with the types of its SDK."""

from typing import Any

import orjson
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.completion_usage import CompletionUsage

from mappers.openai import chat, dialect

from .clients import Body, Client, Seen, unnamed
from .conversation import CITY, DESCRIPTION, PNG, TOOL, WEATHER, Call, Feature, Told, Usage
from .shapes import check, need

ERROR = {"message": str, "type": str, "param": (None, str), "code": (None, str), "request_id": str}


def asking(*messages: Body, **fields: Any) -> Body:
    """A request with these messages."""
    return {"model": "m1", "messages": list(messages), **fields}


def user(content: Any) -> Body:
    """What the user says."""
    return {"role": "user", "content": content}


def call(identifier: str, city: str) -> Body:
    """A call in a history."""
    function = {"name": TOOL, "arguments": f'{{"city": "{city}"}}'}
    return {"id": identifier, "type": "function", "function": function}


HI = asking(user("Say hi"))
TOOLS = [{"type": "function", "function": {"name": TOOL, "description": DESCRIPTION, "parameters": CITY}}]
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
BODIES = {
    Feature.PLAIN: {**HI, "temperature": 0.5},
    Feature.STREAM: HI,
    Feature.SYSTEM: asking({"role": "system", "content": "Be brief."}, user("Say hi")),
    Feature.MULTI_TURN: asking(user("Say hi"), {"role": "assistant", "content": "Hi there"}, user("Once more")),
    Feature.TOOLS: asking(user("Weather in Paris?"), tools=TOOLS),
    Feature.PARALLEL: asking(user("Weather in Paris and Rome?"), tools=TOOLS),
    Feature.RESULTS: asking(
        user("Weather in Paris and Rome?"),
        {"role": "assistant", "content": None, "tool_calls": [call("call_1", "Paris"), call("call_2", "Rome")]},
        {"role": "tool", "tool_call_id": "call_1", "content": "20 degrees"},
        {"role": "tool", "tool_call_id": "call_2", "content": "25 degrees"},
        tools=TOOLS,
    ),
    Feature.IMAGE: asking(user([{"type": "text", "text": "What is this?"}, PICTURE])),
    Feature.REASONING: asking(user("2+2?"), reasoning_effort="low"),
    Feature.SCHEMA: asking(
        user("Weather in Paris?"),
        response_format={"type": "json_schema", "json_schema": {"name": "weather", "strict": True, "schema": WEATHER}},
    ),
    Feature.STOP: {**HI, "stop": ["END"]},
    Feature.LENGTH: {**HI, "max_completion_tokens": 64},
    Feature.USAGE: HI,
    Feature.ERROR: HI,
    Feature.BROKEN: HI,
}


def usage_of(usage: CompletionUsage | None) -> Usage:
    """The counts of an answer; they must add up."""
    if usage is None:
        return Usage(None, None, None, None)
    need(usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, "the counts do not add up")
    prompt, answer = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        usage.prompt_tokens,
        usage.completion_tokens,
        prompt.cached_tokens if prompt else None,
        answer.reasoning_tokens if answer else None,
    )


def read(data: bytes) -> Told:
    """A whole answer."""
    completion = ChatCompletion.model_validate_json(data, strict=True)
    need(completion.model == "m1", "the model is not the one that was asked for")
    (choice,) = completion.choices
    message = choice.message
    thought = (message.model_extra or {}).get("reasoning_content", "")
    calls = [one for one in message.tool_calls or () if one.type == "function"]
    need(message.content is not None or bool(calls), "neither content nor calls")
    return Told(
        message.content or "",
        thought,
        tuple(_call(one.id, one.function.name, one.function.arguments) for one in calls),
        choice.finish_reason,
        usage=usage_of(completion.usage),
    )


def _call(identifier: str, name: str, arguments: str) -> Call:
    need(bool(identifier), "a call without an id")
    return Call(orjson.loads(arguments)["city"], identifier, name)


def read_stream(data: bytes) -> Seen:
    """A stream, which ends with `[DONE]` or an error."""
    *events, last = unnamed(data)
    failed = last != b"[DONE]"
    chunks = [ChatCompletionChunk.model_validate_json(one, strict=True) for one in events]
    need(len({(chunk.id, chunk.model, chunk.created) for chunk in chunks}) <= 1, "head fields change")
    reading = _Reading()
    for chunk in chunks:
        reading.add(chunk)
    need(failed or reading.finish is not None, "no finish_reason")
    error = read_error(200, last) if failed else None
    return Seen(reading.told(), error)


class _Reading:
    """Puts the chunks of a stream together."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.calls: dict[int, list[str]] = {}
        self.finish: str | None = None
        self.usage: CompletionUsage | None = None
        self.begun = False

    def add(self, chunk: ChatCompletionChunk) -> None:
        need(self.usage is None, "a chunk behind that of the usage")
        if not chunk.choices:
            need(chunk.usage is not None, "a chunk without choices and usage")
            self.usage = chunk.usage
            return
        (choice,) = chunk.choices
        delta = choice.delta
        need(self.finish is None, "a delta behind the finish_reason")
        need(self.begun or delta.role == "assistant", "the first delta has no role")
        self.begun = True
        self.texts.append(delta.content or "")
        self.thoughts.append((delta.model_extra or {}).get("reasoning_content", ""))
        for call in delta.tool_calls or ():
            function = call.function
            need(function is not None, "a call without its function")
            if function is None:
                continue
            if call.index not in self.calls:
                need(bool(call.id and function.name) and call.type == "function", "a call begins without id or name")
                self.calls[call.index] = [call.id or "", function.name or "", ""]
            self.calls[call.index][2] += function.arguments or ""
        self.finish = choice.finish_reason

    def told(self) -> Told:
        calls = tuple(_call(*self.calls[index]) for index in sorted(self.calls))
        thought = "".join(self.thoughts)
        return Told("".join(self.texts), thought, calls, self.finish or "stop", usage=usage_of(self.usage))


def read_error(status: int, data: bytes) -> str:
    """The message of an error, of a whole answer or in a stream."""
    body = orjson.loads(data)
    check(body, {"error": ERROR})
    need(status != 429 or body["error"]["type"] == "rate_limit_error", "a strange type")
    return str(body["error"]["message"])


CLIENT = Client(
    "openai chat",
    dialect,
    chat.endpoint,
    BODIES,
    read,
    read_stream,
    read_error,
    streamed={"stream": True, "stream_options": {"include_usage": True}},
)
