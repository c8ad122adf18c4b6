"""How much to say, how to draw tokens, how much to think: the fields of a request beside its conversation.

What a Claude model takes depends on its version, which its name tells; servers of other models take everything.
"""

from collections.abc import Mapping
from typing import Any

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.dialect import Config
from mooltiproxy.mapping.neutral import OutputFormat, Reasoning, ReasoningOptions, Request, ToolCall
from mooltiproxy.mapping.signatures import ANTHROPIC, REDACTED, own

from .common import ADAPTIVE, ADAPTIVE_ONLY, EITHER_SAMPLING, is_vendor, version_of

MAX_TOKENS = 4096
"""Tokens of an answer where neither the client nor `cfg["max_tokens"]` says a number: the API wants one."""
MIN_BUDGET = 1024
_EFFORTS = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}
_BUDGETS = {"low": 1024, "medium": 8192, "high": 24576, "xhigh": 32768, "max": 32768}

_FOREIGN = {
    "min_p": 0,
    "typical_p": 1,
    "seed": None,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "repetition_penalty": 1,
    "logit_bias": None,
}
"""Sampling fields that the API does not have, with the values that do nothing anyway."""

_VALUES = ("const", "default", "enum", "examples")
"""Keywords of JSON Schema that hold values and no schemas."""

Body = dict[str, Any]


def write_options(request: Request, config: Config, dropped: list[str]) -> Body:
    """Everything beside model, conversation and tools; raises BadRequest for what the target cannot be asked."""
    _refuse(request)
    body: Body = {"max_tokens": _max_tokens(request, config, dropped)}
    body.update(_thinking(request, config, body["max_tokens"], dropped))
    body.update(_sampling(request, thinks="thinking" in body, dropped=dropped))
    stops = [stop for stop in request.sampling.stop if stop.strip()]
    if stops:
        body["stop_sequences"] = stops
    if request.output:
        body.setdefault("output_config", {})["format"] = write_format(request.output, request, config, dropped)
    if request.user:
        body["metadata"] = {"user_id": request.user}
    if request.keep_alive is not None:
        dropped.append("keep_alive")
    if request.stream:
        body["stream"] = True
    return body


def unsent_stops(request: Request) -> tuple[str, ...]:
    """The stop strings that the API refuses, nothing but whitespace: we cut at them ourselves."""
    return tuple(stop for stop in request.sampling.stop if not stop.strip())


def _refuse(request: Request) -> None:
    sampling = request.sampling
    refusals = (
        ("n", (sampling.n or 1) > 1, "gives one answer to a request"),
        ("best_of", (sampling.best_of or 1) > 1, "gives one answer to a request"),
        ("logprobs", bool(sampling.logprobs), "gives no log probabilities"),
    )
    for name, refused, reason in refusals:
        if refused:
            raise BadRequest(f"{name}: this target {reason}", param=name)


def _max_tokens(request: Request, config: Config, dropped: list[str]) -> int:
    ceiling = config.get("max_tokens")
    wanted = request.sampling.max_tokens
    if wanted is None:
        return ceiling or MAX_TOKENS
    if ceiling and wanted > ceiling:
        dropped.append(f"clamped max_tokens {wanted}->{ceiling}")
        return int(ceiling)
    return wanted


def _sampling(request: Request, *, thinks: bool, dropped: list[str]) -> Body:
    """The three ways to shape sampling that the API has, where the model takes them; the others are named."""
    sampling, version = request.sampling, version_of(request.model)
    body: Body = {}
    if sampling.temperature is not None:
        body["temperature"] = min(sampling.temperature, 1)
        if sampling.temperature > 1:
            dropped.append(f"clamped temperature {sampling.temperature}->1")
    if sampling.top_p is not None:
        body["top_p"] = sampling.top_p
    if sampling.top_k is not None and sampling.top_k >= 0:
        body["top_k"] = sampling.top_k
    for name in _unwanted(body, version, thinks=thinks):
        del body[name]
        dropped.append(name)
    dropped += [name for name, neutral in _FOREIGN.items() if getattr(sampling, name) not in (None, neutral)]
    return body


def _unwanted(body: Mapping[str, Any], version: tuple[int, int] | None, *, thinks: bool) -> list[str]:
    """What this model refuses of these fields: all of them, two at once, or those that thinking forbids."""
    if version and version >= ADAPTIVE_ONLY:
        return list(body)
    unwanted = []
    if thinks:
        fine = {"temperature": body.get("temperature") == 1, "top_p": body.get("top_p", 0) >= 0.95, "top_k": False}
        unwanted = [name for name in body if not fine[name]]
    left = [name for name in ("temperature", "top_p") if name in body and name not in unwanted]
    if version and version >= EITHER_SAMPLING and len(left) == 2:
        unwanted.append("top_p")
    return unwanted


