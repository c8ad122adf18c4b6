"""The words of `models:` and `models_dir:`: settings of requests, messages to be put in, names with a `*`."""

from collections.abc import Callable, Mapping
from typing import Any

from voluptuous import Invalid, MultipleInvalid

from mooltiproxy.config.validators import Word, expected, plain_name, suggestion, word
from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.neutral import NOWHERE, Asked, Request
from mooltiproxy.mapping.settings import SAMPLING, TOP, Values

FIELDS = frozenset(
    "temperature top_p top_k min_p typical_p typical seed presence_penalty frequency_penalty repetition_penalty "
    "repeat_penalty logit_bias stop n max_tokens max_completion_tokens logprobs top_logprobs reasoning_effort "
    "response_format tools tool_choice parallel_tool_calls user".split()
)
"""What can be set for clients and targets of every API, by the names that OpenAI's chat completions have for it."""

OWN_FIELDS = frozenset(
    "add_bos_token add_generation_prompt allowed_tokens ban_eos_token banned_strings banned_tokens cfg_scale "
    "chat_template_kwargs dry_allowed_length dry_base dry_multiplier dry_penalty_last_n dry_range "
    "dry_sequence_breakers dynatemp_exponent dynatemp_range generate_window grammar_string ignore_eos "
    "include_stop_str_in_output json_schema length_penalty max_temp min_temp min_tokens mirostat mirostat_eta "
    "mirostat_mode mirostat_tau negative_prompt nsigma num_ctx penalty_range prompt_template regex_pattern "
    "repeat_last_n repetition_decay repetition_range response_prefix skew skip_special_tokens smoothing_curve "
    "smoothing_factor speculative_ngram stop_token_ids temp_exponent template_vars temperature_last tfs tfs_z "
    "token_healing top_a top_n_sigma truncate_prompt_tokens use_beam_search xtc_probability xtc_threshold".split()
)
"""What only the servers of open models know: llama.cpp, vLLM, TabbyAPI and Ollama, by their names for it."""

Reader = Callable[[Any, Asked], Request]
"""Reads a chat completion of OpenAI's API into the neutral form; raises BadRequest."""

_MESSAGE = {"messages": [{"role": "user", "content": "?"}]}
_MAX_POSITION = 10_000


def options(reader: Reader | None) -> Word:
    """Some settings, by name: each is read as OpenAI's chat completions are. None checks the names only."""

    def check(value: Any) -> Values:
        if not isinstance(value, dict):
            raise expected("names of settings with their values", value)
        errors = [error for name, given in value.items() for error in _errors_of(name, given, reader)]
        if errors:
            raise MultipleInvalid(errors)
        return _values({name: given for name, given in value.items() if given is not None}, reader)

    names = sorted(FIELDS | OWN_FIELDS)
    return Word(check, {"type": "object", "propertyNames": {"enum": names}})


def _errors_of(name: str, given: Any, reader: Reader | None) -> list[Invalid]:
    if name not in FIELDS and name not in OWN_FIELDS:
        return [Invalid(f"there is no such setting{suggestion(name, FIELDS | OWN_FIELDS)}", [name])]
    if name in OWN_FIELDS or given is None or reader is None:
        return []
    try:
        reader({**_MESSAGE, name: given}, NOWHERE)
    except BadRequest as error:
        return [Invalid(str(error).removeprefix(f"{name}: "), [name])]
    return []


def _values(given: Mapping[str, Any], reader: Reader | None) -> Values:
    if reader is None:
        return Values()
    known = {name: value for name, value in given.items() if name in FIELDS}
    request = reader({**_MESSAGE, **known}, NOWHERE)
    found = {name: getattr(request.sampling, name) for name in sorted(SAMPLING)}
    found |= {name: getattr(request, name) for name in TOP}
    neutral = {name: value for name, value in found.items() if value not in (None, (), [])}
    return Values(neutral, {name: value for name, value in given.items() if name in OWN_FIELDS})


@word({"anyOf": [{"enum": ["start", "end"]}, {"type": "integer", "minimum": -_MAX_POSITION, "maximum": _MAX_POSITION}]})
def position(value: Any) -> int | None:
    """Where a message is put in: start, end, or before the message of this number; None is the end."""
    if value in ("start", "end"):
        return 0 if value == "start" else None
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _MAX_POSITION:
        raise expected("start, end, or the number of a message, 0 being the first behind the system prompt", value)
    return value


@word({"minLength": 1, "pattern": r"^[^*]*\*?[^*]*$"})
def model_name(value: Any) -> str:
    """A model's name, or a pattern with one `*` for many of them."""
    name = str(plain_name(value))
    if name.count("*") > 1:
        raise Invalid("expected a name with one `*` at most")
    return name
