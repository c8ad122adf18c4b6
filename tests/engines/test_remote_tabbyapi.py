"""Models of a TabbyAPI server."""

import asyncio
from typing import Any

import pytest

from mooltiproxy.engines.driver import CannotStart
from mooltiproxy.engines.remote import Remote
from mooltiproxy.upstream.session import PooledSession
from tests.servers.drivers import driver, left_while_loading, started
from tests.servers.scripted import answer
from tests.servers.strict_engines import DROPS, FAILS, running
from tests.servers.strict_engines.tabbyapi import ADMIN_KEY, KEY, StrictTabby

pytestmark = pytest.mark.usefixtures("quick")

LOAD, UNLOAD, CURRENT = "POST /v1/model/load", "POST /v1/model/unload", "GET /v1/model"


def tabby(session: PooledSession, url: str, model: str = "one", key: str | None = KEY, **run: Any) -> Remote:
    return driver(session, "tabbyapi", url, model, key, **{"admin_key": ADMIN_KEY, **run})


async def refused(made: Remote) -> str:
    """Why it does not start."""
    await made.start()
    with pytest.raises(CannotStart) as caught:
        await made.ready()
    await made.stop(1.0)
    return str(caught.value)


async def test_a_model_is_loaded_with_further_parameters_and_unloaded(session: PooledSession) -> None:
    server = StrictTabby("one")
    async with running(server) as up:
        made = await started(tabby(session, up.url, load={"max_seq_len": 4096}))
        assert (server.loaded, server.body(LOAD)) == ("one", {"model_name": "one", "max_seq_len": 4096})
        await made.stop(1.0)
    assert (server.loaded, server.unloads) == (None, 1)


async def test_all_parts_of_a_model_are_waited_for(session: PooledSession) -> None:
    server = StrictTabby("one")
    server.fails_with = "Insufficient VRAM on device 0"
    parts = {"vision": True, "draft_model": {"draft_model_name": "small"}}
    async with running(server) as up:
        told = await refused(tabby(session, up.url, load=parts))
    assert told == "TabbyAPI could not load it: Insufficient VRAM on device 0"


async def test_what_is_loaded_already_is_ready_at_once(session: PooledSession) -> None:
    server = StrictTabby("one")
    server.loaded = "one"
    async with running(server) as up:
        made = tabby(session, up.url)
        assert await made.is_loaded() is True
        await started(made)
        assert server.count(LOAD) == 0
        await made.stop(1.0)
    assert server.loaded is None


async def test_another_model_takes_the_place(session: PooledSession) -> None:
    server = StrictTabby("one", "two")
    server.loaded = "two"
    async with running(server) as up:
        made = tabby(session, up.url)
        assert await made.is_loaded() is False
        await started(made)
        assert server.loaded == "one"
        await made.stop(1.0)


async def test_a_load_that_goes_on_is_awaited_and_unloaded(session: PooledSession) -> None:
    server = StrictTabby("one")
    server.may_load.clear()
    async with running(server) as up:
        made = tabby(session, up.url)
        await left_while_loading(made, server.loads)
        stopping = asyncio.ensure_future(made.stop(5.0))
        server.may_load.set()
        await stopping
        assert (server.ended.is_set(), server.loaded, server.unloads) == (True, None, 1)


async def test_a_load_that_takes_too_long_is_unloaded_when_it_ends(session: PooledSession) -> None:
    server = StrictTabby("one")
    server.may_load.clear()
    async with running(server) as up:
        made = tabby(session, up.url, ready_timeout=0.05)
        await made.start()
        with pytest.raises(CannotStart, match=r"did not load the model within 0.05 s \(ready_timeout\)"):
            await made.ready()
        server.may_load.set()
        await made.stop(5.0)
        assert (server.ended.is_set(), server.loaded) == (True, None)


