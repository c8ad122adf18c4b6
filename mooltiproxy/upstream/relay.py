"""Takes one answer from a target's connection and writes it to the client: untouched, translated, or as an error."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urljoin, urlsplit

from mooltiproxy.body_log import is_readable
from mooltiproxy.errors import EndpointMissing, InternalError, ProxyError, UpstreamBroken, UpstreamError
from mooltiproxy.exchange import Exchange
from mooltiproxy.mapping.answers import AnswerTranslator
from mooltiproxy.mapping.dialect import Dialect
from mooltiproxy.mapping.translate import Translated
from mooltiproxy.mapping.upstream_errors import read_error
from mooltiproxy.upstream import headers
from mooltiproxy.upstream.answer import AnswerWriter
from mooltiproxy.upstream.key_mask import KeyMask
from mooltiproxy.upstream.limits import limits_for, retry_after
from mooltiproxy.upstream.session import Origin

log = logging.getLogger("mooltiproxy.upstream")

MAX_ERROR_BODY = 64 * 1024
ERROR_PATIENCE = 2.0
"""Seconds to wait for the rest of an error's body: its status is known, and the client waits."""
REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Relay:
    """One answer on its way. None of its callbacks may raise: they run inside the parser.

    When `done` is, `error` is what the exchange ended with, until somebody takes it: an exception that both held this
    relay and was held by it would keep the request's body alive until the garbage collector comes.
    """

    def __init__(
        self,
        exchange: Exchange,
        writer: AnswerWriter,
        dialect_of: Callable[[str], Dialect],
        here: tuple[Origin, str],
        done: "asyncio.Future[None]",
        *,
        follow: bool,
    ) -> None:
        self.writer = writer
        self.done = done
        self.error: ProxyError | None = None
        self.complete = False  # the connection was given back by its own parser
        self.redirect: tuple[Origin, str] | None = None
        self._exchange = exchange
        self._meter = exchange.meter
        self._dialect_of = dialect_of
        self._origin, self._path = here
        self._follow = follow
        self._take: Callable[[bytes], None] = writer.write
        self._close: Callable[[], None] = writer.end
        self._translator: AnswerTranslator | None = None
        self._status = 0
        self._fields: headers.Fields = []
        self._error_body = bytearray()
        self._hurry: asyncio.TimerHandle | None = None
        self._mask: KeyMask | None = None

    def release(self) -> None:
        """Let go of everything: it is over. Methods of its own would keep it alive in a circle."""
        self._take, self._close = _ignore, _nothing
        self._translator = None
        if self._hurry is not None:
            self._hurry.cancel()
            self._hurry = None

    # Called by the connection.

    def head(self, status: int, fields: headers.Fields) -> None:
        """Decide by the head what the body is: passed on, translated, an error to be read, or a redirect to follow."""
        self._status, self._fields = status, fields
        if self._meter is not None:
            self._meter.begin(status, headers.media_type(fields), headers.as_text(fields))
        translated = self._shape if self.writer.started else self._exchange.translated
        if status >= 300 or translated is not None:
            self._mask_key()
        try:
            if status in REDIRECTS and self._follow and self._found_redirect(fields):
                self._take, self._close = _ignore, _nothing
            elif status in (401, 403):
                self._raise_error()  # it is about our own key: nothing in its body is for the client
            elif status in (404, 405) and self._has_fallback():
                self._gather(self._learn_or_tell)
            elif translated is not None and status >= 400:
                self._gather(self._raise_error)
            elif translated is not None and status < 300:
                self._start_translation(translated.answer(headers.media_type(fields), headers.as_text(fields)))
            else:
                self._pass_on()
        except ProxyError as error:
            self.give_up(error)

    def body(self, data: bytes) -> None:
        """Some of the body, on its way by the way that `head` chose."""
        if self._mask is not None:
            data = self._mask.feed(data)
        if self._meter is not None:
            data = self._meter.feed(data)
        try:
            self._take(data)
        except ProxyError as error:
            self.give_up(error)

    def end(self) -> None:
        """The answer is complete."""
        self.complete = True
        if self._mask is not None and (held_back := self._mask.end()):
            self._take(held_back)
        if self._meter is not None and (rest := self._meter.end()):
            self._take(rest)
        self._finish(None)

    def failed(self, error: UpstreamError) -> None:
        """The target broke off. After a stream's last word, or in an error's body, nothing is missing."""
        if self._translator is not None or self._hurry is not None:
            self._finish(error)
        else:
            self.give_up(error)

    def flush(self) -> None:
        """Write what one read brought."""
        self.writer.flush()

    def _mask_key(self) -> None:
        """Nothing that the target says, but for what passes with a good status, is to show anybody its key."""
        route = self._exchange.route
        self._mask = KeyMask.of(route.target.key) if route is not None else None
        if self._mask is not None:
            self._fields = [(name, self._mask.whole(value)) for name, value in self._fields]

    # The ways of a body.

    def _pass_on(self) -> None:
        if self.writer.started:
            raise UpstreamBroken(f"the target answered with status {self._status} where a stream was expected")
        length = headers.value_of(self._fields, b"content-length")
        self._start(
            self._status,
            headers.for_client(self._fields, translated=False, without=self._exchange.limits_told),
            int(length) if length is not None and length.isdigit() and not self._is_shortened else None,
        )
        if self._exchange.watch is not None:
            self._watch(self._exchange.watch)

    @property
    def _is_shortened(self) -> bool:
        """Whether something may be left out of a body that passes."""
        return self._meter is not None and self._meter.hides_usage

    def _go_on(self) -> None:
        """Pass on the body of a stream whose head the client has already, for a sign of life."""
        encoding = headers.value_of(self._fields, b"content-encoding") or b"identity"
        expected = self._shape.media_type.partition(";")[0] if self._shape else ""
        if headers.media_type(self._fields) != expected or encoding.lower() != b"identity":
            raise UpstreamBroken("the target answered with something else where a stream was expected")
        self._exchange.held = None  # from now on nothing may be put between the target's bytes
        if self._exchange.watch is not None:
            self._watch(self._exchange.watch)

    def _watch(self, watch: Callable[[bytes], None]) -> None:
        encoding = headers.value_of(self._fields, b"content-encoding") or b""
        if is_readable(headers.media_type(self._fields), encoding.decode("latin-1")):
            self._take = partial(self._watched, watch)

    def _watched(self, watch: Callable[[bytes], None], data: bytes) -> None:
        watch(data)
        self.writer.write(data)

    def _start(self, status: int, fields: headers.Fields, length: int | None) -> None:
        self._exchange.status = status
        self.writer.start(status, fields + self._exchange.headers, length)

    def _start_translation(self, translator: AnswerTranslator | None) -> None:
        if translator is None and self.writer.started:
            self._go_on()
            return
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
            self._finish(None)

    def _end_translation(self) -> None:
        assert self._translator is not None
        out = self._guarded(self._translator.end)
        if not self.writer.started:
            self._start_translated(self._translator.media_type, len(out))
        self.writer.write(out)
        self.writer.end()

    def _start_translated(self, media_type: str, length: int | None) -> None:
        fields = self._fields_for_client()
        fields.append((b"content-type", media_type.encode()))
        id_field = self._dialect_of(self._exchange.path).id_field
        if id_field:
            fields.append((id_field.encode(), self._exchange.id.encode()))
        if media_type.startswith("text/event-stream"):
            fields += [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
        self._start(200, fields, length)

    def _fields_for_client(self) -> headers.Fields:
        """The target's fields for a client of another dialect; of limits those that the proxy has not."""
        style = self._dialect_of(self._exchange.path).limit_style
        told = self._exchange.limits_told
        limits = [field for field in limits_for(style, self._fields) if field[0] not in told]
        return headers.for_client(self._fields, translated=True) + limits

    def keep_alive(self) -> None:
        """Show a streaming client that its answer is still to come; from then on errors are told in the stream."""
        translated = self._shape
        if translated is None or self.done.done() or self.writer.paused:
            return
        if not self.writer.started:
            self._start_translated(translated.media_type, None)
        self.writer.write(translated.keepalive)
        self.writer.flush()

    @property
    def _shape(self) -> Translated | None:
        """What is known of the client's stream beside the target's answer."""
        return self._exchange.translated or self._exchange.held

    def _guarded(self, function: Callable[..., bytes], *arguments: Any) -> bytes:
        """A translator's result; a fault of ours in it is an InternalError, not a crash in the parser."""
        try:
            return function(*arguments)
        except ProxyError:
            raise
        except Exception as error:
            log.exception("%s: translating the answer failed", self._exchange.id)
            raise InternalError("the proxy could not translate the target's answer") from error

    def _gather(self, then: Callable[[], None]) -> None:
        """Read an error's body, but not for ever, then go on."""
        self._take, self._close = self._take_error, then
        self._hurry = self.done.get_loop().call_later(ERROR_PATIENCE, self._finish, None)

    def _take_error(self, data: bytes) -> None:
        self._error_body += data
        if len(self._error_body) > MAX_ERROR_BODY:
            self._finish(None)

    def _error(self) -> UpstreamError:
        return read_error(self._status, headers.media_type(self._fields), bytes(self._error_body))

    def _raise_error(self) -> None:
        self._exchange.headers += self._fields_for_client()
        log.debug("%s: the target answered %d: %s", self._exchange.id, self._status, bytes(self._error_body[:2000]))
        error = self._error()
        told = retry_after(headers.as_text(self._fields))
        if told is not None:
            error.retry_after = told
        raise error

    def _has_fallback(self) -> bool:
        """Whether there is another way to ask; what another method is refused says nothing about the endpoint."""
        route = self._exchange.route
        fallback = route.entry.fallback if route is not None else None
        if fallback is None:
            return False
        method = "GET" if fallback.translation is not None and fallback.translation.bodiless else "POST"
        return self._exchange.request.method == method

    def _learn_or_tell(self) -> None:
        """A path that is missing is learned; a model that is missing is the client's business."""
        error = self._error()
        if self._status == 405 or not (error.code or "model" in str(error).lower()):
            raise EndpointMissing("the target does not have this path")
        if self._exchange.translated is not None or self.writer.started:
            self._raise_error()
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
            origin = Origin.of(there.geturl(), self._origin.trust)
        except ValueError:
            return False
        moved_up = origin.tls and not self._origin.tls and origin.port == 443
        same = (origin.tls, origin.port) == (self._origin.tls, self._origin.port)
        if origin.host != self._origin.host or not (same or moved_up):
            return False
        self.redirect = (origin, (there.path or "/") + (f"?{there.query}" if there.query else ""))
        return True

    # Ends.

    def _finish(self, failure: UpstreamError | None) -> None:
        """Close in the way that `head` chose; `failure` is how the target broke off, for where something is missing."""
        if self.done.done():
            return
        try:
            self._close()
        except ProxyError as error:
            self.give_up(failure if failure is not None and self._translator is not None else error)
        else:
            self._settle(None)
        self.writer.flush()

    def give_up(self, error: ProxyError) -> None:
        """End with an error: as an answer while nothing is written, then in the stream's own form, or by a cut."""
        if self.done.done():
            return
        # what the target itself says is for the client alone: it may quote what was asked
        said = f"the target answered with an error ({error.status})" if type(error) is UpstreamError else str(error)
        self._exchange.error = f"{type(error).__name__}: {said}"
        self._exchange.fault = error.fault if isinstance(error, UpstreamError) else ""
        if self.writer.started and not isinstance(error, EndpointMissing):  # then there is another way to ask
            self._break_off(error)
            self._settle(None)
        else:
            self._settle(error)

    def _break_off(self, error: ProxyError) -> None:
        translated = self._shape
        if translated is None or not translated.streaming:
            self.writer.flush()
            self.writer.abort()
            return
        event = self._dialect_of(self._exchange.path).write_stream_error(error, self._exchange.id)
        live = self._translator if self._translator is not None and self._translator.live else None
        self.writer.write(live.fail(event) if live else translated.fail(event))
        self.writer.end()
        self.writer.flush()

    def _settle(self, error: ProxyError | None) -> None:
        self._take, self._close = _ignore, _nothing
        if not self.done.done():
            self.error = error
            self.done.set_result(None)


def _ignore(data: bytes) -> None:
    """Drop the body of a redirect that is followed, and what comes after the end."""


def _nothing() -> None:
    """Nothing is written at the end either."""
