"""huggingface_hub's InferenceClient, which asks TGI at its root path: before a toy TGI and servers of other APIs."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pytest
from huggingface_hub import InferenceClient, close_session
from huggingface_hub.errors import OverloadedError, TextGenerationError

from tests.grid.conversation import Asked
from tests.servers.models import CONTEXT, telling_models
from tests.servers.openai_chat import TEXT, openai_chat
from tests.servers.proxy import KEY, proxy
from tests.servers.scripted import Upstream, upstream
from tests.servers.strict import BREAKS, FAILS, SERVERS, strict
from tests.servers.toy import Toy, running_toy

PROMPT = "Tell me about tea."
Answer = TypeVar("Answer")
Ask = Callable[[Callable[[InferenceClient], Answer]], Any]


@pytest.fixture(autouse=True)
def connections_are_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All clients of a process share their connections."""
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    yield
    close_session()


@asynccontextmanager
async def client(folder: Path, **target: Any) -> AsyncIterator[Ask[Any]]:
    """Runs a blocking function with a client of a proxy in front of this target, in a thread of its own."""
    config = {"targets": {"default": "one", "one": target}, "models": {"mine": {"target": "one", "name": "m1"}}}
    async with proxy(config, folder) as running:

        def asking(function: Callable[[InferenceClient], Answer]) -> Answer:
            with InferenceClient(running.url, provider="hf-inference", token=KEY, timeout=10) as api:
                return function(api)

        yield lambda function: asyncio.to_thread(asking, function)


@asynccontextmanager
async def in_front_of_openai(folder: Path) -> AsyncIterator[tuple[Ask[Any], Upstream]]:
    async with upstream(openai_chat) as target:
        async with client(folder, url=target.url, speaks="openai", endpoints=["chat"]) as ask:
            yield ask, target


@pytest.fixture(scope="module")
def toy() -> Iterator[Toy]:
    with running_toy() as running:
        yield running


async def test_a_text_is_generated_by_a_server_that_only_chats(tmp_path: Path) -> None:
    async with in_front_of_openai(tmp_path) as (ask, target):
        text = await ask(lambda api: api.text_generation(PROMPT, max_new_tokens=20, return_full_text=False, seed=7))
    assert text == TEXT
    sent = orjson.loads(target.requests[-1].body)
    assert sent["messages"] == [{"role": "user", "content": PROMPT}]
    assert sent["seed"] == 7
    assert 20 in (sent.get("max_tokens"), sent.get("max_completion_tokens"))


async def test_the_prompt_is_part_of_the_text_unless_the_client_says_otherwise(tmp_path: Path) -> None:
    async with in_front_of_openai(tmp_path) as (ask, _):
        assert await ask(lambda api: api.text_generation(PROMPT)) == PROMPT + TEXT


async def test_details_say_why_a_text_ended_and_how_long_it_is(tmp_path: Path) -> None:
    async with in_front_of_openai(tmp_path) as (ask, _):
        told = await ask(lambda api: api.text_generation(PROMPT, details=True, return_full_text=False))
    assert (told.generated_text, told.details.finish_reason, told.details.generated_tokens) == (TEXT, "eos_token", 3)


async def test_a_text_is_streamed(tmp_path: Path) -> None:
    async with in_front_of_openai(tmp_path) as (ask, _):
        pieces = await ask(lambda api: list(api.text_generation(PROMPT, stream=True)))
    assert "".join(pieces) == TEXT
    assert len(pieces) > 1


async def test_a_stream_with_details_ends_in_them(tmp_path: Path) -> None:
    async with in_front_of_openai(tmp_path) as (ask, _):
        events = await ask(lambda api: list(api.text_generation(PROMPT, stream=True, details=True)))
    assert "".join(event.token.text for event in events if not event.token.special) == TEXT
    assert events[-1].generated_text == PROMPT + TEXT
    details = events[-1].details
    assert (details.finish_reason, details.generated_tokens, details.input_length) == ("eos_token", 3, 12)


async def test_what_the_target_cannot_be_asked_is_an_error_of_the_client(tmp_path: Path) -> None:
    async with in_front_of_openai(tmp_path) as (ask, _):
        with pytest.raises(TextGenerationError, match="max_new_tokens"):
            await ask(lambda api: api.text_generation(PROMPT, max_new_tokens=0))


