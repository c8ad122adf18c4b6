"""The forwarder: sends a routed request to its target and moves the answer to the client as it comes.

The end of the chain. `Forwarder.forward` takes a connection, writes the request and waits; the connection's callbacks
drive a `Relay`, which writes to the client's transport without a task or a queue in between. Back-pressure goes both
ways, a client that leaves cancels `forward`, and every exit gives the connection back or closes it.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping

from aiohttp import HttpVersion10, web

from mooltiproxy.config.model import Config, Timeouts
from mooltiproxy.errors import EndpointMissing, NotFound, ProxyError, UpstreamBroken, UpstreamUnreachable
from mooltiproxy.exchange import EXCHANGE, Exchange
from mooltiproxy.mapping.dialect import Dialect
from mooltiproxy.mapping.keep_alive import keep_alive_in
from mooltiproxy.metrics import Metrics
from mooltiproxy.upstream.answer import AnswerWriter, Forwarded
from mooltiproxy.upstream.connection import Connection
from mooltiproxy.upstream.gate import Gate, Pass, held, listed, listings, replied
from mooltiproxy.upstream.relay import Relay
from mooltiproxy.upstream.request import Plan, path_at_target, request_head
from mooltiproxy.upstream.session import Origin, Session

WHOLE_BODY = 256 * 1024
"""Bytes up to which a request body is read before a connection is taken; larger ones are streamed."""
MAX_REDIRECTS = 5
FIRST_SIGN, LATER_SIGNS = 1.5, 5.0
"""Seconds until a streaming client gets a sign of life while its server starts, and between the later ones."""
TRIES, AGAIN = 3, 0.1
"""How often a server that the proxy starts is asked for a connection, and seconds until its end has been noticed."""
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})


class Forwarder:
    """Forwards requests to the targets of one configuration over one session."""

    def __init__(
        self,
        config: Config,
        session: Session,
        dialect_of: Callable[[str], Dialect],
        metrics: Metrics,
        gates: Mapping[str, Gate],
    ) -> None:
        """`gates` are those of the targets at which requests may have to wait, by the target's name."""
        spoken = {
            (target.name, _name(entry.dialect)): (target, entry.dialect)
            for target in config.targets.values()
            for entry in target.mapping.values()
        }
        self._plans = {key: Plan.of(target, dialect) for key, (target, dialect) in spoken.items()}
        self._timeouts: Timeouts = config.system.timeouts
        self._session = session
        self._dialect_of = dialect_of
        self._metrics = metrics
        self._gates = gates
        self._listings = listings(config.registry.dialects.values()) if gates else {}
        self._names_at = config.names_at
        self._loop = asyncio.get_running_loop()

    async def forward(self, request: web.BaseRequest) -> web.StreamResponse:
        """Send the request and write its answer; raises ProxyError while nothing has been written to the client."""
        exchange = request[EXCHANGE]
        route = exchange.route
        if route is None:
            raise NotFound("nothing routed this request: `routing` is missing from `middlewares:`")
        plan = self._plans[route.target.name, _name(route.entry.dialect)]
        gate = self._gates.get(route.target.name)
        path, body = await self._prepared(exchange, plan, whole=gate is not None)
        begun = exchange.begun
        writer = begun.writer if isinstance(begun, Unfinished) else _writer(request)
        try:
            if gate is not None:
                return await self._through(gate, exchange, writer, plan, path, body)
            return await self._answered(exchange, writer, plan, (plan.origin, path), body)
        except EndpointMissing:
            exchange.dropped = ()  # it is asked in another way, with losses of its own
            if writer.started:
                exchange.begun = Unfinished(writer, self._relay(exchange, writer, plan, (plan.origin, path)))
            raise
        finally:
            self._count(exchange, route.target.name)

    async def _through(
        self, gate: Gate, exchange: Exchange, writer: AnswerWriter, plan: Plan, path: str, body: bytes | None
    ) -> web.StreamResponse:
        """Wait at a target's gate until its server runs, then ask it; the request counts until its last byte.

        Who only asks for the models starts no server, and keeps none. Who asks nothing but to load or unload (Ollama's
        clients) gets the reply that it was given already.
        """
        route = exchange.route
        assert route is not None
        model = route.model.name if route.model else None
        endpoint = self._listings.get((exchange.request.method, exchange.path))
        if endpoint is not None and (names := self._names_at(route.target.name)):
            there = gate.ready(model)
            if there is not None:
                return await self._answered(exchange, writer, plan, (there, path), body)
            if endpoint.kind != "model":
                return listed(endpoint, names)
        keep_alive = keep_alive_in(await exchange.body())
        reply = exchange.translated.reply if exchange.translated else None
        if reply is not None and keep_alive == 0:
            gate.unload(model)
            return replied(reply)
        tries = TRIES if route.target.run is not None else 1
        while True:
            tries -= 1
            way = gate.ask(model, keep_alive, exchange.who)
            try:
                return await self._passed(way, exchange, writer, plan, path, body)
            except UpstreamUnreachable:  # it has just died; nothing was sent, so the next one may be asked
                if not tries or writer.started:
                    raise
                exchange.error = exchange.fault = ""
            finally:
                way.leave()
            await asyncio.sleep(AGAIN)

    async def _passed(
        self, way: Pass, exchange: Exchange, writer: AnswerWriter, plan: Plan, path: str, body: bytes | None
    ) -> web.StreamResponse:
        """Ask the server, as soon as this way leads there."""
        origin = way.origin or await self._waited(exchange, writer, plan, path, way, body)
        if origin is None:  # the error is in the stream already
            return Forwarded(exchange.status, keep_alive=writer.keep_alive)
        if exchange.translated is not None and exchange.translated.reply is not None:
            return replied(exchange.translated.reply)
        return await self._answered(exchange, writer, plan, (origin, path), body)

    async def _waited(
        self, exchange: Exchange, writer: AnswerWriter, plan: Plan, path: str, way: Pass, body: bytes | None
    ) -> Origin | None:
        """Where to ask once the server runs; meanwhile a streaming client gets its API's signs of life.

        None where waiting came to nothing and the client has been told so in its stream; else raises NotRunning.
        """
        if exchange.translated is None:
            exchange.held = held(exchange, body)
        relay = self._relay(exchange, writer, plan, (plan.origin, path))
        pulse = self._pulse(exchange, relay, FIRST_SIGN, LATER_SIGNS)
        try:
            return await way.wait()
        except ProxyError as error:
            relay.give_up(error)
        finally:
            if pulse is not None:
                pulse.stop()
            if not writer.started:
                exchange.held = None
            exchange.sent = writer.sent
            relay.release()
        _raise(relay)
        return None

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

    async def _prepared(self, exchange: Exchange, plan: Plan, *, whole: bool) -> tuple[str, bytes | None]:
        """The path to ask at, and the body where it is whole; None where it may be streamed, and is."""
        route = exchange.route
        assert route is not None
        translated = exchange.translated
        path = path_at_target(route, plan.origin, translated, exchange.query)
        if translated is not None:
            return path, translated.body
        length = exchange.request.content_length
        small = length is not None and length <= WHOLE_BODY
        needed_twice = plan.follow_redirects or route.entry.fallback is not None
        if whole or small or needed_twice or exchange.body_is_whole or not exchange.request.can_read_body:
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
        is_read = exchange.held is not None or exchange.meter is not None
        fields = _uncompressed(request.raw_headers) if is_read else request.raw_headers
        head = request_head(
            plan, origin, path, request.method, fields, exchange.translated, body, request.content_length
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
        exchange.was_sent = True
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

    def _pulse(
        self, exchange: Exchange, relay: Relay, first: float = math.inf, later: float = math.inf
    ) -> "Pulse | None":
        """What keeps a streaming client awake while the target is silent; None where nothing can or should. The times
        are `keepalive` of the target, or less where that is said."""
        translated, route = exchange.translated or exchange.held, exchange.route
        if translated is None or route is None or not translated.keepalive or not route.target.keepalive:
            return None
        every = route.target.keepalive
        return Pulse(self._loop, relay, min(every, first), min(every, later))

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


class Unfinished:
    """An answer whose head is out for a sign of life, and that another place is asked for."""

    def __init__(self, writer: AnswerWriter, relay: Relay) -> None:
        self.writer = writer
        self._relay = relay

    def end(self, error: ProxyError) -> web.StreamResponse:
        """End it with this error, in the way of the client's API."""
        self._relay.give_up(error)
        self._relay.release()
        return Forwarded(200, keep_alive=self.writer.keep_alive)


class Pulse:
    """Asks a relay for a keep-alive whenever nothing was written for `every` seconds, the first time for `first`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, relay: Relay, first: float, every: float) -> None:
        self._loop = loop
        self._relay = relay
        self._every = every
        self._seen = 0
        self._timer = loop.call_later(first, self._beat)

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


def _uncompressed(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The fields of a request whose answer goes on with a stream that has begun already, or is to be read."""
    kept = [(name, value) for name, value in fields if name.lower() != b"accept-encoding"]
    return [*kept, (b"accept-encoding", b"identity")]


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
