"""`POST /v1/responses` (platform.openai.com/docs/api-reference/responses, November 2026), requests and whole answers.

We keep no conversations: what would need the API's store is refused, and every response says that it is not stored.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.dialect import Config, Endpoint, Written
from mooltiproxy.mapping.fields import Fields
from mooltiproxy.mapping.forms import Conversation, Form
from mooltiproxy.mapping.gather import answer_of, stream_of
from mooltiproxy.mapping.neutral import (
    NOWHERE,
    Answer,
    Asked,
    OutputFormat,
    Reasoning,
    ReasoningOptions,
    Request,
    Tool,
    ToolChoice,
)
from mooltiproxy.mapping.signatures import OPENAI, own
from mooltiproxy.mapping.tool_names import renamed_tools

from .chat import choice_of_mode, effort_of
from .common import NAMES, read_sampling, read_stream, write_model
from .responses_items import ItemReader, write_items
from .responses_output import REPEATED
from .responses_reader import ResponseReader
from .responses_writer import ResponseWriter
from .tools import flat, write_format, write_tools

_STATE = {
    "previous_response_id": "send the whole conversation in `input`",
    "conversation": "send the whole conversation in `input`",
    "prompt": "send the prompt's text in `instructions` and `input`",
    "background": "leave it out and stream the answer",
}
"""Fields that need a server with a memory, and what a client can do without."""

_ENCRYPTED = "reasoning.encrypted_content"
_LOGPROBS = "message.output_text.logprobs"

_OWN = (
    "max_tool_calls",
    "metadata",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "truncation",
)
"""Fields without a neutral form that a target of this API gets from a client of this API."""

_OWN_INNER = {"text": ("verbosity",), "reasoning": ("context", "mode")}
"""The same within other fields."""

MIN_TOKENS = 16
"""The least `max_output_tokens` that the API takes."""


def read_request(body: Any, asked: Asked = NOWHERE) -> Request:
    """The neutral form of a client's request; raises BadRequest that names the field at fault."""
    fields = Fields(body)
    _refuse_state(fields)
    items = ItemReader()
    request = Request(model=fields.text("model"), turns=items.read(fields), sampling=read_sampling(fields))
    if request.sampling.n is not None and request.sampling.n > 1:
        raise fields.wrong("n", "1: a response holds one answer")
    request.sampling.max_tokens = fields.integer("max_output_tokens", 1)
    request.sampling.top_logprobs = fields.integer("top_logprobs", 0, 20)
    read_stream(fields, request)
    _read_include(fields, request)
    _read_tools(fields, request)
    _read_text(fields, request)
    _read_reasoning(fields, request)
    if fields.flag("store"):
        request.extra["store"] = True
    if fields.text("truncation") not in (None, "disabled"):
        request.extra["truncation"] = fields.text("truncation")
    request.extra.update({**items.extra, **fields.leftovers()})
    request.repeats = {name: body[name] for name in REPEATED if body.get(name) is not None}
    return request


def _refuse_state(fields: Fields) -> None:
    for name, remedy in _STATE.items():
        if fields.any(name):
            raise BadRequest(f"{name}: the proxy stores nothing for this target: {remedy}", param=name)


def _read_include(fields: Fields, request: Request) -> None:
    for name in fields.texts("include"):
        if name == _LOGPROBS:
            request.sampling.logprobs = True
        elif name != _ENCRYPTED:  # opaque state is always included where the target has it
            request.extra[f"include.{name}"] = True


def _read_tools(fields: Fields, request: Request) -> None:
    """Functions; beside them, tools that only OpenAI's servers run are named as left out."""
    for tool in fields.objects("tools"):
        kind = tool.required_text("type")
        if kind == "function":
            request.tools.append(_read_tool(tool))
            request.extra.update(tool.leftovers())
        else:
            request.extra[f"tools.{kind}"] = tool.path
    request.parallel_tool_calls = fields.flag("parallel_tool_calls")
    request.tool_choice = choice = _read_choice(fields)
    if fields.any("tools") and not request.tools and not (choice and choice.mode == "none"):
        raise fields.wrong("tools", "functions, too: only OpenAI itself has tools of the other types")
    if choice and choice.mode == "required" and not request.tools:
        raise fields.wrong("tool_choice", "auto or none, since there is no function that the target could call")


