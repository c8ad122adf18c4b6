"""Tools and the choice among them, both ways."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.fields import Fields
from mooltiproxy.mapping.neutral import Request, Tool, ToolCall, ToolChoice
from mooltiproxy.mapping.tool_names import renamed_tools

from .blocks import NATIVE, BlockReader
from .common import NAMES

VENDOR_TOOLS = "tools."
"""Begins the names under which a request's `extra` keeps the vendor's own tools, each with its place in the list."""

_MODES: dict[str, Literal["auto", "none", "required"]] = {"auto": "auto", "none": "none", "any": "required"}
_WORDS = {mode: word for word, mode in _MODES.items()}


def read_tools(fields: Fields, request: Request, blocks: BlockReader) -> None:
    """Set the client's tools and its choice; raises BadRequest.

    The vendor's own tools are set aside, to be named: a model can answer without them, but not a client that gives it
    nothing else.
    """
    raw = fields.items("tools") or []
    for position, tool in enumerate(fields.objects("tools")):
        kind = tool.text("type") or "custom"
        if kind == "custom":
            request.tools.append(_read_tool(tool, blocks))
        else:
            request.extra[VENDOR_TOOLS + kind] = (position, raw[position])
    if raw and not request.tools:
        raise BadRequest(
            "tools: only Anthropic itself has tools of these types, other targets know those of the type custom",
            param="tools",
        )
    _read_choice(fields, request)


def _read_tool(tool: Fields, blocks: BlockReader) -> Tool:
    read = Tool(
        name=tool.required_text("name"),
        description=tool.text("description"),
        schema=tool.plain("input_schema"),
        strict=tool.flag("strict"),
        native=blocks.native(tool, "tool"),
    )
    blocks.extra.update(tool.leftovers())
    return read


def _read_choice(fields: Fields, request: Request) -> None:
    choice = fields.object("tool_choice")
    if choice is None:
        return
    kind = choice.required_text("type")
    if kind == "tool":
        request.tool_choice = ToolChoice("required", (choice.required_text("name"),))
    elif kind in _MODES:
        request.tool_choice = ToolChoice(_MODES[kind])
    else:
        raise choice.wrong("type", "one of auto, any, tool, none")
    serial = choice.flag("disable_parallel_tool_use")
    request.parallel_tool_calls = None if serial is None else not serial
    request.extra.update(choice.leftovers())


def write_tools(request: Request) -> dict[str, Any]:
    """The fields `tools` and `tool_choice`."""
    names = renamed_tools(request, NAMES)
    tools = [_write_tool(tool, names) for tool in request.tools if _is_allowed(tool, request.tool_choice)]
    for position, tool in _vendor_tools(request):
        tools.insert(position, tool)
    if not tools:
        return _called_tools(request, names)
    choice = _write_choice(request, names)
    return {"tools": tools, "tool_choice": choice} if choice else {"tools": tools}


def _vendor_tools(request: Request) -> Iterable[tuple[int, dict[str, Any]]]:
    kept = [value for name, value in request.extra.items() if is_vendor_tool(name, value)]
    return sorted(kept, key=lambda one: one[0])


def is_vendor_tool(name: str, value: Any) -> bool:
    """Whether a request's extra field is a tool that `read_tools` has set aside."""
    return name.startswith(VENDOR_TOOLS) and isinstance(value, tuple)


def _is_allowed(tool: Tool, choice: ToolChoice | None) -> bool:
    """A choice among several is made by leaving out the others; to force one of all, the API has a word."""
    return choice is None or not choice.names or _is_one(choice) or tool.name in choice.names


def _is_one(choice: ToolChoice) -> bool:
    return choice.mode == "required" and len(choice.names) == 1


def _write_tool(tool: Tool, names: Mapping[str, str]) -> dict[str, Any]:
    own: Mapping[str, Any] = tool.native or {}
    schema = dict(tool.schema or {})
    fields = {
        "description": tool.description,
        "strict": tool.strict,
        **{name: own.get(name) for name in NATIVE["tool"]},
    }
    return {
        "name": names.get(tool.name, tool.name),
        "input_schema": schema if "type" in schema else {"type": "object", "properties": {}, **schema},
        **{name: value for name, value in fields.items() if value is not None},
    }


def _called_tools(request: Request, names: Mapping[str, str]) -> dict[str, Any]:
    """A conversation with calls in it needs tools even where the model is to call none any more."""
    parts = [part for turn in request.turns for part in turn.parts]
    called = dict.fromkeys(names.get(part.name, part.name) for part in parts if isinstance(part, ToolCall))
    if not called:
        return {}
    tools = [{"name": name, "input_schema": {"type": "object", "properties": {}}} for name in called]
    return {"tools": tools, "tool_choice": {"type": "none"}}


def _write_choice(request: Request, names: Mapping[str, str]) -> dict[str, Any] | None:
    """`tool_choice`, which is also where parallel calls are forbidden."""
    choice, parallel = request.tool_choice, request.parallel_tool_calls
    if choice is None and parallel is not False:
        return None
    written: dict[str, Any] = {"type": _WORDS[choice.mode] if choice else "auto"}
    if choice and _is_one(choice):
        written = {"type": "tool", "name": names.get(choice.names[0], choice.names[0])}
    if parallel is not None and written["type"] != "none":
        written["disable_parallel_tool_use"] = not parallel
    return written
