"""The loss ledger: what a translation could not carry, by class, and what is to be done about it.

Writers name what they leave out (`seed`) or change (`clamped temperature 1.5->1`). A target's `losses:` says for each
class whether a request that loses it is rejected, answered with a warning, or answered in silence.
"""

from collections.abc import Mapping

from mooltiproxy.errors import BadRequest

REJECT, WARN, ALLOW = POLICIES = ("reject", "warn", "allow")
DEFAULT = "default"

CLASSES: Mapping[str, frozenset[str]] = {
    "sampling": frozenset(
        "temperature top_p top_k min_p typical_p seed presence_penalty frequency_penalty repetition_penalty logit_bias "
        "stop max_tokens min_tokens n best_of logprobs top_logprobs options".split()
    ),
    "tools": frozenset("tools tool_choice parallel_tool_calls strict functions function_call tool_calls".split()),
    "output": frozenset("response_format text output_config format verbosity modalities".split()),
    "reasoning": frozenset("reasoning reasoning_effort thinking think reasoning_content signature".split()),
    "images": frozenset("image images detail audio file document input_audio".split()),
    "messages": frozenset("messages name system suffix echo prompt context template citations".split()),
    "cache": frozenset("cache_control prompt_cache_key prompt_cache_options prompt_cache_retention".split()),
    "lifecycle": frozenset("keep_alive num_ctx store background".split()),
    "metadata": frozenset("user metadata service_tier safety_identifier client_metadata include".split()),
}
"""Classes of what may be lost, by the names that writers use; anything else is of the class `other`."""

OTHER = "other"
NAMES = (DEFAULT, *CLASSES, OTHER)
"""What may stand under `losses:`."""


def class_of(entry: str) -> str:
    """The class of one entry of a ledger: `clamped temperature 1.5->1` is sampling, `messages[2].name` messages."""
    words = entry.split()
    name = words[1] if words[0] in ("clamped", "dropped") and len(words) > 1 else words[0]
    parts = [part.partition("[")[0] for part in name.split(".")]
    for part in (parts[-1], parts[0]):
        for known, names in CLASSES.items():
            if part in names:
                return known
    return OTHER


def shown(ledger: tuple[str, ...], losses: Mapping[str, str]) -> tuple[str, ...]:
    """The entries to tell the client of; raises BadRequest for one whose class is to be rejected."""
    if not ledger:
        return ()
    told = []
    for entry in dict.fromkeys(ledger):
        policy = losses.get(class_of(entry)) or losses.get(DEFAULT, WARN)
        if policy == REJECT:
            raise BadRequest(f"the target cannot be told this, and the proxy is set to refuse it: {entry}", param=entry)
        if policy == WARN:
            told.append(entry)
    return tuple(told)
