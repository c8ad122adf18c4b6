"""What one request carries on its way down the chain: each field names the part that writes it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import StreamReader, web

from mooltiproxy.config.model import Key
from mooltiproxy.errors import BadRequest, ProxyError, SlowClient, TooLarge
from mooltiproxy.keys import MASTER
from mooltiproxy.mapping.translate import Translated
from mooltiproxy.routing import Route

BODY_IDLE = 30.0
"""Seconds that a client may pause while it sends its body."""


class Pausable(Protocol):
    """What fills the client's connection, and can be told to wait."""

    def pause(self) -> None:
        """The client reads more slowly than we write."""

    def resume(self) -> None:
        """The client has caught up."""


class ClientConnection(Protocol):
    """The part of the listener's connection that the forwarder uses."""

    source: Pausable | None

    @property
    def writing_paused(self) -> bool:
        """Whether the client is slower than what was written so far."""


class Begun(Protocol):
    """An answer whose head is out for a sign of life, while its place is not found yet."""

    def end(self, error: ProxyError) -> web.StreamResponse:
        """End it with this error, in the way of the client's API."""


class Meter(Protocol):
    """What finds in an answer of a target how many tokens it has taken. Nothing here raises."""

    hides_usage: bool
    """Whether the event that tells them was asked for by the proxy, and is not for the client."""

    def begin(self, status: int, media_type: str, fields: Mapping[str, str]) -> None:
        """An answer begins; what was seen of another one does not count."""

    def feed(self, data: bytes) -> bytes:
        """Look at bytes of its body; gives those that are for the client."""

    def end(self) -> bytes:
        """The answer is complete; gives what was held back."""


@dataclass(slots=True)
class Exchange:
    """One request and its answer."""

    request: web.BaseRequest
    connection: ClientConnection
    id: str  # server: the client's x-request-id, or a new one
    started: float  # server: monotonic time, seconds
    path: str  # server: the raw client path; routing strips `/to/<target>`
    query: str  # server: the raw query; bearer_auth takes `key=` out
    address: str  # server: the peer; ip_rules believes X-Forwarded-For of a trusted proxy
    max_body: int  # server: bytes
    closes: bool = False  # ip_rules: the connection is to end with the answer, whatever else the client would send
    may_be_banned: bool = True  # ip_rules: False for a whitelisted address
    key: Key | None = None  # bearer_auth: the key of `keys:`, or the master key
    route: Route | None = None  # routing
    translated: Translated | None = None  # mapping: the body to send and how to read its answer
    was_sent: bool = False  # forwarder: something of it may have reached the target
    held: Translated | None = None  # forwarder: how a stream that passes is kept awake until its server has started
    begun: Begun | None = None  # forwarder: what is to be gone on with where another place is asked
    meter: Meter | None = None  # limits: what counts the tokens of its answer
    limits_told: frozenset[bytes] = frozenset()  # limits: fields about limits that are the proxy's to tell
    watch: Callable[[bytes], None] | None = None  # mapping: logs the pieces of an answer that passes untouched
    dropped: tuple[str, ...] = ()  # mapping: what the target could not be told
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)  # anyone: headers for whatever answer is sent
    status: int = 0  # forwarder: the status that was sent, 0 before
    sent: int = 0  # forwarder: bytes of body written to the client
    fault: str = ""  # forwarder: in what way the target failed us, by `UpstreamError.fault`
    error: str = ""  # server, forwarder: why it ended badly, for the log
    _body: bytes | None = None

    @property
    def losses(self) -> Mapping[str, str]:
        """What is to be done about losses: what the key says goes before what the target says."""
        of_target = self.route.target.losses if self.route else {}
        return {**of_target, **self.key.losses} if self.key and self.key.losses else of_target

    @property
    def who(self) -> str:
        """By whose name limits and places count: the key's, or the address of who has the master key."""
        return self.address if self.key is None or self.key.name == MASTER else self.key.name

    async def body(self) -> bytes:
        """The whole request body; raises TooLarge, SlowClient, BadRequest (broken framing)."""
        if self._body is None:
            content = self.request.content
            if content.is_eof() and content.total_bytes <= self.max_body:
                self._body = content.read_nowait()  # all of it has arrived already: the common case
            else:
                self._body = b"".join([part async for part in self.body_parts()])
        return self._body

    @property
    def whole_body(self) -> bytes:
        """The body, which was read already."""
        assert self._body is not None
        return self._body

    def replace_body(self, body: bytes) -> None:
        """Send this body instead of the client's."""
        self._body = body

    @property
    def body_is_whole(self) -> bool:
        """Whether the body was read already (or replaced), so that `body()` does not wait."""
        return self._body is not None

    async def body_parts(self) -> AsyncIterator[bytes]:
        """The body as it arrives, never more than `max_body` bytes; raises as `body` does."""
        request = self.request
        if not request.can_read_body:
            return
        length = request.content_length
        if length is not None and length > self.max_body:
            raise self._too_large()
        content = request.content
        if not content.is_eof() and request.headers.get("Expect", "").lower() == "100-continue":
            self._say_continue()
        read = 0
        while not content.at_eof():
            if content.is_eof():
                part = content.read_nowait()
            else:
                part = await self._next_part(content)
            read += len(part)
            if read > self.max_body:
                raise self._too_large()
            if part:
                yield part

    async def _next_part(self, content: StreamReader) -> bytes:
        try:
            async with asyncio.timeout(BODY_IDLE):
                return await content.readany()
        except TimeoutError:
            raise SlowClient(f"no byte of the body arrived for {BODY_IDLE:g} seconds") from None
        except web.RequestPayloadError as error:
            raise BadRequest("the body's framing is broken: check Content-Length or the chunks") from error

    def _say_continue(self) -> None:
        transport = self.request.transport
        if transport is not None and not transport.is_closing():
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body is larger than this proxy takes ({self.max_body} bytes): see system.max_body")


EXCHANGE = web.RequestKey("exchange", Exchange)
