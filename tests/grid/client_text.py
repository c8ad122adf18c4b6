"""Clients that write prompts: OpenAI's legacy completions and TGI's generate."""

from typing import Any

import orjson
from openai.types import Completion, CompletionUsage

from mappers import tgi
from mappers.openai import completions, dialect

from .client_openai import read_error, usage_of
from .clients import Body, Client, Seen, unnamed
from .conversation import WEATHER, Feature, Told, Usage
from .shapes import check, need

COMPLETION_BODY = {"model": "m1", "prompt": "Say hi", "max_tokens": 100}
COMPLETION_BODIES = {
    Feature.PLAIN: {**COMPLETION_BODY, "temperature": 0.5},
    Feature.STREAM: COMPLETION_BODY,
    Feature.STOP: {**COMPLETION_BODY, "stop": ["END"]},
    Feature.LENGTH: {**COMPLETION_BODY, "max_tokens": 64},
    Feature.USAGE: COMPLETION_BODY,
    Feature.ERROR: COMPLETION_BODY,
    Feature.BROKEN: COMPLETION_BODY,
}
COUNTED = frozenset(("prompt", "answer", "cached", "reasoning"))


def read_completion(data: bytes) -> Told:
    """A whole answer."""
    completion = Completion.model_validate_json(data, strict=True)
    need(completion.model == "m1", "the model is not the one that was asked for")
    (choice,) = completion.choices
    return Told(choice.text, finish=choice.finish_reason, usage=usage_of(completion.usage))


CHUNK = {
    "id": str,
    "object": "text_completion",
    "created": int,
    "model": "m1",
    "choices": [{"index": 0, "text": str, "logprobs": None, "finish_reason": (None, "stop", "length")}],
    "usage?": (None, dict),
}
"""The SDK's own type is that of a whole answer."""


def read_completions(data: bytes) -> Seen:
    """A stream, which ends with `[DONE]` or an error."""
    *events, last = unnamed(data)
    chunks = [orjson.loads(event) for event in events]
    for chunk in chunks:
        check(chunk, CHUNK)
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    finishes = [choice["finish_reason"] for choice in choices]
    failed = last != b"[DONE]"
    need(None not in finishes[-1:] or failed, "no finish_reason")
    need(not any(finishes[:-1]), "a text behind the finish_reason")
    counts = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    usage = usage_of(CompletionUsage.model_validate(counts[-1]) if counts else None)
    told = Told("".join(choice["text"] for choice in choices), finish=finishes[-1] or "stop", usage=usage)
    return Seen(told, read_error(200, last) if failed else None)


def generating(**parameters: Any) -> Body:
    """A request to TGI with these parameters. TGI itself would pass over the model, other targets need one."""
    return {"model": "m1", "inputs": "Say hi", "parameters": {"details": True, **parameters}}


TGI_BODIES = {
    Feature.PLAIN: generating(temperature=0.5, do_sample=True),
    Feature.STREAM: generating(),
    Feature.SCHEMA: {**generating(grammar={"type": "json", "value": WEATHER}), "inputs": "Weather in Paris?"},
    Feature.STOP: generating(stop=["END"]),
    Feature.LENGTH: generating(max_new_tokens=64),
    Feature.USAGE: generating(),
    Feature.ERROR: generating(),
    Feature.BROKEN: generating(),
}
DETAILS = {"finish_reason": ("length", "eos_token", "stop_sequence"), "generated_tokens": int, "seed": (None, int)}
WHOLE = {"generated_text": str, "details": {**DETAILS, "prefill": list, "tokens": list}}
TOKEN = {"id": int, "text": str, "logprob": float, "special": bool}
EVENT = {
    "index": int,
    "token": TOKEN,
    "generated_text": (None, str),
    "details": (None, {**DETAILS, "input_length": int}),
}
ERROR = {"error": str, "error_type": ("validation", "generation", "overloaded", "incomplete_generation")}


def read_generated(data: bytes) -> Told:
    """A whole answer."""
    body = orjson.loads(data)
    check(body, WHOLE)
    return _generated(body)


def read_generating(data: bytes) -> Seen:
    """A stream; the last event has the whole text, or is an error."""
    events = [orjson.loads(event) for event in unnamed(data)]
    error = events.pop() if "error" in events[-1] else None
    for event in events:
        check(event, EVENT)
    need([event["index"] for event in events] == list(range(1, len(events) + 1)), "index does not count")
    text = "".join(event["token"]["text"] for event in events if not event["token"]["special"])
    if error is not None:
        check(error, ERROR)
        return Seen(Told(text), error["error"])
    need([event["generated_text"] for event in events] == [None] * (len(events) - 1) + [text], "another whole text")
    return Seen(_generated(events[-1]))


def _generated(body: Any) -> Told:
    """The end of an answer; the stop string that the API leaves at the end of its text is not part of what was said."""
    details = body["details"]
    reason = details["finish_reason"]
    stop = "END" if reason == "stop_sequence" else None
    text = body["generated_text"]
    need(stop is None or text.endswith(stop), "the stop string is not in the text")
    usage = Usage(details.get("input_length"), details["generated_tokens"], None, None)
    return Told(
        text.removesuffix(stop or ""), finish="length" if reason == "length" else "stop", stop_string=stop, usage=usage
    )


def read_tgi_error(status: int, data: bytes) -> str:
    """The message of an error answer."""
    body = orjson.loads(data)
    check(body, ERROR)
    need(status != 429 or body["error_type"] == "overloaded", "a strange error_type")
    return str(body["error"])


COMPLETIONS = Client(
    "openai completions",
    dialect,
    completions.endpoint,
    COMPLETION_BODIES,
    read_completion,
    read_completions,
    read_error,
    streamed={"stream": True, "stream_options": {"include_usage": True}},
    knows=COUNTED,
)
GENERATE = Client(
    "tgi generate",
    tgi.dialect,
    tgi.text_endpoint,
    TGI_BODIES,
    read_generated,
    read_generating,
    read_tgi_error,
    streamed={},
    stream_endpoint=tgi.stream_endpoint,
    knows=frozenset(("answer", "stop_string")),
)