async def test_a_chat_is_answered_whole_and_streamed(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": PROMPT}]
    async with in_front_of_openai(tmp_path) as (ask, _):
        whole = await ask(lambda api: api.chat_completion(messages, max_tokens=20))
        chunks = await ask(lambda api: list(api.chat_completion(messages, max_tokens=20, stream=True)))
    assert whole.choices[0].message.content == TEXT
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT


async def test_a_tgi_server_is_asked_as_the_client_asks(tmp_path: Path, toy: Toy) -> None:
    async with client(tmp_path, url=toy.url, speaks="tgi") as ask:
        text = await ask(lambda api: api.text_generation(PROMPT, max_new_tokens=4))
        told = await ask(lambda api: api.text_generation(PROMPT, max_new_tokens=4, details=True))
        pieces = await ask(lambda api: list(api.text_generation(PROMPT, max_new_tokens=4, stream=True)))
    assert text == told.generated_text == PROMPT + "".join(pieces)
    assert told.details.tokens
    assert {request["path"] for request in toy.requests} == {"/"}


async def test_a_tgi_servers_chat_is_translated(tmp_path: Path, toy: Toy) -> None:
    async with client(tmp_path, url=toy.url, speaks="tgi") as ask:
        told = await ask(lambda api: api.chat_completion([{"role": "user", "content": PROMPT}], max_tokens=4))
    assert told.choices[0].message.content
    assert toy.requests[-1]["path"] == "/generate"


async def test_a_tgi_server_tells_about_itself(tmp_path: Path, toy: Toy) -> None:
    async with client(tmp_path, url=toy.url, speaks="tgi") as ask:
        info = await ask(lambda api: api.get_endpoint_info())
    assert info["max_total_tokens"]


@asynccontextmanager
async def in_front_of(name: str, folder: Path) -> AsyncIterator[tuple[Ask[Any], list[Asked]]]:
    """A client in front of a strict server of this API, and what that has understood."""
    heard: list[Asked] = []
    async with upstream(telling_models(name, strict(SERVERS[name], heard))) as target:
        async with client(folder, url=target.url, speaks=name) as ask:
            yield ask, heard


everywhere = pytest.mark.parametrize("name", ["openai", "anthropic", "gemini", "ollama"])


@everywhere
async def test_a_text_is_generated_whole_and_streamed_with_details(tmp_path: Path, name: str) -> None:
    async with in_front_of(name, tmp_path) as (ask, heard):
        told = await ask(lambda api: api.text_generation(PROMPT, details=True, max_new_tokens=20))
        events = await ask(lambda api: list(api.text_generation(PROMPT, stream=True, details=True)))
    assert told.generated_text == events[-1].generated_text == PROMPT + TEXT
    assert told.details.finish_reason == events[-1].details.finish_reason == "eos_token"
    assert "".join(event.token.text for event in events if not event.token.special) == TEXT
    assert [asked.streams for asked in heard] == [False, True]
    assert heard[0].max_tokens == 20


@everywhere
async def test_a_chat_is_answered_whole_and_streamed_everywhere(tmp_path: Path, name: str) -> None:
    messages = [{"role": "user", "content": PROMPT}]
    async with in_front_of(name, tmp_path) as (ask, heard):
        whole = await ask(lambda api: api.chat_completion(messages, model="m1", max_tokens=20))
        chunks = await ask(lambda api: list(api.chat_completion(messages, model="m1", max_tokens=20, stream=True)))
    assert whole.choices[0].message.content == TEXT
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT
    assert heard[0].said == (("user", PROMPT),)


@everywhere
async def test_the_endpoint_tells_about_itself_and_is_healthy(tmp_path: Path, name: str) -> None:
    async with in_front_of(name, tmp_path) as (ask, heard):
        info = await ask(lambda api: api.get_endpoint_info())
        healthy = await ask(lambda api: api.health_check())
    assert info["model_id"].removesuffix(":latest") == "m1"
    assert (info.get("max_total_tokens"), healthy) == (None if name == "ollama" else CONTEXT, True)
    assert not heard


@everywhere
async def test_a_failing_target_is_an_error_of_the_client(tmp_path: Path, name: str) -> None:
    async with in_front_of(name, tmp_path) as (ask, _):
        with pytest.raises(OverloadedError, match="went wrong"):
            await ask(lambda api: api.text_generation(FAILS))
        with pytest.raises(TextGenerationError, match="went wrong"):
            await ask(lambda api: list(api.text_generation(BREAKS, stream=True)))


async def test_a_target_that_is_down_is_not_healthy(tmp_path: Path) -> None:
    async with client(tmp_path, url="http://127.0.0.1:9", speaks="anthropic") as ask:
        assert await ask(lambda api: api.health_check()) is False


async def test_a_chat_that_names_no_model_is_routed_by_the_name_that_the_client_makes_up(tmp_path: Path) -> None:
    heard: list[Asked] = []
    async with upstream(strict(SERVERS["gemini"], heard)) as target:
        own = {"url": target.url, "speaks": "gemini"}
        config = {"targets": {"default": "one", "one": own}, "models": {"dummy": {"target": "one", "name": "m1"}}}
        async with proxy(config, tmp_path) as running:

            def chat() -> Any:
                with InferenceClient(running.url, provider="hf-inference", token=KEY, timeout=10) as api:
                    return api.chat_completion([{"role": "user", "content": PROMPT}], max_tokens=20)

            told = await asyncio.to_thread(chat)
    assert told.choices[0].message.content == TEXT
    assert len(heard) == 1
