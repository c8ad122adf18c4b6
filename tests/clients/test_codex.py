"""Codex's kind of traffic: Responses, streamed, in front of a strict server of OpenAI's chats and nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.grid.conversation import TOLD, TOOL, Asked, Feature
from tests.servers.proxy import KEY, proxy
from tests.servers.scripted import upstream
from tests.servers.strict import BREAKS, FAILS, SERVERS, strict

RESULTS = {"Paris": "20 degrees", "Rome": "25 degrees"}
FUNCTION = {
    "type": "function",
    "name": TOOL,
    "description": "Weather of a city",
    "strict": False,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TOOLS: list[Any] = [
    FUNCTION,
    {"type": "local_shell"},
    {"type": "web_search", "external_web_access": False},
    {
        "type": "custom",
        "name": "apply_patch",
        "format": {"type": "grammar", "syntax": "lark", "definition": "start: /x/"},
    },
    {"type": "namespace", "name": "mcp__files", "description": "", "tools": [{**FUNCTION, "name": "read"}]},
]
LOST = {"client_metadata", "prompt_cache_key", *(f"tools.{tool['type']}" for tool in TOOLS[1:])}


def said(role: str, text: str) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}


START = [said("developer", "You may read files."), said("user", "<environment_context>/tmp</environment_context>")]


def body(*items: Any) -> dict[str, Any]:
    """A request as Codex makes it."""
    return {
        "model": "m1",
        "instructions": "You are a coding agent.",
        "input": [*START, *items],
        "tools": TOOLS,
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "0199-thread",
        "extra_body": {"client_metadata": {"x-codex-installation-id": "1"}},
    }


@asynccontextmanager
async def codex(folder: Path) -> AsyncIterator[tuple[openai.AsyncOpenAI, list[Asked]]]:
    """A client of a proxy in front of the strict server, and what that has understood."""
    heard: list[Asked] = []
    async with upstream(strict(SERVERS["openai"], heard)) as target:
        config = {"targets": {"default": "one", "one": {"url": target.url, "speaks": "openai"}}}
        async with proxy(config, folder) as running:
            async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key=KEY, max_retries=0) as api:
                yield api, heard


async def streamed(api: openai.AsyncOpenAI, asked: dict[str, Any]) -> tuple[list[Any], set[str]]:
    """The events of a response, checked for their order, and what the ledger names."""
    raw = await api.responses.with_raw_response.create(**asked)
    events = [event async for event in raw.parse()]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    return events, set(raw.headers.get("x-mooltiproxy-dropped", "").split("; "))


async def test_a_task_with_thoughts_parallel_calls_and_their_results(tmp_path: Path) -> None:
    async with codex(tmp_path) as (api, heard):
        task = said("user", "Weather in Paris and Rome?")
        events, lost = await streamed(api, body(task))
        done = [event.item for event in events if event.type == "response.output_item.done"]
        calls = [item for item in done if item.type == "function_call"]
        results = [
            {"type": "function_call_output", "call_id": call.call_id, "output": result}
            for call, result in zip(calls, RESULTS.values(), strict=True)
        ]
        history = [item.model_dump(exclude_none=True, exclude={"status"}) for item in done]
        answers, lost_again = await streamed(api, body(task, *history, *results))
    assert [item.type for item in done] == ["reasoning", "function_call", "function_call"]
    assert done[0].summary[0].text == TOLD[Feature.REASONING].thought
    assert answers[-1].type == "response.completed"
    assert answers[-1].response.output_text == TOLD[Feature.RESULTS].text
    assert answers[-1].response.usage.input_tokens == 12
    assert LOST <= lost and LOST <= lost_again
    first, second = heard
    assert first.thinks and first.streams and set(first.tools) == {TOOL}
    assert first.system == "You are a coding agent.\n\nYou may read files."
    assert second.results == tuple(RESULTS.items())


async def test_what_only_openais_servers_run_stays_out_of_the_history_and_is_named(tmp_path: Path) -> None:
    shell = {"type": "exec", "command": ["ls"], "env": {}}
    history = [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"},
        {"type": "local_shell_call", "id": "ls_1", "call_id": "call_1", "status": "completed", "action": shell},
        {"type": "local_shell_call_output", "id": "ls_1", "output": "README.md"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}},
        {"type": "custom_tool_call", "call_id": "call_2", "name": "apply_patch", "input": "*** Begin Patch"},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": "done"},
        said("assistant", "Patched."),
    ]
    async with codex(tmp_path) as (api, heard):
        events, lost = await streamed(api, body(*history, said("user", "Weather in Paris?")))
    assert events[-1].type == "response.completed"
    assert {"input.local_shell_call", "input.local_shell_call_output", "input.web_search_call"} <= lost
    assert any("reasoning" in name for name in lost)
    assert heard[0].said[-1] == ("user", "Weather in Paris?")
    assert heard[0].results[0][1] == "done"


async def test_an_early_error_and_one_in_the_stream(tmp_path: Path) -> None:
    async with codex(tmp_path) as (api, _):
        with pytest.raises(openai.RateLimitError):
            await streamed(api, body(said("user", FAILS)))
        events, _lost = await streamed(api, body(said("user", BREAKS)))
    assert events[-1].type == "response.failed"