def _read_tool(tool: Fields) -> Tool:
    schema, strict = tool.plain("parameters"), tool.flag("strict")
    return Tool(
        name=tool.required_text("name"),
        description=tool.text("description"),
        schema=schema,
        strict=_is_strict(schema) if strict is None else strict,
    )


def _is_strict(schema: Any) -> bool:
    """Whether a schema is one of the strict kind: functions that do not say are strict here where they can be."""
    if isinstance(schema, list):
        return all(map(_is_strict, schema))
    if not isinstance(schema, Mapping):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or properties is not None:
        required = schema.get("required")
        named = set(properties) if isinstance(properties, Mapping) else set()
        whole = named == set(required) if isinstance(required, list) else not named
        if schema.get("additionalProperties") is not False or not whole:
            return False
    return all(map(_is_strict, schema.values()))


def _read_choice(fields: Fields) -> ToolChoice | None:
    value = fields.any("tool_choice")
    if value is None or isinstance(value, str):
        return choice_of_mode(fields, "tool_choice", value)
    choice = fields.required_object("tool_choice")
    kind = choice.required_text("type")
    if kind == "function":
        return ToolChoice("required", (choice.required_text("name"),))
    if kind != "allowed_tools":
        raise choice.wrong("type", "function or allowed_tools: the target has no tools of its own")
    return _read_allowed(choice)


def _read_allowed(choice: Fields) -> ToolChoice:
    """The functions among the tools that are allowed; without any the model may call nothing."""
    mode: Literal["auto", "required"] = "required" if choice.text("mode") == "required" else "auto"
    tools = [tool for tool in choice.objects("tools") if tool.text("type") in (None, "function")]
    names = tuple(tool.required_text("name") for tool in tools)
    if names:
        return ToolChoice(mode, names)
    if mode == "required":
        raise choice.wrong("tools", "at least one function")
    return ToolChoice("none")


def _read_text(fields: Fields, request: Request) -> None:
    text = fields.object("text")
    if text is None:
        return
    output = text.object("format")
    if output is not None:
        request.output = _read_format(output)
        request.extra.update(output.leftovers())
    request.extra.update(text.leftovers())


