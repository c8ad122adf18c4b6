"""`POST /v1/chat/completions` (platform.openai.com/docs/api-reference/chat), requests and whole answers."""

from collections.abc import Mapping
from typing import Any, Literal

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.dialect import Config, Endpoint, Written
from mooltiproxy.mapping.fields import Fields
from mooltiproxy.mapping.forms import Conversation, Form
from mooltiproxy.mapping.ids import new_id
from mooltiproxy.mapping.neutral import (
    NOWHERE,
    Answer,
    Asked,
    Choice,
    OutputFormat,
    Part,
    Reasoning,
    ReasoningOptions,
    Refusal,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
)
from mooltiproxy.mapping.stops import cut_at_stop
from mooltiproxy.mapping.tool_names import renamed_tools, tools_renamed

from .chat_stream import (
    ChatReader,
    ChatWriter,
    call_of_function,
    calls_of,
    finish_of,
    read_finish_of,
    read_logprobs,
    write_logprobs,
)
from .common import (
    NAMES,
    PLACES,
    USAGE_FLAG,
    head,
    is_vendor,
    read_choices,
    read_finish,
    read_sampling,
    read_stream,
    read_whole,
    stop_string_of,
    unsent_stops,
    write_model,
    write_sampling,
    write_stream,
    write_whole,
)
from .messages import MessageReader, write_call, write_messages, write_signature
from .tools import nested, write_format, write_tools

_MODES: dict[str, Literal["auto", "none", "required"]] = {"auto": "auto", "none": "none", "required": "required"}


def read_request(body: Any, asked: Asked = NOWHERE) -> Request:
    """The neutral form of a client's request; raises BadRequest that names the field at fault."""
    fields = Fields(body)
    request = Request(model=fields.text("model"))
    messages = MessageReader()
    request.turns = messages.read(fields)
    request.sampling = read_sampling(fields)
    request.sampling.max_tokens = fields.integer(fields.first("max_completion_tokens", "max_tokens"), 1)
    request.sampling.logprobs = fields.flag("logprobs")
    request.sampling.top_logprobs = fields.integer("top_logprobs", 0, 20)
    read_stream(fields, request)
    _read_tools(fields, request)
    request.output = _read_format(fields)
    effort = fields.text("reasoning_effort")
    request.reasoning = ReasoningOptions(effort=effort) if effort else None
    if "audio" in fields.texts("modalities"):
        raise fields.wrong("modalities", "text only: spoken answers cannot be translated")
    if fields.any("web_search_options") is not None:  # an empty object asks for a search, too
        request.extra["web_search_options"] = True
    request.extra.update({**messages.extra, **fields.leftovers()})
    return request


def _read_tools(fields: Fields, request: Request) -> None:
    request.tools = [_read_tool(tool) for tool in fields.objects("tools")]
    request.tool_choice = _read_choice(fields)
    request.parallel_tool_calls = fields.flag("parallel_tool_calls")
    if fields.any("functions") is None:
        return
    request.functions_api = True
    request.tools += [_read_function(function) for function in fields.objects("functions")]
    request.tool_choice = request.tool_choice or _read_function_call(fields)
    request.parallel_tool_calls = False


def _read_tool(tool: Fields) -> Tool:
    kind = tool.text("type") or "function"
    if kind != "function":
        raise tool.wrong("type", f"function: tools of the type {kind!r} cannot be translated")
    return _read_function(tool.required_object("function"))


def _read_function(function: Fields) -> Tool:
    return Tool(
        name=function.required_text("name"),
        description=function.text("description"),
        schema=function.plain("parameters"),
        strict=function.flag("strict"),
    )


def _read_choice(fields: Fields) -> ToolChoice | None:
    value = fields.any("tool_choice")
    if value is None or isinstance(value, str):
        return choice_of_mode(fields, "tool_choice", value)
    choice = fields.required_object("tool_choice")
    kind = choice.required_text("type")
    if kind == "function":
        return ToolChoice("required", (choice.required_object("function").required_text("name"),))
    if kind != "allowed_tools":
        raise choice.wrong("type", "function or allowed_tools")
    allowed = choice.object("allowed_tools") or choice
    mode = choice_of_mode(allowed, "mode", allowed.text("mode") or "auto")
    names = tuple(_allowed_name(tool) for tool in allowed.objects("tools"))
    return ToolChoice(mode.mode if mode else "auto", names)


