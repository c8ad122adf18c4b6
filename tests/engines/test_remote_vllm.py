"""A vLLM server that sleeps while nobody needs it."""

import asyncio

import pytest

from mooltiproxy.engines.driver import CannotStart
from mooltiproxy.upstream.session import PooledSession
from tests.servers.drivers import driver, started
from tests.servers.strict_engines import running
from tests.servers.strict_engines.vllm import StrictVLLM

pytestmark = pytest.mark.usefixtures("quick")

ASLEEP, WAKE, SLEEP = "GET /is_sleeping", "POST /wake_up", "POST /sleep?level=1"


async def test_a_server_is_woken_and_put_to_sleep(session: PooledSession) -> None:
    server = StrictVLLM()
    async with running(server) as up:
        made = driver(session, "vllm", up.url)
        assert await made.is_loaded() is False
        await started(made)
        assert not server.is_sleeping
        await made.stop(1.0)
    assert server.is_sleeping


async def test_a_server_that_is_awake_is_ready_at_once(session: PooledSession) -> None:
    server = StrictVLLM(awake=True)
    async with running(server) as up:
        made = driver(session, "vllm", up.url)
        assert await made.is_loaded() is True
        await started(made)
        assert server.count(WAKE) == 0
        await made.stop(1.0)
    assert server.is_sleeping


async def test_a_change_that_comes_after_its_answer_is_awaited(session: PooledSession) -> None:
    server = StrictVLLM(lags=3)
    async with running(server) as up:
        made = await started(driver(session, "vllm", up.url))
        assert (server.is_sleeping, server.count(ASLEEP)) == (False, 4)
        await made.stop(1.0)
        assert server.is_sleeping


async def test_a_server_that_was_woken_in_part_is_woken(session: PooledSession) -> None:
    server = StrictVLLM()
    server.awake = frozenset({"weights"})
    async with running(server) as up:
        await started(driver(session, "vllm", up.url))
        assert not server.is_sleeping


async def test_a_server_without_these_endpoints_is_told_how_to_get_them(session: PooledSession) -> None:
    server = StrictVLLM(has_endpoints=False)
    async with running(server) as up:
        made = driver(session, "vllm", up.url)
        assert await made.is_loaded() is None
        await made.start()
        with pytest.raises(CannotStart, match="--enable-sleep-mode and VLLM_SERVER_DEV_MODE=1"):
            await made.ready()
        asked = len(server.asked)
        await made.stop(1.0)
        assert len(server.asked) == asked  # nothing was woken


async def test_a_wake_that_nobody_waits_for_ends_in_sleep(session: PooledSession) -> None:
    server = StrictVLLM()
    server.may_load.clear()
    async with running(server) as up:
        made = driver(session, "vllm", up.url)
        await made.start()
        waiting = asyncio.ensure_future(made.ready())
        await server.loads.wait()
        waiting.cancel()
        stopping = asyncio.ensure_future(made.stop(5.0))
        await asyncio.wait([waiting])
        server.may_load.set()
        await stopping
        assert (server.is_sleeping, server.count(SLEEP)) == (True, 1)


async def test_a_server_that_others_put_to_sleep_has_ended(session: PooledSession) -> None:
    server = StrictVLLM()
    async with running(server) as up:
        made = await started(driver(session, "vllm", up.url))
        server.awake = frozenset({"weights"})
        assert await made.ended == "vLLM was put to sleep by somebody else"
        await made.stop(1.0)
