"""What parsers of spoken text have in common: text that is held, taken step by step, and the events of a call."""

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


def begun(text: str, marks: tuple[str, ...]) -> int:
    """The length of the longest end of the text with which one of these marks begins."""
    lengths = [length for mark in marks for length in range(1, len(mark)) if text.endswith(mark[:length])]
    return max(lengths, default=0)
