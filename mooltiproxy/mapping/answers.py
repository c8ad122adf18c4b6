"""Answers on their way to the client: gathered whole, gathered from a stream, or live. Bytes in, bytes out; no I/O."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import orjson

from mooltiproxy.errors import InternalError, ProxyError, UpstreamBroken
from mooltiproxy.mapping.framing import Decoder, NDJSONDecoder, SSEDecoder, framer, parse_event
from mooltiproxy.mapping.gather import answer_of
from mooltiproxy.mapping.neutral import Answer, Framing, StreamEvent
from mooltiproxy.mapping.shortcut import Shortcut

MEDIA_TYPES = {
    "sse": "text/event-stream; charset=utf-8",
    "named_sse": "text/event-stream; charset=utf-8",
    "ndjson": "application/x-ndjson",
    "json_array": "application/json; charset=utf-8",
    "json": "application/json",
}

STREAMING_MEDIA: Mapping[str, Callable[[], Decoder]] = {
    "text/event-stream": SSEDecoder,
    "application/x-ndjson": NDJSONDecoder,
}

MAX_WHOLE = 64 * 1024 * 1024
"""Bytes of an answer that has to be gathered before it can be translated."""


class AnswerTranslator(Protocol):
    """Turns the bytes of one answer into the client's bytes; every call may raise a ProxyError.

    `live` translators give bytes as they come; the others give everything at `end()`, so that until then an error can
    still be answered with its own status. Once `done` is true the target would go on for nothing:
    `end()` may be called at once and the target's connection closed.
    """

    media_type: str
    live: bool

    @property
    def done(self) -> bool:
        """Whether the answer is complete although the target goes on."""

    def feed(self, data: bytes) -> bytes:
        """The client's bytes for these bytes of the target."""

    def end(self) -> bytes:
        """What is left when the target has ended cleanly."""

    def fail(self, event: Any) -> bytes:
        """The dialect's error event, framed, and the end of the stream; for live translators that have written."""


def _check_size(size: int) -> None:
    if size > MAX_WHOLE:
        raise UpstreamBroken(f"the target's answer is longer than {MAX_WHOLE} bytes")


class Whole:
    """Gathers a whole JSON body, then hands it to `finish`."""

    live = False
    done = False

    def fail(self, event: Any) -> bytes:
        """Nothing: until the end an error has a status of its own."""
        return b""

    def __init__(self, media_type: str, finish: Callable[[Any], bytes]) -> None:
        self.media_type = media_type
        self._finish = finish
        self._data = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Nothing yet: all of it is gathered first."""
        self._data += data
        _check_size(len(self._data))
        return b""

    def end(self) -> bytes:
        """The whole answer."""
        try:
            body = orjson.loads(self._data)
        except orjson.JSONDecodeError as error:
            raise UpstreamBroken("the target's answer is not JSON") from error
        return self._finish(body)


class NeutralEvents(Protocol):
    """A target's events as neutral ones."""

    @property
    def done(self) -> bool:
        """Whether the answer is complete although the target goes on."""

    def read(self, event: Any) -> list[StreamEvent]:
        """The events for one parsed event of the target."""

    def end(self) -> list[StreamEvent]:
        """The events that are left when the target has ended."""


class GatheredStream:
    """Reads a stream to its end and answers whole: for a client that asked for no stream."""

    live = False
    media_type = MEDIA_TYPES["json"]

    def fail(self, event: Any) -> bytes:
        """Nothing: until the end an error has a status of its own."""
        return b""

    def __init__(self, decoder: Decoder, events: NeutralEvents, finish: Callable[[Answer], bytes]) -> None:
        self._decoder = decoder
        self._events = events
        self._finish = finish
        self._seen: list[StreamEvent] = []
        self._size = 0

    @property
    def done(self) -> bool:
        """Whether the answer is complete although the target goes on."""
        return self._events.done

    def feed(self, data: bytes) -> bytes:
        """Nothing yet: all of it is gathered first."""
        self._size += len(data)
        _check_size(self._size)
        self._read(self._decoder.feed(data))
        return b""

    def end(self) -> bytes:
        """The whole answer."""
        if not self._events.done:
            self._read(self._decoder.end())
        self._seen += self._events.end()
        return self._finish(answer_of(self._seen))

    def _read(self, events: list[bytes]) -> None:
        for event in events:
            if self._events.done:  # what the target says behind the end may be broken
                break
            self._seen += self._events.read(parse_event(event))


