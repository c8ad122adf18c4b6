"""The official clients of each API know a limit of the proxy for what it is."""

import asyncio

import anthropic
import ollama
import openai
import pytest
from google import genai
from google.genai import errors, types

from tests.limits.sending import MASTER, limited

SAID = [{"role": "user", "content": "Hi"}]


async def test_openai_raises_its_rate_limit_error_and_reads_the_limit() -> None:
    async with limited({"requests": "1/1h"}) as one:
        url = f"{one.proxy.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=MASTER, max_retries=0) as api:
            raw = await api.chat.completions.with_raw_response.create(
                model="m1", messages=[{"role": "user", "content": "Hi"}]
            )
            assert raw.headers["x-ratelimit-remaining-requests"] == "0"
            with pytest.raises(openai.RateLimitError) as found:
                await api.chat.completions.create(model="m1", messages=[{"role": "user", "content": "Hi"}])
            assert found.value.code == "rate_limit_exceeded"
            with pytest.raises(openai.RateLimitError):
                await api.responses.create(model="m1", input="Hi", stream=True)


async def test_anthropic_raises_its_rate_limit_error() -> None:
    async with limited({"requests": "1/1h"}) as one:
        async with anthropic.AsyncAnthropic(base_url=one.proxy.url, api_key=MASTER, max_retries=0) as api:
            asked = {"model": "m1", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
            raw = await api.messages.with_raw_response.create(**asked)  # type: ignore[call-overload]
            assert raw.headers["anthropic-ratelimit-requests-remaining"] == "0"
            with pytest.raises(anthropic.RateLimitError):
                await api.messages.create(**asked)  # type: ignore[call-overload]


async def test_gemini_raises_that_a_resource_is_exhausted() -> None:
    async with limited({"requests": "1/1h"}) as one:
        api = genai.Client(api_key=MASTER, http_options=types.HttpOptions(base_url=one.proxy.url))
        await asyncio.to_thread(api.models.generate_content, model="m1", contents="Hi")
        with pytest.raises(errors.ClientError) as found:
            await asyncio.to_thread(api.models.generate_content, model="m1", contents="Hi")
        assert (found.value.code, found.value.status) == (429, "RESOURCE_EXHAUSTED")
        api.close()


async def test_ollama_raises_an_error_with_the_status() -> None:
    async with limited({"requests": "1/1h"}) as one:
        api = ollama.AsyncClient(one.proxy.url, headers={"Authorization": f"Bearer {MASTER}"})
        await api.chat("m1", SAID)
        with pytest.raises(ollama.ResponseError) as found:
            await api.chat("m1", SAID)
        assert found.value.status_code == 429
        await api._client.aclose()
