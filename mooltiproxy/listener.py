"""The listening side: aiohttp's low-level server, the time limits it lacks, refusals in the client's dialect."""

import asyncio
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import orjson
from aiohttp import HttpVersion10, HttpVersion11, StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage

from mooltiproxy.errors import BadRequest, InternalError, MethodNotAllowed, ProxyError
from mooltiproxy.exchange import EXCHANGE, Exchange, Pausable
from mooltiproxy.middlewares.ip_rules import normal_address
from mooltiproxy.routing import Router

log = logging.getLogger("mooltiproxy")

HEAD_TIMEOUT = 15.0
"""Seconds from the first byte of a request (or from the connection) to the end of its head."""
KEEPALIVE_TIMEOUT = 75.0
LINGER = 5.0
"""Seconds in which the rest of a refused body is read away, so that its sender gets to see the answer."""

CANCEL_TIMEOUT = 2.0
"""Seconds that cancelled requests may take to let go."""

NEVER_FORWARDED = frozenset({"CONNECT", "TRACE"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")

Chain = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Current:
    """The chain and router in force. Reload assigns new ones; requests under way keep theirs."""

    def __init__(self, chain: Chain, router: Router, max_body: int) -> None:
        self.chain = chain
        self.router = router
        self.max_body = max_body


class ClientConnection(web.RequestHandler):
    """One client's connection: aiohttp's own, plus a limit for slow heads and flow control towards the target."""

    __slots__ = ("_listener", "busy", "early", "head_since", "source")

    def __init__(self, listener: "Listener", options: dict[str, Any]) -> None:
        super().__init__(listener, loop=asyncio.get_running_loop(), **options)
        self._listener = listener
        self.busy = False
        self.early = False
        self.head_since = self._listener.now()
        self.source: Pausable | None = None

    @property
    def waits(self) -> bool:
        """Whether it has no request to answer."""
        return self._waiter is not None

    def data_received(self, data: bytes) -> None:
        """Called by the event loop; notes when a head begins."""
        if self.busy:
            self.early = True
        elif not self.head_since:
            self.head_since = self._listener.now()
        super().data_received(data)

    def pause_writing(self) -> None:
        """The client reads more slowly than we write: so must we read from the target."""
        super().pause_writing()
        if self.source is not None:
            self.source.pause()

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        if self.source is not None:
            self.source.resume()

    def end_with(self, response: web.StreamResponse) -> None:
        """Close the connection with this answer, without reading the rest of the request."""
        response.force_close()
        self._lingering_time = 0.0

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is not HTTP. aiohttp's own text repeats bytes of the request, a key among them."""
        if status == 400:
            error = unparsable(exc)
        else:
            log.error("unexpected error while answering", exc_info=exc)
            error = InternalError("the proxy failed on this request")
        response = self._listener.refusal(None, error)
        response.headers["Server"] = "mooltiproxy"
        response.force_close()
        return response


def unparsable(exc: BaseException | None) -> ProxyError:
    """The refusal of a request that the parser does not take."""
    if isinstance(exc, LineTooLong):
        return BadRequest("the request line or a header is too long", status=431)
    return BadRequest("this is not a well-formed HTTP/1.1 request")


class ProxyRequest(web.BaseRequest):
    """aiohttp's request; its body is read through the exchange, so that the first reader leaves it for the others."""

    async def read(self) -> bytes:
        """The whole body; raises TooLarge, SlowClient, BadRequest."""
        return await self[EXCHANGE].body()


class Listener(web.Server):
    """Makes a `ClientConnection` of every socket and takes each request through the current chain."""

    def __init__(self, current: Current) -> None:
        super().__init__(self._handle, request_factory=self._request, handler_cancellation=True)
        self.current = current
        self.active = 0
        loop = asyncio.get_running_loop()  # kept: on Python 3.11 asking for it costs a system call
        self._event_loop = loop
        self._watch = loop.call_later(1.0, self._cut_slow_heads)
        self._options = {
            "access_log": None,
            "auto_decompress": False,
            "keepalive_timeout": KEEPALIVE_TIMEOUT,
            "lingering_time": LINGER,
        }
        self._idle = asyncio.Event()
        self._is_last = False

    def __call__(self) -> ClientConnection:
        """A new connection's protocol."""
        return ClientConnection(self, self._options)

    def now(self) -> float:
        """The event loop's time in seconds."""
        return self._event_loop.time()

    async def drained(self) -> None:
        """Returns when no request is under way."""
        while self.active:
            self._idle.clear()
            await self._idle.wait()

    def take_leave(self) -> None:
        """Let every answer from now on be the last of its connection, and say so."""
        self._is_last = True

    def pre_shutdown(self) -> None:
        """End the connections that have no request under way; the others end with it."""
        for connection in self.connections:
            assert isinstance(connection, ClientConnection)
            if connection.waits:
                connection.force_close()
            else:
                connection.close()

    async def close(self) -> None:
        """End every connection at once, and with it the requests under way."""
        self._watch.cancel()
        for connection in self.connections:
            if connection.transport is not None:
                connection.transport.abort()
        with suppress(TimeoutError):  # a user's middleware may refuse to be cancelled
            async with asyncio.timeout(CANCEL_TIMEOUT):
                await self.drained()

    def refusal(self, exchange: Exchange | None, error: ProxyError) -> web.Response:
        """An error as an answer, in the form of the dialect that the path belongs to."""
        request_id = exchange.id if exchange else new_id()
        dialect = self.current.router.dialect_of(exchange.path if exchange else "")
        response = web.Response(
            status=error.status,
            body=orjson.dumps(dialect.write_error(error, request_id)),
            content_type="application/json",
        )
        if error.status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        if error.retry_after is not None and not (exchange and _says_when(exchange)):
            response.headers["Retry-After"] = str(error.retry_after)
        if exchange is None:
            response.headers["x-request-id"] = request_id
        if dialect.id_field:
            response.headers[dialect.id_field] = request_id
        return response

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        assert isinstance(protocol, ClientConnection)
        protocol.busy = True
        protocol.head_since = 0.0
        if self._is_last:
            message = message._replace(should_close=True)
        return ProxyRequest(
            message, payload, protocol, writer, task, self._event_loop, client_max_size=self.current.max_body
        )

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, ClientConnection)
        if request.version not in (HttpVersion10, HttpVersion11):
            # aiohttp would answer with the request's own version in the status line.
            connection.force_close()
            raise ConnectionResetError
        current = self.current
        exchange = self._exchange(request, connection, current)
        request[EXCHANGE] = exchange
        self.active += 1
        try:
            response = await self._answered(request, exchange, current.chain)
        finally:
            self.active -= 1
            connection.busy = False
            if connection.early:  # what came while this request was under way may be the start of the next head
                connection.early, connection.head_since = False, self.now()
            del request[EXCHANGE]  # they hold each other: without this the body would wait for the garbage collector
            if not self.active:
                self._idle.set()
        if exchange.closes:
            connection.end_with(response)
        if not response.prepared:
            response.headers.setdefault("Server", "mooltiproxy")
            for name, value in exchange.headers:
                response.headers.add(name.decode("ascii"), value.decode("latin-1"))
        if isinstance(response, web.HTTPException):
            raise response
        return response

    async def _answered(self, request: web.BaseRequest, exchange: Exchange, chain: Chain) -> web.StreamResponse:
        try:
            if request.method in NEVER_FORWARDED:
                raise MethodNotAllowed(f"{request.method} is never forwarded")
            if request.headers.get("Transfer-Encoding", "chunked").lower() != "chunked":
                raise BadRequest("no transfer coding but chunked is understood", status=501)
            return await chain(request)
        except ProxyError as error:
            return exchange.begun.end(error) if exchange.begun else self.refusal(exchange, error)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except web.HTTPException as response:  # a user's middleware may answer in this way
            return response
        except Exception:
            log.exception("%s: unexpected error", exchange.id)
            failed = InternalError("the proxy failed on this request; its log says why")
            return exchange.begun.end(failed) if exchange.begun else self.refusal(exchange, failed)

    def _exchange(self, request: web.BaseRequest, connection: ClientConnection, current: Current) -> Exchange:
        path, _, query = origin_form(request.raw_path).partition("?")
        return Exchange(
            request=request,
            connection=connection,
            id=request_id(request.headers.get("x-request-id")),
            started=time.monotonic(),
            path=path,
            query=query,
            address=peer_address(connection.peername),
            max_body=current.max_body,
        )

    def _cut_slow_heads(self) -> None:
        oldest = self.now() - HEAD_TIMEOUT
        for connection in self.connections:
            assert isinstance(connection, ClientConnection)
            if 0.0 < connection.head_since < oldest and not connection.busy:
                connection.force_close()
        self._watch = self._event_loop.call_later(1.0, self._cut_slow_heads)


def _says_when(exchange: Exchange) -> bool:
    """Whether the answer is to have a retry-after already."""
    return any(name == b"retry-after" for name, _ in exchange.headers)


def origin_form(target: str) -> str:
    """A request target as path and query; the absolute form (RFC 9112, 3.2.2) loses scheme and host."""
    if target.startswith("/"):
        return target
    _, found, rest = target.partition("://")
    return "/" + rest.partition("/")[2] if found else target


def peer_address(peer: Any) -> str:
    """The address of a socket's peer in its one spelling; "local" for a socket without addresses."""
    if not isinstance(peer, tuple):
        return "local"
    address = str(peer[0])
    return normal_address(address) or address if ":" in address else address


def request_id(offered: str | None) -> str:
    """The client's x-request-id where it is a plain word, else a new id."""
    return offered if offered is not None and _REQUEST_ID.fullmatch(offered) else new_id()


def new_id() -> str:
    """A fresh id of 16 hex digits."""
    return f"{random.getrandbits(64):016x}"
