"""Asks a live server which dialects it speaks, for `speaks: auto` and `serve --target URL`."""

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import orjson

from mooltiproxy.config.model import Timeouts
from mooltiproxy.errors import UpstreamBroken, UpstreamError
from mooltiproxy.mapping.dialect import Dialect
from mooltiproxy.upstream.connection import Headers
from mooltiproxy.upstream.session import Origin, PooledSession

TIMEOUTS = Timeouts(connect=5.0, first_byte=5.0, idle=5.0, total=10.0)
MAX_BODY = 4 * 1024 * 1024


@dataclass(slots=True)
class Whole:
    """A receiver that gathers one answer."""

    done: "asyncio.Future[None]"
    status: int = 0
    data: bytearray = field(default_factory=bytearray)

    def head(self, status: int, headers: Headers) -> None:
        """Keep the status."""
        self.status = status

    def body(self, data: bytes) -> None:
        """Keep the bytes, up to a limit."""
        if len(self.data) < MAX_BODY:
            self.data += data

    def end(self) -> None:
        """The answer is complete."""
        if not self.done.done():
            self.done.set_result(None)

    def failed(self, error: UpstreamError) -> None:
        """The answer is not to be had."""
        if not self.done.done():
            self.done.set_exception(error)

    def flush(self) -> None:
        """Nothing is written anywhere."""

    def json(self) -> Any:
        """The body as JSON, None where it is none."""
        try:
            return orjson.loads(self.data)
        except orjson.JSONDecodeError:
            return None


def probe(url: str, dialects: Iterable[Dialect]) -> tuple[str, ...]:
    """The names of those of these dialects that the server at `url` speaks, in their order; blocks while it asks.

    Raises UpstreamUnreachable where nothing listens, UpstreamBroken where the server speaks none of them, ValueError
    for what is no url. A thread of its own asks, so that a reload inside a running loop may call this too.
    """
    with ThreadPoolExecutor(1) as asker:
        return asker.submit(asyncio.run, _probe(url, list(dialects))).result()


async def _probe(url: str, dialects: list[Dialect]) -> tuple[str, ...]:
    session = PooledSession()
    try:
        spoken = [dialect.name for dialect in dialects if await _speaks(session, url, dialect)]
    finally:
        await session.close()
    if not spoken:
        paths = ", ".join(dialect.probe[0] for dialect in dialects if dialect.probe)
        raise UpstreamBroken(f"the server answers none of {paths} as a known API does")
    return tuple(spoken)


async def _speaks(session: PooledSession, url: str, dialect: Dialect) -> bool:
    if dialect.probe is None:
        return False
    path, is_it = dialect.probe
    root = url.rstrip("/").removesuffix(dialect.base) if dialect.base else url
    origin = Origin.of(root)
    try:
        whole = await _get(session, origin, origin.base + path)
    except UpstreamBroken:  # what it answers is no HTTP answer to this: another dialect may fit
        return False
    return is_it(whole.status, whole.json())


async def _get(session: PooledSession, origin: Origin, path: str) -> Whole:
    connection = await session.acquire(origin, TIMEOUTS.connect)
    whole = Whole(asyncio.get_running_loop().create_future())
    head = f"GET {path} HTTP/1.1\r\nhost: {origin.authority}\r\naccept: application/json\r\n\r\n"
    connection.send(head.encode(), whole, TIMEOUTS)
    await whole.done
    return whole
