"""What parsers of spoken text have in common: text that is held, taken step by step, and the events of a call."""

from collections.abc import Sequence

from mooltiproxy.mapping.ids import new_id
from mooltiproxy.mapping.neutral import CallArguments, CallStart, FinishReason, ReasoningDelta, StreamEvent, TextDelta


class Steps:
    """One answer, number `index`. `_step` takes what it can from `_held`, and says whether there may be more."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._held = ""
        self._calls = 0

    def feed(self, text: str) -> list[StreamEvent]:
        """The events of more text."""
        self._held += text
        events: list[StreamEvent] = []
        while self._step(events):
            pass
        return events

    def end(self) -> list[StreamEvent]:
        """What was held back, when no more comes."""
        raise NotImplementedError

    def finish(self, reason: FinishReason) -> FinishReason:
        """What the answer's end means where there were calls."""
        return "tool_calls" if self._calls and reason == "stop" else reason

    def _step(self, events: list[StreamEvent]) -> bool:
        raise NotImplementedError

    def _called(self, name: str, arguments: str, identifier: str | None = None) -> list[StreamEvent]:
        number = self._calls
        self._calls += 1
        start = CallStart(number, identifier or new_id("call_"), name, self._index)
        return [start, CallArguments(number, arguments, self._index)]

    def _told(self, text: str) -> list[StreamEvent]:
        return [TextDelta(text, self._index)] if text else []

    def _thought(self, text: str) -> list[StreamEvent]:
        return [ReasoningDelta(text, index=self._index)] if text else []


class Gathered:
    """Text that is kept until a mark ends it, each letter searched once, however small the pieces are."""

    def __init__(self, marks: Sequence[str]) -> None:
        self._marks = marks
        self._pieces: list[str] = []
        self._tail = ""

    def add(self, text: str) -> tuple[str, str, str] | None:
        """Keep more text: what stands before the first mark, the mark, and what is behind it; None without one."""
        self._pieces.append(text)
        window = self._tail + text
        if not any(mark in window for mark in self._marks):
            self._tail = window[1 - max(map(len, self._marks), default=1) :] if self._marks else ""
            return None
        whole = self.whole()
        at, mark = min((at, mark) for mark in self._marks if (at := whole.find(mark)) >= 0)
        self._pieces, self._tail = [], ""
        return whole[:at], mark, whole[at + len(mark) :]

    def whole(self) -> str:
        """All of it so far."""
        return "".join(self._pieces)


def begun(text: str, marks: tuple[str, ...]) -> int:
    """The length of the longest end of the text with which one of these marks begins."""
    lengths = [length for mark in marks for length in range(1, len(mark)) if text.endswith(mark[:length])]
    return max(lengths, default=0)