async def test_a_load_longer_than_the_grace_is_left_to_the_next(
    session: PooledSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mooltiproxy.engines.remote.common.LEAST_GRACE", 0.05)
    server = StrictTabby("one", "two")
    server.may_load.clear()
    async with running(server) as up:
        made = tabby(session, up.url, ready_timeout=0.05)
        await made.start()
        with pytest.raises(CannotStart):
            await made.ready()
        await made.stop(0.05)
        starting = asyncio.ensure_future(started(tabby(session, up.url, "two")))
        await server.heard(LOAD, 2)
        server.may_load.set()
        await starting
        assert server.loaded == "two"
        await (await starting).stop(1.0)


async def test_another_client_s_model_is_not_unloaded(session: PooledSession) -> None:
    server = StrictTabby("one", "two")
    async with running(server) as up:
        made = await started(tabby(session, up.url))
        server.loaded = "two"
        assert await made.ended == "TabbyAPI has loaded two instead"
        await made.stop(1.0)
    assert (server.loaded, server.count(UNLOAD)) == ("two", 0)


async def test_a_model_that_is_gone_has_ended(session: PooledSession) -> None:
    server = StrictTabby("one")
    async with running(server) as up:
        made = await started(tabby(session, up.url))
        server.loaded = None
        assert await made.ended == "TabbyAPI has it no longer loaded"
        await made.stop(1.0)


async def test_a_folder_may_be_a_link_to_another_name(session: PooledSession) -> None:
    server = StrictTabby(links={"big/one": "Llama-70B-exl3"})
    async with running(server) as up:
        made = await started(tabby(session, up.url, "big/one"))
        await server.heard(CURRENT, server.count(CURRENT) + 2)
        assert not made.ended.done()
        await made.stop(1.0)
    assert server.loaded is None


async def test_a_model_that_is_not_there_is_told(session: PooledSession) -> None:
    async with running(StrictTabby("one")) as up:
        told = await refused(tabby(session, up.url, "none"))
    assert "refused to load it (400): Could not find the model path for load" in told


async def test_a_parameter_that_is_wrong_is_told(session: PooledSession) -> None:
    async with running(StrictTabby("one")) as up:
        told = await refused(tabby(session, up.url, load={"max_seq_len": "long"}))
    assert told.endswith("(422): body.max_seq_len: Input should be a valid int")


async def test_without_an_admin_key_it_is_said_which_to_set(session: PooledSession) -> None:
    with pytest.raises(CannotStart, match="run.admin_envkey"):
        await tabby(session, "http://127.0.0.1:9", admin_key=None).start()


async def test_a_wrong_admin_key_is_told_without_it(session: PooledSession) -> None:
    async with running(StrictTabby("one")) as up:
        told = await refused(tabby(session, up.url, admin_key="wrong-admin-key"))
    assert "does not accept the admin key (`run.admin_envkey`): Invalid admin key" in told
    assert "wrong-admin-key" not in told


async def test_the_admin_key_asks_where_the_target_has_no_key(session: PooledSession) -> None:
    server = StrictTabby("one")
    async with running(server) as up:
        made = await started(tabby(session, up.url, key=None))
        assert server.loaded == "one"
        await made.stop(1.0)


async def test_keys_in_the_server_s_words_are_masked(session: PooledSession) -> None:
    server = StrictTabby("one")
    server.fails_with = f"boom with {ADMIN_KEY} and {KEY}\nat line 3"
    async with running(server) as up:
        assert await refused(tabby(session, up.url)) == "TabbyAPI could not load it: boom with *** and *** at line 3"


async def test_a_stream_that_breaks_off_is_no_load(session: PooledSession) -> None:
    server = StrictTabby("one")
    event = b'data: {"model_type": "draft", "module": 1, "modules": 1, "status": "finished"}\r\n\r\n'
    server.troubles[LOAD] += [answer(event, media_type="text/event-stream")]
    async with running(server) as up:
        told = await refused(tabby(session, up.url))
    assert told == "TabbyAPI stopped to tell of the load before it was finished"


async def test_two_runs_follow_each_other(session: PooledSession) -> None:
    server = StrictTabby("one")
    async with running(server) as up:
        for _ in range(2):
            made = await started(tabby(session, up.url))
            assert server.loaded == "one"
            await made.stop(1.0)
    assert (server.count(LOAD), server.unloads, server.loaded) == (2, 2, None)


async def test_unloading_is_asked_for_again_after_an_error(session: PooledSession) -> None:
    server = StrictTabby("one")
    async with running(server) as up:
        made = await started(tabby(session, up.url))
        server.troubles[UNLOAD] += [FAILS, DROPS]
        await made.stop(5.0)
    assert server.loaded is None
