"""Requests for targets."""

from collections.abc import Mapping
from typing import Any

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.dialect import Config, Written
from mooltiproxy.mapping.neutral import OutputFormat, Request, Sampling

from ..openai.rendering import rendered

MAX_STOPS = 4
"""Stop strings that a server takes unless it is started with another --max-stop-sequences."""

MAX_TOP = 5
"""Alternatives for each token that a server tells unless it is started with another --max-top-n-tokens."""

SMALLEST = 0.01
"""What is asked for where a share of probability mass would be 0: the server wants more than that."""


def write_text_request(request: Request, config: Config) -> Written:
    """A request for a target whose prompt the client wrote; raises BadRequest for what it cannot be asked."""
    if request.prompt is None:
        raise BadRequest("this endpoint of the target takes a prompt, not messages", param="messages")
    return _written(request, request.prompt, sorted(request.extra))


def write_chat_request(request: Request, config: Config) -> Written:
    """A request for a target with the conversation as one prompt; raises BadRequest for what it cannot be asked.

    `config["render"]` makes the prompt (else the pieces of `config["template"]`); its stops stay with the request.
    """
    dropped = sorted(request.extra)
    return _written(request, rendered(request, config, dropped), dropped)


def write_count_request(request: Request, config: Config) -> Written:
    """A request to have a conversation's prompt tokenized; raises BadRequest."""
    dropped = sorted(request.extra)
    prompt = rendered(request, config, dropped)
    if request.tools and request.spoken is None:
        dropped.append("tools")
    return Written({"inputs": prompt}, tuple(dropped))


def _written(request: Request, prompt: str, dropped: list[str]) -> Written:
    _refuse(request)
    parameters = _write_sampling(request, dropped)
    parameters.update(_write_penalties(request.sampling, dropped))
    parameters.update(_write_best_of(request, parameters, dropped))
    if request.sampling.max_tokens is not None:
        parameters["max_new_tokens"] = request.sampling.max_tokens
    stops = all_stops(request)[:MAX_STOPS]
    if stops:
        parameters["stop"] = stops
    if request.output:
        parameters["grammar"] = _write_grammar(request.output)
    parameters.update(_write_top(request.sampling, dropped))
    if request.tools and request.spoken is None:
        dropped.append("tools")
    if request.reasoning:
        dropped.append("reasoning_effort")
    if request.user:
        dropped.append("user")
    parameters.update(details=True, return_full_text=False)
    return Written({"inputs": prompt, "parameters": parameters}, tuple(dropped))


def _refuse(request: Request) -> None:
    """Refuse what would change the answer unseen if it were left out."""
    sampling = request.sampling
    no_tools = request.tool_choice is not None and request.tool_choice.mode == "none"
    refusals = (
        ("n", (sampling.n or 1) > 1, "gives one answer to a request"),
        ("tools", bool(request.tools) and not no_tools and request.spoken is None, "knows no tools"),
        ("logprobs", bool(sampling.logprobs) and request.echo, "does not give log probabilities of a prompt"),
        ("suffix", bool(request.suffix), "does not fill in text before a suffix"),
        ("max_tokens", sampling.max_tokens == 0, "generates at least one token"),
        ("best_of", (sampling.best_of or 1) > 1 and request.stream, "cannot stream the best of several answers"),
        ("repetition_penalty", sampling.repetition_penalty == 0, "wants a repetition penalty above 0"),
    )
    for name, refused, reason in refusals:
        if refused:
            raise BadRequest(f"{name}: this target {reason}", param=name)


def _write_sampling(request: Request, dropped: list[str]) -> dict[str, Any]:
    """How tokens are drawn. `do_sample` is always said: without it the server guesses from the other fields."""
    sampling = request.sampling
    if sampling.min_p:
        dropped.append("min_p")
    parameters: dict[str, Any] = {"do_sample": sampling.temperature != 0}
    if parameters["do_sample"]:
        optional = {
            "temperature": sampling.temperature,
            "top_p": _share(sampling.top_p),
            "typical_p": _share(sampling.typical_p),
            "top_k": sampling.top_k if (sampling.top_k or 0) > 0 else None,
        }
        parameters.update({name: value for name, value in optional.items() if value is not None})
    if sampling.seed is not None and sampling.seed < 0:
        dropped.append("seed")
    elif sampling.seed is not None:
        parameters["seed"] = sampling.seed
    return parameters


def _share(value: float | None) -> float | None:
    """A share of probability mass as the server takes it: more than 0, less than 1; None for all of it."""
    if value is None or value >= 1:
        return None
    return value if value > 0 else SMALLEST


def _write_penalties(sampling: Sampling, dropped: list[str]) -> dict[str, Any]:
    dropped += [name for name in ("presence_penalty", "logit_bias") if getattr(sampling, name)]
    parameters = {}
    if sampling.frequency_penalty:
        parameters["frequency_penalty"] = sampling.frequency_penalty
    if sampling.repetition_penalty is not None:
        parameters["repetition_penalty"] = sampling.repetition_penalty
    return parameters


def _write_best_of(request: Request, parameters: dict[str, Any], dropped: list[str]) -> dict[str, Any]:
    """The best of several needs sampling, and no seed."""
    best_of = request.sampling.best_of or 1
    if best_of == 1 or not parameters["do_sample"]:
        return {}
    if parameters.pop("seed", None) is not None:
        dropped.append("seed")
    return {"best_of": best_of}


def _write_top(sampling: Sampling, dropped: list[str]) -> dict[str, Any]:
    """How many alternatives to tell; the tokens' own probabilities are part of the details in any case."""
    wanted = sampling.top_logprobs if sampling.logprobs else None
    if not wanted:
        return {}
    if wanted > MAX_TOP:
        dropped.append(f"clamped top_logprobs {wanted}->{MAX_TOP}")
    return {"top_n_tokens": min(wanted, MAX_TOP)}


def _write_grammar(output: OutputFormat) -> dict[str, Any]:
    if output.kind == "regex":
        return {"type": "regex", "value": output.value}
    if output.kind == "schema" and isinstance(output.value, Mapping) and "properties" in output.value:
        return {"type": "json", "value": output.value}
    wanted = "a schema of an object with properties" if output.kind == "schema" else "a JSON Schema"
    raise BadRequest(f"response_format: this target can be held to {wanted} only", param="response_format")


def all_stops(request: Request) -> list[str]:
    """Every stop string, the client's before the template's: all are cut by us, the first ones by the server too."""
    return list(dict.fromkeys([*request.sampling.stop, *request.template_stops]))
