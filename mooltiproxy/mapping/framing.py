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

    def feed(self, data: bytes) -> list[bytes]:
        """The data of every event that is complete now."""

    def end(self) -> list[bytes]:
        """The data of a last event that lacks only its line end."""


class SSEDecoder:
    """Server-sent events; comments, `event:`, `id:` and `retry:` are passed over."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._lines: list[bytes] = []
        self._size = 0
        self._begun = False

    def feed(self, data: bytes) -> list[bytes]:
        """The data of every event that is complete now; raises UpstreamBroken for an endless one."""
        if b"\n" not in data and b"\r" not in data and not self._rest.endswith(b"\r"):
            self._rest += data
            self._check_size()
            return []
        if self._rest:
            data = bytes(self._rest) + data
            self._rest.clear()
        if not self._begun:
            data = self._without_bom(data)
        if b"\r" in data:
            # A CR at the very end may be half of a CRLF: wait for the next byte.
            held = data.endswith(b"\r")
            lines = (data[:-1] if held else data).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
            self._rest += lines.pop() + (b"\r" if held else b"")
        else:
            lines = data.split(b"\n")
            self._rest += lines.pop()
        return self._events(lines)

    def end(self) -> list[bytes]:
        """The data of a last event whose blank line is missing: many servers close without it."""
        rest, self._rest = self._without_bom(bytes(self._rest)).rstrip(b"\r"), bytearray()
        return self._events([rest, b""])

    def _without_bom(self, data: bytes) -> bytes:
        """One byte order mark may stand at the very beginning; the first line is whole when this is called."""
        if self._begun:
            return data
        self._begun = True
        return data.removeprefix(BOM)

    def _check_size(self) -> None:
        if len(self._rest) > MAX_EVENT:
            raise UpstreamBroken("the target's stream has an event without end")

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events = []
        for line in lines:
            if line.startswith(b"data:"):
                self._lines.append(line[6:] if line.startswith(b"data: ") else line[5:])
                self._size += len(line)
                if self._size > MAX_EVENT:
                    raise UpstreamBroken("the target's stream has an event without end")
            elif not line and self._lines:
                event = self._lines[0] if len(self._lines) == 1 else b"\n".join(self._lines)
                if event:
                    events.append(event)
                self._lines = []
                self._size = 0
        return events


class NDJSONDecoder:
    """One JSON value a line; empty lines are passed over."""

    def __init__(self) -> None:
        self._rest = bytearray()

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
    data = data.strip()
    if data.startswith((b"{", b"[", b'"')) and data != b"[DONE]":
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise UpstreamBroken("the target's stream has an event that is not JSON") from error
    return data.decode("utf-8", "replace")


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
