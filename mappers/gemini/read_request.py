"""Reads `generateContent` requests (ai.google.dev/api/generate-content), of which `countTokens` knows a part."""

from typing import Any, Literal

from mooltiproxy.mapping.neutral import (
    NOWHERE,
    Asked,
    OutputFormat,
    Request,
    Sampling,
    Tool,
    ToolChoice,
)

from .fields import ProtoFields
from .names import plain_model
from .read_contents import ContentsReader
from .schema import json_schema
from .thinking import read_thinking

_MODES: dict[str, Literal["auto", "none", "required"]] = {
    "AUTO": "auto",
    "VALIDATED": "auto",
    "ANY": "required",
    "NONE": "none",
}
_BOUND = 2**31
"""Seeds are of the type int32."""


def read_request(body: Any, asked: Asked = NOWHERE) -> Request:
    """The neutral form of a client's request; raises BadRequest that names the field at fault."""
    return read_fields(ProtoFields(body), asked)


def read_stream_request(body: Any, asked: Asked = NOWHERE) -> Request:
    """The same for a client that wants its answer as a stream, as one JSON array unless it asks for events."""
    request = read_request(body, asked)
    request.stream = request.include_usage = True
    request.framing = "sse" if asked.query.get("alt") == "sse" else "json_array"
    return request


def read_fields(fields: ProtoFields, asked: Asked) -> Request:
    """The request in these fields; the path names the model."""
    named = fields.text("model")
    request = Request(model=asked.model or plain_model(named))
    contents = ContentsReader()
    request.turns = contents.read(fields)
    if fields.text("cachedContent"):
        raise fields.wrong("cachedContent", "nothing: contents that Google keeps are not known to other targets")
    _read_tools(fields, request)
    config = fields.object("generationConfig")
    request.sampling = Sampling(model_defaults=True)
    if config:
        _read_config(config, request)
    request.extra.update({**contents.extra, **fields.leftovers()})
    return request


def _read_config(config: ProtoFields, request: Request) -> None:
    request.sampling = Sampling(
        temperature=config.number("temperature", 0, 2),
        top_p=config.number("topP", 0, 1),
        top_k=config.integer("topK", 0),
        seed=config.integer("seed", -_BOUND, _BOUND - 1),
        presence_penalty=config.number("presencePenalty", -2, 2),
        frequency_penalty=config.number("frequencyPenalty", -2, 2),
        stop=config.texts("stopSequences"),
        max_tokens=config.integer("maxOutputTokens", 1),
        n=config.integer("candidateCount", 1, 8),
        logprobs=config.flag("responseLogprobs"),
        top_logprobs=config.integer("logprobs", 0, 20),
        model_defaults=True,
    )
    if any(modality.upper() != "TEXT" for modality in config.texts("responseModalities")):
        raise config.wrong("responseModalities", "TEXT only: pictures and speech cannot be translated")
    request.output = _read_format(config)
    request.reasoning = read_thinking(config, request.extra)
    request.extra.update(config.leftovers())


def _read_format(config: ProtoFields) -> OutputFormat | None:
    media_type = config.text("responseMimeType")
    schema = config.plain("responseJsonSchema")
    subset = config.plain("responseSchema")
    if media_type not in (None, "text/plain", "application/json"):
        raise config.wrong("responseMimeType", "text/plain or application/json: other types cannot be translated")
    if schema is not None or subset is not None:
        return OutputFormat("schema", json_schema(subset) if schema is None else schema)
    return OutputFormat("json") if media_type == "application/json" else None


def _read_tools(fields: ProtoFields, request: Request) -> None:
    """Set the client's functions and its choice. The service's own tools are set aside, to be named: a model can answer
    without them, but not a client that gives it nothing else."""
    own: list[str] = []
    for tool in fields.objects("tools"):
        request.tools += [_read_function(function, request) for function in tool.objects("functionDeclarations")]
        own += tool.unread()
    if own and not request.tools:
        raise fields.wrong("tools", f"functions, too: only Gemini itself has {', '.join(own)}")
    request.extra.update({f"tools.{name}": None for name in own})
    config = fields.object("toolConfig")
    calling = config.object("functionCallingConfig") if config else None
    if calling:
        request.tool_choice = _read_choice(calling)
        request.extra.update(calling.leftovers())
    if config:
        request.extra.update(config.leftovers())


def _read_function(function: ProtoFields, request: Request) -> Tool:
    schema = function.plain("parametersJsonSchema")
    subset = function.plain("parameters")
    tool = Tool(
        name=function.required_text("name"),
        description=function.text("description"),
        schema=json_schema(subset) if schema is None else schema,
    )
    request.extra.update(function.leftovers())
    return tool


def _read_choice(calling: ProtoFields) -> ToolChoice | None:
    mode = calling.word("mode")
    names = calling.texts("allowedFunctionNames")
    if mode is None:
        return ToolChoice("auto", names) if names else None
    if mode not in _MODES:
        raise calling.wrong("mode", f"one of {', '.join(_MODES)}")
    return ToolChoice(_MODES[mode], names)
