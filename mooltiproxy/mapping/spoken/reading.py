"""Answers of plain text, whole or streamed, with the calls and thoughts that stand in the text."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mooltiproxy.mapping.dialect import StreamReader
from mooltiproxy.mapping.gather import answer_of, stream_of
from mooltiproxy.mapping.neutral import Answer, Finish, Request, StreamEvent, TextDelta
from mooltiproxy.mapping.spoken.parser import parser_for
from mooltiproxy.mapping.spoken.steps import Steps
from mooltiproxy.mapping.spoken.syntax import Spoken


def listening(reader: StreamReader, request: Request) -> StreamReader:
    """The reader, with calls and thoughts told apart from text where the request's prompt asked for them."""
    return reader if request.spoken is None else SpokenReader(reader, request, request.spoken)


def listened(answer: Answer, request: Request) -> Answer:
    """The same for a whole answer."""
    if request.spoken is None:
        return answer
    parsers = _Parsers(request, request.spoken)
    events = [event for told in stream_of(answer) for event in parsers.events(told)]
    return replace(answer_of(events), usage=answer.usage, model=answer.model)


class SpokenReader:
    """A stream's events, read from those of another reader, which knows of nothing but text."""

    def __init__(self, reader: StreamReader, request: Request, spoken: Spoken) -> None:
        self._reader = reader
        self._parsers = _Parsers(request, spoken)
        self.done = False

    def read(self, event: Any) -> list[StreamEvent]:
        """Neutral events of one parsed event."""
        events = self._all(self._reader.read(event))
        self.done = self._reader.done
        return events

    def end(self) -> list[StreamEvent]:
        """What is still held back when the target has ended."""
        return self._all(self._reader.end())

    def _all(self, events: list[StreamEvent]) -> list[StreamEvent]:
        return [event for told in events for event in self._parsers.events(told)]


class _Parsers:
    """The parsers of a request's answers, by their numbers."""

    def __init__(self, request: Request, spoken: Spoken) -> None:
        self._make: Callable[[int], Steps] = lambda index: parser_for(spoken, request.tools, index)
        self._known: dict[int, Steps] = {}

    def events(self, event: StreamEvent) -> list[StreamEvent]:
        """What an event of a plain answer is."""
        if isinstance(event, TextDelta):
            return self._parser(event.index).feed(event.text)
        if isinstance(event, Finish):
            parser = self._parser(event.index)
            held = parser.end()
            return [*held, Finish(parser.finish(event.reason), event.stop_string, event.index)]
        return [event]

    def _parser(self, index: int) -> Steps:
        if index not in self._known:
            self._known[index] = self._make(index)
        return self._known[index]