def _allowed_name(tool: Fields) -> str:
    return (tool.object("function") or tool).required_text("name")


def _read_function_call(fields: Fields) -> ToolChoice | None:
    value = fields.any("function_call")
    if value is None or isinstance(value, str):
        return choice_of_mode(fields, "function_call", value)
    return ToolChoice("required", (fields.required_object("function_call").required_text("name"),))


def choice_of_mode(fields: Fields, name: str, mode: str | None) -> ToolChoice | None:
    """The choice that a word of the field `name` means; raises BadRequest for an unknown one."""
    if mode is None:
        return None
    if mode in _MODES:
        return ToolChoice(_MODES[mode])
    raise fields.wrong(name, f"one of {', '.join(_MODES)}, or an object")


def _read_format(fields: Fields) -> OutputFormat | None:
    """`response_format`, with the spellings of llama.cpp (a schema beside json_object), TabbyAPI (json) and TGI."""
    output = fields.object("response_format")
    if output is None:
        return None
    kind = output.required_text("type")
    if kind == "text":
        return None
    if kind == "regex":
        return OutputFormat("regex", output.required_text("value"))
    if kind == "json_schema":
        return _read_schema(output)
    if kind not in ("json_object", "json"):
        raise output.wrong("type", "one of text, json_object, json_schema")
    schema = output.plain(output.first("schema", "value"))
    return OutputFormat("json") if schema is None else OutputFormat("schema", schema)


def _read_schema(output: Fields) -> OutputFormat:
    value = output.required_object(output.first("value", "json_schema"))
    schema = value.plain("schema")
    if schema is None:
        raise value.wrong("schema", "a JSON Schema")
    return OutputFormat("schema", schema, value.text("name"), value.flag("strict"))


def write_request(request: Request, config: Config) -> Written:
    """A request for an OpenAI-speaking target, built field by field; raises BadRequest for what it cannot be asked."""
    dropped = sorted(request.extra)
    if request.prompt is not None:
        raise BadRequest("this endpoint of the target takes messages, not a prompt", param="prompt")
    body: dict[str, Any] = write_model(request.model, config)
    names = renamed_tools(request, NAMES)
    body["messages"] = write_messages(request.turns, dropped, names)
    body.update(write_sampling(request, config, dropped))
    body.update(_write_limits(request, config, dropped))
    body.update(write_tools(request, names, nested, function_fields))
    if request.output:
        body["response_format"] = write_format(request.output, nested)
    effort = effort_of(request.reasoning)
    if effort:
        body["reasoning_effort"] = effort
    if request.user:
        body["user"] = request.user
    body.update(write_stream(request))
    return Written(body, tuple(dropped))


def _write_limits(request: Request, config: Config, dropped: list[str]) -> dict[str, Any]:
    """OpenAI's newer models refuse `max_tokens`; many other servers know nothing else."""
    sampling = request.sampling
    if sampling.best_of is not None and sampling.best_of > 1:
        dropped.append("best_of")
    body: dict[str, Any] = {}
    if sampling.max_tokens is not None:
        body["max_completion_tokens" if is_vendor(config) else "max_tokens"] = sampling.max_tokens
    if sampling.logprobs:
        body["logprobs"] = True
        if sampling.top_logprobs is not None:
            body["top_logprobs"] = sampling.top_logprobs
    return body


def function_fields(tool: Tool) -> dict[str, Any]:
    """What is said of a function besides its name."""
    fields = {"description": tool.description, "parameters": tool.schema, "strict": tool.strict}
    return {name: value for name, value in fields.items() if value is not None}


def effort_of(reasoning: ReasoningOptions | None) -> str | None:
    """The effort word; for a budget in tokens the nearest one (the steps are those of Google's OpenAI endpoint)."""
    if reasoning is None or reasoning.effort or reasoning.budget is None:
        return reasoning.effort if reasoning else None
    if reasoning.budget <= 0:
        return "none"
    return "low" if reasoning.budget <= 1024 else "medium" if reasoning.budget <= 8192 else "high"


