"""Servers of engines with an API that restart, hang, or answer anything: no driver hangs, and none is surprised."""

import asyncio
import time

import pytest

from mooltiproxy.config.model import Timeouts
from mooltiproxy.engines.driver import CannotStart
from mooltiproxy.engines.remote import Remote, common
from mooltiproxy.upstream.session import PooledSession
from tests.servers.drivers import driver, started
from tests.servers.scripted import answer
from tests.servers.strict_engines import DROPS, FAILS, GARBAGE, HANGS, StrictEngine, running
from tests.servers.strict_engines.llama_cpp import KEY, StrictRouter
from tests.servers.strict_engines.ollama import StrictOllama
from tests.servers.strict_engines.tabbyapi import ADMIN_KEY, StrictTabby
from tests.servers.strict_engines.vllm import StrictVLLM

pytestmark = pytest.mark.usefixtures("quick")

ENGINES = ["llama.cpp", "ollama", "tabbyapi", "vllm"]
LOOKS = {
    "llama.cpp": "GET /models",
    "ollama": "GET /api/ps",
    "tabbyapi": "GET /v1/model",
    "vllm": "GET /is_sleeping",
}
LOADS = {
    "llama.cpp": "POST /models/load",
    "ollama": "POST /api/generate",
    "tabbyapi": "POST /v1/model/load",
    "vllm": "POST /wake_up",
}
UNLOADS = {
    "llama.cpp": "POST /models/unload",
    "ollama": "POST /api/generate",
    "tabbyapi": "POST /v1/model/unload",
    "vllm": "POST /sleep?level=1",
}


def server_of(engine: str) -> StrictEngine:
    servers: dict[str, type[StrictEngine]] = {
        "llama.cpp": StrictRouter,
        "ollama": StrictOllama,
        "tabbyapi": StrictTabby,
        "vllm": StrictVLLM,
    }
    return servers[engine](*(() if engine == "vllm" else ("one",)))


def made_for(session: PooledSession, engine: str, url: str, ready_timeout: float = 5.0) -> Remote:
    key = KEY if engine == "llama.cpp" else None
    admin_key = ADMIN_KEY if engine == "tabbyapi" else None
    return driver(session, engine, url, "one", key, admin_key=admin_key, ready_timeout=ready_timeout)


async def refused(made: Remote) -> str:
    await made.start()
    with pytest.raises(CannotStart) as caught:
        await made.ready()
    return str(caught.value)


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_server_that_is_not_there_is_told(session: PooledSession, engine: str) -> None:
    async with running(server_of(engine)) as up:
        pass
    made = made_for(session, engine, up.url)
    assert await made.is_loaded() is None
    assert f"at 127.0.0.1:{up.port}: the target cannot be connected to: is it running?" in await refused(made)
    await made.stop(5.0)


@pytest.mark.parametrize(
    ("engine", "trouble"),
    [(engine, trouble) for engine in ENGINES for trouble in (DROPS, FAILS)]
    + [("ollama", GARBAGE), ("tabbyapi", GARBAGE)],  # of the others the answer's status says all
)
async def test_a_load_that_goes_wrong_is_told_and_cleaned_up(
    session: PooledSession, engine: str, trouble: bytes
) -> None:
    server = server_of(engine)
    server.troubles[LOADS[engine]] += [trouble]
    async with running(server) as up:
        made = made_for(session, engine, up.url)
        assert made.title in await refused(made)
        await made.stop(5.0)
        assert await made_for(session, engine, up.url).is_loaded() is False


