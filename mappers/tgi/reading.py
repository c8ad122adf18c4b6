"""Requests of clients: `{inputs, parameters}`."""

from dataclasses import replace
from typing import Any

from mooltiproxy.mapping.fields import Fields
from mooltiproxy.mapping.neutral import NOWHERE, Asked, OutputFormat, Request, Sampling


def read_request(body: Any, asked: Asked = NOWHERE) -> Request:
    """The neutral form of `{inputs, parameters}`; raises BadRequest that names the field at fault."""
    return _read_request(body, full_text=False)


def read_root_request(body: Any, asked: Asked = NOWHERE) -> Request:
    """The same at `/`, where the prompt is part of the answer unless the client says otherwise."""
    return _read_request(body, full_text=True)


def _read_request(body: Any, *, full_text: bool) -> Request:
    fields = Fields(body)
    prompt = fields.required_text("inputs")
    # A server of this API has one model and passes over a `model`: it is there for targets that have several.
    request = Request(model=fields.text("model"), prompt=prompt, stream=fields.flag("stream") or False)
    parameters = fields.object("parameters")
    if parameters:
        _read_parameters(parameters, request)
        wanted = parameters.flag("return_full_text")
        full_text = full_text if wanted is None else wanted
        left = parameters.leftovers().items()
        request.extra.update({name: value for name, value in left if value is not False})
    if full_text:
        # Not `echo`: the answer has the prompt whatever the target can do, and no token of a stream is part of it.
        request.repeats = {"inputs": prompt}
    request.extra.update(fields.leftovers())
    return request


def _read_parameters(parameters: Fields, request: Request) -> None:
    request.sampling = Sampling(
        temperature=parameters.number("temperature", 0),
        top_p=parameters.number("top_p", 0, 1),
        top_k=parameters.integer("top_k", 1),
        typical_p=parameters.number("typical_p", 0, 1),
        seed=parameters.integer("seed", 0),
        frequency_penalty=parameters.number("frequency_penalty", -2, 2),
        repetition_penalty=parameters.number("repetition_penalty", 0),
        stop=parameters.texts("stop"),
        max_tokens=parameters.integer("max_new_tokens", 1),
        best_of=parameters.integer("best_of", 1),
    )
    if not parameters.flag("do_sample") and _is_greedy(request.sampling):
        said = request.sampling.temperature is not None or parameters.any("do_sample") is not None
        request.assumed = frozenset([] if said else ["temperature"])
        request.sampling.temperature = 0
    request.include_usage = bool(parameters.flag("details"))
    request.output = _read_grammar(parameters)


def _is_greedy(sampling: Sampling) -> bool:
    """Without `do_sample` the server samples only if one of these differs from its neutral value."""
    shaping = (sampling.top_k, sampling.top_p, sampling.typical_p)
    return sampling.temperature in (None, 1) and all(value is None for value in shaping)


def _read_grammar(parameters: Fields) -> OutputFormat | None:
    grammar = parameters.object("grammar")
    if grammar is None:
        return None
    kind = grammar.required_text("type")
    if kind == "regex":
        return OutputFormat("regex", grammar.required_text("value"))
    if kind == "json":
        return OutputFormat("schema", grammar.plain("value"))
    if kind != "json_schema":
        raise grammar.wrong("type", "one of json, regex, json_schema")
    value = grammar.required_object("value")
    return OutputFormat("schema", value.plain("schema"), value.text("name"))


def read_stream_request(body: Any, asked: Asked = NOWHERE) -> Request:
    """A request at the path that always streams."""
    return replace(read_request(body), stream=True)
