"""Which tools a model is offered, for targets whose API has no choice but that."""

from collections.abc import Sequence

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.neutral import Request, Tool


def offered_tools(request: Request, dropped: list[str]) -> list[Tool]:
    """The tools that the request's choice allows; names in `dropped` what the target cannot be told of it.

    Raises BadRequest for a choice of tools that are not there.
    """
    choice = request.tool_choice
    tools = [] if choice and choice.mode == "none" else request.tools
    if choice and choice.names:
        tools = _named(tools, choice.names)
    if choice and choice.mode == "required":
        dropped.append("tool_choice")
    if tools and request.parallel_tool_calls is False:
        dropped.append("parallel_tool_calls")
    if any(tool.strict for tool in tools):
        dropped.append("tools.strict")
    return tools


def _named(tools: Sequence[Tool], names: Sequence[str]) -> list[Tool]:
    missing = set(names) - {tool.name for tool in tools}
    if missing:
        raise BadRequest(f"tool_choice names {', '.join(sorted(missing))}, which is not in tools", param="tool_choice")
    return [tool for tool in tools if tool.name in names]
