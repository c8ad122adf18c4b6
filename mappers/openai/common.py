"""What chat completions and legacy completions have in common: sampling, usage, finish reasons, vendors."""

import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping.dialect import Config
from mooltiproxy.mapping.fields import Fields
from mooltiproxy.mapping.gather import raise_failure
from mooltiproxy.mapping.model_names import required_model
from mooltiproxy.mapping.neutral import Answer, Choice, FinishReason, Request, Sampling, Usage
from mooltiproxy.mapping.tool_names import NameRule

NAMES = NameRule(re.compile(r"[a-zA-Z0-9_-]{1,64}"), re.compile(r"[^a-zA-Z0-9_-]"))
"""The names of functions, as the vendor takes them and most servers of open models."""
_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
_LOCAL_SAMPLING = ("top_k", "min_p", "typical_p", "repetition_penalty")
"""Fields that the servers of open models add to OpenAI's: vLLM, TabbyAPI and llama.cpp know them."""


PLACES: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in ("temperature", "top_p", "top_k", "min_p", "seed", "logit_bias", "stop", "n", "user")},
    "typical_p": ("typical_p", "typical"),
    "repetition_penalty": ("repetition_penalty", "repeat_penalty"),
    "presence_penalty": ("presence_penalty",),
    "frequency_penalty": ("frequency_penalty",),
    "max_tokens": ("max_tokens", "max_completion_tokens"),
}
"""Where both endpoints say what can be set for a model."""

USAGE_FLAG = "stream_options.include_usage"


def read_sampling(fields: Fields) -> Sampling:
    """The sampling fields that both endpoints share, those of local servers included; raises BadRequest."""
    return Sampling(
        temperature=fields.number("temperature", 0),
        top_p=fields.number("top_p", 0, 1),
        top_k=fields.integer("top_k", -1),
        min_p=fields.number("min_p", 0, 1),
        typical_p=fields.number(fields.first("typical_p", "typical"), 0, 1),
        seed=fields.integer("seed"),
        presence_penalty=fields.number("presence_penalty", -2, 2),
        frequency_penalty=fields.number("frequency_penalty", -2, 2),
        repetition_penalty=fields.number(fields.first("repetition_penalty", "repeat_penalty"), 0),
        logit_bias=fields.plain("logit_bias") or None,
        stop=fields.texts("stop"),
        n=fields.integer("n", 1, 128),
    )


def read_stream(fields: Fields, request: Request) -> None:
    """`stream`, `stream_options` and `user`, set on the request; raises BadRequest."""
    request.stream = fields.flag("stream") or False
    request.user = fields.text("user")
    options = fields.object("stream_options")
    if options:
        request.include_usage = request.stream and bool(options.flag("include_usage"))
        options.any("include_obfuscation")
        request.extra.update(options.leftovers())


