"""`POST /api/chat`: requests."""

from functools import partial
from typing import Any

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.dialect import Config, Endpoint, Written
from mooltiproxy.mapping.fields import Fields
from mooltiproxy.mapping.forms import Conversation, Form
from mooltiproxy.mapping.model_names import required_model
from mooltiproxy.mapping.neutral import NOWHERE, Asked, Request, Tool
from mooltiproxy.mapping.offered import offered_tools

from .common import PLACES, read_common, write_common
from .lines import CHAT, loaded, read_answer, write_answer
from .messages import MessageReader, MessageWriter
from .stream import Reader, Writer

NO_ARGUMENTS = {"type": "object", "properties": {}}


def read_request(body: Any, asked: Asked = NOWHERE) -> Request:
    """The neutral form of a client's request; raises BadRequest that names the field at fault, and Answered where there
    are no messages: that would load or unload a model."""
    fields = Fields(body)
    request = Request(model=fields.text("model"))
    messages = MessageReader()
    request.turns = messages.read(fields)
    request.tools = [_read_tool(tool) for tool in fields.objects("tools")]
    read_common(fields, request)
    request.extra.update({**messages.extra, **fields.leftovers()})
    if not request.turns:
        raise loaded(CHAT, request)
    return request


def _read_tool(tool: Fields) -> Tool:
    kind = tool.text("type") or "function"
    if kind != "function":
        raise tool.wrong("type", f"function: tools of the type {kind!r} cannot be translated")
    function = tool.required_object("function")
    return Tool(function.required_text("name"), function.text("description"), function.plain("parameters"))


def write_request(request: Request, config: Config) -> Written:
    """A request for an Ollama server; raises BadRequest for what it cannot be asked."""
    if request.prompt is not None:
        raise BadRequest("this endpoint of the target takes messages, not a prompt", param="prompt")
    dropped: list[str] = []
    messages = MessageWriter(dropped).write(request.turns)
    body: dict[str, Any] = {"model": required_model(request.model), "messages": messages}
    tools = offered_tools(request, dropped)
    if tools:
        body["tools"] = [_write_tool(tool) for tool in tools]
    body.update(write_common(request, dropped))
    return Written(body, tuple(dropped))


def _write_tool(tool: Tool) -> dict[str, Any]:
    described = {} if tool.description is None else {"description": tool.description}
    parameters = NO_ARGUMENTS if tool.schema is None else tool.schema
    return {"type": "function", "function": {"name": tool.name, **described, "parameters": parameters}}


endpoint = Endpoint(
    kind="chat",
    paths=("/api/chat",),
    read_request=read_request,
    write_request=write_request,
    read_answer=partial(read_answer, CHAT),
    write_answer=partial(write_answer, CHAT),
    stream_reader=partial(Reader, CHAT),
    stream_writer=partial(Writer, CHAT),
    framing="ndjson",
    keepalive=b"",
    takes_image_urls=False,
    documents="text",
    form=Form(places={**PLACES, "tools": ("tools",)}, own="options", conversation=Conversation()),
)
