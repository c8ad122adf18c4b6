"""Requests as TGI 3.3 reads them: which types, bounds and combinations it accepts, and what it takes for absent fields.

Facts: the API document of TGI 3.3.6 (`docs/openapi.json`, January 2026) and the behaviour of its router.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

MAX_BEST_OF = 1
MAX_STOP_SEQUENCES = 4
MAX_TOP_N_TOKENS = 5
MAX_INPUT_TOKENS = 4095
MAX_TOTAL_TOKENS = 4096


class Malformed(Exception):
    """A field is missing or has the wrong type: answered in plain text, as TGI's JSON reader does."""


class Invalid(Exception):
    """A value is out of bounds: answered with error_type `validation`."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """`parameters` of a request, as sent."""

    adapter_id: str | None = None
    best_of: int | None = None
    decoder_input_details: bool = False
    details: bool = False
    do_sample: bool = False
    frequency_penalty: float | None = None
    grammar: Any = None
    max_new_tokens: int | None = None
    repetition_penalty: float | None = None
    return_full_text: bool | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    temperature: float | None = None
    top_k: int | None = None
    top_n_tokens: int | None = None
    top_p: float | None = None
    truncate: int | None = None
    typical_p: float | None = None
    watermark: bool = False

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn: when asked for, or when a value is given that only makes sense then."""
        warped = self.temperature not in (None, 1.0) or (self.top_k, self.top_p, self.typical_p) != (None, None, None)
        return self.do_sample or warped


@dataclass(frozen=True, slots=True)
class Request:
    """A generation request: the finished prompt and its parameters."""

    inputs: str
    parameters: Parameters
    stream: bool


def _integer(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


U32, U64, I32 = _integer(0, 2**32 - 1), _integer(0, 2**64 - 1), _integer(-(2**31), 2**31 - 1)
NOT_NULLABLE = {"decoder_input_details", "details", "do_sample", "stop", "watermark"}
TYPES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "adapter_id": (lambda value: isinstance(value, str), "a string"),
    "best_of": (U64, "an unsigned integer"),
    "decoder_input_details": (_flag, "a boolean"),
    "details": (_flag, "a boolean"),
    "do_sample": (_flag, "a boolean"),
    "frequency_penalty": (_number, "a number"),
    "grammar": (lambda value: isinstance(value, dict), "an object"),
    "max_new_tokens": (U32, "an unsigned integer"),
    "repetition_penalty": (_number, "a number"),
    "return_full_text": (_flag, "a boolean"),
    "seed": (U64, "an unsigned integer"),
    "stop": (_strings, "a sequence of strings"),
    "temperature": (_number, "a number"),
    "top_k": (I32, "an integer"),
    "top_n_tokens": (U32, "an unsigned integer"),
    "top_p": (_number, "a number"),
    "truncate": (U64, "an unsigned integer"),
    "typical_p": (_number, "a number"),
    "watermark": (_flag, "a boolean"),
}
BOUNDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "best_of": (lambda value: 0 < value <= MAX_BEST_OF, f"must be at least 1 and at most {MAX_BEST_OF}"),
    "temperature": (lambda value: value > 0, "must be strictly positive"),
    "repetition_penalty": (lambda value: value > 0, "must be strictly positive"),
    "frequency_penalty": (lambda value: -2 <= value <= 2, "must lie between -2.0 and 2.0"),
    "top_p": (lambda value: 0 < value < 1, "must be > 0.0 and < 1.0"),
    "typical_p": (lambda value: 0 < value < 1, "must be > 0.0 and < 1.0"),
    "top_k": (lambda value: value >= 1, "must be strictly positive"),
    "top_n_tokens": (lambda value: value <= MAX_TOP_N_TOKENS, f"must be at most {MAX_TOP_N_TOKENS}"),
    "max_new_tokens": (lambda value: value >= 1, "must be strictly positive"),
    "truncate": (lambda value: 1 <= value <= MAX_INPUT_TOKENS, f"must be at least 1 and at most {MAX_INPUT_TOKENS}"),
    "stop": (lambda value: len(value) <= MAX_STOP_SEQUENCES, f"takes at most {MAX_STOP_SEQUENCES} sequences"),
    "grammar": (lambda value: False, "is not supported by this model"),
}


def read_request(body: Any) -> Request:
    """The request in a parsed JSON body; unknown fields are ignored. Raises Malformed."""
    if not isinstance(body, dict):
        raise Malformed("invalid type, expected a struct")
    if not isinstance(body.get("inputs"), str):
        raise Malformed("inputs: expected a string" if "inputs" in body else "missing field `inputs`")
    if not _flag(body.get("stream", False)):
        raise Malformed("stream: expected a boolean")
    if "parameters" not in body:  # only then sampling is the default
        return Request(body["inputs"], Parameters(do_sample=True), body.get("stream", False))
    return Request(body["inputs"], _read_parameters(body["parameters"]), body.get("stream", False))


def _read_parameters(sent: Any) -> Parameters:
    if not isinstance(sent, dict):
        raise Malformed("parameters: expected struct GenerateParameters")
    for name, (accepts, expected) in TYPES.items():
        if name not in sent or (sent[name] is None and name not in NOT_NULLABLE):
            continue
        if not accepts(sent[name]):
            raise Malformed(f"parameters.{name}: expected {expected}")
    known: dict[str, Any] = {field.name: sent[field.name] for field in fields(Parameters) if field.name in sent}
    return Parameters(**{**known, "stop": tuple(known.get("stop", ()))})


def validate(request: Request, input_tokens: int, *, streams: bool) -> int:
    """How many tokens may be generated; raises Invalid for the first value out of bounds."""
    parameters = request.parameters
    for name, (accepts, expected) in BOUNDS.items():
        value = getattr(parameters, name)
        if value is not None and not accepts(value):
            raise Invalid(f"`{name}` {expected}")
    if streams and parameters.decoder_input_details:
        raise Invalid("`decoder_input_details` cannot be had with a stream")
    if not request.inputs:
        raise Invalid("`inputs` cannot be empty")
    return _room(parameters, min(input_tokens, parameters.truncate or input_tokens))


def _room(parameters: Parameters, input_tokens: int) -> int:
    if input_tokens > MAX_INPUT_TOKENS:
        raise Invalid(f"`inputs` must have at most {MAX_INPUT_TOKENS} tokens. Given: {input_tokens}")
    wanted = parameters.max_new_tokens
    if wanted is None:
        return MAX_TOTAL_TOKENS - input_tokens
    if input_tokens + wanted > MAX_TOTAL_TOKENS:
        raise Invalid(
            f"`inputs` tokens + `max_new_tokens` must be <= {MAX_TOTAL_TOKENS}. "
            f"Given: {input_tokens} `inputs` tokens and {wanted} `max_new_tokens`"
        )
    return wanted
