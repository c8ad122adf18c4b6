"""The forwarder: sends a routed request to its target and moves the answer to the client as it comes.

The end of the chain. `Forwarder.forward` takes a connection, writes the request and waits; the connection's callbacks
drive a `Relay`, which writes to the client's transport without a task or a queue in between. Back-pressure goes both
ways, a client that leaves cancels `forward`, and every exit gives the connection back or closes it.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin, urlsplit

from aiohttp import HttpVersion10, web

from mooltiproxy.config.model import Config, Timeouts
from mooltiproxy.errors import EndpointMissing, InternalError, NotFound, ProxyError, UpstreamBroken, UpstreamError
from mooltiproxy.exchange import EXCHANGE, Exchange
from mooltiproxy.mapping.dialect import Dialect
from mooltiproxy.mapping.translate import AnswerTranslator
from mooltiproxy.mapping.upstream_errors import read_error
from mooltiproxy.upstream import headers
from mooltiproxy.upstream.answer import AnswerWriter, Forwarded
from mooltiproxy.upstream.connection import Connection
from mooltiproxy.upstream.request import Plan, path_at_target, request_head
from mooltiproxy.upstream.session import Origin, Session

log = logging.getLogger("mooltiproxy.upstream")

WHOLE_BODY = 256 * 1024
"""Bytes up to which a request body is read before a connection is taken; larger ones are streamed."""
MAX_ERROR_BODY = 64 * 1024
MAX_REDIRECTS = 5
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Forwarder:
    """Forwards requests to the targets of one configuration over one session."""

    def __init__(self, config: Config, session: Session, dialect_of: Callable[[str], Dialect]) -> None:
        self._plans = {
            (target.name, _name(entry.dialect)): Plan.of(target, entry.dialect)
            for target in config.targets.values()
            for entry in target.mapping.values()
        }
        self._timeouts: Timeouts = config.system.timeouts
        self._session = session
        self._dialect_of = dialect_of
        self._loop = asyncio.get_running_loop()

    async def forward(self, request: web.BaseRequest) -> web.StreamResponse:
        """Send the request and write its answer; raises ProxyError while nothing has been written to the client."""
        exchange = request[EXCHANGE]
        route = exchange.route
        if route is None:
            raise NotFound("nothing routed this request: `routing` is missing from `middlewares:`")
        plan = self._plans[route.target.name, _name(route.entry.dialect)]
        path, body = await self._prepared(exchange, plan)
        origin = plan.origin
        for _ in range(MAX_REDIRECTS):
            relay = await self._exchange(exchange, plan, origin, path, body)
            if relay.redirect is None:
                return Forwarded(exchange.status, keep_alive=relay.writer.keep_alive)
            origin, path = relay.redirect
        raise UpstreamBroken(f"the target redirected more than {MAX_REDIRECTS} times")

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

    async def _exchange(self, exchange: Exchange, plan: Plan, origin: Origin, path: str, body: bytes | None) -> "Relay":
        """One request to one place and its answer; tried again once where an idle connection turned out to be dead."""
        request = exchange.request
        head = request_head(
            plan, path, request.method, request.raw_headers, exchange.translated, body, request.content_length
        )
        connection = await self._session.acquire(origin, self._timeouts.connect)
        reused = connection.uses > 0
        relay = Relay(
            exchange, self._dialect_of, origin, path, self._loop.create_future(), follow=plan.follow_redirects
        )
        try:
            await self._run(exchange, connection, relay, head, body)
        except UpstreamBroken:
            if not reused or connection.answered or body is None or request.method not in IDEMPOTENT:
                raise
            connection = await self._session.acquire(origin, self._timeouts.connect, fresh=True)
            relay.retry(self._loop.create_future())
            await self._run(exchange, connection, relay, head, body)
        return relay

    async def _run(
        self, exchange: Exchange, connection: Connection, relay: "Relay", head: bytes, body: bytes | None
    ) -> None:
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
        finally:
            client.source = None
            if pulse is not None:
                pulse.stop()
            exchange.sent = relay.writer.sent
            if upload is not None:
                upload.cancel()
            if not relay.complete:
                connection.close()

    def _pulse(self, exchange: Exchange, relay: "Relay") -> "Pulse | None":
        """What keeps a streaming client awake while the target is silent; None where nothing can or should."""
        translated, route = exchange.translated, exchange.route
        if translated is None or route is None or not translated.keepalive or not route.target.keepalive:
            return None
        return Pulse(self._loop, relay, route.target.keepalive)

    async def _upload(self, exchange: Exchange, connection: Connection, relay: "Relay") -> None:
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


def _name(dialect: Dialect | None) -> str:
    return dialect.name if dialect else ""


class Relay:
    """Takes one answer from its connection and writes it to the client: untouched, translated, or as an error.

    None of its callbacks may raise: they run inside the parser.
    """

    def __init__(
        self,
        exchange: Exchange,
        dialect_of: Callable[[str], Dialect],
        origin: Origin,
        path: str,
        done: "asyncio.Future[None]",
        *,
        follow: bool,
    ) -> None:
        request = exchange.request
        transport = request.transport
        if transport is None:
            raise ConnectionResetError
        self.writer = AnswerWriter(
            transport,
            http10=request.version == HttpVersion10,
            is_head=request.method == "HEAD",
            keep_alive=request.keep_alive,
        )
        self.done = done
        self.complete = False  # the connection was given back by its own parser
        self.redirect: tuple[Origin, str] | None = None
        self._exchange = exchange
        self._dialect_of = dialect_of
        self._origin = origin
        self._path = path
        self._follow = follow
        self._take: Callable[[bytes], None] = self.writer.write
        self._close: Callable[[], None] = self.writer.end
        self._translator: AnswerTranslator | None = None
        self._status = 0
        self._fields: headers.Fields = []
        self._error_body = bytearray()

    def retry(self, done: "asyncio.Future[None]") -> None:
        """Begin anew: nothing has come yet."""
        self.done = done
        self.complete = False
        self._take, self._close = self.writer.write, self.writer.end
        self._exchange.error = ""

    # Called by the connection.

    def head(self, status: int, fields: headers.Fields) -> None:
        """Decide by the head what the body is: passed on, translated, an error to be read, or a redirect to follow."""
        self._status, self._fields = status, fields
        translated = self._exchange.translated
        try:
            if status in REDIRECTS and self._follow and self._found_redirect(fields):
                self._take, self._close = _ignore, _nothing
            elif status in (401, 403) or (translated is not None and status >= 400):
                self._take, self._close = self._gather_error, self._raise_error
            elif status in (404, 405) and self._has_fallback():
                self._take, self._close = self._gather_error, self._learn_or_pass_on
            elif translated is not None and status < 300:
                self._start_translation(translated.answer(headers.media_type(fields), headers.as_text(fields)))
            else:
                self._pass_on()
        except ProxyError as error:
            self.give_up(error)

    def body(self, data: bytes) -> None:
        """Some of the body, on its way by the way that `head` chose."""
        try:
            self._take(data)
        except ProxyError as error:
            self.give_up(error)

    def end(self) -> None:
        """The answer is complete."""
        self.complete = True
        try:
            self._close()
        except ProxyError as error:
            self.give_up(error)
        else:
            self._settle(None)

    def failed(self, error: UpstreamError) -> None:
        """The target broke off."""
        self.give_up(error)

    def flush(self) -> None:
        """Write what one read brought."""
        self.writer.flush()

    # The ways of a body.

    def _pass_on(self) -> None:
        if self.writer.started:
            raise UpstreamBroken(f"the target answered with status {self._status} where a stream was expected")
        length = headers.value_of(self._fields, b"content-length")
        self._start(
            self._status,
            headers.for_client(self._fields, translated=False),
            int(length) if length is not None and length.isdigit() else None,
        )

    def _start(self, status: int, fields: headers.Fields, length: int | None) -> None:
        exchange = self._exchange
        exchange.status = status
        self.writer.start(status, fields + exchange.headers, length)

    def _start_translation(self, translator: AnswerTranslator | None) -> None:
        if translator is None:
            self._pass_on()
            return
        encoding = headers.value_of(self._fields, b"content-encoding")
        if encoding is not None and encoding.lower() != b"identity":
            raise UpstreamBroken("the target compressed its answer although it was asked not to")
        self._translator = translator
        self._take, self._close = self._translate, self._end_translation

    def _translate(self, data: bytes) -> None:
        assert self._translator is not None
        out = self._guarded(self._translator.feed, data)
        if out:
            if not self.writer.started:
                self._start_translated(self._translator.media_type, None)
            self.writer.write(out)
        if self._translator.done:  # nothing that the target could add matters: end now, and let it stop working
            self._end_translation()
            self._take, self._close = _ignore, _nothing
            self._settle(None)

    def _end_translation(self) -> None:
        assert self._translator is not None
        out = self._guarded(self._translator.end)
        if not self.writer.started:
            self._start_translated(self._translator.media_type, len(out))
        self.writer.write(out)
        self.writer.end()

    def _start_translated(self, media_type: str, length: int | None) -> None:
        fields = headers.for_client(self._fields, translated=True)
        fields.append((b"content-type", media_type.encode()))
        if media_type.startswith("text/event-stream"):
            fields += [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
        self._start(200, fields, length)

    def keep_alive(self) -> None:
        """Show a streaming client that its answer is still to come; from then on errors are told in the stream."""
        translated = self._exchange.translated
        if translated is None or self.done.done() or self.writer.paused:
            return
        if not self.writer.started:
            self._start_translated(translated.media_type, None)
        self.writer.write(translated.keepalive)
        self.writer.flush()

    def _guarded(self, function: Callable[..., bytes], *arguments: Any) -> bytes:
        """A translator's result; a fault of ours in it is an InternalError, not a crash in the parser."""
        try:
            return function(*arguments)
        except ProxyError:
            raise
        except Exception as error:
            log.exception("%s: translating the answer failed", self._exchange.id)
            raise InternalError("the proxy could not translate the target's answer") from error

    def _gather_error(self, data: bytes) -> None:
        if len(self._error_body) < MAX_ERROR_BODY:
            self._error_body += data

    def _raise_error(self) -> None:
        error = read_error(self._status, headers.media_type(self._fields), bytes(self._error_body))
        kept = headers.for_client(self._fields, translated=True)
        self._exchange.headers += kept
        log.debug("%s: the target answered %d: %s", self._exchange.id, self._status, bytes(self._error_body[:2000]))
        raise error

    def _has_fallback(self) -> bool:
        route = self._exchange.route
        return route is not None and route.entry.fallback is not None

    def _learn_or_pass_on(self) -> None:
        """A path that is missing is learned; a model that is missing is the client's business."""
        error = read_error(self._status, headers.media_type(self._fields), bytes(self._error_body))
        if self._status == 405 or not (error.code or "model" in str(error).lower()):
            raise EndpointMissing("the target does not have this path")
        self._pass_on()
        self.writer.write(bytes(self._error_body))
        self.writer.end()

    def _found_redirect(self, fields: headers.Fields) -> bool:
        location = headers.value_of(fields, b"location")
        if location is None:
            return False
        here = f"{'https' if self._origin.tls else 'http'}://{self._origin.authority}{self._path}"
        try:
            there = urlsplit(urljoin(here, location.decode("latin-1")))
            origin = Origin.of(there.geturl())
        except ValueError:
            return False
        moved_up = origin.tls and not self._origin.tls and origin.port == 443
        same = (origin.tls, origin.port) == (self._origin.tls, self._origin.port)
        if origin.host != self._origin.host or not (same or moved_up):
            return False
        self.redirect = (origin, (there.path or "/") + (f"?{there.query}" if there.query else ""))
        return True

    # Ends.

    def give_up(self, error: ProxyError) -> None:
        """End with an error: as an answer while nothing is written, then in the stream's own form, or by a cut."""
        if self.done.done():
            return
        self._exchange.error = f"{type(error).__name__}: {error}"
        self._take, self._close = _ignore, _nothing
        if not self.writer.started:
            self._settle(error)
            return
        translated = self._exchange.translated
        if translated is not None and translated.streaming:
            event = self._dialect_of(self._exchange.path).write_stream_error(error, self._exchange.id)
            live = self._translator is not None and self._translator.live
            self.writer.write(self._translator.fail(event) if live and self._translator else translated.fail(event))
            self.writer.end()
            self.writer.flush()
        else:
            self.writer.flush()
            self.writer.abort()
        self._settle(None)

    def _settle(self, error: ProxyError | None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


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


def _ignore(data: bytes) -> None:
    """Drop the body of a redirect that is followed, and what comes after an error."""


def _nothing() -> None:
    """Nothing is written at the end either."""
