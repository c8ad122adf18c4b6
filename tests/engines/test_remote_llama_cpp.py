"""Models of a llama.cpp router."""

import asyncio
from typing import Any

import pytest

from mooltiproxy.engines.driver import CannotStart
from mooltiproxy.engines.remote import Remote
from mooltiproxy.upstream.session import PooledSession
from tests.servers.drivers import driver, left_while_loading, started
from tests.servers.strict_engines import running
from tests.servers.strict_engines.llama_cpp import KEY, StrictRouter

pytestmark = pytest.mark.usefixtures("quick")

LOAD, UNLOAD, MODELS = "POST /models/load", "POST /models/unload", "GET /models"


def llama(session: PooledSession, url: str, model: str = "tiny", key: str = KEY, **run: Any) -> Remote:
    return driver(session, "llama.cpp", url, model, key, **run)


async def refused(made: Remote) -> str:
    """Why it does not start."""
    await made.start()
    with pytest.raises(CannotStart) as caught:
        await made.ready()
    await made.stop(1.0)
    return str(caught.value)


async def test_a_model_is_loaded_and_unloaded(session: PooledSession) -> None:
    server = StrictRouter("tiny", "other")
    server.may_load.clear()
    async with running(server) as up:
        made = llama(session, up.url)
        assert await made.is_loaded() is False
        starting = asyncio.ensure_future(started(made))
        await server.heard(MODELS, server.count(MODELS) + 3)
        assert (starting.done(), server.states) == (False, {"tiny": "loading", "other": "unloaded"})
        server.may_load.set()
        await starting
        assert server.states["tiny"] == "loaded"
        server.may_unload.clear()
        stopping = asyncio.ensure_future(made.stop(5.0))
        await server.heard(UNLOAD, 1)
        await server.heard(MODELS, server.count(MODELS) + 2)
        assert not stopping.done()
        server.may_unload.set()
        await stopping
    assert server.states["tiny"] == "unloaded"


@pytest.mark.parametrize("state", ["loaded", "sleeping"])
async def test_what_is_loaded_already_is_ready_at_once(session: PooledSession, state: str) -> None:
    server = StrictRouter("tiny")
    server.states["tiny"] = state
    async with running(server) as up:
        made = llama(session, up.url)
        assert await made.is_loaded() is True
        await started(made)
        assert server.count(LOAD) == 0
        await made.stop(1.0)
    assert server.states["tiny"] == "unloaded"


async def test_a_load_that_another_has_begun_is_awaited(session: PooledSession) -> None:
    server = StrictRouter("tiny")
    server.states["tiny"] = "loading"
    async with running(server) as up:
        starting = asyncio.ensure_future(started(llama(session, up.url)))
        await server.heard(LOAD, 1)
        server.states["tiny"] = "loaded"
        await starting


async def test_a_model_whose_server_ends_while_it_loads_is_told(session: PooledSession) -> None:
    server = StrictRouter("tiny")
    server.codes["tiny"] = 3
    async with running(server) as up:
        assert "its server ended with exit code 3" in await refused(llama(session, up.url))


async def test_an_earlier_failure_is_none_of_this_load(session: PooledSession) -> None:
    server = StrictRouter("tiny")
    server.crash("tiny", 3)
    async with running(server) as up:
        await started(llama(session, up.url))
        assert server.states["tiny"] == "loaded"


async def test_a_model_that_is_not_there_is_told(session: PooledSession) -> None:
    async with running(StrictRouter("tiny")) as up:
        assert (await refused(llama(session, up.url, "none"))).endswith("refused to load it (404): model is not found")


async def test_an_alias_is_a_name(session: PooledSession) -> None:
    server = StrictRouter("tiny", aliases={"little": "tiny"})
    async with running(server) as up:
        made = await started(llama(session, up.url, "little"))
        assert server.states["tiny"] == "loaded"
        await made.stop(1.0)
    assert server.states["tiny"] == "unloaded"


async def test_a_server_that_is_no_router_is_told(session: PooledSession) -> None:
    server = StrictRouter("tiny")
    server.is_router = False
    async with running(server) as up:
        assert "it is no router: llama-server is one when" in await refused(llama(session, up.url))


async def test_a_wrong_key_is_told_without_it(session: PooledSession) -> None:
    async with running(StrictRouter("tiny")) as up:
        told = await refused(llama(session, up.url, key="wrong-llama-key"))
    assert "(401): Invalid API Key" in told
    assert "wrong-llama-key" not in told


async def test_a_model_that_crashes_has_ended_with_its_code(session: PooledSession) -> None:
    server = StrictRouter("tiny")
    async with running(server) as up:
        made = await started(llama(session, up.url))
        server.crash("tiny", 139)
        assert await made.ended == "llama.cpp's router has it no longer loaded (its exit code is 139)"
        await made.stop(1.0)


async def test_a_load_that_nobody_waits_for_is_broken_off(session: PooledSession) -> None:
    server = StrictRouter("tiny")
    server.may_load.clear()
    async with running(server) as up:
        made = llama(session, up.url)
        await left_while_loading(made, server.loads)
        await made.stop(5.0)
        assert server.states["tiny"] == "unloaded"
