"""Models of an Ollama server."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from mooltiproxy.engines.driver import CannotStart
from mooltiproxy.engines.remote.ollama import full_name
from mooltiproxy.upstream.session import PooledSession
from tests.servers.drivers import driver, left_while_loading, started
from tests.servers.strict_engines import FAILS, running
from tests.servers.strict_engines.ollama import StrictOllama

pytestmark = pytest.mark.usefixtures("quick")

GENERATE, EMBED, PS = "POST /api/generate", "POST /api/embed", "GET /api/ps"


async def test_a_model_is_loaded_for_a_while_that_outlives_no_killed_proxy_for_long(session: PooledSession) -> None:
    ollama = StrictOllama("llama3")
    async with running(ollama) as up:
        made = await started(driver(session, "ollama", up.url, "llama3", load={"options": {"num_ctx": 8192}}))
        assert made.origin is not None
        assert (made.origin.port, made.pid) == (up.port, 0)
        expires, context = ollama.loaded["llama3:latest"]
        assert (expires < datetime.now(UTC) + timedelta(seconds=301), context) == (True, 8192)
        assert ollama.body(GENERATE)["keep_alive"] == 300
        await made.stop(1.0)
    assert ollama.loaded == {}


async def test_a_model_that_is_not_there_is_told_in_ollama_s_words(session: PooledSession) -> None:
    async with running(StrictOllama("llama3")) as up:
        made = driver(session, "ollama", up.url, "lama3")
        await made.start()
        with pytest.raises(CannotStart, match=r"Ollama refused to load it \(404\): model 'lama3' not found"):
            await made.ready()
        await made.stop(1.0)


async def test_a_model_of_embeddings_is_loaded_and_unloaded_by_another_endpoint(session: PooledSession) -> None:
    ollama = StrictOllama(embedding=("minilm",))
    async with running(ollama) as up:
        made = await started(driver(session, "ollama", up.url, "minilm"))
        assert ollama.body(EMBED) == {"model": "minilm", "keep_alive": 300, "input": []}
        assert "minilm:latest" in ollama.loaded
        await made.stop(1.0)
    assert ollama.loaded == {}


async def test_a_load_that_nobody_waits_for_ends_with_its_connection(session: PooledSession) -> None:
    ollama = StrictOllama("llama3")
    ollama.may_load.clear()
    async with running(ollama) as up:
        made = driver(session, "ollama", up.url, "llama3")
        await left_while_loading(made, ollama.loads)
        await made.stop(1.0)
        assert ollama.body(GENERATE)["keep_alive"] == 0
        assert not made.ended.done()


async def test_a_model_that_is_gone_has_ended(session: PooledSession) -> None:
    ollama = StrictOllama("llama3")
    async with running(ollama) as up:
        made = await started(driver(session, "ollama", up.url, "llama3"))
        ollama.loaded.clear()
        assert await made.ended == "Ollama has it no longer loaded"
        await made.stop(1.0)


async def test_a_model_that_would_expire_soon_is_asked_for_again(session: PooledSession) -> None:
    ollama = StrictOllama("llama3")
    async with running(ollama) as up:
        made = await started(driver(session, "ollama", up.url, "llama3", load={"options": {"num_ctx": 8192}}))
        ollama.expires_in("llama3:latest", 30.0)
        await ollama.heard(GENERATE, 2)
        await ollama.heard(PS, ollama.count(PS) + 2)
        assert ollama.loaded["llama3:latest"][0] > datetime.now(UTC) + timedelta(seconds=200)
        assert (ollama.count(GENERATE), ollama.reloads) == (2, 0)
        await made.stop(1.0)


async def test_a_model_that_expires_later_is_left_alone(session: PooledSession) -> None:
    ollama = StrictOllama("llama3")
    async with running(ollama) as up:
        made = await started(driver(session, "ollama", up.url, "llama3"))
        ollama.expires_in("llama3:latest", 200.0)
        await ollama.heard(PS, ollama.count(PS) + 3)
        assert ollama.count(GENERATE) == 1
        await made.stop(1.0)


async def test_keeping_a_model_does_not_load_it_anew_with_other_options(session: PooledSession) -> None:
    ollama = StrictOllama("llama3")
    async with running(ollama) as up:
        made = await started(driver(session, "ollama", up.url, "llama3"))
        expires, _ = ollama.loaded["llama3:latest"]
        ollama.loaded["llama3:latest"] = (expires, 32768)  # as a client wanted it
        ollama.expires_in("llama3:latest", 30.0)
        await ollama.heard(GENERATE, 2)
        await ollama.heard(PS, ollama.count(PS) + 2)
        assert ollama.loaded["llama3:latest"][1] == 32768
        assert ollama.reloads == 0
        await made.stop(1.0)


async def test_unloading_waits_for_the_answers_to_others(session: PooledSession) -> None:
    ollama = StrictOllama("llama3")
    async with running(ollama) as up:
        made = await started(driver(session, "ollama", up.url, "llama3"))
        ollama.in_use.add("llama3:latest")
        stopping = asyncio.ensure_future(made.stop(5.0))
        await ollama.heard(GENERATE, 2)
        await ollama.heard(PS, ollama.count(PS) + 2)
        assert not stopping.done()
        ollama.idle()
        await stopping
    assert ollama.loaded == {}


async def test_unloading_is_asked_for_again_after_an_error(session: PooledSession) -> None:
    ollama = StrictOllama("llama3")
    async with running(ollama) as up:
        made = await started(driver(session, "ollama", up.url, "llama3"))
        ollama.troubles[GENERATE] += [FAILS, FAILS]
        await made.stop(5.0)
    assert ollama.loaded == {}


async def test_what_cannot_be_sent_is_told(session: PooledSession) -> None:
    async with running(StrictOllama("llama3")) as up:
        made = driver(session, "ollama", up.url, "llama3", load={"options": {"seed": 2**80}})
        await made.start()
        with pytest.raises(CannotStart, match=r"what `run.load` says cannot be sent"):
            await made.ready()
        await made.stop(1.0)


async def test_names_without_a_tag_are_those_with_latest(session: PooledSession) -> None:
    ollama = StrictOllama("llama3")
    async with running(ollama) as up:
        await started(driver(session, "ollama", up.url, "llama3"))
        assert await driver(session, "ollama", up.url, "llama3:latest").is_loaded() is True
        assert await driver(session, "ollama", up.url, "llama3:8b").is_loaded() is False


@pytest.mark.parametrize("name", ["Llama3", "llama3:latest", "library/llama3", "registry.ollama.ai/library/llama3"])
def test_a_name_may_leave_out_what_ollama_adds(name: str) -> None:
    assert full_name(name) == "llama3:latest"


def test_a_port_in_a_name_is_no_tag() -> None:
    assert full_name("host:5000/one/two") == "host:5000/one/two:latest"


async def test_the_memory_of_a_model_is_told(session: PooledSession) -> None:
    async with running(StrictOllama("llama3")) as up:
        made = driver(session, "ollama", up.url, "llama3")
        assert await made.memory() == {}
        await started(made)
        assert await made.memory() == {"ram": 1_000_000, "gpu": 2_000_000}
        await made.stop(1.0)


async def test_the_endpoints_are_beside_that_of_openai_s_api(session: PooledSession) -> None:
    ollama = StrictOllama("llama3")
    async with running(ollama) as up:
        made = await started(driver(session, "ollama", f"{up.url}/v1", "llama3"))
        assert made.origin is not None
        assert (made.origin.base, "llama3:latest" in ollama.loaded) == ("/v1", True)
        await made.stop(1.0)
