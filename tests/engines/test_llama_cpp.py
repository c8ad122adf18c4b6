"""llama.cpp's own server behind `run:`, and the official clients of three APIs in front of it."""

import asyncio
import shlex
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai
import orjson

from tests.servers import llama
from tests.servers.engines import engines, processes
from tests.servers.llama import SENTENCE
from tests.servers.proxy import BEARER, KEY, Proxy, proxy

MESSAGES: Any = [{"role": "user", "content": "Tell me a story."}]
SERVER = str(Path(llama.__file__))


def llama_target(marker: Path, **run: Any) -> dict[str, Any]:
    """A target whose server is llama.cpp; the marker is on its command line."""
    command = f"{shlex.join([sys.executable, '-X', f'marker={marker}', SERVER])} ${{port}}"
    return {
        "url": "http://127.0.0.1:${port}",
        "speaks": "openai",
        "run": {"command": command, "ready": "/health", **run},
    }


@asynccontextmanager
async def two_exclusive_servers(folder: Path) -> AsyncIterator[Proxy]:
    """The proxy in front of the models `small` and `large`, of whose servers one runs at a time."""
    targets = {name: llama_target(folder, group="gpu") for name in ("small", "large")}
    async with proxy(engines(**targets), folder) as running:
        yield running
    assert list(processes(str(folder))) == []


async def openai_says(running: Proxy, model: str) -> tuple[str, str]:
    """What openai's client gets, whole and streaming."""
    async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key=KEY, max_retries=0) as client:
        answer = await client.chat.completions.create(model=model, messages=MESSAGES)
        stream = await client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
    return answer.choices[0].message.content or "", "".join(pieces)


async def anthropic_says(running: Proxy, model: str) -> tuple[str, str]:
    """What anthropic's client gets."""
    async with anthropic.AsyncAnthropic(base_url=running.url, api_key=KEY, max_retries=0) as client:
        answer = await client.messages.create(model=model, messages=MESSAGES, max_tokens=50)
        async with client.messages.stream(model=model, messages=MESSAGES, max_tokens=50) as stream:
            text = await stream.get_final_text()
    return "".join(block.text for block in answer.content if block.type == "text"), text


async def ollama_says(running: Proxy, model: str) -> tuple[str, str]:
    """What ollama's client gets."""
    async with ollama.AsyncClient(host=running.url, headers=BEARER) as client:
        answer = await client.chat(model=model, messages=MESSAGES)
        stream = await client.chat(model=model, messages=MESSAGES, stream=True)
        return answer.message.content or "", "".join([part.message.content or "" async for part in stream])


def gone(marker: Path, seconds: float) -> None:
    """Return when no process of the marker is left; fails if that takes longer."""
    deadline = time.monotonic() + seconds
    while list(processes(str(marker))):
        assert time.monotonic() < deadline
        time.sleep(0.02)


async def states(running: Proxy) -> dict[str, str]:
    async with running.client.get("/-/status") as response:
        return {one["target"]: one["state"] for one in orjson.loads(await response.read())["targets"]}


async def test_two_exclusive_servers_answer_the_clients_of_three_apis_in_turn(tmp_path: Path) -> None:
    async with two_exclusive_servers(tmp_path) as running:
        for model, other, say in (
            ("small", "large", openai_says),
            ("large", "small", anthropic_says),
            ("small", "large", ollama_says),
        ):
            assert [text.strip() for text in await say(running, model)] == [SENTENCE, SENTENCE]
            assert (await states(running)) == {model: "ready", other: "stopped"}


async def test_keep_alive_2_and_llama_cpp_is_gone_within_4_seconds(tmp_path: Path) -> None:
    async with (
        two_exclusive_servers(tmp_path) as running,
        ollama.AsyncClient(host=running.url, headers=BEARER) as client,
    ):
        await client.chat(model="small", messages=MESSAGES, keep_alive=2)
        answered = time.monotonic()
        assert len((await client.ps()).models) == 1
        await asyncio.to_thread(gone, tmp_path, 4.0)
        assert time.monotonic() - answered > 1.5
        assert (await client.ps()).models == []
