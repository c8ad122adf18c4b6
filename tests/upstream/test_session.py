"""The pool of connections to targets."""

import asyncio

from mooltiproxy.upstream import session as pool
from mooltiproxy.upstream.fetch import TIMEOUTS, get
from mooltiproxy.upstream.session import Origin, PooledSession
from tests.servers.scripted import answer, answering, upstream


async def test_nothing_is_kept_of_a_server_that_has_ended() -> None:
    """One that the proxy starts has another port each time."""
    session = PooledSession()
    async with upstream(answering(answer(b"x"))) as up:
        await get(session, Origin.of(up.url), "/", TIMEOUTS, 10)
    async with asyncio.timeout(5):
        while session._idle:  # noqa: ASYNC110
            await asyncio.sleep(pool.SWEEP / 5)
    await session.close()
