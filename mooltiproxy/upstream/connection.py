"""One connection to a target: writes a request, parses the answer with llhttp, and tells its receiver as bytes come.

Per request there is no task, future or reader object here: the event loop calls `data_received`, the parser calls back,
and the receiver writes to the client, all in one go. The parser is strict; after any doubt about framing the connection
is closed, never reused.
"""

import asyncio
import select
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from mooltiproxy.errors import UpstreamBroken, UpstreamError, UpstreamTimeout

MAX_HEAD = 128 * 1024
"""Bytes of an answer's head."""

Headers = list[tuple[bytes, bytes]]


class Receiver(Protocol):
    """Who takes an answer. Exactly one of `end` and `failed` is called, last."""

    def head(self, status: int, headers: Headers) -> None:
        """The final status (never 1xx) and the raw header fields."""

    def body(self, data: bytes) -> None:
        """What one read brought of the body, chunk framing removed."""

    def end(self) -> None:
        """The answer is complete."""

    def failed(self, error: UpstreamError) -> None:
        """The answer cannot be completed."""

    def flush(self) -> None:
        """All that one read brought has been told: write it now."""


class Clocks(Protocol):
    """How long each phase may take, in seconds; None for no limit."""

    @property
    def first_byte(self) -> float | None:
        """From the end of the request to the first byte of the answer."""

    @property
    def idle(self) -> float | None:
        """Between two reads."""

    @property
    def total(self) -> float | None:
        """From the request to the end of the answer."""


