"""A stream between two dialects as it comes: the target's reader, the client's writer, and what joins them."""

from collections.abc import Callable
from typing import Any

from mooltiproxy.mapping.answers import CopiedStream, LiveStream
from mooltiproxy.mapping.dialect import FailureWriter, StreamReader, StreamWriter
from mooltiproxy.mapping.framing import Decoder
from mooltiproxy.mapping.gather import failure_error
from mooltiproxy.mapping.neutral import Failure, Framing, StreamEvent, TextDelta
from mooltiproxy.mapping.shortcut import Shortcut, VerbatimReader, VerbatimWriter


def live(decoder: Decoder, reader: StreamReader, writer: StreamWriter, framing: Framing) -> LiveStream:
    """The stream of this reader for the client of this writer."""
    if isinstance(reader, VerbatimReader) and isinstance(writer, VerbatimWriter):
        events = _TextEvents(reader, writer, lambda: reader.verbatim and writer.verbatim)
        return CopiedStream(decoder, events, framing, Shortcut(reader))
    return LiveStream(decoder, _Events(reader, writer), framing)


def failing(writer: StreamWriter | None, event: Any) -> list[Any]:
    """What ends a stream with this error event of the client's dialect."""
    return writer.fail(event) if isinstance(writer, FailureWriter) else [event]


class _Events:
    """A target's events, read and written again as the client's."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @property
    def done(self) -> bool:
        return self._reader.done

    def read(self, event: Any) -> list[Any]:
        return self._write(self._reader.read(event))

    def end(self) -> list[Any]:
        return [*self._write(self._reader.end()), *self._writer.end()]

    def fail(self, event: Any) -> list[Any]:
        return failing(self._writer, event)

    def _write(self, events: list[StreamEvent]) -> list[Any]:
        for event in events:
            if isinstance(event, Failure):
                raise failure_error(event)
        return self._writer.write(events)


class _TextEvents(_Events):
    """The same where text may be copied; `text` is that of the last event, if it was nothing else and nobody keeps
    anything of it."""

    def __init__(self, reader: StreamReader, writer: StreamWriter, is_verbatim: Callable[[], bool]) -> None:
        super().__init__(reader, writer)
        self._is_verbatim = is_verbatim
        self.text = ""

    def read(self, event: Any) -> list[Any]:
        events = self._reader.read(event)
        written = self._write(events)
        is_kept = len(events) != 1 or len(written) != 1 or not self._is_verbatim()
        self.text = "" if is_kept else _bare_text(events[0])
        return written


def _bare_text(event: StreamEvent) -> str:
    """The text of an event that has nothing beside it; else empty."""
    if isinstance(event, TextDelta) and event.logprobs is None and event.signature is None:
        return event.text
    return ""
