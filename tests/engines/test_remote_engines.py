"""Engines with an API behind the whole proxy: servers that are strict about it, and clients that know nothing of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from tests.servers.proxy import KEY, Proxy, proxy
from tests.servers.strict_engines import FAILS, StrictEngine, running
from tests.servers.strict_engines.llama_cpp import KEY as LLAMA_KEY
from tests.servers.strict_engines.llama_cpp import StrictRouter
from tests.servers.strict_engines.ollama import StrictOllama
from tests.servers.strict_engines.tabbyapi import ADMIN_KEY, StrictTabby
from tests.servers.strict_engines.tabbyapi import KEY as TABBY_KEY
from tests.servers.strict_engines.vllm import StrictVLLM

pytestmark = pytest.mark.usefixtures("quick")

MESSAGES = [{"role": "user", "content": "Who are you?"}]
SPEAKS = {"ollama": "ollama"}
KEYS = {"tabbyapi": {"envkey": "TABBY_KEY"}, "llama.cpp": {"envkey": "LLAMA_KEY"}}
ADMIN = {"tabbyapi": {"admin_envkey": "TABBY_ADMIN"}}
ENVIRON = {"TABBY_KEY": TABBY_KEY, "TABBY_ADMIN": ADMIN_KEY, "LLAMA_KEY": LLAMA_KEY}


def target(engine: str, url: str, **run: Any) -> dict[str, Any]:
    """The section of a target."""
    section = {"engine": engine, **ADMIN.get(engine, {}), **run}
    return {"url": url, "speaks": SPEAKS.get(engine, "openai"), "run": section, **KEYS.get(engine, {})}


@asynccontextmanager
async def served(engine: str, server: StrictEngine, *models: str, **run: Any) -> AsyncIterator[Proxy]:
    """The proxy in front of such a server, with models that are called the same there."""
    async with running(server) as up:
        data = {
            "targets": {"default": "remote", "remote": target(engine, up.url, **run)},
            "models": {model: {"target": "remote"} for model in models},
        }
        async with proxy(data, None, **ENVIRON) as proxied:
            yield proxied


async def said(running: Proxy, model: str) -> tuple[int, Any]:
    """The status of a chat, and the text or the whole error."""
    async with running.client.post("/v1/chat/completions", json={"model": model, "messages": MESSAGES}) as response:
        body = orjson.loads(await response.read())
    return response.status, body["choices"][0]["message"]["content"] if response.status == 200 else body


async def shown(running: Proxy, model: str) -> dict[str, Any]:
    async with running.client.get("/-/status") as response:
        targets: list[dict[str, Any]] = orjson.loads(await response.read())["targets"]
    return next(one for one in targets if model in one["models"])


async def state_of(running: Proxy, model: str) -> str:
    return str((await shown(running, model))["state"])


async def until(running: Proxy, model: str, state: str) -> None:
    """Return once this is the state of a model."""
    async with asyncio.timeout(5):
        while await state_of(running, model) != state:
            pass


async def unload(running: Proxy) -> None:
    async with running.client.post("/-/unload") as response:
        assert response.status == 200


async def test_two_models_of_one_tabbyapi_are_called_in_turn_by_two_sdks() -> None:
    tabby = StrictTabby("one", "two")
    async with served("tabbyapi", tabby, "one", "two") as proxied:
        async with (
            AsyncOpenAI(base_url=f"{proxied.url}/v1", api_key=KEY, max_retries=0) as openai,
            AsyncAnthropic(base_url=proxied.url, api_key=KEY, max_retries=0) as anthropic,
        ):
            for _ in range(3):
                chat = await openai.chat.completions.create(model="one", messages=[{"role": "user", "content": "Hi"}])
                assert chat.choices[0].message.content == "I am one"
                message = await anthropic.messages.create(
                    model="two", max_tokens=9, messages=[{"role": "user", "content": "Hi"}]
                )
                assert getattr(message.content[0], "text", "") == "I am two"
        assert tabby.count("POST /v1/model/load") == 6
    assert tabby.loaded is None  # the proxy has ended, and its model with it


async def test_many_requests_for_three_models_of_one_tabbyapi_are_all_answered() -> None:
    names = ["one", "two", "three"]
    async with served("tabbyapi", StrictTabby(*names), *names) as proxied:
        asked = [names[number % 3] for number in range(60)]
        answers = await asyncio.gather(*(said(proxied, name) for name in asked))
    assert answers == [(200, f"I am {name}") for name in asked]


async def test_servers_of_one_group_never_have_their_models_loaded_at_the_same_time() -> None:
    ollama, tabby = StrictOllama("llama3"), StrictTabby("one")
    async with running(ollama) as first, running(tabby) as second:
        data = {
            "targets": {
                "default": "ollama",
                "ollama": target("ollama", first.url, group="gpu"),
                "tabby": target("tabbyapi", second.url, group="gpu"),
            },
            "models": {"llama3": {"target": "ollama"}, "one": {"target": "tabby"}},
        }
        async with proxy(data, None, **ENVIRON) as proxied:
            for _ in range(2):
                assert await said(proxied, "llama3") == (200, "I am llama3")
                assert (len(ollama.loaded), tabby.loaded) == (1, None)
                assert await said(proxied, "one") == (200, "I am one")
                assert (len(ollama.loaded), tabby.loaded) == (0, "one")


async def test_a_client_of_ollama_s_unloads_its_model_by_an_empty_request() -> None:
    ollama = StrictOllama("llama3")
    async with served("ollama", ollama, "llama3") as proxied:
        for keep_alive, reason in ((-1, "load"), (0, "unload")):
            body = {"model": "llama3", "keep_alive": keep_alive}
            async with proxied.client.post("/api/generate", json=body) as response:
                assert (response.status, orjson.loads(await response.read())["done_reason"]) == (200, reason)
        await until(proxied, "llama3", "stopped")
    assert ollama.loaded == {}


async def test_an_idle_model_of_ollama_s_is_unloaded() -> None:
    ollama = StrictOllama("llama3")
    async with served("ollama", ollama, "llama3", unload_after=0) as proxied:
        assert await said(proxied, "llama3") == (200, "I am llama3")
        await until(proxied, "llama3", "stopped")
        assert ollama.loaded == {}
        assert await said(proxied, "llama3") == (200, "I am llama3")


async def test_a_model_of_ollama_s_that_others_have_unloaded_is_loaded_again() -> None:
    ollama = StrictOllama("llama3")
    async with served("ollama", ollama, "llama3") as proxied:
        assert await said(proxied, "llama3") == (200, "I am llama3")
        ollama.loaded.clear()
        await until(proxied, "llama3", "stopped")
        assert await said(proxied, "llama3") == (200, "I am llama3")
        assert ollama.body("POST /api/generate")["keep_alive"] == 300


async def test_a_vllm_server_is_woken_and_put_to_sleep() -> None:
    vllm = StrictVLLM()
    async with served("vllm", vllm, "big") as proxied:
        assert await said(proxied, "big") == (200, "I am big")
        await unload(proxied)
        assert vllm.is_sleeping
        assert await said(proxied, "big") == (200, "I am big")
    assert vllm.is_sleeping


async def test_models_of_a_llama_cpp_router_run_beside_each_other() -> None:
    router = StrictRouter("tiny", "other")
    async with served("llama.cpp", router, "tiny", "other") as proxied:
        answers = await asyncio.gather(*(said(proxied, name) for name in ("tiny", "other")))
        assert answers == [(200, "I am tiny"), (200, "I am other")]
        assert router.states == {"tiny": "loaded", "other": "loaded"}
        await unload(proxied)
    assert router.states == {"tiny": "unloaded", "other": "unloaded"}


async def test_what_the_server_says_of_a_failed_load_reaches_the_client_without_keys() -> None:
    tabby = StrictTabby("one")
    tabby.fails_with = f"Insufficient VRAM ({ADMIN_KEY})"
    async with served("tabbyapi", tabby, "one") as proxied:
        status, body = await said(proxied, "one")
    assert status == 503
    assert "TabbyAPI could not load it: Insufficient VRAM (***)" in body["error"]["message"]


async def test_a_load_that_failed_once_is_tried_again_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mooltiproxy.engines.schedule.FIRST_PAUSE", 0.01)
    vllm = StrictVLLM()
    vllm.troubles["POST /wake_up"] += [FAILS]
    async with served("vllm", vllm, "big") as proxied:
        status, body = await said(proxied, "big")
        assert (status, "it answered POST /wake_up with 500" in body["error"]["message"]) == (503, True)
        async with asyncio.timeout(5):
            while (await said(proxied, "big"))[0] == 503:
                pass
    assert vllm.count("POST /wake_up") == 2


async def test_a_model_that_is_loaded_already_is_not_loaded_again() -> None:
    tabby = StrictTabby("one")
    tabby.loaded = "one"
    async with served("tabbyapi", tabby, "one") as proxied:
        assert await said(proxied, "one") == (200, "I am one")
    assert tabby.count("POST /v1/model/load") == 0


async def test_what_is_loaded_when_the_proxy_starts_is_taken_up_and_unloaded_with_it() -> None:
    router = StrictRouter("tiny", "other")
    router.states["tiny"] = "loaded"
    async with served("llama.cpp", router, "tiny", "other") as proxied:
        await until(proxied, "tiny", "ready")
        assert await state_of(proxied, "other") == "stopped"
    assert router.states == {"tiny": "unloaded", "other": "unloaded"}
    assert router.count("POST /models/load") == 0


async def test_what_was_taken_up_is_measured() -> None:
    ollama = StrictOllama("llama")
    ollama.loaded["llama:latest"] = (datetime.now(UTC) + timedelta(minutes=5), 4096)
    async with served("ollama", ollama, "llama") as proxied:
        async with asyncio.timeout(5):
            while (await shown(proxied, "llama"))["memory"] != {"ram": 1_000_000, "gpu": 2_000_000}:
                pass
    assert ollama.count("POST /api/chat") == 0


async def test_clients_wait_while_a_model_loads_and_one_may_leave() -> None:
    tabby = StrictTabby("one")
    tabby.may_load.clear()
    async with served("tabbyapi", tabby, "one") as proxied:
        staying, leaving = (asyncio.ensure_future(said(proxied, "one")) for _ in range(2))
        await tabby.loads.wait()
        leaving.cancel()
        tabby.may_load.set()
        assert await staying == (200, "I am one")
    assert tabby.count("POST /v1/model/load") == 1