def read_answer(body: Any, request: Request) -> Answer:
    """A target's whole answer; raises UpstreamBroken where it is none, or is an error with status 200."""
    names = tools_renamed(request, NAMES)
    choices = [_read_answer_choice(choice, request, names) for choice in read_choices(body)]
    return read_whole(body, choices)


def _read_answer_choice(choice: Mapping[str, Any], request: Request, names: Mapping[str, str]) -> Choice:
    raw = choice.get("message")
    message: dict[str, Any] = raw if isinstance(raw, dict) else {}
    calls = calls_of(message, names)
    text, stop = cut_at_stop(_text(message, "content"), unsent_stops(request))
    parts: list[Part] = []
    thought = _text(message, "reasoning_content") or _text(message, "reasoning")
    refusal = _text(message, "refusal")
    parts += [Reasoning(thought)] if thought else []
    parts += [Text(text)] if text else []
    parts += [Refusal(refusal)] if refusal else []
    parts += [] if stop else calls
    said = read_finish(choice.get("finish_reason")) or "stop"
    reason = read_finish_of(said, calls[-1].arguments if calls else None)
    if reason != said:
        request.repairs.add("finish_reason")
    stop_string = stop or stop_string_of(choice)
    return Choice(parts, "stop" if stop else reason, stop_string, read_logprobs(choice.get("logprobs")))


def _text(message: Mapping[str, Any], name: str) -> str:
    """A text of a message; a list of text parts is read too, as some servers send it."""
    value = message.get(name)
    if isinstance(value, list):
        return "".join(part["text"] for part in value if isinstance(part, dict) and isinstance(part.get("text"), str))
    return value if isinstance(value, str) else ""


def write_answer(answer: Answer, request: Request) -> dict[str, Any]:
    """A whole answer for a client."""
    choices = [_write_answer_choice(index, choice, request) for index, choice in enumerate(answer.choices)]
    return write_whole(answer, request, head(request, new_id("chatcmpl-"), "chat.completion"), choices)


def _write_answer_choice(index: int, choice: Choice, request: Request) -> dict[str, Any]:
    calls = [part for part in choice.parts if isinstance(part, ToolCall)]
    finish = finish_of(choice.finish, has_calls=bool(calls))
    return {
        "index": index,
        "message": _write_message(choice, calls, request),
        "logprobs": write_logprobs(choice.logprobs),
        "finish_reason": "function_call" if finish == "tool_calls" and request.functions_api else finish,
    }


def _write_message(choice: Choice, calls: list[ToolCall], request: Request) -> dict[str, Any]:
    text = "".join(part.text for part in choice.parts if isinstance(part, Text))
    refusal = "".join(part.text for part in choice.parts if isinstance(part, Refusal))
    thought = "".join(part.text for part in choice.parts if isinstance(part, Reasoning))
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if not text and (calls or refusal) else text,
        "refusal": refusal or None,
    }
    if thought:
        message["reasoning_content"] = thought
    if calls and request.functions_api:
        message["function_call"] = call_of_function(calls[0])
    elif calls:
        message["tool_calls"] = [{**write_call(call), **write_signature(call.signature)} for call in calls]
    return message


FORM = Form(
    places={
        **PLACES,
        "logprobs": ("logprobs",),
        "top_logprobs": ("top_logprobs",),
        "output": ("response_format",),
        "reasoning": ("reasoning_effort",),
        "tools": ("tools", "functions"),
        "tool_choice": ("tool_choice", "function_call"),
        "parallel_tool_calls": ("parallel_tool_calls",),
    },
    own="",
    conversation=Conversation(),
    usage=USAGE_FLAG,
)

endpoint = Endpoint(
    kind="chat",
    paths=("/v1/chat/completions", "/chat/completions"),
    read_request=read_request,
    write_request=write_request,
    read_answer=read_answer,
    write_answer=write_answer,
    stream_reader=ChatReader,
    stream_writer=ChatWriter,
    documents="pdf",
    form=FORM,
)
