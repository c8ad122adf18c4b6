"""access_log: one line per request when it ends, and the request id on every answer. Lines are written in batches."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web

from mooltiproxy.errors import ProxyError
from mooltiproxy.exchange import EXCHANGE, Exchange

FLUSH_EVERY = 0.2
"""Seconds that a line may wait for others: one write for many lines keeps the log off the path of a request."""

CLIENT_LEFT = 499
"""nginx's status for a client that left before its answer was complete."""


class Output(Protocol):
    """What lines are written to."""

    def write(self, text: str, /) -> int:
        """Write them together; raises OSError, ValueError."""

    def flush(self) -> None:
        """Keep nothing back."""


class AccessLog:
    """Owns the lines that are not written yet."""

    def __init__(self, stream: Output) -> None:
        self._stream: Output | None = stream
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def write(self, line: str) -> None:
        """Keep a line for the next batch."""
        self._lines.append(line)
        if self._timer is None:
            self._timer = self._loop.call_later(FLUSH_EVERY, self.flush)

    def flush(self) -> None:
        """Write all lines that wait; a log that cannot be written (a closed pipe) must not end the proxy."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if lines and self._stream is not None:
            try:
                self._stream.write("".join(lines))
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._stream = None
                logging.getLogger("mooltiproxy").warning("the access log cannot be written and is off now: %s", error)


def access_log(log: AccessLog) -> Callable[..., Awaitable[web.StreamResponse]]:
    """A middleware that logs: time, address, key name, method, path, target, status, bytes, milliseconds, id, error."""

    async def middleware(
        request: web.BaseRequest, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        exchange = request[EXCHANGE]
        exchange.headers.append((b"x-request-id", exchange.id.encode()))
        status = 500
        try:
            response = await handler(request)
            status = response.status
            return response
        except ProxyError as error:
            status = error.status
            exchange.error = exchange.error or f"{type(error).__name__}: {error}"
            raise
        except asyncio.CancelledError:
            status = CLIENT_LEFT
            raise
        finally:
            log.write(line(exchange, status))

    return middleware


def line(exchange: Exchange, status: int) -> str:
    """One line of the log. The path is the client's own and goes through repr-like escaping; keys are never in it."""
    milliseconds = (time.monotonic() - exchange.started) * 1000
    target = exchange.route.target.name if exchange.route else "-"
    key = exchange.key.name if exchange.key else "-"
    error = f' "{printable(exchange.error)}"' if exchange.error else ""
    if exchange.dropped:
        error += f" dropped={printable(','.join(exchange.dropped).replace(' ', '_'))}"
    return (
        f"{timestamp()} {exchange.address} {key} {exchange.request.method} {printable(_path(exchange))} "
        f"{target} {status} {exchange.sent}B {milliseconds:.1f}ms {exchange.id}{error}\n"
    )


def _path(exchange: Exchange) -> str:
    """The client's path below its target, without the name that routing puts before one that several dialects have."""
    path = exchange.path
    if path.startswith("/@") and not exchange.request.path.endswith(path):
        return "/" + path.split("/", 2)[2]
    return path


def printable(text: str) -> str:
    """Text without control characters, line ends and unpaired surrogates: a client cannot write lines of its own."""
    return text if text.isascii() and text.isprintable() else ascii(text)[1:-1]


class _Clock:
    """The time of day, formatted once a second."""

    second = 0
    text = ""


def timestamp() -> str:
    """Now, in UTC, as ISO 8601 to the second."""
    now = int(time.time())
    if now != _Clock.second:
        _Clock.second = now
        _Clock.text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    return _Clock.text
