"""What the endpoints have in common: usage, finish reasons, log probabilities, the head of an answer."""

from collections.abc import Mapping, Sequence
from typing import Any

from mooltiproxy.mapping.neutral import FinishReason, TokenProbability, Usage

_FINISH: dict[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    **dict.fromkeys(
        "SAFETY RECITATION LANGUAGE BLOCKLIST PROHIBITED_CONTENT SPII MODEL_ARMOR IMAGE_SAFETY "
        "IMAGE_PROHIBITED_CONTENT IMAGE_RECITATION".split(),
        "content_filter",
    ),
}
BROKEN = frozenset(
    "OTHER MALFORMED_FUNCTION_CALL MALFORMED_RESPONSE UNEXPECTED_TOOL_CALL TOO_MANY_TOOL_CALLS "
    "MISSING_THOUGHT_SIGNATURE".split()
)
"""Finish reasons of an answer that failed."""
_WORDS: Mapping[FinishReason, str] = {
    "stop": "STOP",
    "tool_calls": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
}


def objects_of(value: Any) -> list[dict[str, Any]]:
    """The JSON objects of a list in an answer; none where it is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def read_finish(value: Any, *, has_calls: bool) -> FinishReason | None:
    """A candidate's finish reason, None while there is none; an unknown word means that the answer is over.

    The service says STOP beside calls, and its calls are whole even where it says MAX_TOKENS.
    """
    if not isinstance(value, str) or value in ("", "FINISH_REASON_UNSPECIFIED"):
        return None
    reason = _FINISH.get(value, "stop")
    return "tool_calls" if has_calls and reason in ("stop", "length") else reason


def write_finish(reason: FinishReason) -> str:
    """The word for a finish reason."""
    return _WORDS[reason]


def read_usage(value: Any) -> Usage | None:
    """A target's `usageMetadata`, whose candidates' tokens leave the thoughts out; None where there is none."""
    if not isinstance(value, dict):
        return None
    prompt, tools = _count(value, "promptTokenCount"), _count(value, "toolUsePromptTokenCount")
    candidates, thoughts = _count(value, "candidatesTokenCount"), _count(value, "thoughtsTokenCount")
    return Usage(
        prompt=_sum(prompt, tools),
        answer=_sum(candidates, thoughts),
        cached=_count(value, "cachedContentTokenCount"),
        reasoning=thoughts,
    )


def _count(value: dict[str, Any], name: str) -> int | None:
    count = value.get(name)
    return count if isinstance(count, int) and not isinstance(count, bool) else None


def _sum(*counts: int | None) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def write_usage(usage: Usage | None) -> dict[str, int]:
    """`usageMetadata`; counts that are not known are left out."""
    if usage is None:
        return {}
    candidates = None if usage.answer is None else usage.answer - (usage.reasoning or 0)
    known = usage.prompt is not None and usage.answer is not None
    counts = {
        "promptTokenCount": usage.prompt,
        "cachedContentTokenCount": usage.cached,
        "candidatesTokenCount": candidates,
        "thoughtsTokenCount": usage.reasoning,
        "totalTokenCount": _sum(usage.prompt, usage.answer) if known else None,
    }
    return {name: count for name, count in counts.items() if count is not None}


def read_logprobs(value: Any) -> list[TokenProbability] | None:
    """The probabilities of a candidate's tokens (`logprobsResult`), None where there are none."""
    if not isinstance(value, dict):
        return None
    chosen, top = objects_of(value.get("chosenCandidates")), objects_of(value.get("topCandidates"))
    tokens = []
    for at, token in enumerate(chosen):
        alternatives = objects_of(top[at].get("candidates")) if at < len(top) else []
        tokens.append(TokenProbability(*_token(token), tuple(map(_token, alternatives))))
    return tokens or None


def _token(value: dict[str, Any]) -> tuple[str, float]:
    return str(value.get("token", "")), float(value.get("logProbability") or 0.0)


def write_logprobs(logprobs: Sequence[TokenProbability]) -> dict[str, Any]:
    """The `logprobsResult` of a candidate."""
    return {
        "topCandidates": [{"candidates": [_written(*one) for one in token.top]} for token in logprobs],
        "chosenCandidates": [_written(token.text, token.logprob) for token in logprobs],
    }


def _written(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logProbability": logprob}
