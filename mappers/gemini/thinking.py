"""`thinkingConfig` (ai.google.dev/gemini-api/docs/thinking): a budget of tokens up to Gemini 2.5, a level since 3."""

from collections.abc import Mapping
from typing import Any

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.neutral import ReasoningOptions, Request

from .fields import ProtoFields
from .names import is_older

DYNAMIC = -1
"""The budget that leaves it to the model."""
_LOWEST_OF_PRO = 128
"""Gemini 2.5 Pro cannot be kept from thinking."""
_MOST, _MOST_OF_PRO = 24576, 32768
_BUDGETS: Mapping[str, int] = {
    "none": 0,
    "minimal": 512,
    "low": 1024,
    "medium": 8192,
    "high": 24576,
    "xhigh": 24576,
    "max": 24576,
}
"""Of Google's own OpenAI endpoint, as far as that knows the words."""
_LEVELS: Mapping[str, str] = {
    "none": "MINIMAL",
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "XHIGH",
    "max": "HIGH",
}


def read_thinking(config: ProtoFields, extra: dict[str, Any]) -> ReasoningOptions | None:
    """How much the model may think; raises BadRequest for a budget together with a level."""
    thinking = config.object("thinkingConfig")
    if thinking is None:
        return None
    level = thinking.word("thinkingLevel")
    budget = thinking.integer("thinkingBudget", DYNAMIC)
    if level is not None and budget is not None:
        raise thinking.wrong("thinkingBudget", "either a budget or a level")
    if level is not None and level not in _LEVELS.values():
        raise thinking.wrong("thinkingLevel", f"one of {', '.join(dict.fromkeys(_LEVELS.values()))}")
    # Unless it is asked for them, this API does not show thoughts.
    options = ReasoningOptions(level.lower() if level else None, budget, thinking.flag("includeThoughts") or False)
    if budget == DYNAMIC:
        options.budget = None
        extra[thinking.where("thinkingBudget")] = budget
    extra.update(thinking.leftovers())
    return options


def write_thinking(request: Request, dropped: list[str]) -> dict[str, Any]:
    """The fields of `thinkingConfig`; raises BadRequest for an effort that is none."""
    options = request.reasoning
    if options is None:
        return {}
    written: dict[str, Any] = {}
    if options.effort is not None:
        written = _written_effort(options.effort, request.model or "", dropped)
    elif options.budget is not None:
        written = {"thinkingBudget": _allowed(options.budget, options.budget, request.model or "", dropped)}
    thinks = bool(written) and written.get("thinkingBudget") != 0
    # Other APIs show their thoughts unless told not to.
    if options.show or (options.show is None and thinks):
        written["includeThoughts"] = True
    return written


def _written_effort(effort: str, model: str, dropped: list[str]) -> dict[str, Any]:
    if effort not in _LEVELS:
        expected = ", ".join(_LEVELS)
        raise BadRequest(f"reasoning_effort: expected one of {expected} for this target", param="reasoning_effort")
    if not is_older(model):
        level = _LEVELS[effort]
        if level.lower() != effort:
            dropped.append(f"clamped reasoning_effort {effort}->{level.lower()}")
        return {"thinkingLevel": level}
    if "gemini-2.5" not in model:
        dropped.append("reasoning_effort")
        return {}
    return {"thinkingBudget": _allowed(effort, _BUDGETS[effort], model, dropped)}


def _allowed(asked: str | int, budget: int, model: str, dropped: list[str]) -> int:
    """The nearest budget that the model takes; `asked` is what the client wanted in its own words."""
    is_pro = "pro" in model
    allowed = min(max(budget, _LOWEST_OF_PRO if is_pro else 0), _MOST_OF_PRO if is_pro else _MOST)
    if allowed != budget:
        dropped.append(f"clamped reasoning_effort {asked}->{allowed}")
    return allowed