class ClientEvents(Protocol):
    """A target's events as the client's."""

    @property
    def done(self) -> bool:
        """Whether the answer is complete although the target goes on."""

    def read(self, event: Any) -> list[Any]:
        """The events for one parsed event of the target."""

    def end(self) -> list[Any]:
        """The events that are left when the target has ended."""

    def fail(self, event: Any) -> list[Any]:
        """The events that end a stream with this error event."""


class LiveStream:
    """A stream that is translated as it comes: each read of the target becomes at most one write to the client.

    An error behind events of the same read waits for the next call, so that the client still gets what came before it.
    """

    live = True

    def __init__(self, decoder: Decoder, events: ClientEvents, framing: Framing) -> None:
        self.media_type = MEDIA_TYPES[framing]
        self._decoder = decoder
        self._events = events
        self._framer = framer(framing)
        self._error: ProxyError | None = None

    @property
    def done(self) -> bool:
        """Whether nothing that the target may still send matters."""
        return self._error is not None or self._events.done

    def feed(self, data: bytes) -> bytes:
        """The client's events for these bytes; raises ProxyError, for the last read's error too."""
        if self._error:
            raise self._error
        return self._read(self._decoder.feed(data))

    def end(self) -> bytes:
        """The events that close the stream."""
        if self._error:
            raise self._error
        # What the target would have said behind the end of the answer may be cut anywhere.
        written = b"" if self._events.done else self._read(self._decoder.end())
        if self._error:
            raise self._error
        return written + self._encoded(self._events.end()) + self._framer.end()

    def fail(self, event: Any) -> bytes:
        """The error event and what ends the stream after it."""
        return self._framer.write(self._events.fail(event)) + self._framer.end()

    def _read(self, events: list[bytes]) -> bytes:
        written = []
        try:
            for event in events:
                if self._events.done:  # what the target says behind the end may be broken
                    break
                written.append(self._translated(event))
        except ProxyError as error:
            if not any(written):
                raise
            self._error = error
        return written[0] if len(written) == 1 else b"".join(written)

    def _translated(self, event: bytes) -> bytes:
        return self._encoded(self._events.read(parse_event(event)))

    def _encoded(self, events: list[Any]) -> bytes:
        try:
            return self._framer.write(events)
        except orjson.JSONEncodeError as error:
            raise InternalError("a mapper of the proxy returned what JSON cannot say") from error


class TextEvents(ClientEvents, Protocol):
    """A target's events as the client's, of dialects whose text can be copied."""

    @property
    def text(self) -> str:
        """The text of the event that was read last, if that was all and nobody keeps anything of it; else empty."""


class CopiedStream(LiveStream):
    """The same with a shortcut for text."""

    def __init__(self, decoder: Decoder, events: TextEvents, framing: Framing, shortcut: Shortcut) -> None:
        super().__init__(decoder, events, framing)
        self._texts = events
        self._shortcut = shortcut

    def feed(self, data: bytes) -> bytes:
        """The client's events for these bytes; raises ProxyError, for the last read's error too."""
        if self._error:
            raise self._error
        written, at = [], 0
        while at < len(data):
            if self._decoder.idle:
                copied, at = self._shortcut.copied(data, at)
                written.append(copied)
                if at == len(data):
                    break
            end = self._shortcut.end_of_event(data, at)
            try:
                written.append(super().feed(data[at:end]))
            except ProxyError as error:
                if not any(written):
                    raise
                self._error = error
                break
            at = end
        return b"".join(written)

    def _translated(self, event: bytes) -> bytes:
        written = super()._translated(event)
        self._shortcut.learn(event, self._texts.text, written)
        return written
