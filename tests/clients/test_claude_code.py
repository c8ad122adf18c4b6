"""Claude Code's kind of traffic: beta messages with tools, thoughts, caching and images, in front of a strict server of
OpenAI's chats and nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import orjson
import pytest
from anthropic import AsyncAnthropic

from tests.grid.conversation import CITY, PNG, TOLD, TOOL, Asked, Feature
from tests.servers.proxy import KEY, proxy
from tests.servers.scripted import Upstream, upstream
from tests.servers.strict import BREAKS, FAILS, SERVERS, strict

CACHED = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
SYSTEM = [
    {"type": "text", "text": "You are Claude Code."},
    {"type": "text", "text": "Be brief.", **CACHED},
]
TOOLS = [
    {"name": TOOL, "description": "Weather of a city", "input_schema": CITY},
    {"name": "Bash", "description": "Run a command", "input_schema": {"type": "object"}, **CACHED},
    {"type": "web_search_20250305", "name": "web_search", "max_uses": 8},
]
BETAS = ["claude-code-20250219", "interleaved-thinking-2025-05-14", "context-management-2025-06-27"]
RESULTS = {"Paris": "20 degrees", "Rome": "25 degrees"}
LOST = {"cache_control", "context_management", "tools.web_search_20250305"}


def task(text: str) -> dict[str, Any]:
    reminder = {"type": "text", "text": "<system-reminder>The date is today.</system-reminder>"}
    return {"role": "user", "content": [reminder, {"type": "text", "text": text, **CACHED}]}


def body(*messages: Any) -> dict[str, Any]:
    """A request as Claude Code makes it."""
    return {
        "model": "claude-opus-4-7",
        "max_tokens": 16000,
        "system": SYSTEM,
        "tools": TOOLS,
        "messages": list(messages),
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "high"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "metadata": {"user_id": "user_1_account__session_2"},
        "betas": BETAS,
    }


@asynccontextmanager
async def claude_code(folder: Path) -> AsyncIterator[tuple[AsyncAnthropic, list[Asked], Upstream]]:
    """A client of a proxy in front of the strict server, what that has understood, and what it got."""
    heard: list[Asked] = []
    async with upstream(strict(SERVERS["openai"], heard)) as target:
        config = {"targets": {"default": "one", "one": {"url": target.url, "speaks": "openai"}}}
        async with proxy(config, folder) as running:
            async with AsyncAnthropic(base_url=running.url, auth_token=KEY, max_retries=0) as api:
                yield api, heard, target


async def streamed(api: AsyncAnthropic, asked: dict[str, Any]) -> Any:
    async with api.beta.messages.stream(**asked) as events:
        return await events.get_final_message()


def results_of(message: Any) -> dict[str, Any]:
    """What the tools returned: a text, or a text and a picture."""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}, **CACHED}
    calls = [block for block in message.content if block.type == "tool_use"]
    contents: list[Any] = [RESULTS["Paris"], [{"type": "text", "text": RESULTS["Rome"]}, image]]
    blocks = [
        {"type": "tool_result", "tool_use_id": call.id, "content": content}
        for call, content in zip(calls, contents, strict=True)
    ]
    return {"role": "user", "content": [*blocks, {"type": "text", "text": "Compare them.", **CACHED}]}


async def test_a_task_with_thoughts_parallel_calls_and_results_with_pictures(tmp_path: Path) -> None:
    async with claude_code(tmp_path) as (api, heard, target):
        begun = task("Weather in Paris and Rome?")
        first = await streamed(api, body(begun))
        said = {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in first.content]}
        last = await streamed(api, body(begun, said, results_of(first)))
    assert [block.type for block in first.content] == ["thinking", "tool_use", "tool_use"]
    assert [block.input for block in first.content[1:]] == [{"city": "Paris"}, {"city": "Rome"}]
    assert (first.stop_reason, last.stop_reason) == ("tool_use", "end_turn")
    assert last.content[-1].text == TOLD[Feature.RESULTS].text
    assert (last.usage.input_tokens, last.usage.cache_read_input_tokens) == (8, 4)
    opening, compared = heard
    assert opening.thinks and opening.streams and set(opening.tools) == {TOOL, "Bash"}
    assert opening.system == "You are Claude Code.Be brief."
    assert compared.results == tuple(RESULTS.items())
    assert compared.images == (PNG,)
    assert not any(request.value("anthropic-beta") for request in target.requests)


async def test_what_only_anthropic_knows_is_named(tmp_path: Path) -> None:
    async with claude_code(tmp_path) as (api, _, target):
        raw = await api.beta.messages.with_raw_response.create(**body(task("Weather in Paris?")))
    assert LOST <= set(raw.headers["x-mooltiproxy-dropped"].split("; "))
    assert raw.headers["request-id"] == raw.headers["x-request-id"]
    assert (await raw.parse()).stop_reason == "tool_use"
    assert target.requests[-1].line.startswith("POST /v1/chat/completions HTTP")
    assert b"cache_control" not in target.requests[-1].body


async def test_a_reminder_between_the_turns_keeps_its_place(tmp_path: Path) -> None:
    turns = [task("Hi"), {"role": "assistant", "content": "Hello."}, {"role": "system", "content": "Plan mode is on."}]
    async with claude_code(tmp_path) as (api, _, target):
        await api.beta.messages.create(**body(*turns, task("Go on.")), extra_headers={"x-app": "cli"})
    roles = [message["role"] for message in orjson.loads(target.requests[-1].body)["messages"]]
    assert roles == ["system", "user", "assistant", "system", "user"]


async def test_counting_tokens_is_refused_as_an_error_of_the_api(tmp_path: Path) -> None:
    asked = body(task("Hi"))
    counted = {name: asked[name] for name in ("model", "system", "tools", "messages", "betas")}
    async with claude_code(tmp_path) as (api, _, _):
        with pytest.raises(anthropic.NotFoundError) as caught:
            await api.beta.messages.count_tokens(**counted)
    assert isinstance(caught.value.body, dict) and caught.value.body["error"]["type"] == "not_found_error"


async def test_an_early_error_and_one_in_the_stream(tmp_path: Path) -> None:
    async with claude_code(tmp_path) as (api, _, _):
        with pytest.raises(anthropic.RateLimitError):
            await streamed(api, body({"role": "user", "content": FAILS}))
        with pytest.raises(anthropic.APIStatusError):
            await streamed(api, body({"role": "user", "content": BREAKS}))
