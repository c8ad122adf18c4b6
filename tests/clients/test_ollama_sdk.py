"""The official ollama client in front of an OpenAI-speaking server, and the openai client in front of an Ollama one."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import ollama
import openai
import orjson
import pytest

from mooltiproxy.mapping.framing import encode_ndjson, encode_sse
from tests.servers.proxy import BEARER, KEY, Proxy, proxy
from tests.servers.scripted import STREAM_HEAD, Peer, Received, Script, Upstream, answer, chunk, upstream

MESSAGES = [{"role": "user", "content": "Weather in Paris and Rome?"}]
USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
CITIES = ["Paris", "Rome"]


def weather(city: str) -> str:
    """Weather of a city.

    Args:
        city: its name
    """
    return city


def openai_calls() -> list[dict[str, Any]]:
    return [
        {"id": f"call_{city}", "type": "function", "function": {"name": "weather", "arguments": f'{{"city":"{city}"}}'}}
        for city in CITIES
    ]


def openai_stream(body: Mapping[str, Any]) -> list[bytes]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, {"reasoning_content": "Look."}]
    if body.get("tools"):
        deltas += [{"tool_calls": [{"index": index, **call}]} for index, call in enumerate(openai_calls())]
    else:
        deltas += [{"content": "Hi"}, {"content": "\u2028there"}]
    chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return [encode_sse(event) for event in (*chunks, end, {"choices": [], "usage": USAGE}, "[DONE]")]


def openai_answer(body: Mapping[str, Any]) -> dict[str, Any]:
    if body.get("tools"):
        message: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": openai_calls()}
    else:
        text = '{"city":"Paris"}' if "response_format" in body else "Hi there"
        message = {"role": "assistant", "content": text, "reasoning_content": "Look."}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USAGE}


def openai_embeddings(body: Mapping[str, Any]) -> dict[str, Any]:
    vectors = [{"object": "embedding", "index": at, "embedding": [0.5, at]} for at in range(len(body["input"]))]
    return {"object": "list", "data": vectors, "model": "m1", "usage": {"prompt_tokens": 2, "total_tokens": 2}}


MODEL = {"id": "m1", "object": "model", "created": 1794694400, "owned_by": "us", "max_model_len": 8192}
ANSWERS: Mapping[str, Callable[[Any], Any]] = {
    "POST /v1/chat/completions": openai_answer,
    "POST /v1/embeddings": openai_embeddings,
    "GET /v1/models": lambda body: {"object": "list", "data": [MODEL]},
}


async def openai_server(peer: Peer, received: Received) -> None:
    body = orjson.loads(received.body or b"{}")
    where = received.line.rpartition(" ")[0]
    if body.get("model") == "nope":
        error = {"error": {"message": "The model `nope` does not exist", "code": "model_not_found"}}
        await peer.send(answer(orjson.dumps(error), status="404 Not Found"))
    elif body.get("model") == "dying":
        await peer.send(
            STREAM_HEAD + chunk(openai_stream({})[2]) + chunk(encode_sse({"error": {"message": "it died"}}))
        )
        await peer.gone()
    elif body.get("stream"):
        await peer.send(STREAM_HEAD + b"".join(map(chunk, openai_stream(body))) + b"0\r\n\r\n")
    else:
        await peer.send(answer(orjson.dumps(ANSWERS[where](body))))


@asynccontextmanager
async def served(script: Script, speaks: str, folder: Path) -> AsyncIterator[tuple[Proxy, Upstream]]:
    async with upstream(script) as target:
        config = {"targets": {"default": "one", "one": {"url": target.url, "speaks": speaks}}}
        async with proxy(config, folder) as running:
            yield running, target


@asynccontextmanager
async def client(folder: Path) -> AsyncIterator[tuple[ollama.AsyncClient, Upstream]]:
    """An ollama client of a proxy in front of the OpenAI server."""
    async with served(openai_server, "openai", folder) as (running, target):
        async with ollama.AsyncClient(host=running.url, headers=BEARER) as api:
            yield api, target


def sent(target: Upstream) -> Any:
    return orjson.loads(target.requests[-1].body)


async def test_a_chat_is_answered_whole(tmp_path: Path) -> None:
    async with client(tmp_path) as (api, target):
        told = await api.chat("m1", MESSAGES, options={"num_predict": 5, "seed": 7}, think=True, keep_alive="5m")
    assert (told.message.content, told.message.thinking) == ("Hi there", "Look.")
    assert (told.model, told.done, told.done_reason) == ("m1", True, "stop")
    assert (told.prompt_eval_count, told.eval_count) == (12, 3)
    assert told.eval_duration and told.total_duration and told.total_duration >= told.eval_duration
    assert (sent(target)["max_tokens"], sent(target)["seed"], sent(target)["reasoning_effort"]) == (5, 7, "medium")


async def test_a_chat_is_streamed(tmp_path: Path) -> None:
    async with client(tmp_path) as (api, _):
        parts = [part async for part in await api.chat("m1", MESSAGES, stream=True)]
    assert "".join(part.message.thinking or "" for part in parts) == "Look."
    assert "".join(part.message.content or "" for part in parts) == "Hi\u2028there"
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert (parts[-1].prompt_eval_count, parts[-1].eval_count) == (12, 3)


@pytest.mark.parametrize("stream", [False, True])
async def test_tools_are_called_and_their_results_sent_back(tmp_path: Path, stream: bool) -> None:
    async with client(tmp_path) as (api, target):
        if stream:
            parts = [part async for part in await api.chat("m1", MESSAGES, tools=[weather], stream=True)]
            calls = [call for part in parts for call in part.message.tool_calls or ()]
        else:
            calls = list((await api.chat("m1", MESSAGES, tools=[weather])).message.tool_calls or ())
        assert [call.function.arguments for call in calls] == [{"city": city} for city in CITIES]
        results = [{"role": "tool", "tool_name": "weather", "content": city} for city in CITIES]
        history: list[Any] = [*MESSAGES, ollama.Message(role="assistant", tool_calls=calls), *results]
        await api.chat("m1", history)
    messages = sent(target)["messages"]
    ids = [call["id"] for call in messages[1]["tool_calls"]]
    assert len(set(ids)) == 2
    assert [(message["tool_call_id"], message["content"]) for message in messages[2:]] == list(
        zip(ids, CITIES, strict=True)
    )


async def test_a_format_is_a_schema(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    async with client(tmp_path) as (api, target):
        told = await api.chat("m1", MESSAGES, format=schema)
    assert orjson.loads(told.message.content or "") == {"city": "Paris"}
    assert sent(target)["response_format"]["json_schema"]["schema"] == schema


async def test_a_prompt_is_answered_by_the_targets_chat(tmp_path: Path) -> None:
    async with client(tmp_path) as (api, target):
        told = await api.generate("m1", "Hello", system="Be brief.")
        parts = [part async for part in await api.generate("m1", "Hello", stream=True)]
    assert (told.response, told.thinking, told.done) == ("Hi there", "Look.", True)
    assert "".join(part.response or "" for part in parts) == "Hi\u2028there"
    assert {request.line for request in target.requests} == {"POST /v1/chat/completions HTTP/1.1"}


async def test_texts_are_embedded(tmp_path: Path) -> None:
    async with client(tmp_path) as (api, target):
        told = await api.embed("m1", ["a", "b"])
        old = await api.embeddings("m1", "a")
    assert [list(vector) for vector in told.embeddings] == [[0.5, 0], [0.5, 1]]
    assert told.prompt_eval_count == 2
    assert list(old.embedding) == [0.5, 0]
    assert sent(target)["input"] == ["a"]


async def test_models_are_listed_and_shown(tmp_path: Path) -> None:
    async with client(tmp_path) as (api, _):
        listed = await api.list()
        shown = await api.show("m1")
        with pytest.raises(ollama.ResponseError) as caught:
            await api.show("nope")
    assert [model.model for model in listed.models] == ["m1"]
    assert shown.capabilities == ["completion", "tools"]
    assert shown.modelinfo == {
        "general.architecture": "unknown",
        "general.basename": "m1",
        "unknown.context_length": 8192,
    }
    assert caught.value.status_code == 404


async def test_the_synchronous_client_streams_too(tmp_path: Path) -> None:
    async with served(openai_server, "openai", tmp_path) as (running, _):

        def talk() -> str:
            with ollama.Client(host=running.url, headers=BEARER) as api:
                return "".join(part.message.content or "" for part in api.chat("m1", MESSAGES, stream=True))

        assert await asyncio.to_thread(talk) == "Hi\u2028there"


async def test_an_error_has_the_targets_status_and_words(tmp_path: Path) -> None:
    async with client(tmp_path) as (api, _):
        with pytest.raises(ollama.ResponseError, match="does not exist") as caught:
            await api.chat("nope", MESSAGES)
        assert caught.value.status_code == 404
        with pytest.raises(ollama.ResponseError, match="does not exist"):
            _ = [part async for part in await api.chat("nope", MESSAGES, stream=True)]


async def test_loading_and_unloading_a_model_is_answered_without_the_target(tmp_path: Path) -> None:
    async with client(tmp_path) as (api, target):
        loaded = [part async for part in await api.generate("m1", stream=True)]
        unloaded = await api.chat("m1", keep_alive=0)
    assert [(part.done, part.done_reason) for part in loaded] == [(True, "load")]
    assert (unloaded.done_reason, unloaded.message.content) == ("unload", "")
    assert not target.requests


async def test_what_loading_loses_is_named_or_refused(tmp_path: Path) -> None:
    own = {"url": "http://127.0.0.1:9", "speaks": "openai"}
    strict = {**own, "losses": {"lifecycle": "reject"}}
    config = {"targets": {"default": "one", "one": own, "two": strict}}
    async with proxy(config, tmp_path) as running:
        async with running.client.post("/api/generate", json={"model": "m1", "keep_alive": "5m"}) as told:
            assert (told.status, told.content_type) == (200, "application/x-ndjson")
            assert told.headers["x-mooltiproxy-dropped"] == "keep_alive"
        async with running.client.post("/to/two/api/generate", json={"model": "m1", "keep_alive": "5m"}) as refused:
            assert refused.status == 400


async def test_a_stream_that_breaks_off_ends_with_an_error(tmp_path: Path) -> None:
    async with client(tmp_path) as (api, _):
        seen = []
        with pytest.raises(ollama.ResponseError, match="it died"):
            async for part in await api.chat("dying", MESSAGES, stream=True):
                seen.append(part.message.content)
    assert seen == ["Hi"]


OLLAMA_ANSWER = {"model": "m1", "created_at": "2026-11-14T22:13:20.1Z", "done": True, "done_reason": "stop"}
COUNTS = {"prompt_eval_count": 12, "eval_count": 3}
FIELDS = {
    "/api/chat": {
        "model",
        "messages",
        "tools",
        "format",
        "options",
        "stream",
        "keep_alive",
        "think",
        "logprobs",
        "top_logprobs",
    },
    "/api/generate": {"model", "prompt", "suffix", "raw", "options", "stream", "format"},
}


def fault_of(path: str, body: Mapping[str, Any]) -> str | None:
    """What an Ollama server would refuse, or pass over in silence."""
    if body.keys() - FIELDS[path]:
        return f"unknown fields {body.keys() - FIELDS[path]}"
    if not isinstance(body.get("stream"), bool):
        return "stream is not said: the answer would be a stream"
    for message in body.get("messages", ()):
        if not isinstance(message["content"], str):
            return "cannot unmarshal content into a string"
        if not all(isinstance(call["function"]["arguments"], dict) for call in message.get("tool_calls", ())):
            return "cannot unmarshal arguments into an object"
        if message["role"] == "tool" and not message.get("tool_name"):
            return "a result without the name of its tool"
        if any("," in image for image in message.get("images", ())):
            return "illegal base64"
    return None


async def ollama_server(peer: Peer, received: Received) -> None:
    path, body = received.line.split()[1], orjson.loads(received.body)
    fault = fault_of(path, body)
    calls = [{"function": {"name": "weather", "arguments": {"city": city}}} for city in CITIES]
    contents: list[dict[str, Any]] = [{"thinking": "Look.", "content": ""}, {"content": "Hi"}, {"content": " there"}]
    if body.get("tools"):
        contents = [{"content": "", "tool_calls": calls}]
    if fault:
        await peer.send(answer(orjson.dumps({"error": fault}), status="400 Bad Request"))
    elif path == "/api/generate":
        await peer.send(answer(orjson.dumps({**OLLAMA_ANSWER, **COUNTS, "response": "a time"})))
    elif body["stream"]:
        lines = [{"model": "m1", "message": {"role": "assistant", **one}, "done": False} for one in contents]
        lines.append({**OLLAMA_ANSWER, **COUNTS, "message": {"role": "assistant", "content": ""}})
        head = STREAM_HEAD.replace(b"text/event-stream", b"application/x-ndjson")
        await peer.send(head + b"".join(chunk(encode_ndjson(line)) for line in lines) + b"0\r\n\r\n")
    else:
        message = contents[0] if body.get("tools") else {"content": "Hi there", "thinking": "Look."}
        whole = {**OLLAMA_ANSWER, **COUNTS, "message": {"role": "assistant", **message}}
        await peer.send(answer(orjson.dumps(whole)))


@asynccontextmanager
async def openai_client(folder: Path) -> AsyncIterator[tuple[openai.AsyncOpenAI, Upstream]]:
    """An openai client of a proxy in front of the Ollama server."""
    async with served(ollama_server, "ollama", folder) as (running, target):
        async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key=KEY, max_retries=0) as api:
            yield api, target


TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


async def test_openai_chats_with_an_ollama_server(tmp_path: Path) -> None:
    parts: Any = [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "high"}},
    ]
    async with openai_client(tmp_path) as (api, target):
        told = await api.chat.completions.with_raw_response.create(
            model="m1", messages=[{"role": "user", "content": parts}], logit_bias={"1": 1}, max_completion_tokens=5
        )
    completion = told.parse()
    assert completion.choices[0].message.content == "Hi there"
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (12, 3)
    assert told.headers["x-mooltiproxy-dropped"] == "messages.detail; logit_bias"
    assert sent(target)["options"] == {"temperature": 1.0, "top_p": 1.0, "num_predict": 5}


async def test_openai_streams_from_an_ollama_server(tmp_path: Path) -> None:
    messages: Any = MESSAGES
    async with openai_client(tmp_path) as (api, _):
        stream = await api.chat.completions.create(model="m1", messages=messages, stream=True)
        chunks = [one async for one in stream]
    assert "".join(one.choices[0].delta.content or "" for one in chunks) == "Hi there"
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_openai_calls_tools_of_an_ollama_server(tmp_path: Path) -> None:
    messages: Any = MESSAGES
    async with openai_client(tmp_path) as (api, target):
        told = await api.chat.completions.create(model="m1", messages=messages, tools=TOOLS)
        message = told.choices[0].message
        assert told.choices[0].finish_reason == "tool_calls"
        calls = message.tool_calls or []
        results: Any = [
            {"role": "tool", "tool_call_id": call.id, "content": city} for call, city in zip(calls, CITIES, strict=True)
        ]
        history = [*messages, message.to_dict(), *results]
        await api.chat.completions.create(model="m1", messages=history)
    sent_results = [message for message in sent(target)["messages"] if message["role"] == "tool"]
    assert [message["tool_call_id"] for message in sent_results] == [call.id for call in calls]


async def test_openai_completes_a_text_with_an_ollama_server(tmp_path: Path) -> None:
    async with openai_client(tmp_path) as (api, target):
        told = await api.completions.create(model="m1", prompt="Once upon", echo=True)
    assert told.choices[0].text == "Once upona time"
    assert sent(target)["raw"] is True


async def test_an_ollama_client_of_an_ollama_server_is_not_translated(tmp_path: Path) -> None:
    async with served(ollama_server, "ollama", tmp_path) as (running, target):
        body = b'{"model": "m1",  "messages": [], "stream": false}'
        told = await running.client.post("/api/chat", data=body)
        assert told.status == 200
    assert target.requests[-1].body == body
