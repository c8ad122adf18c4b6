"""The official anthropic client in front of an OpenAI-speaking server, and the openai client in front of Claude's."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import orjson
import pytest
from anthropic import AsyncAnthropic, beta_async_tool

from mooltiproxy.mapping.framing import encode_sse
from tests.servers.proxy import KEY, Proxy, proxy
from tests.servers.scripted import STREAM_HEAD, Peer, Received, Script, Upstream, answer, chunk, upstream
from tests.servers.strict_anthropic import KEY as TARGET_KEY
from tests.servers.strict_anthropic import strict_anthropic

ASKED: Any = [{"role": "user", "content": "Weather in Paris and Rome?"}]
USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 9,
    "total_tokens": 21,
    "prompt_tokens_details": {"cached_tokens": 4},
}
CITIES = ["Paris", "Rome"]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL: Any = {"name": "weather", "description": "Weather of a city", "input_schema": SCHEMA}


def calls() -> list[dict[str, Any]]:
    return [
        {"id": f"call_{city}", "type": "function", "function": {"name": "weather", "arguments": f'{{"city":"{city}"}}'}}
        for city in CITIES
    ]


def wants_calls(body: Mapping[str, Any]) -> bool:
    return bool(body.get("tools")) and body["messages"][-1]["role"] != "tool"


def deltas(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    begun: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, {"reasoning_content": "Let me see."}]
    if not wants_calls(body):
        return [*begun, {"content": "Hi"}, {"content": " there"}]
    first, second = calls()
    opened = [
        {"index": at, **call, "function": {"name": "weather", "arguments": ""}}
        for at, call in enumerate([first, second])
    ]
    texts = [call["function"]["arguments"] for call in (first, second)]
    pieces = [(0, texts[0][:5]), (1, texts[1][:5]), (0, texts[0][5:]), (1, texts[1][5:])]
    fragments = [{"index": at, "function": {"arguments": text}} for at, text in pieces]
    return [*begun, *({"tool_calls": [call]} for call in (*opened, *fragments))]


def message(body: Mapping[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {"role": "assistant", "content": "Hi there", "reasoning_content": "Let me see."}
    if "response_format" in body:
        return {**said, "content": '{"city":"Paris"}'}
    return {**said, "content": None, "tool_calls": calls()} if wants_calls(body) else said


async def chat_server(peer: Peer, received: Received) -> None:
    """OpenAI's chat completions alone. Of its models, `nope` does not exist and `dying` breaks off in a stream."""
    body = orjson.loads(received.body or b"{}")
    if not received.line.startswith("POST /v1/chat/completions "):
        await peer.send(answer(b'{"error": {"message": "no such path"}}', status="404 Not Found"))
    elif body["model"] == "nope":
        error = {"error": {"message": "The model `nope` does not exist", "code": "model_not_found"}}
        await peer.send(answer(orjson.dumps(error), status="404 Not Found"))
    elif body["model"] == "full":
        error = {"error": {"message": "This model's maximum context length is 8192 tokens", "type": "BadRequestError"}}
        await peer.send(answer(orjson.dumps(error), status="400 Bad Request"))
    elif not body.get("stream"):
        choice = {"index": 0, "message": message(body), "finish_reason": "stop"}
        await peer.send(answer(orjson.dumps({"choices": [choice], "usage": USAGE})))
    else:
        await stream(peer, body)


async def stream(peer: Peer, body: Mapping[str, Any]) -> None:
    chunks: list[Any] = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas(body)]
    if body["model"] == "dying":
        chunks[3:] = [{"error": {"message": "it died", "type": "server_error"}}]
    else:
        finish = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
        chunks += [finish, {"choices": [], "usage": USAGE}, "[DONE]"]
    await peer.send(STREAM_HEAD + b"".join(chunk(encode_sse(event)) for event in chunks) + b"0\r\n\r\n")


