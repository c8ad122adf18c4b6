"""Counting tokens with the official SDKs, in front of targets of other APIs."""

from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import openai
import orjson
import pytest
from google import genai
from google.genai.types import HttpOptions

from tests.servers.proxy import KEY, proxy
from tests.servers.scripted import Peer, Received, answer, upstream

pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
"""What Google's SDK does with aiohttp is its own affair."""

MISSING = answer(b'{"detail": "Not Found"}', status="404 Not Found")
TOKENS = [{"id": at, "text": "x", "start": at, "stop": at + 1} for at in range(12)]
COUNTERS: dict[str, Any] = {
    "/v1/responses/input_tokens": {"object": "response.input_tokens", "input_tokens": 12},
    "/tokenize": {"count": 12, "max_model_len": 4096, "tokens": list(range(12))},
    "/v1/messages/count_tokens": {"input_tokens": 12},
    "/v1beta/models/m1:countTokens": {"totalTokens": 12},
}
ASKED: list[Any] = [{"role": "user", "content": "Hi"}]
SPEAKERS = {"openai": "/v1/responses/input_tokens", "anthropic": "/v1/messages/count_tokens"}
SPEAKERS |= {"gemini": "/v1beta/models/m1:countTokens", "tgi": "/tokenize"}


async def count_openai(url: str) -> int:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as api:
        counted = await api.responses.input_tokens.count(model="m1", input="Hi")
        assert counted.object == "response.input_tokens"
        return counted.input_tokens


async def count_anthropic(url: str) -> int:
    async with anthropic.AsyncAnthropic(base_url=url, api_key=KEY, max_retries=0) as api:
        return (await api.messages.count_tokens(model="m1", messages=ASKED)).input_tokens


async def count_gemini(url: str) -> int:
    api = genai.Client(api_key=KEY, http_options=HttpOptions(base_url=url)).aio
    try:
        return (await api.models.count_tokens(model="m1", contents="Hi")).total_tokens or 0
    finally:
        await api.aclose()


Count = Callable[[str], Awaitable[int]]
CLIENTS: dict[str, Count] = {"openai": count_openai, "anthropic": count_anthropic, "gemini": count_gemini}
clients = pytest.mark.parametrize("client", list(CLIENTS))


def counting(speaks: str, *there: str) -> Callable[[Peer, Received], Awaitable[None]]:
    """A server that has these counters and nothing else."""

    async def script(peer: Peer, received: Received) -> None:
        path = received.line.split()[1].partition("?")[0]
        counted = TOKENS if speaks == "tgi" else COUNTERS.get(path)
        await peer.send(answer(orjson.dumps(counted)) if path in there else MISSING)

    return script


async def counted(client: str, speaks: str, *there: str, times: int = 1) -> tuple[list[str], list[int]]:
    """Count with this client: the paths that were asked, and the counts."""
    async with upstream(counting(speaks, *there)) as server:
        config = {"targets": {"default": "one", "one": {"url": server.url, "speaks": speaks}}}
        async with proxy(config) as running:
            counts = [await CLIENTS[client](running.url) for _ in range(times)]
    return [one.line.split()[1].partition("?")[0] for one in server.requests], counts


@clients
@pytest.mark.parametrize("speaks", list(SPEAKERS))
async def test_every_client_counts_in_front_of_every_target_with_a_counter(client: str, speaks: str) -> None:
    assert await counted(client, speaks, SPEAKERS[speaks]) == ([SPEAKERS[speaks]], [12])


@clients
async def test_vllms_counter_is_found_where_openais_is_missing(client: str) -> None:
    paths, counts = await counted(client, "openai", "/tokenize", times=2)
    assert paths == ["/v1/responses/input_tokens", "/tokenize", "/tokenize"]
    assert counts == [12, 12]


@clients
@pytest.mark.parametrize(("speaks", "asked"), [("ollama", []), ("openai", ["/v1/responses/input_tokens", "/tokenize"])])
async def test_a_target_without_a_counter_is_a_404_that_says_so(client: str, speaks: str, asked: list[str]) -> None:
    async with upstream(counting(speaks)) as server:
        config = {"targets": {"default": "one", "one": {"url": server.url, "speaks": speaks}}}
        async with proxy(config) as running:
            for _ in range(2):
                with pytest.raises(Exception, match="target one cannot count tokens") as caught:
                    await CLIENTS[client](running.url)
                assert getattr(caught.value, "status_code", getattr(caught.value, "code", None)) == 404
    assert [one.line.split()[1] for one in server.requests] == asked
