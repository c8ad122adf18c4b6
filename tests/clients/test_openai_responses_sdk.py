"""The official openai client's Responses, embeddings and models, and LangChain's, in front of servers that do not have
them; and chat completions in front of a server that has nothing but Responses."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import FunctionToolParam, ResponseFunctionToolCall, ResponseInputParam
from pydantic import BaseModel, SecretStr

from mappers.openai import responses
from mappers.openai.responses_writer import ResponseWriter
from mooltiproxy.mapping.framing import SSEDecoder, encode_named_sse, encode_sse, parse_event
from mooltiproxy.mapping.gather import stream_of
from mooltiproxy.mapping.neutral import Answer, Choice, Part, Reasoning, Text, ToolCall, Usage
from tests.servers.proxy import KEY, Proxy, proxy
from tests.servers.scripted import STREAM_HEAD, Peer, Received, Script, Upstream, answer, chunk, upstream

USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
CITIES = ["Paris", "Rome"]
WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "weather",
    "description": "Weather of a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


class City(BaseModel):
    """What a structured answer is parsed into."""

    city: str
    degrees: int


@tool
def weather(city: str) -> str:
    """Weather of a city."""
    return f"sun in {city}"


def calls() -> list[dict[str, Any]]:
    return [
        {"id": f"call_{city}", "type": "function", "function": {"name": "weather", "arguments": f'{{"city":"{city}"}}'}}
        for city in CITIES
    ]


def wants_calls(body: Mapping[str, Any]) -> bool:
    return bool(body.get("tools")) and body["messages"][-1]["role"] != "tool"


def text_of(body: Mapping[str, Any]) -> str:
    return '{"city":"Paris","degrees":20}' if "response_format" in body else "Hi there"


def chat_answer(body: Mapping[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text_of(body), "reasoning_content": "Look."}
    if wants_calls(body):
        message = {"role": "assistant", "content": None, "tool_calls": calls()}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USAGE}


def chat_stream(body: Mapping[str, Any]) -> list[bytes]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, {"reasoning_content": "Look."}]
    if wants_calls(body):
        deltas += [{"tool_calls": [{"index": index, **call}]} for index, call in enumerate(calls())]
    else:
        text = text_of(body)
        deltas += [{"content": text[:4]}, {"content": text[4:]}]
    chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return [encode_sse(event) for event in (*chunks, end, {"choices": [], "usage": USAGE}, "[DONE]")]


async def send_stream(peer: Peer, events: list[bytes]) -> None:
    await peer.send(STREAM_HEAD + b"".join(map(chunk, events)) + b"0\r\n\r\n")


async def chat_server(peer: Peer, received: Received) -> None:
    """A server that knows chat completions only, and says so to everything else."""
    if not received.line.startswith("POST /v1/chat/completions"):
        await peer.send(answer(b'{"detail":"Not Found"}', status="404 Not Found"))
        return
    body = orjson.loads(received.body)
    if body["model"] == "dying":
        await send_stream(peer, [*chat_stream(body)[:3], encode_sse({"error": {"message": "it died"}})])
    elif body["model"] == "busy":
        await peer.send(answer(b'{"error":{"message":"too busy"}}', status="429 Too Many Requests"))
    elif body.get("stream"):
        await send_stream(peer, chat_stream(body))
    else:
        await peer.send(answer(orjson.dumps(chat_answer(body))))


async def responses_server(peer: Peer, received: Received) -> None:
    """A server that knows Responses only; it answers in our own writing, which its tests check."""
    body = orjson.loads(received.body)
    request = responses.read_request(body)
    parts: list[Part] = [Reasoning("Look.", "mooltiproxy:openai:ENC"), Text("Hi there")]
    if request.tools:
        parts += [ToolCall(f"call_{city}", "weather", f'{{"city":"{city}"}}') for city in CITIES]
    whole = Answer([Choice(parts, "tool_calls" if request.tools else "stop")], Usage(12, 3))
    if not request.stream:
        await peer.send(answer(orjson.dumps(responses.write_answer(whole, request))))
        return
    writer = ResponseWriter(request)
    await send_stream(peer, list(map(encode_named_sse, [*writer.write(stream_of(whole)), *writer.end()])))


VECTORS = [[0.5, -2.0], [1.0, 0.25]]


async def ollama_server(peer: Peer, received: Received) -> None:
    if received.line.startswith("GET /api/tags"):
        model = {"name": "org/m1:7b", "model": "org/m1:7b", "modified_at": "2026-11-14T22:13:20Z", "size": 1}
        await peer.send(answer(orjson.dumps({"models": [{**model, "digest": "d", "details": {}}]})))
        return
    body = orjson.loads(received.body)
    if received.line.startswith("POST /api/show"):
        found = body["model"] == "org/m1:7b"
        told = b'{"details":{},"model_info":{}}' if found else b'{"error":"model \'nope\' not found"}'
        await peer.send(answer(told, status="200 OK" if found else "404 Not Found"))
        return
    vectors = VECTORS[: len(body["input"]) if isinstance(body["input"], list) else 1]
    await peer.send(answer(orjson.dumps({"model": "m1", "embeddings": vectors, "prompt_eval_count": 4})))


@asynccontextmanager
async def served(script: Script, folder: Path, **target: Any) -> AsyncIterator[tuple[AsyncOpenAI, Upstream, Proxy]]:
    async with upstream(script) as server:
        config = {"targets": {"default": "one", "one": {"url": server.url, "speaks": ["openai"], **target}}}
        async with proxy(config, folder) as running:
            async with AsyncOpenAI(base_url=f"{running.url}/v1", api_key=KEY, max_retries=0) as api:
                yield api, server, running


def bodies(server: Upstream) -> list[Any]:
    """What the chat endpoint was asked."""
    return [orjson.loads(one.body) for one in server.requests if "/chat/completions" in one.line]


@pytest.mark.parametrize("target", [{}, {"endpoints": ["chat"]}])
async def test_a_response_is_answered_by_a_chat_only_server(tmp_path: Path, target: dict[str, Any]) -> None:
    async with served(chat_server, tmp_path, **target) as (api, server, _):
        response = await api.responses.create(model="m1", instructions="Be brief.", input="Say hi", temperature=0.5)
        assert response.output_text == "Hi there"
        assert [item.type for item in response.output] == ["reasoning", "message"]
        assert response.usage is not None
        assert response.usage.total_tokens == 15
        assert (response.status, response.instructions, response.temperature) == ("completed", "Be brief.", 0.5)
        assert bodies(server)[0]["messages"][0] == {"role": "system", "content": "Be brief."}
        asked = len(server.requests)
        await api.responses.create(model="m1", input="again")
        assert len(server.requests) == asked + 1, "what the server does not have is asked for once only"


async def test_a_stream_gives_typed_events_and_the_whole_response(tmp_path: Path) -> None:
    async with served(chat_server, tmp_path) as (api, _, _proxy):
        async with api.responses.stream(model="m1", input="Say hi", reasoning={"summary": "auto"}) as stream:
            events = [event async for event in stream]
            final = await stream.get_final_response()
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "Hi there"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert final.output_text == "Hi there"
    thought = final.output[0]
    assert thought.type == "reasoning"
    assert thought.summary[0].text == "Look."


@pytest.mark.parametrize("stream", [False, True])
async def test_two_parallel_calls_and_their_results_go_round(tmp_path: Path, stream: bool) -> None:
    history: ResponseInputParam = [{"role": "user", "content": "Weather in Paris and Rome?"}]
    async with served(chat_server, tmp_path) as (api, server, _):
        if stream:
            async with api.responses.stream(model="m1", input=history, tools=[WEATHER]) as events:
                output: list[Any] = list((await events.get_final_response()).output)
        else:
            output = list((await api.responses.create(model="m1", input=history, tools=[WEATHER])).output)
        made = [item for item in output if isinstance(item, ResponseFunctionToolCall)]
        assert [(call.call_id, call.arguments) for call in made] == [
            ("call_Paris", '{"city":"Paris"}'),
            ("call_Rome", '{"city":"Rome"}'),
        ]
        history += [item.model_dump(exclude={"parsed_arguments"}) for item in output]
        history += [{"type": "function_call_output", "call_id": call.call_id, "output": "sun"} for call in made]
        last = await api.responses.create(model="m1", input=history, tools=[WEATHER])
        assert last.output_text == "Hi there"
        messages = bodies(server)[-1]["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]
    assert messages[1]["tool_calls"] == calls()


async def test_structured_output_is_parsed(tmp_path: Path) -> None:
    async with served(chat_server, tmp_path) as (api, server, _):
        response = await api.responses.parse(model="m1", input="Paris?", text_format=City)
        assert response.output_parsed == City(city="Paris", degrees=20)
        async with api.responses.stream(model="m1", input="Paris?", text_format=City) as stream:
            final = await stream.get_final_response()
        assert final.output_parsed == City(city="Paris", degrees=20)
        assert bodies(server)[0]["response_format"]["json_schema"]["strict"] is True


async def test_a_server_that_dies_in_its_stream_makes_a_failed_response(tmp_path: Path) -> None:
    async with served(chat_server, tmp_path) as (api, _, _proxy):
        events = [event async for event in await api.responses.create(model="dying", input="x", stream=True)]
    last = events[-1]
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert last.response.error.message == "it died"
    assert [event.sequence_number for event in events] == list(range(len(events)))


@pytest.mark.parametrize("stream", [False, True])
async def test_an_early_error_keeps_its_status(tmp_path: Path, stream: bool) -> None:
    async with served(chat_server, tmp_path) as (api, _, _proxy):
        with pytest.raises(openai.RateLimitError, match="too busy"):
            await api.responses.create(model="busy", input="x", stream=stream)


async def test_a_stored_conversation_is_refused_by_name(tmp_path: Path) -> None:
    async with served(chat_server, tmp_path, endpoints=["chat"]) as (api, _, _proxy):
        with pytest.raises(openai.BadRequestError) as caught:
            await api.responses.create(model="m1", input="x", previous_response_id="resp_1")
    assert caught.value.param == "previous_response_id"


async def test_codex_works_in_front_of_a_chat_only_server(tmp_path: Path) -> None:
    body = {
        "model": "m1",
        "instructions": "You are a coding agent.",
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "ls"}]}],
        "tools": [WEATHER, {"type": "web_search"}, {"type": "namespace", "name": "n", "description": "", "tools": []}],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "0199",
        "client_metadata": {"x": "1"},
    }
    async with served(chat_server, tmp_path) as (_, _server, running):
        async with running.client.post("/v1/responses", json=body) as got:
            assert got.status == 200
            assert got.headers["content-type"].startswith("text/event-stream")
            dropped = got.headers["x-mooltiproxy-dropped"]
            data = await got.read()
    assert {"client_metadata", "prompt_cache_key", "tools.namespace", "tools.web_search"} <= set(dropped.split("; "))
    decoder = SSEDecoder()
    events = [parse_event(event) for event in [*decoder.feed(data), *decoder.end()]]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert [item["type"] for item in done] == ["reasoning", "function_call", "function_call"]
    assert events[-1]["type"] == "response.completed"
    assert data.count(b"event: ") == len(events)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_chat_is_answered_by_a_server_that_has_only_responses(tmp_path: Path, stream: bool) -> None:
    tool_param: Any = {"type": "function", "function": {"name": "weather", "parameters": WEATHER["parameters"]}}
    asked: Any = {"model": "m1", "messages": [{"role": "user", "content": "Weather?"}], "tools": [tool_param]}
    async with served(responses_server, tmp_path, endpoints=["responses"]) as (api, server, _):
        if stream:
            async with api.chat.completions.stream(**asked, stream_options={"include_usage": True}) as events:
                completion: Any = await events.get_final_completion()
        else:
            completion = await api.chat.completions.create(**asked)
        assert orjson.loads(server.requests[0].body)["store"] is False
        assert server.requests[0].line.startswith("POST /v1/responses")
    message = completion.choices[0].message
    assert message.content == "Hi there"
    assert [(call.id, call.function.arguments) for call in message.tool_calls] == [
        ("call_Paris", '{"city":"Paris"}'),
        ("call_Rome", '{"city":"Rome"}'),
    ]
    assert completion.choices[0].finish_reason == "tool_calls"
    assert completion.usage.total_tokens == 15


async def test_a_response_goes_untouched_to_a_server_that_has_them(tmp_path: Path) -> None:
    async with served(responses_server, tmp_path) as (api, server, _):
        response = await api.responses.create(model="m1", input="x", extra_body={"unheard_of": {"a": 1.0}})
        assert response.output_text == "Hi there"
        assert orjson.loads(server.requests[0].body) == {"model": "m1", "input": "x", "unheard_of": {"a": 1.0}}


async def test_embeddings_come_as_the_client_asks_by_default(tmp_path: Path) -> None:
    async with served(ollama_server, tmp_path, speaks=["ollama"]) as (api, server, _):
        got = await api.embeddings.create(model="m1", input=["a", "b"])
        assert [item.embedding for item in got.data] == VECTORS
        assert (got.usage.prompt_tokens, got.model) == (4, "m1")
        numbers = await api.embeddings.create(model="m1", input="a", encoding_format="float")
        assert numbers.data[0].embedding == VECTORS[0]
        assert server.requests[0].line.startswith("POST /api/embed ")


async def test_models_are_listed_and_one_is_found_though_its_name_has_slashes(tmp_path: Path) -> None:
    async with served(ollama_server, tmp_path, speaks=["ollama"]) as (api, _, _proxy):
        models = [model async for model in api.models.list()]
        assert [model.id for model in models] == ["org/m1:7b"]
        assert (await api.models.retrieve("org/m1:7b")).id == "org/m1:7b"
        with pytest.raises(openai.NotFoundError):
            await api.models.retrieve("nope")


@asynccontextmanager
async def langchain(running: Proxy) -> AsyncIterator[ChatOpenAI]:
    model = ChatOpenAI(
        base_url=f"{running.url}/v1",
        api_key=SecretStr(KEY),
        model="m1",
        use_responses_api=True,
        reasoning={"summary": "auto"},
        output_version="responses/v1",
    )
    try:
        yield model
    finally:
        await model.root_async_client.close()
        model.root_client.close()


async def test_langchain_runs_tools_over_responses(tmp_path: Path) -> None:
    async with served(chat_server, tmp_path) as (_, server, running), langchain(running) as model:
        tooled = model.bind_tools([weather])
        history: list[Any] = [HumanMessage("Weather in Paris and Rome?")]
        first = await tooled.ainvoke(history)
        assert [call["args"] for call in first.tool_calls] == [{"city": city} for city in CITIES]
        history += [first, *[await weather.ainvoke(call) for call in first.tool_calls]]
        last = await tooled.ainvoke(history)
        assert last.text == "Hi there"
        assert last.usage_metadata is not None
        assert last.usage_metadata["total_tokens"] == 15
        assert [message["role"] for message in bodies(server)[-1]["messages"]] == ["user", "assistant", "tool", "tool"]


async def joined(pieces: AsyncIterator[Any]) -> AIMessageChunk:
    """All pieces of a streamed message, added up."""
    whole: AIMessageChunk | None = None
    async for piece in pieces:
        whole = piece if whole is None else whole + piece
    assert whole is not None
    return whole


async def test_langchain_streams_over_responses(tmp_path: Path) -> None:
    async with served(chat_server, tmp_path) as (_, _server, running), langchain(running) as model:
        whole = await joined(model.astream("Say hi"))
        assert whole.text == "Hi there"
        assert whole.usage_metadata is not None
        called = await joined(model.bind_tools([weather]).astream("Weather?"))
        assert [call["args"] for call in called.tool_calls] == [{"city": city} for city in CITIES]


async def test_the_synchronous_client_streams_too(tmp_path: Path) -> None:
    async with served(chat_server, tmp_path) as (_, _server, running):

        def ask() -> str:
            with OpenAI(base_url=f"{running.url}/v1", api_key=KEY, max_retries=0) as api:
                with api.responses.create(model="m1", input="Say hi", stream=True) as stream:
                    return "".join(event.delta for event in stream if event.type == "response.output_text.delta")

        assert await asyncio.to_thread(ask) == "Hi there"