@asynccontextmanager
async def served(script: Script, speaks: str, folder: Path) -> AsyncIterator[tuple[Proxy, Upstream]]:
    async with upstream(script) as target:
        own = {"url": target.url, "speaks": speaks, "envkey": "TARGET_KEY"}
        config = {"targets": {"default": "one", "one": own}}
        async with proxy(config, folder, TARGET_KEY=TARGET_KEY) as running:
            yield running, target


@asynccontextmanager
async def claude(folder: Path, script: Script = chat_server) -> AsyncIterator[tuple[AsyncAnthropic, Upstream]]:
    """An anthropic client of a proxy in front of this server."""
    async with served(script, "openai" if script is chat_server else "anthropic", folder) as (running, target):
        async with AsyncAnthropic(base_url=running.url, api_key=KEY, max_retries=0) as api:
            yield api, target


def sent(target: Upstream) -> Any:
    return orjson.loads(target.requests[-1].body)


async def test_a_message_is_answered_whole(tmp_path: Path) -> None:
    async with claude(tmp_path) as (api, target):
        told = await api.messages.create(model="m1", max_tokens=64, messages=ASKED, system="Be brief.")
    assert [block.type for block in told.content] == ["thinking", "text"]
    assert told.content[1].type == "text" and told.content[1].text == "Hi there"
    assert (told.model, told.role, told.stop_reason, told.stop_sequence) == ("m1", "assistant", "end_turn", None)
    assert (told.usage.input_tokens, told.usage.cache_read_input_tokens, told.usage.output_tokens) == (8, 4, 9)
    assert sent(target)["messages"][0] == {"role": "system", "content": "Be brief."}


async def test_the_blocking_client_is_answered_too(tmp_path: Path) -> None:
    async with served(chat_server, "openai", tmp_path) as (running, _):

        def ask() -> str:
            with anthropic.Anthropic(base_url=running.url, auth_token=KEY, max_retries=0) as api:
                with api.messages.stream(model="m1", max_tokens=64, messages=ASKED) as events:
                    return "".join(events.text_stream)

        assert await asyncio.to_thread(ask) == "Hi there"


async def test_a_message_is_streamed(tmp_path: Path) -> None:
    async with claude(tmp_path) as (api, target):
        async with api.messages.stream(model="m1", max_tokens=64, messages=ASKED) as events:
            seen = [event async for event in events]
            final = await events.get_final_message()
    thought, text = final.content
    assert thought.type == "thinking" and (thought.thinking, thought.signature) == ("Let me see.", "")
    assert text.type == "text" and text.text == "Hi there"
    assert final.stop_reason == "end_turn"
    assert (final.usage.input_tokens, final.usage.cache_read_input_tokens, final.usage.output_tokens) == (8, 4, 9)
    assert "signature" not in {event.type for event in seen}
    assert sent(target)["stream_options"] == {"include_usage": True}


async def test_raw_events_are_streamed_under_their_names(tmp_path: Path) -> None:
    async with claude(tmp_path) as (api, _):
        events = await api.messages.create(model="m1", max_tokens=64, messages=ASKED, stream=True)
        kinds = [event.type async for event in events]
    assert (kinds[0], kinds[-2:]) == ("message_start", ["message_delta", "message_stop"])


@pytest.mark.parametrize("streams", [False, True])
async def test_tools_are_called_and_their_results_sent_back(tmp_path: Path, streams: bool) -> None:
    asked: list[str] = []

    @beta_async_tool
    async def weather(city: str) -> str:
        """Weather of a city."""
        asked.append(city)
        return f"20 in {city}"

    async with claude(tmp_path) as (api, target):
        runner: Any = api.beta.messages.tool_runner(
            model="m1", max_tokens=64, messages=ASKED, tools=[weather], stream=streams
        )
        final = await runner.until_done()
    assert asked == CITIES
    assert final.content[-1].text == "Hi there"
    _, said, *results = sent(target)["messages"]
    assert [call["id"] for call in said["tool_calls"]] == ["call_Paris", "call_Rome"]
    assert [(result["role"], result["tool_call_id"], result["content"]) for result in results] == [
        ("tool", "call_Paris", "20 in Paris"),
        ("tool", "call_Rome", "20 in Rome"),
    ]


