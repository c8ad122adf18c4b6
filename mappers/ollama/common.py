"""What chat and generate have in common: options, format, think, and the fields that no other API knows."""

from collections.abc import Mapping
from typing import Any

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.fields import Fields
from mooltiproxy.mapping.neutral import OutputFormat, ReasoningOptions, Request, Sampling

_NUMBER_OPTIONS = (
    "num_ctx",
    "num_keep",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_thread",
    "repeat_last_n",
    "draft_num_predict",
)
_OPTIONS = "options."
_OWN_FIELDS: Mapping[str, type] = {
    "truncate": bool,
    "shift": bool,
    f"{_OPTIONS}use_mmap": bool,
    **{f"{_OPTIONS}{name}": int for name in _NUMBER_OPTIONS},
}
"""Fields of `Request.extra` that a target of this dialect is told, by the type that it wants."""

PLACES = {
    **{
        name: (f"{_OPTIONS}{name}",) for name in ("temperature", "top_p", "top_k", "min_p", "typical_p", "seed", "stop")
    },
    "presence_penalty": (f"{_OPTIONS}presence_penalty",),
    "frequency_penalty": (f"{_OPTIONS}frequency_penalty",),
    "repetition_penalty": (f"{_OPTIONS}repeat_penalty",),
    "max_tokens": (f"{_OPTIONS}num_predict",),
    "output": ("format",),
    "reasoning": ("think",),
    "logprobs": ("logprobs",),
    "top_logprobs": ("top_logprobs",),
}
"""Where both endpoints say what can be set for a model."""

_LEVELS = ("low", "medium", "high", "max")
_LEVEL_OF_EFFORT = {"minimal": "low", "xhigh": "max"} | {level: level for level in _LEVELS}
MAX_TOP_LOGPROBS = 20


def read_common(fields: Fields, request: Request) -> None:
    """The fields that both endpoints share, set on the request; raises BadRequest. An absent `stream` is true."""
    request.stream = fields.flag("stream") is not False
    request.include_usage = True
    options = fields.object("options")
    request.sampling = _read_options(options) if options else Sampling(model_defaults=True)
    request.sampling.logprobs = fields.flag("logprobs")
    request.sampling.top_logprobs = fields.integer("top_logprobs", 0, MAX_TOP_LOGPROBS) or None
    request.output = _read_format(fields)
    request.reasoning = _read_think(fields)
    request.extra.update(options.leftovers() if options else {})
    request.keep_alive = read_keep_alive(fields)
    if request.keep_alive is not None:
        # Only a dialect that knows it leaves it out of what is named as dropped.
        request.extra["keep_alive"] = request.keep_alive


def _read_options(options: Fields) -> Sampling:
    limit = options.integer("num_predict")
    seed = options.integer("seed")
    if isinstance(options.any("stop"), str):
        raise options.wrong("stop", "a list of strings")
    return Sampling(
        temperature=options.number("temperature", 0),
        top_p=options.number("top_p", 0, 1),
        top_k=options.integer("top_k", -1),
        min_p=options.number("min_p", 0, 1),
        typical_p=options.number("typical_p", 0, 1),
        seed=None if seed == -1 else seed,
        presence_penalty=options.number("presence_penalty"),
        frequency_penalty=options.number("frequency_penalty"),
        repetition_penalty=options.number("repeat_penalty", 0),
        stop=options.texts("stop"),
        max_tokens=limit if limit is not None and limit > 0 else None,
        model_defaults=True,
    )


def _read_format(fields: Fields) -> OutputFormat | None:
    value = fields.any("format")
    if value is None or value == "":
        return None
    if value == "json":
        return OutputFormat("json")
    if not isinstance(value, dict):
        raise fields.wrong("format", '"json" or a JSON Schema')
    return OutputFormat("schema", value)


def _read_think(fields: Fields) -> ReasoningOptions | None:
    """`true` asks for thoughts without saying how many: that is a medium effort."""
    value = fields.any("think")
    if value is None:
        return None
    if isinstance(value, bool):
        return ReasoningOptions(effort="medium", show=True) if value else ReasoningOptions(effort="none")
    if value not in _LEVELS:
        raise fields.wrong("think", f"true, false or one of {', '.join(_LEVELS)}")
    return ReasoningOptions(effort=value)


def read_keep_alive(fields: Fields) -> str | float | None:
    """Seconds, or a duration with its unit as Go writes it (`5m`, `-1m`); raises BadRequest for another type."""
    value = fields.any("keep_alive")
    if value is None or isinstance(value, str | int | float) and not isinstance(value, bool):
        return value
    raise fields.wrong("keep_alive", "a number of seconds, or a duration such as 5m")


