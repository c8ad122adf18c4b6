"""Stream framing, bytes in and bytes out: server-sent events and newline-delimited JSON. No I/O.

SSE after the WHATWG HTML standard, section 9.2.6 (Interpreting an event stream): lines end with LF, CRLF or CR, an
event ends at a blank line, `:` begins a comment. Only `data` matters to the dialects we speak: where events are named,
the name is repeated inside the data.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import orjson

from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping.neutral import Framing

MAX_EVENT = 64 * 1024 * 1024
"""Bytes of one unfinished event: an upstream that never ends its line must not fill the memory."""

BOM = b"\xef\xbb\xbf"
DONE = "[DONE]"
KEEPALIVE_SSE = b": keep-alive\n\n"


class Decoder(Protocol):
    """Cuts a byte stream into the data of its events, whatever way the bytes arrive."""

    @property
    def idle(self) -> bool:
        """Whether nothing is held back: the next bytes begin an event."""

    def feed(self, data: bytes) -> list[bytes]:
        """The data of every event that is complete now."""

    def end(self) -> list[bytes]:
        """The data of a last event that lacks only its line end."""


class SSEDecoder:
    """Server-sent events; comments, `event:`, `id:` and `retry:` are passed over."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._after_cr = False
        self._begun = False

    @property
    def idle(self) -> bool:
        """Whether the next bytes begin an event."""
        return self._begun and not self._rest and not self._after_cr

    def feed(self, data: bytes) -> list[bytes]:
        """The data of every event that is complete now; raises UpstreamBroken for an endless one."""
        if self._after_cr or b"\r" in data:
            data = self._with_lf(data)
        if b"\n\n" not in data and not (data.startswith(b"\n") and self._rest.endswith(b"\n")):
            self._rest += data
            if len(self._rest) > MAX_EVENT:
                raise UpstreamBroken("the target's stream has an event without end")
            return []
        if self._rest:
            data = bytes(self._rest) + data
        complete, _, rest = data.rpartition(b"\n\n")
        self._rest = bytearray(rest)
        return self._events(complete)

    def end(self) -> list[bytes]:
        """The data of a last event whose blank line is missing: many servers close without it."""
        rest, self._rest = bytes(self._rest), bytearray()
        return self._events(rest)

    def _with_lf(self, data: bytes) -> bytes:
        """The same with LF for every line end; the LF of a CRLF may come with the next bytes."""
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return data

    def _events(self, complete: bytes) -> list[bytes]:
        if not self._begun:
            self._begun = True
            complete = complete.removeprefix(BOM)
        events = []
        for event in complete.split(b"\n\n"):
            # Most events are one line; the others are worth a closer look.
            data = event[6:] if event[:6] == b"data: " and b"\n" not in event else _data_of(event)
            if data:
                events.append(data)
        return events


def _data_of(event: bytes) -> bytes:
    """The data of one event, of which there may be several lines."""
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines)


class NDJSONDecoder:
    """One JSON value a line; empty lines are passed over."""

    def __init__(self) -> None:
        self._rest = bytearray()

    @property
    def idle(self) -> bool:
        """Whether the next bytes begin a line."""
        return not self._rest

    def feed(self, data: bytes) -> list[bytes]:
        """Every line that is complete now; raises UpstreamBroken for an endless one."""
        if b"\n" not in data:
            self._rest += data
            if len(self._rest) > MAX_EVENT:
                raise UpstreamBroken("the target's stream has a line without end")
            return []
        *lines, rest = (bytes(self._rest) + data).split(b"\n")
        self._rest = bytearray(rest)
        return [line for line in lines if line.strip()]

    def end(self) -> list[bytes]:
        """The last line, if its line end is missing."""
        rest, self._rest = bytes(self._rest), bytearray()
        return [rest] if rest.strip() else []


def parse_event(data: bytes) -> Any:
    """One event's data as JSON, or as text where it is none (`[DONE]`); raises UpstreamBroken for broken JSON."""
    if not data.startswith(b"{"):
        data = data.strip()
        if data == b"[DONE]" or not data.startswith((b"{", b"[", b'"')):
            return data.decode("utf-8", "replace")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise UpstreamBroken("the target's stream has an event that is not JSON") from error


def encode_sse(event: Any) -> bytes:
    """One event without a name; a str is sent as it is, anything else as JSON."""
    if isinstance(event, str):
        lines = event.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        return "".join(f"data: {line}\n" for line in lines).encode() + b"\n"
    return b"data: " + _json(event) + b"\n\n"


def encode_named_sse(event: Any) -> bytes:
    """One event of a dialect that names its events by their `type` (Anthropic, OpenAI Responses)."""
    name = event.get("type") if isinstance(event, dict) else None
    if not isinstance(name, str):
        return encode_sse(event)
    return b"event: " + name.encode() + b"\ndata: " + _json(event) + b"\n\n"


def encode_ndjson(event: Any) -> bytes:
    """One line."""
    return _json(event) + b"\n"


def _json(event: Any) -> bytes:
    """JSON on one line by Unicode's rules too: clients that split lines by those would cut inside a string."""
    line: bytes = orjson.dumps(event)
    if line.isascii():
        return line
    if b"\xe2\x80" in line:
        line = line.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    return line.replace(b"\xc2\x85", b"\\u0085") if b"\xc2\x85" in line else line


class JSONArrayFramer:
    """One JSON array that is delivered piece by piece (Gemini's stream without `alt=sse`)."""

    def __init__(self) -> None:
        self._begun = False

    def write(self, events: Iterable[Any]) -> bytes:
        """These events as further elements."""
        pieces = []
        for event in events:
            pieces.append((b",\r\n" if self._begun else b"[") + _json(event))
            self._begun = True
        return b"".join(pieces)

    def end(self) -> bytes:
        """The end of the array."""
        return b"]" if self._begun else b"[]"


class EventFramer:
    """Events one after the other, each framed by itself; nothing marks the end."""

    def __init__(self, encode: Callable[[Any], bytes]) -> None:
        self._encode = encode

    def write(self, events: Iterable[Any]) -> bytes:
        """These events, framed."""
        return b"".join(map(self._encode, events))

    def end(self) -> bytes:
        """Nothing."""
        return b""


def framer(framing: Framing) -> JSONArrayFramer | EventFramer:
    """What frames one stream of events."""
    return JSONArrayFramer() if framing == "json_array" else EventFramer(ENCODERS[framing])


ENCODERS: Mapping[str, Callable[[Any], bytes]] = {
    "sse": encode_sse,
    "named_sse": encode_named_sse,
    "ndjson": encode_ndjson,
}
