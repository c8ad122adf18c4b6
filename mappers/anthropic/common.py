"""What requests, answers and streams of the Messages API have in common: usage, stop reasons, legal names, models."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping.dialect import Config
from mooltiproxy.mapping.neutral import FinishReason, Request, ToolCall, ToolResult, Usage
from mooltiproxy.mapping.tool_names import NameRule, renamed

_FINISH: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_STOP_REASONS: dict[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
NAMES = NameRule(re.compile(r"[a-zA-Z0-9_-]{1,128}"), re.compile(r"[^a-zA-Z0-9_-]"))
"""The names of tools, and the ids of calls."""
_VERSION = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?!\d)(?:[-.](\d{1,2})(?!\d))?")

ADAPTIVE = (4, 6)
"""From this version on models choose themselves how much to think."""
ADAPTIVE_ONLY = (4, 7)
"""From this version on models take neither a budget for thoughts nor any temperature, top_p, top_k."""
EITHER_SAMPLING = (4, 1)
"""From this version on models take temperature or top_p, not both."""
SYSTEM_TURNS = (5, 0)
"""From this version on models take system turns inside a conversation."""


def version_of(model: str | None) -> tuple[int, int] | None:
    """The version in the name of a Claude model, `claude-opus-4-7` and `anthropic/claude-opus-4.7` being (4, 7).

    None for any other model: servers of other models leave more to the client.
    """
    found = _VERSION.search(model or "")
    return (int(found[1]), int(found[2] or 0)) if found else None


def is_vendor(config: Config) -> bool:
    """Whether the target is Anthropic itself."""
    host = urlsplit(str(config.get("url") or "")).hostname or ""
    return host == "anthropic.com" or host.endswith(".anthropic.com")


def call_ids(request: Request) -> dict[str, str]:
    """What the target is to call those tool calls of a conversation whose ids it does not take."""
    parts = [part for turn in request.turns for part in turn.parts]
    made = [part.id for part in parts if isinstance(part, ToolCall)]
    answered = [part.call_id for part in parts if isinstance(part, ToolResult)]
    return renamed([*made, *answered], NAMES)


def parsed_arguments(text: str) -> dict[str, Any] | None:
    """The arguments of a call as an object, {} for none at all; None where the text is no JSON object."""
    if not text.strip():
        return {}
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if value is None:
        return {}
    return value if isinstance(value, dict) else None


def read_stop_reason(value: Any) -> FinishReason | None:
    """A stop reason of a target, None while there is none; an unknown word means that the answer is over.

    Raises UpstreamBroken for a turn that the target wants to be sent back in order to go on.
    """
    if value == "pause_turn":
        raise UpstreamBroken("the target paused its turn in a tool of its own, which the proxy cannot resume")
    return _FINISH.get(value, "stop") if isinstance(value, str) and value else None


def write_stop_reason(reason: FinishReason, stop_string: str | None) -> dict[str, str | None]:
    """`stop_reason` and `stop_sequence` of an answer."""
    if reason == "stop" and stop_string:
        return {"stop_reason": "stop_sequence", "stop_sequence": stop_string}
    return {"stop_reason": _STOP_REASONS[reason], "stop_sequence": None}


def read_usage(value: Any) -> Usage | None:
    """A target's usage object, None where there is none. The API does not count cached tokens as input: we do."""
    if not isinstance(value, dict) or not value:
        return None
    written, cached = (_count(value, f"cache_{name}_input_tokens") for name in ("creation", "read"))
    plain = _count(value, "input_tokens")
    return Usage(
        prompt=None if plain is None else plain + (written or 0) + (cached or 0),
        answer=_count(value, "output_tokens"),
        cached=cached,
        cache_written=written,
        reasoning=_count(value.get("output_tokens_details"), "thinking_tokens"),
    )


def _count(value: Any, name: str) -> int | None:
    count = value.get(name) if isinstance(value, Mapping) else None
    return int(count) if isinstance(count, int | float) and not isinstance(count, bool) else None


def write_usage(usage: Usage | None) -> dict[str, Any]:
    """The usage object, whose counts are required: an unknown one is 0."""
    usage = usage or Usage()
    cached, written = usage.cached or 0, usage.cache_written or 0
    counts: dict[str, Any] = {
        "input_tokens": max((usage.prompt or 0) - cached - written, 0),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.answer or 0,
    }
    if usage.reasoning is not None:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    return counts