def write_sampling(request: Request, config: Config, dropped: list[str]) -> dict[str, Any]:
    """The sampling fields that both endpoints share; names what the vendor does not know in `dropped`."""
    sampling = request.sampling
    names = ["temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "n"]
    local = [name for name in _LOCAL_SAMPLING if getattr(sampling, name) is not None]
    if is_vendor(config):
        dropped += local
    else:
        names += local
    body = {name: getattr(sampling, name) for name in names if getattr(sampling, name) is not None}
    stops = all_stops(request)[:MAX_STOPS]
    if stops:
        body["stop"] = stops
    return body


MAX_STOPS = 4
"""Stop strings that the API takes; further ones are cut from the answer by us."""


def all_stops(request: Request) -> list[str]:
    """Every stop string, the client's before those of a prompt's template."""
    return list(dict.fromkeys([*request.sampling.stop, *request.template_stops]))


def unsent_stops(request: Request) -> tuple[str, ...]:
    """The stop strings that the target was not told."""
    return tuple(all_stops(request)[MAX_STOPS:])


def told_stop(request: Request, stop: str | None) -> str | None:
    """The stop string that a client may hear of: any but the template's."""
    return None if stop in request.template_stops and stop not in request.sampling.stop else stop


def write_stream(request: Request) -> dict[str, Any]:
    """The stream fields. Usage is always asked for: a chunk too many is easily left out."""
    if not request.stream:
        return {}
    return {"stream": True, "stream_options": {"include_usage": True}}


def is_vendor(config: Config) -> bool:
    """Whether the target is OpenAI itself, which refuses the fields of local servers and the older `max_tokens`."""
    host = urlsplit(str(config.get("url") or "")).hostname or ""
    return host == "api.openai.com" or host.endswith(".openai.azure.com")


def write_model(model: str | None, config: Config) -> dict[str, str]:
    """`model`, which the vendor must be told (BadRequest) and many a server of one model need not be."""
    if is_vendor(config):
        return {"model": required_model(model)}
    return {"model": model} if model else {}


def read_finish(value: Any) -> FinishReason | None:
    """A finish reason of a target, None while there is none. An unknown word means that the answer is over: stop."""
    if not isinstance(value, str) or not value:
        return None
    return _FINISH.get(value, "stop")


def read_usage(value: Any) -> Usage | None:
    """A target's usage object; None where there is none."""
    if not isinstance(value, dict):
        return None
    prompt_details = value.get("prompt_tokens_details")
    answer_details = value.get("completion_tokens_details")
    return Usage(
        prompt=count_in(value, "prompt_tokens"),
        answer=count_in(value, "completion_tokens"),
        cached=count_in(prompt_details, "cached_tokens"),
        cache_written=count_in(prompt_details, "cache_write_tokens"),
        reasoning=count_in(answer_details, "reasoning_tokens"),
    )


def count_in(value: Any, name: str) -> int | None:
    """A count of tokens in a usage object, None where it is not told."""
    count = value.get(name) if isinstance(value, dict) else None
    return int(count) if isinstance(count, int | float) and not isinstance(count, bool) else None


def write_usage(usage: Usage | None) -> dict[str, Any] | None:
    """The usage object; None where a count is unknown, since the API has no word for that and 0 would be a lie."""
    if usage is None or usage.prompt is None or usage.answer is None:
        return None
    written: dict[str, Any] = {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.answer,
        "total_tokens": usage.prompt + usage.answer,
    }
    prompt_details = {"cached_tokens": usage.cached, "cache_write_tokens": usage.cache_written}
    answer_details = {"reasoning_tokens": usage.reasoning}
    for name, details in (("prompt_tokens_details", prompt_details), ("completion_tokens_details", answer_details)):
        known = {key: count for key, count in details.items() if count is not None}
        if known:
            written[name] = known
    return written


def read_choices(body: Any) -> list[dict[str, Any]]:
    """The choices of a whole answer in their order; raises UpstreamBroken where there are none or it is an error."""
    raise_failure(body)
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        raise UpstreamBroken("the target's answer has no choices")
    return sorted(choices, key=index_of)


def read_whole(body: Mapping[str, Any], choices: list[Choice]) -> Answer:
    """A whole answer whose choices have been read."""
    model = body.get("model")
    return Answer(choices, read_usage(body.get("usage")), model if isinstance(model, str) else None)


def write_whole(
    answer: Answer, request: Request, begun: dict[str, Any], choices: list[dict[str, Any]]
) -> dict[str, Any]:
    """A whole answer for a client: `begun` is what `head` made, `choices` have been written."""
    body = {**begun, "model": request.model or answer.model or "", "choices": choices}
    usage = write_usage(answer.usage)
    return {**body, "usage": usage} if usage else body


def index_of(choice: Mapping[str, Any]) -> int:
    """A choice's index; 0 where a server leaves it out."""
    index = choice.get("index")
    return index if isinstance(index, int) and index >= 0 else 0


def stop_string_of(choice: Mapping[str, Any]) -> str | None:
    """The stop string that ended a choice, from the servers that tell: vLLM (`stop_reason`), TabbyAPI (`stop_str`)."""
    for name in ("stop_reason", "stop_str"):
        value = choice.get(name)
        if isinstance(value, str) and value:
            return value
    return None


def head(request: Request, identifier: str, kind: str) -> dict[str, Any]:
    """The fields that begin every answer and chunk: one id and one time for all chunks of an answer."""
    return {"id": identifier, "object": kind, "created": int(time.time()), "model": request.model or ""}