async def test_an_answer_of_a_schema_is_parsed(tmp_path: Path) -> None:
    async with claude(tmp_path) as (api, target):
        output: Any = {"format": {"type": "json_schema", "schema": SCHEMA}}
        told = await api.messages.create(model="m1", max_tokens=64, messages=ASKED, output_config=output)
    assert told.content[-1].type == "text" and orjson.loads(told.content[-1].text) == {"city": "Paris"}
    assert sent(target)["response_format"]["json_schema"]["schema"] == SCHEMA


async def test_what_is_dropped_is_named_in_a_header_and_the_beta_flag_is_no_harm(tmp_path: Path) -> None:
    async with claude(tmp_path) as (api, target):
        raw = await api.beta.messages.with_raw_response.create(
            model="m1",
            max_tokens=64,
            messages=ASKED,
            thinking={"type": "adaptive"},
            context_management={"edits": [{"type": "clear_tool_uses_20250919"}]},
            extra_body={"temperature": 0.5},
        )
    assert raw.headers["x-mooltiproxy-dropped"] == "context_management"
    assert sent(target)["temperature"] == 0.5
    assert target.requests[-1].line.startswith("POST /v1/chat/completions HTTP")
    assert target.requests[-1].value("anthropic-version") is None


async def test_errors_are_the_sdks_own(tmp_path: Path) -> None:
    async with claude(tmp_path) as (api, _):
        with pytest.raises(anthropic.NotFoundError) as missing:
            await api.messages.create(model="nope", max_tokens=64, messages=ASKED)
        with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
            await api.messages.create(model="full", max_tokens=64, messages=ASKED)
        with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
            await api.messages.create(model="m1", max_tokens=0, messages=ASKED)
        with pytest.raises(anthropic.AuthenticationError):
            await api.with_options(api_key="wrong").messages.create(model="m1", max_tokens=64, messages=ASKED)
    error = missing.value.body
    assert isinstance(error, dict)
    assert (error["type"], error["error"]["type"]) == ("error", "not_found_error")
    assert error["request_id"]


async def test_a_stream_that_breaks_off_raises(tmp_path: Path) -> None:
    async with claude(tmp_path) as (api, _):
        with pytest.raises(anthropic.APIStatusError, match="it died"):
            async with api.messages.stream(model="dying", max_tokens=64, messages=ASKED) as events:
                assert [text async for text in events.text_stream] == ["Hi"]


async def test_claude_itself_is_asked_with_the_targets_key_and_whatever_the_client_says(tmp_path: Path) -> None:
    async with claude(tmp_path, strict_anthropic) as (api, target):
        told = await api.messages.create(model="m1", max_tokens=64, messages=ASKED, thinking={"type": "adaptive"})
        counted = await api.messages.count_tokens(model="m1", messages=ASKED, tools=[TOOL])
        with pytest.raises(anthropic.BadRequestError, match="brand_new: Extra inputs"):
            await api.messages.create(model="m1", max_tokens=64, messages=ASKED, extra_body={"brand_new": 1})
    assert told.content[0].type == "thinking" and told.content[0].signature == "c2ln"
    assert counted.input_tokens == 12
    assert {request.value("x-api-key") for request in target.requests} == {TARGET_KEY}


@asynccontextmanager
async def gpt(folder: Path) -> AsyncIterator[tuple[openai.AsyncOpenAI, Upstream]]:
    """An openai client of a proxy in front of Claude."""
    async with served(strict_anthropic, "anthropic", folder) as (running, target):
        async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key=KEY, max_retries=0) as api:
            yield api, target


