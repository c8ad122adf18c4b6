"""`POST /v1/messages` and `POST /v1/messages/count_tokens`: their requests, and the endpoints."""

from collections.abc import Mapping
from typing import Any

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.dialect import Config, Endpoint, Written
from mooltiproxy.mapping.fields import Fields
from mooltiproxy.mapping.forms import Conversation, Form
from mooltiproxy.mapping.model_names import required_model
from mooltiproxy.mapping.neutral import (
    NOWHERE,
    Asked,
    OutputFormat,
    ReasoningOptions,
    Request,
    Sampling,
)

from .answers import read_answer, read_count, write_answer, write_count
from .blocks import NATIVE, BlockReader
from .options import write_format, write_options
from .stream import MessagesReader, MessagesWriter
from .tools import is_vendor_tool, read_tools, write_tools
from .turns import write_conversation

NO_THREADS = "thread_unsupported_request"
"""The API's code for a request that cannot be part of a conversation which the server keeps."""

PING = b'event: ping\ndata: {"type": "ping"}\n\n'

_NATIVE_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "cache_control": dict,
    "container": (dict, str),
    "context_management": dict,
    "diagnostics": dict,
    "inference_geo": str,
    "mcp_servers": list,
    "service_tier": str,
    "speed": str,
    "thinking": dict,
}
"""Fields that only this API has, with their types: a target that speaks it too gets them as they are."""
_SERVICE_TIERS = ("auto", "standard_only")
_BLOCK_FIELDS = frozenset(name for names in NATIVE.values() for name in names)
_EFFORT = "output_config.effort"


def read_request(body: Any, asked: Asked = NOWHERE) -> Request:
    """The neutral form of a client's request; raises BadRequest that names the field at fault."""
    fields = Fields(body)
    if fields.any("thread") is not None:
        # Without the server's memory the client must send the whole conversation: this code makes the SDK do so.
        raise BadRequest(
            "thread: the proxy keeps no conversations: send all messages, without a thread",
            param="thread",
            code=NO_THREADS,
        )
    request = Request(model=fields.text("model"), include_usage=True)
    blocks = BlockReader()
    request.turns = [*blocks.system(fields), *blocks.messages(fields)]
    request.sampling = Sampling(
        temperature=fields.number("temperature", 0),
        top_p=fields.number("top_p", 0, 1),
        top_k=fields.integer("top_k", 0),
        stop=fields.texts("stop_sequences"),
        max_tokens=fields.integer("max_tokens", 1),
    )
    request.stream = fields.flag("stream") or False
    read_tools(fields, request, blocks)
    config = fields.object("output_config")
    request.output = _read_format(fields, config, request)
    request.reasoning = _read_thinking(fields, config, request)
    metadata = fields.object("metadata")
    if metadata:
        request.user = metadata.text("user_id")
        request.extra.update(metadata.leftovers())
    # A field of the request counts more than one of the same name in its blocks.
    request.extra.update({**blocks.extra, **fields.leftovers()})
    return request


def _read_format(fields: Fields, config: Fields | None, request: Request) -> OutputFormat | None:
    """What the answer must be, under its present name or that of the beta."""
    output = (config and config.object("format")) or fields.object("output_format")
    if output is None:
        return None
    if output.required_text("type") != "json_schema":
        raise output.wrong("type", "json_schema")
    schema = output.plain("schema")
    if schema is None:
        raise output.wrong("schema", "a JSON Schema")
    request.extra.update(output.leftovers())
    return OutputFormat("schema", schema)


def _read_thinking(fields: Fields, config: Fields | None, request: Request) -> ReasoningOptions | None:
    effort = config.text("effort") if config else None
    request.extra.update(config.leftovers() if config else {})
    thinking = fields.object("thinking")
    if thinking is None:
        return ReasoningOptions(effort) if effort else None
    kind = thinking.required_text("type")
    if kind == "between_tools":
        request.extra["thinking"] = fields.any("thinking")
        return ReasoningOptions(effort) if effort else None
    if kind == "disabled":
        request.extra.update({_EFFORT: effort} if effort else {})
        return ReasoningOptions("none")
    if kind not in ("enabled", "adaptive"):
        raise thinking.wrong("type", "one of enabled, adaptive, between_tools, disabled")
    display = thinking.text("display")
    budget = thinking.integer("budget_tokens", 1) if kind == "enabled" else None
    request.extra.update(thinking.leftovers())
    return ReasoningOptions(effort, budget, None if display is None else display != "omitted")


def write_request(request: Request, config: Config) -> Written:
    """A request for a target, built field by field; raises BadRequest for what it cannot be asked."""
    dropped = _foreign(request)
    body = {**_conversation(request, dropped), **write_options(request, config, dropped)}
    for name, value in request.extra.items():
        if name in _NATIVE_FIELDS and value is not None and _is_native(name, value):
            body[name] = value
    if _EFFORT in request.extra:
        body.setdefault("output_config", {})["effort"] = request.extra[_EFFORT]
    return Written(body, tuple(dropped))


def write_count_request(request: Request, config: Config) -> Written:
    """The same request to have its input counted: nothing that only shapes the answer belongs to it."""
    dropped = _foreign(request)
    body = _conversation(request, dropped)
    if request.output:
        body["output_config"] = {"format": write_format(request.output, request, config, dropped)}
    return Written(body, tuple(dropped))


def _conversation(request: Request, dropped: list[str]) -> dict[str, Any]:
    if request.prompt is not None:
        raise BadRequest("this endpoint of the target takes messages, not a prompt", param="prompt")
    model = required_model(request.model)
    return {"model": model, **write_conversation(request, dropped), **write_tools(request)}


def _foreign(request: Request) -> list[str]:
    """The fields of other dialects, and those of this one's names in shapes that it does not have."""
    return sorted(name for name, value in request.extra.items() if not _is_native(name, value))


def _is_native(name: str, value: Any) -> bool:
    if value is None:
        return name in _BLOCK_FIELDS
    if name == "service_tier":
        return value in _SERVICE_TIERS
    if name == "thinking":
        return bool(value == {"type": "between_tools"})
    if name in _NATIVE_FIELDS:
        return isinstance(value, _NATIVE_FIELDS[name])
    return name == _EFFORT or is_vendor_tool(name, value)


_CONVERSATION = Conversation(system="system", takes_system=False)

endpoint = Endpoint(
    kind="chat",
    paths=("/v1/messages", "/messages"),
    read_request=read_request,
    write_request=write_request,
    read_answer=read_answer,
    write_answer=write_answer,
    stream_reader=MessagesReader,
    stream_writer=MessagesWriter,
    framing="named_sse",
    keepalive=PING,
    form=Form(
        places={
            **{name: (name,) for name in ("max_tokens", "temperature", "top_p", "top_k", "tools", "tool_choice")},
            "stop": ("stop_sequences",),
            "user": ("metadata.user_id",),
            "reasoning": ("thinking", "output_config.effort"),
            "output": ("output_config.format", "output_format"),
        },
        conversation=_CONVERSATION,
    ),
)
count_endpoint = Endpoint(
    kind="count",
    paths=("/v1/messages/count_tokens", "/messages/count_tokens"),
    read_request=read_request,
    write_request=write_count_request,
    read_answer=read_count,
    write_answer=write_count,
    form=Form(conversation=_CONVERSATION),
)
