"""Writes a forwarded answer to the client's transport: head and first bytes in one write, one write per upstream read.

aiohttp's StreamResponse would cost more than the rest of a forwarded request together, so the bytes are put together
here. aiohttp learns that the answer is out by a `Forwarded`, whose `prepare` and `write_eof` have nothing left to do.
"""

import asyncio
from http import HTTPStatus

from aiohttp import web

REASONS = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}


class Forwarded(web.StreamResponse):
    """An answer that was written already; tells aiohttp whether the connection may be kept."""

    def __init__(self, status: int, *, keep_alive: bool) -> None:
        super().__init__(status=status)
        self._kept = keep_alive

    @property
    def keep_alive(self) -> bool:
        """Whether the client's connection can take another request."""
        return self._kept

    @property
    def prepared(self) -> bool:
        """Always: nothing can be added to it any more."""
        return True

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing left to do."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing left to do."""


class AnswerWriter:
    """One answer to one client: `start`, `write`..., then `end` or `abort`; `flush` sends what has gathered."""

    def __init__(self, transport: asyncio.Transport, *, http10: bool, is_head: bool, keep_alive: bool) -> None:
        self._transport = transport
        self._http10 = http10
        self._is_head = is_head
        self.keep_alive = keep_alive
        self.started = False
        self.sent = 0
        self._chunked = False
        self._bodiless = False
        self._parts: list[bytes] = []

    def start(self, status: int, headers: list[tuple[bytes, bytes]], length: int | None) -> None:
        """The head. `length` is the body's in bytes, None where it is not known yet.

        Without a length the body is chunked (RFC 9112, 7.1), or ends with an HTTP/1.0 client's connection.
        """
        self.started = True
        self._bodiless = self._is_head or status in (204, 304)
        parts = self._parts
        parts.append(b"HTTP/1.1 %d %b\r\n" % (status, REASONS.get(status, b"")))
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        if length is not None:
            if status != 204:
                parts.append(b"content-length: %d\r\n" % length)
        elif not self._bodiless:
            if self._http10:
                self.keep_alive = False
            else:
                self._chunked = True
                parts.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        elif self._http10:
            parts.append(b"connection: keep-alive\r\n")
        parts.append(b"\r\n")

    def write(self, data: bytes) -> None:
        """Some of the body."""
        if not data or self._bodiless:
            return
        self.sent += len(data)
        if self._chunked:
            self._parts += (b"%x\r\n" % len(data), data, b"\r\n")
        else:
            self._parts.append(data)

    @property
    def paused(self) -> bool:
        """Whether the client has not taken yet what it was sent."""
        return self._transport.get_write_buffer_size() > 0

    def end(self) -> None:
        """The body is complete."""
        if self._chunked:
            self._parts.append(b"0\r\n\r\n")

    def flush(self) -> None:
        """Send what has gathered, in one write."""
        if self._parts:
            if not self._transport.is_closing():
                self._transport.write(b"".join(self._parts))
            self._parts.clear()

    def abort(self) -> None:
        """Break off, so that the client cannot take what it has for a whole answer."""
        self._parts.clear()
        self.keep_alive = False
        self._transport.abort()
