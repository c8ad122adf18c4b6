"""What the streams of chat completions and legacy completions have in common: chunks, usage, the end mark."""

from collections.abc import Iterable, Mapping
from typing import Any

from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping.framing import DONE
from mooltiproxy.mapping.gather import UNFINISHED
from mooltiproxy.mapping.ids import new_id
from mooltiproxy.mapping.neutral import (
    CallArguments,
    CallStart,
    Failure,
    Finish,
    ReasoningDelta,
    RefusalDelta,
    Request,
    StreamEvent,
    TextDelta,
    Usage,
    UsageReport,
)
from mooltiproxy.mapping.shortcut import VerbatimReader, VerbatimWriter
from mooltiproxy.mapping.stops import StopCutter
from mooltiproxy.mapping.upstream_errors import failure_in

from .common import head, index_of, read_usage, unsent_stops, write_usage

ChoiceEvent = TextDelta | RefusalDelta | ReasoningDelta | CallStart | CallArguments | Finish


class ChunkReader(VerbatimReader):
    """Reads a target's chunks, with the oddities of known servers; `_choice` reads one choice of a chunk."""

    def __init__(self, request: Request) -> None:
        self.done = False
        self._repairs = request.repairs
        self._expected = request.sampling.n or 1
        self._stops = unsent_stops(request)
        self.watched = StopCutter(self._stops).firsts
        self._cutters: dict[int, StopCutter] = {}
        self._finished: set[int] = set()
        self._over = False

    @property
    def verbatim(self) -> bool:
        """Whether no stop string has begun."""
        return all(cutter.idle for cutter in self._cutters.values())

    def read(self, event: Any) -> list[StreamEvent]:
        """Neutral events of one chunk; a text that is no JSON and no end mark is passed over."""
        if self.done or self._over:
            return []
        if event == DONE:
            return self._close()
        if not isinstance(event, dict):
            self._repairs.add("event")
            return []
        failure = failure_in(event)
        if failure:
            self._over = True
            return [failure]
        events: list[StreamEvent] = []
        for choice in event.get("choices") or ():
            if isinstance(choice, dict):
                events += self._open(choice)
        usage = read_usage(event.get("usage"))
        if usage:
            events.append(UsageReport(usage))
        return events

    def end(self) -> list[StreamEvent]:
        """A `Failure` unless every choice has finished: an end mark alone proves nothing."""
        if self.done or self._over:
            return []
        self._repairs.add("end_mark")
        return self._close()

    def _open(self, choice: Mapping[str, Any]) -> list[StreamEvent]:
        index = index_of(choice)
        if index in self._finished:
            return []
        cutter = self._cutters.get(index)
        if cutter is None:
            cutter = self._cutters[index] = StopCutter(self._stops)
        events = self._choice(index, cutter, choice)
        if events and isinstance(events[-1], Finish):
            self._finished.add(index)
            # The target does not know of a stop that we found: it would go on, so nobody waits for it.
            self.done = cutter.found is not None and len(self._finished) == self._expected
        return events

    def _choice(self, index: int, cutter: StopCutter, choice: Mapping[str, Any]) -> list[StreamEvent]:
        raise NotImplementedError

    def _close(self) -> list[StreamEvent]:
        self._over = True
        whole = self._finished and self._finished == self._cutters.keys()
        return [] if whole else [Failure(UNFINISHED)]


class ChunkWriter(VerbatimWriter):
    """Writes chunks in the only legal order; `_event` gives the choices' parts of the chunks for one event."""

    def __init__(self, request: Request, prefix: str, kind: str) -> None:
        self._request = request
        self._head = head(request, new_id(prefix), kind)
        self._tail = {"usage": None} if request.include_usage else {}
        self._finished: dict[int, bool] = {}
        self._usage: Usage | None = None

    def write(self, events: Iterable[StreamEvent]) -> list[Any]:
        """The chunks of these events; what comes behind a choice's finish is left out."""
        chunks: list[Any] = []
        for event in events:
            if isinstance(event, UsageReport):
                self._usage = event.usage
            elif not isinstance(event, Failure) and not self._finished.get(event.index):
                for choice in self._event(event):
                    chunks.append({**self._head, "choices": [choice], **self._tail})
                self._finished[event.index] = isinstance(event, Finish)
        return chunks

    def end(self) -> list[Any]:
        """The usage chunk, if asked for and known, and the end mark; raises UpstreamBroken for an unfinished answer."""
        if not self._finished or not all(self._finished.values()):
            raise UpstreamBroken(UNFINISHED)
        usage = write_usage(self._usage) if self._request.include_usage else None
        return [{**self._head, "choices": [], "usage": usage}, DONE] if usage else [DONE]

    def _event(self, event: ChoiceEvent) -> list[dict[str, Any]]:
        raise NotImplementedError
