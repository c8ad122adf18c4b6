"""The ollama client and LangChain's Ollama classes in front of strict servers of the other APIs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import ollama
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM

from mappers.ollama import VERSION
from tests.grid import strict_tgi
from tests.grid.conversation import HI_THERE, MESSAGE, TOLD, TOOL, WEATHER, Asked, Feature
from tests.servers.models import CONTEXT, VECTOR, telling_models
from tests.servers.proxy import BEARER, Proxy, proxy
from tests.servers.scripted import upstream
from tests.servers.strict import BREAKS, FAILS, SERVERS, strict

TARGETS = {**{name: SERVERS[name] for name in ("openai", "anthropic", "gemini")}, "tgi": strict_tgi}
SAID = TOLD[Feature.REASONING].text
THOUGHT = TOLD[Feature.REASONING].thought
RESULTS = {"Paris": "20 degrees", "Rome": "25 degrees"}
QUESTION = "Weather in Paris and Rome?"

everywhere = pytest.mark.parametrize("name", TARGETS)
with_chat = pytest.mark.parametrize("name", ["openai", "anthropic", "gemini"])
with_vectors = pytest.mark.parametrize("name", ["openai", "gemini"])
both_ways = pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])


@asynccontextmanager
async def in_front_of(name: str, folder: Path) -> AsyncIterator[tuple[Proxy, list[Asked]]]:
    """A proxy in front of a strict server of this API, and what that has understood."""
    heard: list[Asked] = []
    async with upstream(telling_models(name, strict(TARGETS[name], heard))) as target:
        config = {"targets": {"default": "one", "one": {"url": target.url, "speaks": name}}}
        async with proxy(config, folder) as running:
            yield running, heard


@asynccontextmanager
async def client(name: str, folder: Path) -> AsyncIterator[tuple[ollama.AsyncClient, list[Asked]]]:
    async with in_front_of(name, folder) as (running, heard):
        async with ollama.AsyncClient(host=running.url, headers=BEARER) as api:
            yield api, heard


def get_weather(city: str) -> str:
    """Weather of a city.

    Args:
        city: its name
    """
    return RESULTS[city]


@everywhere
async def test_models_are_listed_shown_and_said_to_be_loaded(tmp_path: Path, name: str) -> None:
    async with client(name, tmp_path) as (api, heard):
        listed, loaded, shown = await api.list(), await api.ps(), await api.show("m1")
    assert [model.model for model in listed.models] == [model.model for model in loaded.models] == ["m1"]
    assert (loaded.models[0].context_length, loaded.models[0].expires_at is not None) == (CONTEXT, True)
    assert CONTEXT in (shown.modelinfo or {}).values()
    assert "completion" in (shown.capabilities or [])
    assert ("tools" in (shown.capabilities or [])) == (name != "tgi")
    assert not heard


@everywhere
async def test_the_steps_of_ollama_run(tmp_path: Path, name: str) -> None:
    """A look whether a server is there, the model, the empty request that loads it, a chat."""
    async with in_front_of(name, tmp_path) as (running, heard):

        def run() -> list[Any]:
            with ollama.Client(host=running.url, headers=BEARER) as api:
                found = api._client.head("/").status_code, api._client.get("/api/version").json()
                api.show("m1")
                loaded = api.generate("m1", keep_alive="5m").done_reason
                said = "".join(part.message.content or "" for part in api.chat("m1", ask("Say hi"), stream=True))
                return [*found, loaded, said]

        told = await asyncio.to_thread(run)
    assert told == [200, {"version": VERSION}, "load", HI_THERE.text]
    assert len(heard) == 1


def ask(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


@everywhere
@both_ways
async def test_a_prompt_is_answered(tmp_path: Path, name: str, streams: bool) -> None:
    async with client(name, tmp_path) as (api, heard):
        options = {"num_predict": 20, "temperature": 0.5, "num_ctx": 512}
        if streams:
            parts = [part async for part in await api.generate("m1", "Say hi", system="Be brief.", stream=True)]
            text, last = "".join(part.response or "" for part in parts), parts[-1]
        else:
            last = await api.generate("m1", "Say hi", system="Be brief.", options=options)
            text = last.response or ""
    assert (text, last.done, last.done_reason, last.prompt_eval_count) == (HI_THERE.text, True, "stop", 12)
    (asked,) = heard
    assert "Say hi" in (asked.prompt or "") + str(asked.said)
    assert asked.streams is streams
    if not streams:
        assert (asked.max_tokens, asked.temperature) == (20, 0.5)


@with_chat
@both_ways
async def test_tools_are_called_with_thoughts_and_their_results_sent_back(
    tmp_path: Path, name: str, streams: bool
) -> None:
    async with client(name, tmp_path) as (api, heard):
        messages: list[Any] = ask(QUESTION)
        if streams:
            parts = [
                part async for part in await api.chat("m1", messages, tools=[get_weather], think=True, stream=True)
            ]
        else:
            parts = [await api.chat("m1", messages, tools=[get_weather], think=True)]
        calls = [call for part in parts for call in part.message.tool_calls or ()]
        said = ollama.Message(role="assistant", tool_calls=calls)
        results = [
            {"role": "tool", "tool_name": call.function.name, "content": get_weather(**call.function.arguments)}
            for call in calls
        ]
        told = await api.chat("m1", [*messages, said, *results], tools=[get_weather])
    assert "".join(part.message.thinking or "" for part in parts) == THOUGHT
    assert [call.function.arguments for call in calls] == [{"city": city} for city in RESULTS]
    assert told.message.content == TOLD[Feature.RESULTS].text
    assert heard[0].thinks and set(heard[0].tools) == {TOOL}
    assert heard[1].results == tuple(RESULTS.items())


@with_chat
async def test_a_thought_and_a_schema_cross(tmp_path: Path, name: str) -> None:
    async with client(name, tmp_path) as (api, heard):
        thinking = await api.chat("m1", ask("2+2?"), think="high")
        formed = await api.chat("m1", ask("Weather in Paris?"), format=WEATHER)
    assert (thinking.message.content, thinking.message.thinking) == (SAID, THOUGHT)
    assert formed.message.content == TOLD[Feature.SCHEMA].text
    assert heard[1].schema == WEATHER


@with_vectors
async def test_texts_are_embedded(tmp_path: Path, name: str) -> None:
    async with client(name, tmp_path) as (api, _):
        told, old = await api.embed("m1", ["a", "b"]), await api.embeddings("m1", "a")
    assert [list(vector) for vector in told.embeddings] == [VECTOR, VECTOR]
    assert list(old.embedding) == VECTOR


@pytest.mark.parametrize("name", ["anthropic", "tgi"])
async def test_where_nothing_embeds_that_is_said(tmp_path: Path, name: str) -> None:
    async with client(name, tmp_path) as (api, _):
        with pytest.raises(ollama.ResponseError) as caught:
            await api.embed("m1", "a")
    assert caught.value.status_code == 404


async def test_a_suffix_reaches_a_server_that_fills_in(tmp_path: Path) -> None:
    async with client("openai", tmp_path) as (api, heard):
        told = await api.generate("m1", "def add(", suffix="return c", options={"num_predict": 8})
    assert (told.response, heard[0].prompt) == (HI_THERE.text, "def add(")


@pytest.mark.parametrize("name", ["anthropic", "gemini", "tgi"])
async def test_a_suffix_is_refused_by_name_where_nothing_fills_in(tmp_path: Path, name: str) -> None:
    async with client(name, tmp_path) as (api, _):
        with pytest.raises(ollama.ResponseError, match="suffix"):
            await api.generate("m1", "def add(", suffix="return c")


async def test_what_is_an_operators_business_is_refused_in_the_apis_own_form(tmp_path: Path) -> None:
    async with client("openai", tmp_path) as (api, heard):
        with pytest.raises(ollama.ResponseError, match="does not map this path") as caught:
            await api.pull("m1")
        assert caught.value.error.startswith("target one")
    assert caught.value.status_code == 404
    assert not heard


@with_chat
async def test_a_failing_target_is_an_error_of_the_client(tmp_path: Path, name: str) -> None:
    async with client(name, tmp_path) as (api, _):
        with pytest.raises(ollama.ResponseError, match=MESSAGE) as caught:
            await api.chat("m1", ask(FAILS))
        assert caught.value.status_code == 429
        with pytest.raises(ollama.ResponseError, match=MESSAGE):
            _ = [part async for part in await api.chat("m1", ask(BREAKS), stream=True)]


@with_chat
@both_ways
async def test_langchain_thinks_calls_tools_and_sends_their_results(tmp_path: Path, name: str, streams: bool) -> None:
    async with in_front_of(name, tmp_path) as (running, heard):
        model = ChatOllama(model="m1", base_url=running.url, client_kwargs={"headers": BEARER}, reasoning=True)
        with model._client:
            async with model._async_client:
                able = model.bind_tools([get_weather])
                question = HumanMessage(QUESTION)
                if streams:
                    pieces = [piece async for piece in able.astream([question])]
                    said: Any = sum(pieces[1:], pieces[0])
                else:
                    said = await able.ainvoke([question])
                results = [
                    ToolMessage(get_weather(**call["args"]), tool_call_id=call["id"]) for call in said.tool_calls
                ]
                told = await able.ainvoke([question, said, *results])
    assert said.additional_kwargs["reasoning_content"] == THOUGHT
    assert isinstance(told, AIMessage) and told.text == TOLD[Feature.RESULTS].text
    assert heard[1].results == tuple(RESULTS.items())


@everywhere
async def test_langchain_completes_a_text(tmp_path: Path, name: str) -> None:
    async with in_front_of(name, tmp_path) as (running, _):
        model = OllamaLLM(model="m1", base_url=running.url, client_kwargs={"headers": BEARER})
        assert model._client is not None and model._async_client is not None
        with model._client:
            async with model._async_client:
                whole = await model.ainvoke("Say hi")
                pieces = [piece async for piece in model.astream("Say hi")]
    assert whole == "".join(pieces) == HI_THERE.text


@with_vectors
async def test_langchain_embeds(tmp_path: Path, name: str) -> None:
    async with in_front_of(name, tmp_path) as (running, _):
        model = OllamaEmbeddings(model="m1", base_url=running.url, client_kwargs={"headers": BEARER})
        assert model._client is not None and model._async_client is not None
        with model._client:
            async with model._async_client:
                assert await model.aembed_documents(["a", "b"]) == [VECTOR, VECTOR]
                assert await model.aembed_query("a") == VECTOR