def _thinking(request: Request, config: Config, limit: int, dropped: list[str]) -> Body:
    """`thinking`, and what goes with it: the effort where the model chooses itself how much to think, else a
    `max_tokens` with room for the budget."""
    wanted = request.reasoning
    if wanted is None:
        return {}
    version = version_of(request.model)
    if _is_off(wanted):
        return {} if version and version < ADAPTIVE else {"thinking": {"type": "disabled"}}
    if wanted.effort is not None and wanted.effort not in _EFFORTS or _forces_tools(request):
        dropped.append("reasoning_effort")
        return {}
    by_budget = wanted.budget is not None and wanted.budget > 0
    if version:
        by_budget = version < ADAPTIVE or by_budget and version < ADAPTIVE_ONLY
    if by_budget:
        return _budgeted(request, wanted, config, limit, dropped)
    effort = _EFFORTS[wanted.effort] if wanted.effort else _effort_of(wanted.budget)
    thinking = {"thinking": _shown({"type": "adaptive"}, wanted)}
    return {**thinking, "output_config": {"effort": effort}} if effort else thinking


def _is_off(wanted: ReasoningOptions) -> bool:
    return wanted.effort == "none" or wanted.effort is None and wanted.budget == 0


def _forces_tools(request: Request) -> bool:
    """A model that must call a tool may not think before: the call is what matters."""
    return bool(request.tools and request.tool_choice and request.tool_choice.mode == "required")


def _shown(thinking: Body, wanted: ReasoningOptions) -> Body:
    return thinking if wanted.show is None else {**thinking, "display": "summarized" if wanted.show else "omitted"}


def _effort_of(budget: int | None) -> str | None:
    if budget is None or budget < 0:
        return None
    return "low" if budget <= 1024 else "medium" if budget <= 8192 else "high"


def _budgeted(request: Request, wanted: ReasoningOptions, config: Config, limit: int, dropped: list[str]) -> Body:
    """Thinking by a budget, for which the answer must leave room; left out where that cannot be."""
    budget = _budget(wanted, limit, dropped)
    room = _room(request, budget, config, limit, dropped) if _thoughts_are_complete(request) else None
    if room is None:
        dropped.append("reasoning_effort")
        return {}
    thinking = {"thinking": _shown({"type": "enabled", "budget_tokens": budget}, wanted), "max_tokens": room}
    both = wanted.budget is not None and wanted.effort is not None
    return {**thinking, "output_config": {"effort": _EFFORTS[str(wanted.effort)]}} if both else thinking


def _budget(wanted: ReasoningOptions, limit: int, dropped: list[str]) -> int:
    if wanted.budget is None or wanted.budget < 0:
        effort = _EFFORTS[wanted.effort] if wanted.effort else "medium"
        return max(_BUDGETS[effort], limit - MAX_TOKENS) if effort == "max" else _BUDGETS[effort]
    if wanted.budget < MIN_BUDGET:
        dropped.append(f"clamped reasoning_effort {wanted.budget}->{MIN_BUDGET}")
    return max(wanted.budget, MIN_BUDGET)


def _room(request: Request, budget: int, config: Config, limit: int, dropped: list[str]) -> int | None:
    """`max_tokens` that leaves an answer its own tokens beside the thoughts; None where the ceiling forbids that."""
    if limit > budget:
        return limit
    ceiling = config.get("max_tokens")
    if ceiling and limit + budget > ceiling:
        return None
    if request.sampling.max_tokens is not None:
        dropped.append(f"clamped max_tokens {limit}->{limit + budget}")
    return limit + budget


def _thoughts_are_complete(request: Request) -> bool:
    """Between a call and the next answer the API wants the thoughts that led to the call."""
    last = next((turn for turn in reversed(request.turns) if turn.role == "assistant"), None)
    if last is None or not any(isinstance(part, ToolCall) for part in last.parts):
        return True
    states = [part.signature for part in last.parts if isinstance(part, Reasoning)]
    return any(own(ANTHROPIC, state) or own(REDACTED, state) for state in states)


def write_format(output: OutputFormat, request: Request, config: Config, dropped: list[str]) -> Body:
    """`output_config.format`; raises BadRequest for what is no JSON Schema."""
    if output.kind != "schema":
        wanted = "any JSON" if output.kind == "json" else f"a {output.kind}"
        message = f"response_format: this target can hold its answer to a JSON Schema, not to {wanted}"
        raise BadRequest(message, param="response_format")
    schema = output.value
    if (is_vendor(config) or version_of(request.model)) and _has_open_objects(schema):
        schema = _closed(schema)
        dropped.append("clamped response_format additionalProperties->false")
    return {"type": "json_schema", "schema": schema}


def _has_open_objects(schema: Any) -> bool:
    return bool(_closed(schema) != schema)


def _closed(schema: Any) -> Any:
    """The schema with objects that take no further properties, unless it says what they take: the API wants that."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    closed = {name: value if name in _VALUES else _closed(value) for name, value in schema.items()}
    return {**closed, "additionalProperties": False} if _is_open_object(schema) else closed


def _is_open_object(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "object" and "additionalProperties" not in schema
