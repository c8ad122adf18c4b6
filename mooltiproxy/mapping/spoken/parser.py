"""Finds calls and thoughts in text as it comes: text in pieces in, neutral events out. No I/O."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from mooltiproxy.mapping.neutral import StreamEvent, Tool
from mooltiproxy.mapping.spoken.calls import SpokenCall
from mooltiproxy.mapping.spoken.harmony import HarmonyParser
from mooltiproxy.mapping.spoken.steps import Gathered, Steps, begun
from mooltiproxy.mapping.spoken.syntax import SYNTAXES, Spoken


def parser_for(spoken: Spoken, tools: Sequence[Tool], index: int = 0) -> Steps:
    """A parser for one answer of a model that writes like this; `tools` are those of the request."""
    return HarmonyParser(tools, index) if spoken.is_harmony else SpokenParser(spoken, tools, index)


class SpokenParser(Steps):
    """One answer. What may still become a mark is held back, at most its length; what is no call stays text."""

    def __init__(self, spoken: Spoken, tools: Sequence[Tool], index: int = 0) -> None:
        super().__init__(index)
        self._tools = {tool.name: tool for tool in tools}
        self._syntax = SYNTAXES[spoken.syntax] if spoken.syntax and tools else None
        self._marks = spoken.thought or ("", "")
        self._call = Gathered([self._syntax.closing] if self._syntax and self._syntax.closing else [])
        # Not bound to this object, which would hold itself.
        self._read = SpokenParser._thinking if spoken.begins_thinking else SpokenParser._beginning
        self._strips = spoken.begins_thinking

    def end(self) -> list[StreamEvent]:
        """What was held back, when no more comes; a call that only lacks its end is one."""
        held, self._held = self._held, ""
        if self._read is SpokenParser._thinking:
            return self._thought(held.rstrip("\n"))
        if self._read is SpokenParser._calling:
            return self._calls_in(self._call.whole() + held, self._opening, "")
        return self._texts(held)

    def _step(self, events: list[StreamEvent]) -> bool:
        return self._read(self, events)

    # The states: each takes what it can from the text that is held, and says whether another one is to go on.

    def _beginning(self, events: list[StreamEvent]) -> bool:
        """Before the first letter: an answer may be nothing but calls."""
        start = self._held.lstrip()
        begins = self._syntax.begins if self._syntax else ()
        if not start or any(mark.startswith(start) and mark != start for mark in begins):
            return False
        if start.startswith(begins) and begins:
            self._opening = self._held[: len(self._held) - len(start)]
            self._held = start
            self._read = SpokenParser._calling
        else:
            self._read = SpokenParser._telling
        return True

    def _telling(self, events: list[StreamEvent]) -> bool:
        """Text, until a mark."""
        if self._strips:
            self._held = self._held.lstrip("\n")
            self._strips = not self._held
        marks = [mark for mark in (self._marks[0], self._syntax.opening if self._syntax else "") if mark]
        at, mark = _first(self._held, marks)
        if mark is None:
            kept = _kept(self._held, marks, blanks=bool(marks))
            events += self._texts(self._held[: len(self._held) - kept])
            self._held = self._held[len(self._held) - kept :]
            return False
        before, self._held = self._held[:at], self._held[at + len(mark) :]
        events += self._texts(before.rstrip())
        self._opening = before[len(before.rstrip()) :] + mark
        self._strips = mark == self._marks[0]
        self._read = SpokenParser._thinking if self._strips else SpokenParser._calling
        return True

    def _thinking(self, events: list[StreamEvent]) -> bool:
        """A thought, until its end; without the newlines at both."""
        if self._strips:
            self._held = self._held.lstrip("\n")
            self._strips = not self._held
        before, mark, after = self._held.partition(self._marks[1])
        if mark:
            events += self._thought(before.rstrip("\n"))
            self._held, self._read, self._strips = after, SpokenParser._telling, True
            return True
        kept = _kept(self._held, [self._marks[1]], blanks=True)
        events += self._thought(self._held[: len(self._held) - kept])
        self._held = self._held[len(self._held) - kept :]
        return False

    def _calling(self, events: list[StreamEvent]) -> bool:
        """A call, until its end."""
        text, self._held = self._held, ""
        ended = self._call.add(text)
        if ended is None:
            return False
        before, mark, self._held = ended
        events += self._calls_in(before, self._opening, mark)
        self._read = SpokenParser._telling
        return True

    def _calls_in(self, text: str, opening: str, closing: str) -> list[StreamEvent]:
        """The events of a text that should be calls; the text itself where it is none, or of tools that nobody has."""
        assert self._syntax is not None
        try:
            if self._syntax.needs_end and not closing:
                raise ValueError("no end")
            calls = self._syntax.read(text)
            if not calls:
                raise ValueError("no call")
            pairs = [(call, arguments_of(call, self._tools[call.name])) for call in calls]
        except (ValueError, KeyError, TypeError, RecursionError):  # TypeError: Python's values that JSON has not
            return self._texts(opening + text + closing)
        self._strips = True
        return [event for call, arguments in pairs for event in self._called(call.name, arguments, call.id)]

    def _texts(self, text: str) -> list[StreamEvent]:
        if self._calls and not text.strip():
            return []  # what stands between calls, or behind them
        return self._told(text)


def arguments_of(call: SpokenCall, tool: Tool) -> str:
    """The arguments as JSON text; values that are all text are made what the tool's schema says."""
    schema = tool.schema or {}
    known = schema.get("properties")
    properties: Mapping[str, Any] = known if isinstance(known, dict) else {}
    arguments = call.arguments
    if call.is_untyped:
        arguments = {name: _typed(text, properties.get(name)) for name, text in arguments.items()}
    return orjson.dumps(arguments).decode()


def _typed(text: str, schema: Any) -> Any:
    kind = schema.get("type") if isinstance(schema, dict) else None
    if kind == "string" or kind is None and not isinstance(schema, dict):
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return {"true": True, "false": False, "none": None}.get(text.strip().lower(), text)


def _first(text: str, marks: Iterable[str]) -> tuple[int, str | None]:
    """Where the first of these marks stands, and which it is."""
    found = [(at, mark) for mark in marks if (at := text.find(mark)) >= 0]
    return min(found) if found else (-1, None)


def _kept(text: str, marks: Iterable[str], *, blanks: bool) -> int:
    """The length of the longest end of the text that may belong to a mark, with the blanks before it."""
    kept = begun(text, tuple(marks))
    rest = text[: len(text) - kept]
    return kept + (len(rest) - len(rest.rstrip()) if blanks else 0)