def write_common(request: Request, dropped: list[str]) -> dict[str, Any]:
    """The fields that both endpoints share; names what is left out in `dropped`, raises BadRequest."""
    _refuse(request)
    body: dict[str, Any] = {"stream": request.stream}
    own = _write_own(request, dropped)
    options = _write_options(request, dropped)
    for name, value in own.items():
        inner = name.removeprefix(_OPTIONS)
        (body if inner == name else options)[inner] = value
    if options:
        body["options"] = options
    if request.output:
        body["format"] = _write_format(request.output)
    think = _write_think(request.reasoning, dropped)
    if think is not None:
        body["think"] = think
    if request.keep_alive is not None:
        body["keep_alive"] = request.keep_alive
    if request.user:
        dropped.append("user")
    return {**body, **_write_logprobs(request.sampling, dropped)}


def _refuse(request: Request) -> None:
    """Refuse what would change the answer unseen if it were left out."""
    sampling = request.sampling
    refusals = (
        ("n", (sampling.n or 1) > 1, "gives one answer to a request"),
        ("best_of", (sampling.best_of or 1) > 1, "gives one answer to a request"),
        ("max_tokens", sampling.max_tokens == 0, "generates at least one token"),
        ("logprobs", bool(sampling.logprobs) and request.echo, "gives no log probabilities of a prompt"),
    )
    for name, refused, reason in refusals:
        if refused:
            raise BadRequest(f"{name}: this target {reason}", param=name)


def _write_own(request: Request, dropped: list[str]) -> dict[str, Any]:
    """Fields of this API that came with the request; all others without a home are named."""
    own = {}
    for name in sorted(request.extra):
        value, wanted = request.extra[name], _OWN_FIELDS.get(name)
        if wanted is not None and isinstance(value, wanted) and isinstance(value, bool) == (wanted is bool):
            own[name] = value
        elif name != "keep_alive" or request.keep_alive is None:
            dropped.append(name)
    return own


def _write_options(request: Request, dropped: list[str]) -> dict[str, Any]:
    """The `options`. Every API but this one promises a temperature and top_p of 1 where they are absent; here they
    would be those of the model (0.8 and 0.9 for most), so they are said."""
    sampling = request.sampling
    if sampling.logit_bias:
        dropped.append("logit_bias")
    options = {
        "num_predict": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "typical_p": sampling.typical_p,
        "repeat_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "seed": sampling.seed,
        "stop": list(dict.fromkeys([*sampling.stop, *request.template_stops])) or None,
    }
    said = {name: value for name, value in options.items() if value is not None}
    return said if sampling.model_defaults else {"temperature": 1.0, "top_p": 1.0, **said}


def _write_format(output: OutputFormat) -> Any:
    if output.kind == "json":
        return "json"
    if output.kind == "schema" and isinstance(output.value, Mapping):
        return output.value
    raise BadRequest(f"this target cannot hold its answer to a {output.kind}", param="response_format")


def _write_think(reasoning: ReasoningOptions | None, dropped: list[str]) -> bool | str | None:
    """A level for an effort, and for a budget the level that is nearest; None leaves it to the model."""
    if reasoning is None:
        return None
    effort = reasoning.effort
    if effort is None and reasoning.budget is not None:
        effort = _effort_of_budget(reasoning.budget)
    if effort is None:
        return True if reasoning.show else None
    if effort == "none":
        return False
    if effort == "medium" and reasoning.show:
        return True
    if effort not in _LEVEL_OF_EFFORT:
        dropped.append("reasoning_effort")
    return _LEVEL_OF_EFFORT.get(effort)


def _effort_of_budget(tokens: int) -> str:
    """The steps are those of Google's OpenAI endpoint; a negative budget leaves it to the model."""
    if tokens == 0:
        return "none"
    return "medium" if tokens < 0 else "low" if tokens <= 1024 else "medium" if tokens <= 8192 else "high"


def _write_logprobs(sampling: Sampling, dropped: list[str]) -> dict[str, Any]:
    if not sampling.logprobs:
        return {}
    wanted = sampling.top_logprobs or 0
    if wanted > MAX_TOP_LOGPROBS:
        dropped.append(f"clamped top_logprobs {wanted}->{MAX_TOP_LOGPROBS}")
    top = min(wanted, MAX_TOP_LOGPROBS)
    return {"logprobs": True, "top_logprobs": top} if top else {"logprobs": True}
