"""Names that a target does not take (`weather.get`), of tools and of calls: rewritten on the way there, and back again.

Which name becomes which depends on the request alone, so that its answer's reader finds out the same as its writer.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mooltiproxy.mapping.neutral import Request, ToolCall

_LONGEST = 64
"""What a rewritten name may have: every API takes that many characters."""


@dataclass(frozen=True, slots=True)
class NameRule:
    """What names a target takes: those that match `legal`. `_` may stand anywhere, nothing that `illegal` finds may."""

    legal: re.Pattern[str]
    illegal: re.Pattern[str]


def renamed(names: Iterable[str], rule: NameRule) -> dict[str, str]:
    """Legal names for those that are not: the same for the same names in the same order, no two alike.

    Names that are legal stay as they are, and are left out.
    """
    unique = dict.fromkeys(names)
    made = {name: "" for name in unique if not rule.legal.fullmatch(name)}
    taken = unique.keys() - made.keys()
    for name in made:
        made[name] = _free(_legal(name, rule), taken)
        taken.add(made[name])
    return made


def renamed_tools(request: Request, rule: NameRule) -> dict[str, str]:
    """What the target is to call those tools of a request, and of the calls in it, whose names it does not take."""
    calls = (part.name for turn in request.turns for part in turn.parts if isinstance(part, ToolCall))
    return renamed([*(tool.name for tool in request.tools), *calls], rule)


def tools_renamed(request: Request, rule: NameRule) -> Mapping[str, str]:
    """The way back: the client's names of tools, by what the target calls them."""
    return {legal: name for name, legal in renamed_tools(request, rule).items()}


def _legal(name: str, rule: NameRule) -> str:
    legal = rule.illegal.sub("_", name)[:_LONGEST]
    return legal if rule.legal.fullmatch(legal) else f"_{legal}"[:_LONGEST]


def _free(wanted: str, taken: set[str]) -> str:
    number, name = 1, wanted
    while name in taken:
        number += 1
        ending = f"_{number}"
        name = wanted[: _LONGEST - len(ending)] + ending
    return name
