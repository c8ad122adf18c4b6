"""The forwarder: sends a routed request to its target and moves the answer to the client as it comes.

The end of the chain. `Forwarder.forward` takes a connection, writes the request and waits; the connection's callbacks
drive a `Relay`, which writes to the client's transport without a task or a queue in between. Back-pressure goes both
ways, a client that leaves cancels `forward`, and every exit gives the connection back or closes it.
"""

import asyncio
from collections.abc import Callable

from aiohttp import HttpVersion10, web

from mooltiproxy.config.model import Config, Timeouts
from mooltiproxy.errors import NotFound, ProxyError, UpstreamBroken
from mooltiproxy.exchange import EXCHANGE, Exchange
from mooltiproxy.mapping.dialect import Dialect
from mooltiproxy.metrics import Metrics
from mooltiproxy.upstream.answer import AnswerWriter, Forwarded
from mooltiproxy.upstream.connection import Connection
from mooltiproxy.upstream.relay import Relay
from mooltiproxy.upstream.request import Plan, path_at_target, request_head
from mooltiproxy.upstream.session import Origin, Session

WHOLE_BODY = 256 * 1024
"""Bytes up to which a request body is read before a connection is taken; larger ones are streamed."""
MAX_REDIRECTS = 5
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})


class Forwarder:
    """Forwards requests to the targets of one configuration over one session."""

    def __init__(
        self, config: Config, session: Session, dialect_of: Callable[[str], Dialect], metrics: Metrics
    ) -> None:
        self._plans = {
            (target.name, _name(entry.dialect)): Plan.of(target, entry.dialect)
            for target in config.targets.values()
            for entry in target.mapping.values()
        }
        self._timeouts: Timeouts = config.system.timeouts
        self._session = session
        self._dialect_of = dialect_of
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()

    async def forward(self, request: web.BaseRequest) -> web.StreamResponse:
        """Send the request and write its answer; raises ProxyError while nothing has been written to the client."""
        exchange = request[EXCHANGE]
        route = exchange.route
        if route is None:
            raise NotFound("nothing routed this request: `routing` is missing from `middlewares:`")
        plan = self._plans[route.target.name, _name(route.entry.dialect)]
        path, body = await self._prepared(exchange, plan)
        writer = _writer(request)
        place = plan.origin, path
        try:
            return await self._answered(exchange, writer, plan, place, body)
        finally:
            self._count(exchange, route.target.name)

    async def _answered(
        self, exchange: Exchange, writer: AnswerWriter, plan: Plan, place: tuple[Origin, str], body: bytes | None
    ) -> web.StreamResponse:
        """Ask at the place, and wherever that leads."""
        for _ in range(MAX_REDIRECTS + 1):
            there = await self._ask(exchange, writer, plan, place, body)
            if there is None:
                return Forwarded(exchange.status, keep_alive=writer.keep_alive)
            place = there
        relay = self._relay(exchange, writer, plan, place)
        relay.give_up(UpstreamBroken(f"the target redirected more than {MAX_REDIRECTS} times"))
        _raise(relay)
        return Forwarded(exchange.status, keep_alive=writer.keep_alive)

    def _count(self, exchange: Exchange, target: str) -> None:
        if exchange.dropped:
            self._metrics.lost(target, exchange.dropped)
        if exchange.fault:
            self._metrics.refused(target, exchange.fault)
        elif exchange.translated is not None and exchange.translated.repairs:
            self._metrics.repaired(target, frozenset(exchange.translated.repairs))

    async def _prepared(self, exchange: Exchange, plan: Plan) -> tuple[str, bytes | None]:
        """The path to ask at, and the body where it is whole; None where it is to be streamed."""
        route = exchange.route
        assert route is not None
        translated = exchange.translated
        path = path_at_target(route, plan.origin, translated, exchange.query)
        if translated is not None:
            return path, translated.body
        length = exchange.request.content_length
        small = length is not None and length <= WHOLE_BODY
        needed_twice = plan.follow_redirects or route.entry.fallback is not None
        if small or needed_twice or exchange.body_is_whole or not exchange.request.can_read_body:
            return path, await exchange.body()
        return path, None

    def _relay(self, exchange: Exchange, writer: AnswerWriter, plan: Plan, place: tuple[Origin, str]) -> Relay:
        done: asyncio.Future[None] = self._loop.create_future()
        return Relay(exchange, writer, self._dialect_of, place, done, follow=plan.follow_redirects)

    async def _ask(
        self, exchange: Exchange, writer: AnswerWriter, plan: Plan, place: tuple[Origin, str], body: bytes | None
    ) -> tuple[Origin, str] | None:
        """One request to one place and its answer; where a redirect leads that is to be followed.

        Asked once more where an idle connection turned out to be dead and asking twice does no harm.
        """
        request = exchange.request
        origin, path = place
        head = request_head(
            plan, origin, path, request.method, request.raw_headers, exchange.translated, body, request.content_length
        )
        relay = self._relay(exchange, writer, plan, place)
        connection = await self._connected(relay, origin)
        if connection is not None and await self._run(exchange, connection, relay, head, body):
            harmless = request.method in IDEMPOTENT and body is not None
            if connection.uses > 1 and not connection.answered and harmless:
                exchange.error = ""
                relay = self._relay(exchange, writer, plan, place)
                connection = await self._connected(relay, origin, fresh=True)
                if connection is not None:
                    await self._run(exchange, connection, relay, head, body)
        _raise(relay)
        return relay.redirect

    async def _connected(self, relay: Relay, origin: Origin, *, fresh: bool = False) -> Connection | None:
        """A connection, or None where the relay has been told why there is none."""
        try:
            return await self._session.acquire(origin, self._timeouts.connect, fresh=fresh)
        except ProxyError as error:
            relay.give_up(error)
            return None

    async def _run(
        self, exchange: Exchange, connection: Connection, relay: Relay, head: bytes, body: bytes | None
    ) -> bool:
        """Drive one exchange to its end; whether it ended with a broken connection."""
        client = exchange.connection
        upload: asyncio.Task[None] | None = None
        client.source = connection
        pulse = self._pulse(exchange, relay)
        try:
            connection.send(
                head + body if body else head, relay, self._timeouts, is_head=exchange.request.method == "HEAD"
            )
            if client.writing_paused:
                connection.pause()
            if body is None:
                connection.begin_upload()
                upload = asyncio.create_task(self._upload(exchange, connection, relay))
            await relay.done
            return isinstance(relay.error, UpstreamBroken)
        finally:
            client.source = None
            if pulse is not None:
                pulse.stop()
            exchange.sent = relay.writer.sent
            if upload is not None:
                upload.cancel()
            if not relay.complete:
                connection.close()
            relay.release()

    def _pulse(self, exchange: Exchange, relay: Relay) -> "Pulse | None":
        """What keeps a streaming client awake while the target is silent; None where nothing can or should."""
        translated, route = exchange.translated, exchange.route
        if translated is None or route is None or not translated.keepalive or not route.target.keepalive:
            return None
        return Pulse(self._loop, relay, route.target.keepalive)

    async def _upload(self, exchange: Exchange, connection: Connection, relay: Relay) -> None:
        """Stream the client's body; its errors end the exchange."""
        chunked = exchange.request.content_length is None
        try:
            async for part in exchange.body_parts():
                await connection.upload(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
            if chunked:
                await connection.upload(b"0\r\n\r\n")
            connection.end_upload()
        except ProxyError as error:
            relay.give_up(error)


class Pulse:
    """Asks a relay for a keep-alive whenever nothing was written for `every` seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop, relay: Relay, every: float) -> None:
        self._loop = loop
        self._relay = relay
        self._every = every
        self._seen = 0
        self._timer = loop.call_later(every, self._beat)

    def stop(self) -> None:
        """No more."""
        self._timer.cancel()

    def _beat(self) -> None:
        if self._relay.writer.sent == self._seen:
            self._relay.keep_alive()
        self._seen = self._relay.writer.sent
        self._timer = self._loop.call_later(self._every, self._beat)


def _writer(request: web.BaseRequest) -> AnswerWriter:
    """The one writer of this request's answer, however many places are asked; raises ConnectionError."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError
    return AnswerWriter(
        transport,
        http10=request.version == HttpVersion10,
        is_head=request.method == "HEAD",
        keep_alive=request.keep_alive,
    )


def _raise(relay: Relay) -> None:
    """Raise the error that an exchange ended with, if any, and keep no hold of it."""
    error, relay.error = relay.error, None
    try:
        if error is not None:
            raise error
    finally:
        del error


def _name(dialect: Dialect | None) -> str:
    return dialect.name if dialect else ""
