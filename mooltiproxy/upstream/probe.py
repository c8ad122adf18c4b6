"""Asks a live server which dialects it speaks, for `speaks: auto` and `serve --target URL`."""

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from mooltiproxy.config.model import Timeouts
from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping.dialect import Dialect
from mooltiproxy.upstream.fetch import get
from mooltiproxy.upstream.session import Origin, PooledSession

TIMEOUTS = Timeouts(connect=5.0, first_byte=5.0, idle=5.0, total=10.0)
MAX_BODY = 4 * 1024 * 1024


def probe(url: str, key: str | None, dialects: Iterable[Dialect]) -> tuple[str, ...]:
    """The names of those of these dialects that the server at `url` speaks, in their order; blocks while it asks.

    `key` is the server's, if it has one. Raises UpstreamUnreachable where nothing listens, UpstreamBroken where the
    server speaks none of them, ValueError for what is no url. A thread of its own asks, so that a reload inside a
    running loop may call this too.
    """
    with ThreadPoolExecutor(1) as asker:
        return asker.submit(asyncio.run, _probe(url, key, list(dialects))).result()


async def _probe(url: str, key: str | None, dialects: list[Dialect]) -> tuple[str, ...]:
    session = PooledSession()
    try:
        spoken = [dialect.name for dialect in dialects if await _speaks(session, url, key, dialect)]
    finally:
        await session.close()
    if not spoken:
        paths = ", ".join(dialect.probe[0] for dialect in dialects if dialect.probe)
        raise UpstreamBroken(f"the server answers none of {paths} as a known API does")
    return tuple(spoken)


async def _speaks(session: PooledSession, url: str, key: str | None, dialect: Dialect) -> bool:
    if dialect.probe is None:
        return False
    path, is_it = dialect.probe
    root = url.rstrip("/").removesuffix(dialect.base) if dialect.base else url
    origin = Origin.of(root)
    try:
        whole = await get(session, origin, origin.base + path, TIMEOUTS, MAX_BODY, fields=_fields(dialect, key))
    except UpstreamBroken:  # what it answers is no HTTP answer to this: another dialect may fit
        return False
    return is_it(whole.status, whole.json())


def _fields(dialect: Dialect, key: str | None) -> dict[str, str]:
    """The header fields with which this dialect is asked."""
    return {**dialect.fixed_fields, **({dialect.key_field: dialect.key_prefix + key} if key else {})}
