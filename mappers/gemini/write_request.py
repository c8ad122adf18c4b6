"""Writes `generateContent` requests (ai.google.dev/api/generate-content), field by field."""

from typing import Any

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.dialect import Config, Written
from mooltiproxy.mapping.neutral import OutputFormat, Request, Sampling, Tool, ToolChoice
from mooltiproxy.mapping.tool_names import renamed_tools

from .names import FUNCTIONS, model_path
from .thinking import write_thinking
from .write_contents import ContentsWriter

MAX_STOPS = 5
"""Stop strings that the service takes; further ones are cut from the answer by us."""
_MAX_CANDIDATES = 8
_MAX_TEMPERATURE = 2
_MAX_PENALTY = 1.99
"""Penalties must be less than 2."""
_UNKNOWN = ("min_p", "typical_p", "repetition_penalty", "logit_bias")


def write_request(request: Request, config: Config) -> Written:
    """A request for a target of this dialect; raises BadRequest for what it cannot be asked."""
    method = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
    path = model_path(request.model, method)
    dropped = sorted(request.extra)
    _refuse(request)
    body = write_contents(request, dropped)
    generation = _write_sampling(request.sampling, dropped)
    if request.output:
        generation.update(_write_format(request.output))
    thinking = write_thinking(request, dropped)
    if thinking:
        generation["thinkingConfig"] = thinking
    if generation:
        body["generationConfig"] = generation
    if request.user:
        dropped.append("user")
    if request.keep_alive is not None:
        dropped.append("keep_alive")
    return Written(body, tuple(dropped), path)


def write_contents(request: Request, dropped: list[str]) -> dict[str, Any]:
    """The part of a request that counts as its input: the conversation and the tools."""
    return {**ContentsWriter(request, dropped).write(), **_write_tools(request, dropped)}


def unsent_stops(request: Request) -> tuple[str, ...]:
    """The stop strings that the target was not told."""
    return request.sampling.stop[MAX_STOPS:]


def _refuse(request: Request) -> None:
    """Refuse what would change the answer unseen if it were left out."""
    sampling = request.sampling
    refusals = (
        ("n", (sampling.n or 1) > _MAX_CANDIDATES, f"gives at most {_MAX_CANDIDATES} answers to a request"),
        ("best_of", (sampling.best_of or 1) > 1, "does not choose among several answers"),
        ("max_tokens", sampling.max_tokens == 0, "generates at least one token"),
    )
    for name, refused, reason in refusals:
        if refused:
            raise BadRequest(f"{name}: this target {reason}", param=name)


def _write_sampling(sampling: Sampling, dropped: list[str]) -> dict[str, Any]:
    dropped += [name for name in _UNKNOWN if getattr(sampling, name) is not None]
    fields = {
        "temperature": _at_most("temperature", sampling.temperature, _MAX_TEMPERATURE, dropped),
        "topP": sampling.top_p,
        "topK": sampling.top_k if (sampling.top_k or 0) > 0 else None,
        "candidateCount": sampling.n,
        "maxOutputTokens": sampling.max_tokens,
        "stopSequences": list(sampling.stop[:MAX_STOPS]) or None,
        "seed": _seed(sampling.seed, dropped),
        "presencePenalty": _at_most("presence_penalty", sampling.presence_penalty, _MAX_PENALTY, dropped),
        "frequencyPenalty": _at_most("frequency_penalty", sampling.frequency_penalty, _MAX_PENALTY, dropped),
        "responseLogprobs": sampling.logprobs or None,
        "logprobs": sampling.top_logprobs if sampling.logprobs else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _at_most(name: str, value: float | None, most: float, dropped: list[str]) -> float | None:
    if value is None or value <= most:
        return value
    dropped.append(f"clamped {name} {value:g}->{most:g}")
    return most


def _seed(seed: int | None, dropped: list[str]) -> int | None:
    """A seed as the int32 that it must be."""
    if seed is None:
        return None
    wrapped = (seed + 2**31) % 2**32 - 2**31
    if wrapped != seed:
        dropped.append(f"clamped seed {seed}->{wrapped}")
    return wrapped


def _write_format(output: OutputFormat) -> dict[str, Any]:
    if output.kind == "json":
        return {"responseMimeType": "application/json"}
    if output.kind != "schema":
        raise BadRequest(f"this target cannot hold its answer to a {output.kind}", param="response_format")
    return {"responseMimeType": "application/json", "responseJsonSchema": output.value}


def _write_tools(request: Request, dropped: list[str]) -> dict[str, Any]:
    if not request.tools:
        return {}
    names = renamed_tools(request, FUNCTIONS)
    declarations = [_write_tool(tool, names.get(tool.name, tool.name)) for tool in request.tools]
    if any(tool.strict for tool in request.tools):
        dropped.append("tools.strict")
    if request.parallel_tool_calls is False and not request.functions_api:
        dropped.append("parallel_tool_calls")
    written: dict[str, Any] = {"tools": [{"functionDeclarations": declarations}]}
    if request.tool_choice:
        written["toolConfig"] = {"functionCallingConfig": _write_choice(request.tool_choice, names)}
    return written


def _write_tool(tool: Tool, name: str) -> dict[str, Any]:
    """A declaration; one without parameters takes no arguments, for which the service has no schema."""
    written: dict[str, Any] = {"name": name}
    if tool.description is not None:
        written["description"] = tool.description
    if tool.schema and (tool.schema.get("properties") or tool.schema.keys() - {"type", "properties"}):
        written["parametersJsonSchema"] = tool.schema
    return written


def _write_choice(choice: ToolChoice, names: dict[str, str]) -> dict[str, Any]:
    """The mode; a choice that leaves the model free but limits its functions is what VALIDATED is for."""
    mode = {"auto": "VALIDATED" if choice.names else "AUTO", "required": "ANY", "none": "NONE"}[choice.mode]
    if choice.mode == "none" or not choice.names:
        return {"mode": mode}
    return {"mode": mode, "allowedFunctionNames": [names.get(name, name) for name in choice.names]}