FUNCTION: Any = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"temperature": 2, "top_p": 0.9, "seed": 7, "presence_penalty": 1, "user": "u", "stop": ["\n\n", "END"]},
        {"reasoning_effort": "high", "temperature": 0, "max_completion_tokens": 100},
        {"tools": [FUNCTION], "tool_choice": "none", "parallel_tool_calls": False},
        {"tools": [FUNCTION], "tool_choice": "required", "reasoning_effort": "low"},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}}},
        {"messages": [{"role": "assistant", "content": "Hello "}, {"role": "system", "content": "Be brief."}, *ASKED]},
        {"messages": [*ASKED, {"role": "assistant", "content": ""}, *ASKED]},
        {"metadata": {"a": "b"}, "store": True, "service_tier": "flex", "logit_bias": {"1": 1}},
    ],
)
async def test_claude_takes_what_openais_clients_ask(tmp_path: Path, fields: dict[str, Any]) -> None:
    async with gpt(tmp_path) as (api, _):
        asked: dict[str, Any] = {"model": "claude-sonnet-4-5", "messages": ASKED, **fields}
        told = await api.chat.completions.create(**asked)
    assert told.choices[0].finish_reason in ("stop", "tool_calls")
    assert told.usage and told.usage.prompt_tokens == 12


async def test_claude_streams_to_openais_clients(tmp_path: Path) -> None:
    async with gpt(tmp_path) as (api, _):
        events = await api.chat.completions.create(
            model="m1", messages=ASKED, stream=True, stream_options={"include_usage": True}
        )
        chunks = [event async for event in events]
    told = [one.choices[0].delta for one in chunks if one.choices]
    assert "".join(delta.content or "" for delta in told) == "Hi there"
    assert "".join(getattr(delta, "reasoning_content", "") for delta in told) == "Let me see."
    assert chunks[-1].usage and chunks[-1].usage.total_tokens == 21


@pytest.mark.parametrize("streams", [False, True])
async def test_claudes_calls_are_answered_by_openais_clients(tmp_path: Path, streams: bool) -> None:
    async with gpt(tmp_path) as (api, target):
        if streams:
            async with api.chat.completions.stream(model="m1", messages=ASKED, tools=[FUNCTION]) as events:
                told = (await events.get_final_completion()).choices[0]
        else:
            told = (await api.chat.completions.create(model="m1", messages=ASKED, tools=[FUNCTION])).choices[0]  # type: ignore[assignment]
        assert told.finish_reason == "tool_calls"
        made = told.message.tool_calls or []
        assert [call.function.arguments for call in made] == ['{"city":"Paris"}', '{"city":"Rome"}']
        results = [{"role": "tool", "tool_call_id": call.id, "content": "20"} for call in made]
        said = {"role": "assistant", "tool_calls": [call.model_dump() for call in made]}
        history: Any = [*ASKED, said, *results, {"role": "user", "content": "So?"}]
        last = await api.chat.completions.create(model="m1", messages=history, tools=[FUNCTION])
    assert last.choices[0].message.content == "Hi there"
    assert [block["type"] for block in sent(target)["messages"][-1]["content"]] == [
        "tool_result",
        "tool_result",
        "text",
    ]


async def test_claudes_errors_are_openais(tmp_path: Path) -> None:
    async with gpt(tmp_path) as (api, _):
        with pytest.raises(openai.NotFoundError, match="model: nope"):
            await api.chat.completions.create(model="nope", messages=ASKED)
        with pytest.raises(openai.InternalServerError) as busy:
            await api.chat.completions.create(model="busy", messages=ASKED)
        with pytest.raises(openai.APIError, match="it died"):
            async for _ in await api.chat.completions.create(model="dying", messages=ASKED, stream=True):
                pass
    assert (busy.value.status_code, busy.value.response.headers["retry-after"]) == (503, "3")


async def test_claudes_models_are_listed_for_openais_clients(tmp_path: Path) -> None:
    async with gpt(tmp_path) as (api, _):
        assert [model.id async for model in api.models.list()] == ["m1"]


async def test_models_are_listed_for_anthropics_clients_too(tmp_path: Path) -> None:
    async with claude(tmp_path, strict_anthropic) as (api, _):
        assert [model.id async for model in api.models.list()] == ["m1"]
        assert (await api.models.retrieve("m1")).id == "m1"
