"""Connections to targets: opened, kept for reuse, expired and timed. The only place where upstream sockets are made."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol
from urllib.parse import urlsplit

from mooltiproxy.config.model import PORT, Target
from mooltiproxy.config.target_tls import context_of
from mooltiproxy.errors import UpstreamTimeout, UpstreamUnreachable
from mooltiproxy.upstream.connection import Connection

SWEEP = 0.25
"""Seconds between two looks at the clocks of busy connections and at idle ones."""

IDLE_PLAIN, IDLE_TLS = 4.0, 30.0
"""Seconds that an idle connection is kept. uvicorn and cpp-httplib, which most local model servers stand on, close
theirs after 5; public clouds keep theirs for minutes, and there a new TLS handshake costs far more."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where connections go. `base` is the path prefix of the target's url, without a trailing slash; `port` is 0 where
    it is picked only when the server is started. `trust` is the target that says by its `tls:` whom to believe, "" for
    whom the system does."""

    host: str
    port: int
    tls: bool
    authority: str
    base: str
    trust: str = ""

    @property
    def host_field(self) -> bytes:
        """The `Host` that requests to it carry."""
        return b"host: " + self.authority.encode("ascii" if self.authority.isascii() else "idna") + b"\r\n"

    @classmethod
    def of(cls, url: str, trust: str = "") -> "Origin":
        """The origin of a target's url, which the configuration has validated."""
        parts = urlsplit(url.replace(PORT, "0", 1))
        tls = parts.scheme == "https"
        host = parts.hostname or ""
        if PORT in url:
            return cls(host, 0, tls, parts.netloc.removesuffix("0") + PORT, parts.path.rstrip("/"), trust)
        return cls(host, parts.port or (443 if tls else 80), tls, parts.netloc, parts.path.rstrip("/"), trust)

    @classmethod
    def of_target(cls, target: Target) -> "Origin":
        """Where a target is."""
        return cls.of(target.url, target.name if target.tls is not None else "")

    def at(self, port: int) -> "Origin":
        """The same with the port that was picked, if one has to be."""
        return self if self.port else replace(self, port=port, authority=self.authority.replace(PORT, str(port)))


class Session(Protocol):
    """What the forwarder needs of a pool."""

    async def acquire(self, origin: Origin, connect_timeout: float | None, *, fresh: bool = False) -> Connection:
        """A connection that can take one request; raises UpstreamUnreachable, UpstreamTimeout."""

    async def close(self) -> None:
        """Close every connection."""


class PooledSession:
    """Keeps idle connections by origin, last in first out. Owns every connection, busy and idle."""

    def __init__(self) -> None:
        self._idle: dict[Origin, list[Connection]] = {}
        self._open: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._loop = asyncio.get_running_loop()

    async def acquire(
        self, origin: Origin, connect_timeout: float | None, *, fresh: bool = False, address: str | None = None
    ) -> Connection:
        """An idle connection of this origin, or a new one; to `address` where the name's own must not be looked up."""
        idle = self._idle.get(origin)
        while idle and not fresh:
            connection = idle.pop()
            if connection.is_usable():
                return connection
        return await self._connect(origin, connect_timeout, address or origin.host)

    def trust(self, contexts: Mapping[str, ssl.SSLContext]) -> None:
        """What connections to targets with `tls:` are made with from now on, by the target's name."""
        self._contexts = {name: context for name, context in self._contexts.items() if not name} | dict(contexts)
        for origin, idle in self._idle.items():
            for connection in list(idle) if origin.trust else ():
                connection.close()

    async def close(self) -> None:
        """Close every connection; busy ones tell nobody."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._open):
            connection.close()

    def counts(self) -> Mapping[str, int]:
        """How many connections are open, and how many of them are idle."""
        idle = sum(len(connections) for connections in self._idle.values())
        return {"open": len(self._open), "idle": idle}

    def __repr__(self) -> str:
        counts = self.counts()
        return f"<PooledSession {counts['open'] - counts['idle']} busy, {counts['idle']} idle>"

    async def _connect(self, origin: Origin, timeout: float | None, address: str) -> Connection:
        try:
            async with asyncio.timeout(timeout):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(
                        lambda unused: self._idle.setdefault(origin, []).append(unused),
                        lambda closed: self._forget(closed, origin),
                    ),
                    address,
                    origin.port,
                    ssl=self._context(origin.trust) if origin.tls else None,
                    server_hostname=origin.host if origin.tls else None,
                )
        except TimeoutError:
            raise UpstreamTimeout("the target could not be connected to in time (timeout: connect)") from None
        except ssl.SSLError as error:
            raise UpstreamUnreachable(f"the target's TLS handshake failed: {_reason(error)}") from error
        except OSError as error:
            raise UpstreamUnreachable("the target cannot be connected to: is it running?") from error
        self._open.add(connection)
        self._sweep_later()
        return connection

    def _forget(self, connection: Connection, origin: Origin) -> None:
        self._open.discard(connection)
        idle = self._idle.get(origin, [])
        if connection in idle:
            idle.remove(connection)

    def _context(self, trust: str) -> ssl.SSLContext:
        context = self._contexts.get(trust)
        if context is None:
            if trust:  # a request of a configuration that has had this target
                raise UpstreamUnreachable("the target has been taken out of the configuration")
            context = self._contexts[""] = context_of(None)
        return context

    def _sweep_later(self) -> None:
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(SWEEP, self._sweep)

    def _sweep(self) -> None:
        now = self._loop.time()
        for connection in list(self._open):
            connection.check(now)
        for origin, idle in list(self._idle.items()):
            oldest = now - (IDLE_TLS if origin.tls else IDLE_PLAIN)
            for connection in [connection for connection in idle if connection.idle_since < oldest]:
                connection.close()
            if not idle:
                del self._idle[origin]  # servers that are started get another port each time
        self._sweeper = None
        if self._open:
            self._sweep_later()


def _reason(error: ssl.SSLError) -> str:
    """OpenSSL's own words without the source line: they name no secret."""
    return getattr(error, "verify_message", "") or error.reason or type(error).__name__