def _read_format(output: Fields) -> OutputFormat | None:
    kind = output.required_text("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return OutputFormat("json")
    if kind != "json_schema":
        raise output.wrong("type", "one of text, json_object, json_schema")
    schema = output.plain("schema")
    if schema is None:
        raise output.wrong("schema", "a JSON Schema")
    return OutputFormat("schema", schema, output.text("name"), output.flag("strict"))


def _read_reasoning(fields: Fields, request: Request) -> None:
    options = fields.object("reasoning")
    if options is None:
        return
    effort, summary = options.text("effort"), options.text(options.first("summary", "generate_summary"))
    if effort or summary:
        request.reasoning = ReasoningOptions(effort=effort, show=True if summary else None)
    request.extra.update(options.leftovers())


def write_request(request: Request, config: Config) -> Written:
    """A request for a target that speaks this API, built field by field; raises BadRequest for what it cannot be asked.

    Nothing is to be stored there either. Stop strings are not sent: our reader cuts the answer at them.
    """
    dropped: list[str] = []
    body = {**write_input(request, config, dropped), **_write_sampling(request, dropped), "store": False}
    if request.user:
        body["user"] = request.user
    if request.stream:
        body["stream"] = True
    told = _write_own(request, body)
    return Written(body, tuple([*sorted(request.extra.keys() - told), *dropped]))


def write_input(request: Request, config: Config, dropped: list[str]) -> dict[str, Any]:
    """The part of a request that counts as its input: conversation, tools, what the answer must be, and how to think.

    Names what is left out in `dropped`; raises BadRequest for what the target cannot be asked.
    """
    if request.prompt is not None:
        raise BadRequest("this endpoint of the target takes messages, not a prompt", param="prompt")
    body: dict[str, Any] = write_model(request.model, config)
    names = renamed_tools(request, NAMES)
    return {
        **body,
        **write_items(request.turns, dropped, names),
        **write_tools(request, names, flat, _function_fields),
        **_write_output(request),
    }


def _write_own(request: Request, body: dict[str, Any]) -> set[str]:
    """Add what a client of this API has said without a neutral form; gives the full names of these fields."""
    own = {name: request.repeats[name] for name in _OWN if name in request.repeats}
    body.update(own)
    told = set(own)
    for outer, names in _OWN_INNER.items():
        given = request.repeats.get(outer, {})
        inner = {name: given[name] for name in names if given.get(name) is not None}
        if inner:
            body[outer] = {**body.get(outer, {}), **inner}
            told |= {f"{outer}.{name}" for name in inner}
    return told


def _write_sampling(request: Request, dropped: list[str]) -> dict[str, Any]:
    sampling = request.sampling
    if sampling.n is not None and sampling.n > 1:
        raise BadRequest("this target gives one answer: n must be 1", param="n")
    dropped += _unknown(request)
    fields: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    fields["max_output_tokens"] = sampling.max_tokens
    if sampling.max_tokens is not None and sampling.max_tokens < MIN_TOKENS:
        dropped.append(f"clamped max_tokens {sampling.max_tokens}->{MIN_TOKENS}")
        fields["max_output_tokens"] = MIN_TOKENS
    include = [_LOGPROBS] if sampling.logprobs else []
    fields["top_logprobs"] = sampling.top_logprobs if sampling.logprobs else None
    if _may_think(request):
        include.append(_ENCRYPTED)
    fields["include"] = include or None
    return {name: value for name, value in fields.items() if value is not None}


def _unknown(request: Request) -> Iterator[str]:
    """What the API has no word for."""
    sampling = request.sampling
    values = {
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "typical_p": sampling.typical_p,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "seed": sampling.seed,
        "logit_bias": sampling.logit_bias,
        "best_of": sampling.best_of if (sampling.best_of or 0) > 1 else None,
        "keep_alive": request.keep_alive,
    }
    return (name for name, value in values.items() if value is not None)


def _may_think(request: Request) -> bool:
    """Whether to ask for opaque state: models that do not think refuse to be asked."""
    if request.reasoning and request.reasoning.effort != "none":
        return True
    parts = (part for turn in request.turns for part in turn.parts)
    return any(isinstance(part, Reasoning) and own(OPENAI, part.signature) for part in parts)


def _function_fields(tool: Tool) -> dict[str, Any]:
    """What is said of a function; `strict` always, since what is left out is strict here and nowhere else."""
    described = {} if tool.description is None else {"description": tool.description}
    return {**described, "parameters": tool.schema, "strict": bool(tool.strict)}


def _write_output(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = {"text": {"format": write_format(request.output, flat)}} if request.output else {}
    effort = effort_of(request.reasoning)
    reasoning = {"effort": effort} if effort else {}
    if request.reasoning and request.reasoning.show:
        reasoning["summary"] = request.repeats.get("reasoning", {}).get("summary") or "auto"
    if reasoning:
        body["reasoning"] = reasoning
    return body


def read_answer(body: Any, request: Request) -> Answer:
    """A target's whole response; raises UpstreamBroken where it is none, has failed or is not finished."""
    answer = answer_of(ResponseReader(request).whole(body))
    model = body.get("model")
    answer.model = model if isinstance(model, str) else None
    return answer


def write_answer(answer: Answer, request: Request) -> dict[str, Any]:
    """A whole response for a client."""
    writer = ResponseWriter(request)
    writer.write(stream_of(answer))
    response: dict[str, Any] = writer.end()[-1]["response"]
    response["model"] = request.model or answer.model or ""
    return response


CONVERSATION = Conversation(messages="input", system="instructions", part={"type": "input_text"})
FORM = Form(
    places={
        **{name: (name,) for name in ("temperature", "top_p", "top_logprobs", "tools", "tool_choice", "user")},
        "max_tokens": ("max_output_tokens",),
        "output": ("text.format",),
        "reasoning": ("reasoning.effort",),
        "parallel_tool_calls": ("parallel_tool_calls",),
    },
    own="",
    conversation=CONVERSATION,
)

endpoint = Endpoint(
    kind="chat",
    name="responses",
    paths=("/v1/responses", "/responses"),
    read_request=read_request,
    write_request=write_request,
    read_answer=read_answer,
    write_answer=write_answer,
    stream_reader=ResponseReader,
    stream_writer=ResponseWriter,
    framing="named_sse",
    form=FORM,
)
