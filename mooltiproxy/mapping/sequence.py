"""Stream events in a row: for dialects whose streams cannot go back to an earlier tool call."""

import re
from collections.abc import Iterable

import orjson

from mooltiproxy.mapping.neutral import CallArguments, CallStart, Finish, StreamEvent, TextDelta, UsageReport


class CallSequence:
    """Holds back what comes between the pieces of a tool call, so that no call is begun before the last is complete.

    OpenAI's chunks may go from one call to another and back. A call is complete when its arguments are a whole JSON
    object, or when the answer finishes. The events must be those of one answer; usage passes at once.
    """

    def __init__(self) -> None:
        self._open: int | None = None
        self._pieces: list[str] = []
        self._depth = Braces()
        self._closed: set[int] = set()
        self._held: list[StreamEvent] = []

    def feed(self, events: Iterable[StreamEvent]) -> list[StreamEvent]:
        """The events that can be written now, in their order."""
        row: list[StreamEvent] = []
        for event in events:
            if isinstance(event, UsageReport) or self._open is None and isinstance(event, TextDelta):
                row.append(event)
            elif isinstance(event, Finish):
                self._release_all(row)
                row.append(event)
            else:
                self._take(event, row)
        return row

    def _take(self, event: StreamEvent, row: list[StreamEvent]) -> None:
        if isinstance(event, CallArguments) and event.call in self._closed:
            return  # blanks behind a whole object
        if self._open is None or isinstance(event, CallArguments) and event.call == self._open:
            self._pass(event, row)
        elif not self._held and self._is_whole():
            self._close()
            self._pass(event, row)
        else:
            self._held.append(event)

    def _pass(self, event: StreamEvent, row: list[StreamEvent]) -> None:
        row.append(event)
        if isinstance(event, CallStart):
            self._open = event.call
        elif isinstance(event, CallArguments):
            self._pieces.append(event.text)
            self._depth.add(event.text)
            if self._held and self._is_whole():
                self._release(row)

    def _close(self) -> None:
        if self._open is not None:
            self._closed.add(self._open)
        self._open = None
        self._pieces = []
        self._depth = Braces()

    def _release(self, row: list[StreamEvent]) -> None:
        """Close the call, and take what has waited for that."""
        self._close()
        held, self._held = self._held, []
        for event in held:
            self._take(event, row)

    def _release_all(self, row: list[StreamEvent]) -> None:
        while self._held:
            self._release(row)

    def _is_whole(self) -> bool:
        if not self._depth.level:
            return False
        try:
            orjson.loads("".join(self._pieces))
        except orjson.JSONDecodeError:
            return False
        return True


class Braces:
    """Follows the braces of a JSON text that comes in pieces, so that nobody parses it anew for each of them."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._begun = False

    @property
    def level(self) -> bool:
        """Whether an object has begun and each of its braces is closed."""
        return self._begun and self._depth == 0 and not self._in_string

    def add(self, text: str) -> None:
        """Follow some more of the text."""
        if self._escaped and text:
            text, self._escaped = text[1:], False
        for found in _MARKS.finditer(text):
            mark = found[0]
            if mark == '"':
                self._in_string = not self._in_string
            elif not self._in_string and mark in "{}":
                self._begun = True
                self._depth += 1 if mark == "{" else -1
        self._escaped = self._escaped or _OPEN_ESCAPE.search(text) is not None


_MARKS = re.compile(r'["{}]|\\.', re.DOTALL)
"""What the braces depend on; a backslash takes the next letter with it."""
_OPEN_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*\\\Z")
