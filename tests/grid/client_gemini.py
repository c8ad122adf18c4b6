"""Clients of Gemini's generateContent, whole and streamed, read with the types of Google's SDK."""

from typing import Any

import orjson
from google.genai.types import Candidate, FinishReason, GenerateContentResponse

from mappers.gemini import chat, chat_stream, dialect
from mooltiproxy.mapping.neutral import Asked as Outside

from .clients import Body, Client, Seen, unnamed
from .conversation import CITY, DESCRIPTION, PNG, TOOL, WEATHER, Call, Feature, Told, Usage
from .shapes import check, need

ERROR = {"code": int, "message": str, "status": str, "details": [dict]}


def asking(*contents: Body, **fields: Any) -> Body:
    """A request with these contents."""
    return {"contents": list(contents), **fields}


def user(*parts: Body) -> Body:
    """What the user says."""
    return {"role": "user", "parts": list(parts)}


def text(said: str) -> Body:
    """A part."""
    return {"text": said}


def configured(**config: Any) -> Body:
    """The plain question with this configuration."""
    return {**HI, "generationConfig": config}


def call(city: str) -> Body:
    """A call in a history."""
    return {"functionCall": {"name": TOOL, "args": {"city": city}}}


def result(said: str) -> Body:
    """What a call returned."""
    return {"functionResponse": {"name": TOOL, "response": {"result": said}}}


HI = asking(user(text("Say hi")))
TOOLS = [{"functionDeclarations": [{"name": TOOL, "description": DESCRIPTION, "parametersJsonSchema": CITY}]}]
PICTURE = {"inlineData": {"mimeType": "image/png", "data": PNG}}
BODIES = {
    Feature.PLAIN: configured(temperature=0.5),
    Feature.STREAM: HI,
    Feature.SYSTEM: {**HI, "systemInstruction": {"parts": [text("Be brief.")]}},
    Feature.MULTI_TURN: asking(
        user(text("Say hi")), {"role": "model", "parts": [text("Hi there")]}, user(text("Once more"))
    ),
    Feature.TOOLS: asking(user(text("Weather in Paris?")), tools=TOOLS),
    Feature.PARALLEL: asking(user(text("Weather in Paris and Rome?")), tools=TOOLS),
    Feature.RESULTS: asking(
        user(text("Weather in Paris and Rome?")),
        {"role": "model", "parts": [call("Paris"), call("Rome")]},
        user(result("20 degrees"), result("25 degrees")),
        tools=TOOLS,
    ),
    Feature.IMAGE: asking(user(text("What is this?"), PICTURE)),
    Feature.REASONING: asking(
        user(text("2+2?")), generationConfig={"thinkingConfig": {"thinkingBudget": 1024, "includeThoughts": True}}
    ),
    Feature.SCHEMA: asking(
        user(text("Weather in Paris?")),
        generationConfig={"responseMimeType": "application/json", "responseJsonSchema": WEATHER},
    ),
    Feature.STOP: configured(stopSequences=["END"]),
    Feature.LENGTH: configured(maxOutputTokens=64),
    Feature.USAGE: HI,
    Feature.ERROR: HI,
    Feature.BROKEN: HI,
}


def read(data: bytes) -> Told:
    """A whole answer."""
    return _told([GenerateContentResponse.model_validate_json(data)])


def read_stream(data: bytes) -> Seen:
    """A stream of events; the last says why it ends, or is an error."""
    events = unnamed(data)
    error = read_error(200, events.pop()) if events[-1].startswith(b'{"error"') else None
    responses = [GenerateContentResponse.model_validate_json(event) for event in events]
    finishes = [bool(_candidate(response).finish_reason) for response in responses]
    need(finishes == [False] * (len(finishes) - 1) + [error is None], f"a strange order {finishes}")
    need(len({response.response_id for response in responses}) == 1, "the id changes")
    return Seen(_told(responses), error)


def _candidate(response: GenerateContentResponse) -> Candidate:
    need(response.model_version == "m1", "the model is not the one that was asked for")
    candidates = response.candidates or []
    need(len(candidates) == 1, "not one candidate")
    return candidates[0]


def _told(responses: list[GenerateContentResponse]) -> Told:
    texts: list[str] = []
    thoughts: list[str] = []
    calls = []
    for response in responses:
        content = _candidate(response).content
        for part in (content and content.parts) or ():
            if part.function_call:
                called = part.function_call
                calls.append(Call((called.args or {})["city"], called.id, called.name or ""))
            else:
                (thoughts if part.thought else texts).append(part.text or "")
    finish = _candidate(responses[-1]).finish_reason
    need(finish in (None, FinishReason.STOP, FinishReason.MAX_TOKENS), f"a strange finishReason {finish}")
    return Told(
        "".join(texts),
        "".join(thoughts),
        tuple(calls),
        "length" if finish == FinishReason.MAX_TOKENS else "tool_calls" if calls else "stop",
        usage=_usage_of(responses[-1]),
    )


def _usage_of(response: GenerateContentResponse) -> Usage:
    usage = response.usage_metadata
    if usage is None:
        return Usage(None, None, None, None)
    answer = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
    need(usage.total_token_count == (usage.prompt_token_count or 0) + answer, "the counts do not add up")
    return Usage(usage.prompt_token_count, answer, usage.cached_content_token_count, usage.thoughts_token_count)


def read_error(status: int, data: bytes) -> str:
    """The message of an error, of a whole answer or in a stream."""
    error = orjson.loads(data)["error"]
    check(error, ERROR)
    need(status == 200 or error["code"] == status, "the code is not the status")
    need(status != 429 or error["status"] == "RESOURCE_EXHAUSTED", "a strange status")
    return str(error["message"])


CLIENT = Client(
    "gemini generateContent",
    dialect,
    chat,
    BODIES,
    read,
    read_stream,
    read_error,
    streamed={},
    stream_endpoint=chat_stream,
    outside=Outside(model="m1"),
    outside_stream=Outside(model="m1", query={"alt": "sse"}),
)