class Connection(asyncio.Protocol):
    """A connection of a pool. States: idle (no receiver) and busy (a receiver); `closed` is for good."""

    def __init__(self, on_idle: Callable[["Connection"], None], on_closed: Callable[["Connection"], None]) -> None:
        self._on_idle = on_idle
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self.closed = False
        self.uses = 0
        self.deadline = 0.0  # loop time at which `timed_out` is due, 0 for never; the session's sweeper looks
        self.total_deadline = 0.0
        self.idle_since = 0.0
        self._phase = ""
        self._receiver: Receiver | None = None
        self._body: list[bytes] = []
        self._drained: asyncio.Event | None = None
        self._paused = False
        self._poll: select.poll | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def send(
        self, request: bytes, receiver: Receiver, clocks: Clocks, *, is_head: bool = False, is_last: bool = False
    ) -> None:
        """Write a request (its head, and its body where that is whole) and take its answer to `receiver`. After one
        that `is_last` the connection is closed."""
        self.uses += 1
        self._receiver = receiver
        self._is_head = is_head
        self._is_last = is_last
        self._clocks = clocks
        self._begin_message()
        self._parser = httptools.HttpResponseParser(self)
        self._answered = False
        self._upload_done = True
        self.total_deadline = self._loop.time() + clocks.total if clocks.total else 0.0
        self._expect_first_byte()
        self._transport.write(request)

    def begin_upload(self) -> None:
        """The body follows in pieces: until `end_upload` the target need not answer, nor is the connection reusable."""
        self._upload_done = False
        self.deadline = 0.0

    async def upload(self, data: bytes) -> None:
        """Write a piece of the body, no faster than the target takes it; does nothing once the answer is over."""
        if self._drained is not None:
            self._expect_first_byte()
            await self._drained.wait()
            self.deadline = 0.0
        if not self.closed:
            self._transport.write(data)

    def end_upload(self) -> None:
        """The body is complete: now the target has to answer."""
        self._upload_done = True
        if not self._answered:
            self._expect_first_byte()

    @property
    def answered(self) -> bool:
        """Whether any byte of the answer has arrived."""
        return self._answered

    def pause(self) -> None:
        """Stop reading: the client is slower than the target. No clock runs meanwhile but `total`."""
        if not self.closed and not self._paused:
            self._paused = True
            self.deadline = 0.0
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if not self.closed and self._paused:
            self._paused = False
            self._touch()
            self._transport.resume_reading()

    def close(self) -> None:
        """Close at once and tell nobody: for a client that left, and for idle connections."""
        self._receiver = None
        self._shut()

    def timed_out(self, phase: str) -> None:
        """A clock ran out; `phase` is first_byte, idle or total."""
        texts = {
            "first_byte": "the target did not begin to answer in time (timeout: first_byte)",
            "idle": "the target stopped in the middle of its answer (timeout: idle)",
            "total": "the target's answer took longer than allowed (timeout: total)",
        }
        self._fail(UpstreamTimeout(texts[phase]))

    def check(self, now: float) -> None:
        """Called by the session's sweeper."""
        if self.total_deadline and now >= self.total_deadline:
            self.timed_out("total")
        elif self.deadline and now >= self.deadline:
            self.timed_out(self._phase)

    def is_usable(self) -> bool:
        """Whether an idle connection can take a request: nothing may have come, neither an end nor a byte."""
        return not self.closed and not self._transport.is_closing() and not self._readable()

    def _readable(self) -> bool:
        """Whether the socket has something that the event loop has not seen yet."""
        if self._poll is None:
            made = self._transport.get_extra_info("socket")
            if made is None or not hasattr(select, "poll"):
                return False
            self._poll = select.poll()
            self._poll.register(made.fileno(), select.POLLIN)
        return bool(self._poll.poll(0))

    def __repr__(self) -> str:
        state = "closed" if self.closed else "busy" if self._receiver else "idle"
        return f"<Connection {state}, used {self.uses} times>"

    # Called by the event loop.

    def data_received(self, data: bytes) -> None:
        """Parse, tell the receiver, flush once."""
        receiver = self._receiver
        if receiver is None:
            self._shut()  # bytes that nobody asked for: they must never answer the next request
            return
        self._answered = True
        self._touch()
        if not self._head_done:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(UpstreamBroken("the target switched protocols, which nobody asked for"))
        except httptools.HttpParserError:
            if self._receiver is None:
                self._shut()
            else:
                self._fail(UpstreamBroken("the target's answer is not valid HTTP"))
        if self._receiver is not None and not self._head_done and self._head_size > MAX_HEAD:
            self._fail(UpstreamBroken("the target's answer has a head without end"))
        self._deliver()
        receiver.flush()

    def eof_received(self) -> bool:
        """The target will send no more: `connection_lost` follows."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The end of a body without a length, or of the answer in its middle."""
        if self._drained is not None:
            self._drained.set()
        receiver = self._receiver
        if receiver is not None:
            if exc is None and self._head_done and self._until_close:
                self._receiver = None
                receiver.end()
                receiver.flush()
            elif self._answered:
                self._fail(UpstreamBroken("the target closed the connection in the middle of its answer"))
            else:
                self._fail(UpstreamBroken("the target closed the connection without an answer"))
        self._shut()

    def pause_writing(self) -> None:
        """The target reads more slowly than we write."""
        self._drained = asyncio.Event()

    def resume_writing(self) -> None:
        """The target has caught up."""
        if self._drained is not None:
            self._drained.set()
            self._drained = None

    # Called by the parser.

    def on_message_begin(self) -> None:
        """A second message in one answer's bytes is somebody's trick or somebody's mistake."""
        if self._receiver is None:
            self._shut()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field, or one trailer after the body: trailers are dropped."""
        if not self._head_done:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is complete; an interim one (1xx) is passed over."""
        status = self._parser.get_status_code()
        if self._receiver is None or 100 <= status < 200 and status != 101:
            return
        self._head_done = True
        if not 200 <= status < 600:
            self._fail(UpstreamBroken(f"the target answered with the impossible status {status}"))
            return
        self._keep_alive = self._parser.should_keep_alive()
        self._until_close = not self._has_length(status)
        self._receiver.head(status, self._headers)
        if self._is_head and self._receiver is not None:
            # The parser does not know that an answer to HEAD has no body whatever its head says.
            self._keep_alive = False
            self._finish()

    def on_body(self, body: bytes) -> None:
        """Some bytes of the body: kept until the read is parsed, as there may be many small chunks in it."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """The answer is complete, or an interim one is over."""
        if not self._head_done:
            self._begin_message()
        elif self._receiver is not None:
            self._finish()

    def _begin_message(self) -> None:
        self._headers: Headers = []
        self._head_size = 0
        self._head_done = False
        self._until_close = False
        self._keep_alive = False

    def _has_length(self, status: int) -> bool:
        if self._is_head or status in (204, 304):
            return True
        return any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in self._headers)

    def _touch(self) -> None:
        if self._answered:
            self._phase = "idle"
            idle = self._clocks.idle
            self.deadline = self._loop.time() + idle if idle else 0.0

    def _expect_first_byte(self) -> None:
        self._phase = "first_byte"
        first_byte = self._clocks.first_byte
        self.deadline = self._loop.time() + first_byte if first_byte else 0.0

    def _deliver(self) -> None:
        """Tell the receiver what the parser found of the body."""
        if self._body:
            pieces, self._body = self._body, []
            if self._receiver is not None:
                self._receiver.body(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def _finish(self) -> None:
        self._deliver()
        receiver, self._receiver = self._receiver, None
        assert receiver is not None
        self.deadline = self.total_deadline = 0.0
        receiver.end()
        if self._keep_alive and self._upload_done and not (self._paused or self._is_last):
            self.idle_since = self._loop.time()
            self._on_idle(self)
        else:
            self._shut()

    def _fail(self, error: UpstreamError) -> None:
        self._deliver()
        receiver, self._receiver = self._receiver, None
        self._shut()
        if receiver is not None:
            receiver.failed(error)
            receiver.flush()

    def _shut(self) -> None:
        if not self.closed:
            self.closed = True
            self.deadline = self.total_deadline = 0.0
            self._transport.abort()
            self._on_closed(self)
