"""Functions, the choice among them and formats: chat completions nest them (`function: {name}`), Responses does not."""

from collections.abc import Callable, Mapping
from typing import Any

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.neutral import OutputFormat, Request, Tool, ToolChoice

Object = dict[str, Any]
Typed = Callable[[str, Object], Object]
"""Makes an object of a type of its fields."""


def nested(kind: str, fields: Object) -> Object:
    """An object as chat completions spell it."""
    return {"type": kind, kind: fields}


def flat(kind: str, fields: Object) -> Object:
    """An object as Responses spells it."""
    return {"type": kind, **fields}


def write_tools(
    request: Request, names: Mapping[str, str], typed: Typed, fields_of: Callable[[Tool], Object]
) -> Object:
    """`tools` and what goes with them; `names` are those that the target is told another one for."""
    if not request.tools:
        return {}
    tools = [typed("function", {"name": names.get(tool.name, tool.name), **fields_of(tool)}) for tool in request.tools]
    body: Object = {"tools": tools}
    if request.tool_choice:
        body["tool_choice"] = _write_choice(request.tool_choice, names, typed)
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    return body


def _write_choice(choice: ToolChoice, names: Mapping[str, str], typed: Typed) -> str | Object:
    if not choice.names:
        return choice.mode
    tools = [typed("function", {"name": names.get(name, name)}) for name in choice.names]
    if len(tools) == 1 and choice.mode == "required":
        return tools[0]
    return typed("allowed_tools", {"mode": choice.mode, "tools": tools})


def write_format(output: OutputFormat, typed: Typed) -> Object:
    """What an answer must be; raises BadRequest for what neither API can say."""
    if output.kind == "json":
        return {"type": "json_object"}
    if output.kind != "schema":
        raise BadRequest(f"this target cannot hold its answer to a {output.kind}", param="response_format")
    schema: Object = {"name": output.name or "output", "schema": output.value}
    if output.strict is not None:
        schema["strict"] = output.strict
    return typed("json_schema", schema)