async def test_an_error_of_an_odd_form_is_told_all_the_same(session: PooledSession) -> None:
    server = server_of("tabbyapi")
    server.troubles[LOADS["tabbyapi"]] += [answer(b'{"detail": [{"msg": "no", "loc": true}]}', status="422 X")]
    async with running(server) as up:
        made = made_for(session, "tabbyapi", up.url)
        assert (await refused(made)).endswith("(422): no")
        await made.stop(5.0)


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_load_that_hangs_is_given_up_and_so_is_its_end(
    session: PooledSession, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "LEAST_GRACE", 0.1)
    server = server_of(engine)
    server.troubles[LOADS[engine]] += [HANGS]
    async with running(server) as up:
        made = made_for(session, engine, up.url, ready_timeout=0.1)
        assert "within 0.1 s (ready_timeout)" in await refused(made)
        began = time.monotonic()
        await made.stop(0.1)
        assert time.monotonic() - began < 0.5


@pytest.mark.parametrize("engine", ENGINES)
async def test_an_unload_that_hangs_ends_with_the_grace(
    session: PooledSession, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "LEAST_GRACE", 0.1)
    server = server_of(engine)
    async with running(server) as up:
        made = await started(made_for(session, engine, up.url))
        server.troubles[UNLOADS[engine]] += [HANGS] * 10
        began = time.monotonic()
        await made.stop(0.1)
        assert time.monotonic() - began < 0.5


@pytest.mark.parametrize("engine", ENGINES)
async def test_whoever_has_less_time_ends_the_stop_for_all(
    session: PooledSession, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "LEAST_GRACE", 0.05)
    server = server_of(engine)
    async with running(server) as up:
        made = await started(made_for(session, engine, up.url))
        server.troubles[UNLOADS[engine]] += [HANGS]
        asked = server.count(UNLOADS[engine])
        stopping = asyncio.ensure_future(made.stop(30.0))
        await server.heard(UNLOADS[engine], asked + 1)
        async with asyncio.timeout(1.0):
            await made.stop(0.05)
            await stopping
        assert server.count(UNLOADS[engine]) == asked + 1


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_server_that_is_gone_needs_no_unloading(session: PooledSession, engine: str) -> None:
    async with running(server_of(engine)) as up:
        made = await started(made_for(session, engine, up.url))
    began = time.monotonic()
    await made.stop(5.0)
    assert time.monotonic() - began < 0.5


@pytest.mark.parametrize("trouble", [DROPS, GARBAGE, FAILS], ids=["drops", "garbage", "fails"])
@pytest.mark.parametrize("engine", ENGINES)
async def test_two_missed_questions_are_no_end(session: PooledSession, engine: str, trouble: bytes) -> None:
    server = server_of(engine)
    look = LOOKS[engine]
    async with running(server) as up:
        made = await started(made_for(session, engine, up.url))
        server.troubles[look] += [trouble, trouble]
        await server.heard(look, server.count(look) + 4)
        assert not made.ended.done()
        server.troubles[look] += [trouble] * common.MISSED
        assert (await made.ended).startswith("the server does not answer: ")
        server.troubles[look].clear()
        await made.stop(5.0)


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_server_that_is_gone_has_ended(session: PooledSession, engine: str) -> None:
    async with running(server_of(engine)) as up:
        made = await started(made_for(session, engine, up.url))
    assert "the server does not answer: the target cannot be connected to" in await made.ended
    await made.stop(5.0)


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_server_that_hangs_cannot_tell_what_is_loaded(
    session: PooledSession, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mooltiproxy.upstream.session.SWEEP", 0.02)
    quickest = Timeouts(connect=0.1, first_byte=0.1, idle=0.1, total=0.1)
    monkeypatch.setattr(common.Remote._ask, "__kwdefaults__", {"fields": None, "clocks": quickest})
    server = server_of(engine)
    server.troubles[LOOKS[engine]] += [HANGS]
    async with running(server) as up:
        assert await made_for(session, engine, up.url).is_loaded() is None


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_stopped_run_looks_after_nothing_any_more(session: PooledSession, engine: str) -> None:
    server = server_of(engine)
    async with running(server) as up:
        made = await started(made_for(session, engine, up.url))
        await made.stop(5.0)
        asked = len(server.asked)
        await asyncio.wait([asyncio.ensure_future(made.ended)], timeout=0.03)
        assert len(server.asked) == asked
        assert not made.ended.done()
