"""Google's official google-genai in front of an OpenAI-speaking server, and the openai client in front of Gemini's."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import orjson
import pytest
from google import genai
from google.genai import errors, types

from mooltiproxy.mapping.framing import encode_sse
from tests.servers.proxy import KEY, Proxy, proxy
from tests.servers.scripted import STREAM_HEAD, Peer, Received, Script, Upstream, answer, chunk, upstream

pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
"""What the SDK does with aiohttp is its own affair."""

MODEL = "vendor/m:1"
QUESTION = "Weather in Paris and Rome?"
CITIES = ["Paris", "Rome"]
USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 9,
    "total_tokens": 21,
    "completion_tokens_details": {"reasoning_tokens": 6},
}
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def weather(city: str) -> str:
    """Weather of a city."""
    return f"sunny in {city}"


def openai_calls() -> list[dict[str, Any]]:
    return [
        {"id": f"call_{city}", "type": "function", "function": {"name": "weather", "arguments": f'{{"city":"{city}"}}'}}
        for city in CITIES
    ]


def wants_calls(body: Mapping[str, Any]) -> bool:
    return bool(body.get("tools")) and body["messages"][-1]["role"] != "tool"


def openai_stream(body: Mapping[str, Any]) -> list[bytes]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, {"reasoning_content": "Look."}]
    if wants_calls(body):
        deltas += [{"tool_calls": [{"index": index, **call}]} for index, call in enumerate(openai_calls())]
    else:
        deltas += [{"content": "Hi"}, {"content": "\u2028there"}]
    chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return [encode_sse(event) for event in (*chunks, end, {"choices": [], "usage": USAGE}, "[DONE]")]


def openai_answer(body: Mapping[str, Any]) -> dict[str, Any]:
    if wants_calls(body):
        message: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": openai_calls()}
    else:
        text = '{"city":"Paris"}' if "response_format" in body else "Hi there"
        message = {"role": "assistant", "content": text, "reasoning_content": "Look."}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USAGE}


def openai_embeddings(body: Mapping[str, Any]) -> dict[str, Any]:
    vectors = [{"object": "embedding", "index": at, "embedding": [0.5, at]} for at in range(len(body["input"]))]
    return {"object": "list", "data": vectors, "model": "m1", "usage": {"prompt_tokens": 2, "total_tokens": 2}}


LISTED_AT_OPENAI = {"id": "m1", "object": "model", "created": 1794694400, "owned_by": "us"}
OTHERS: Mapping[str, Callable[[Any], Any]] = {
    "POST /v1/embeddings": openai_embeddings,
    "GET /v1/models": lambda body: {"object": "list", "data": [LISTED_AT_OPENAI]},
    "GET /v1/models/m1": lambda body: LISTED_AT_OPENAI,
}


async def openai_server(peer: Peer, received: Received) -> None:
    body = orjson.loads(received.body or b"{}")
    where = received.line.rpartition(" ")[0]
    if where in OTHERS:
        await peer.send(answer(orjson.dumps(OTHERS[where](body))))
        return
    if body.get("model") == "nope":
        error = {"error": {"message": "The model `nope` does not exist", "code": "model_not_found"}}
        await peer.send(answer(orjson.dumps(error), status="404 Not Found"))
    elif body.get("model") == "dying":
        died = encode_sse({"error": {"message": "it died"}})
        await peer.send(STREAM_HEAD + chunk(openai_stream({})[2]) + chunk(died))
        await peer.gone()
    elif body.get("model") == "slow":
        await asyncio.sleep(0.15)
        await peer.send(STREAM_HEAD + b"".join(map(chunk, openai_stream(body))) + b"0\r\n\r\n")
    elif body.get("stream"):
        await peer.send(STREAM_HEAD + b"".join(map(chunk, openai_stream(body))) + b"0\r\n\r\n")
    else:
        await peer.send(answer(orjson.dumps(openai_answer(body))))


@asynccontextmanager
async def served(script: Script, speaks: str, folder: Path, **more: Any) -> AsyncIterator[tuple[Proxy, Upstream]]:
    async with upstream(script) as target:
        config = {"targets": {"default": "one", "one": {"url": target.url, "speaks": speaks, **more}}}
        async with proxy(config, folder) as running:
            yield running, target


def genai_client(url: str, version: str, key: str = KEY) -> genai.Client:
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=url, api_version=version))


@asynccontextmanager
async def client(
    folder: Path, version: str = "v1", script: Script = openai_server, speaks: str = "openai", **more: Any
) -> AsyncIterator[tuple[Any, Upstream]]:
    """An asynchronous client of a proxy in front of this server, and the server."""
    async with served(script, speaks, folder, **more) as (running, target):
        api = genai_client(running.url, version)
        try:
            yield api.aio, target
        finally:
            await api.aio.aclose()
            api.close()


def sent(target: Upstream) -> Any:
    return orjson.loads(target.requests[-1].body)


@pytest.mark.parametrize("version", ["v1", "v1beta"])
async def test_a_question_is_answered_whole(tmp_path: Path, version: str) -> None:
    config = types.GenerateContentConfig(
        system_instruction="Be brief.", max_output_tokens=5, temperature=0.5, stop_sequences=["END"], seed=7
    )
    async with client(tmp_path, version) as (api, target):
        told = await api.models.generate_content(model=MODEL, contents=QUESTION, config=config)
    assert (told.text, told.candidates[0].finish_reason.name) == ("Hi there", "STOP")
    usage = told.usage_metadata
    assert (usage.prompt_token_count, usage.candidates_token_count, usage.thoughts_token_count) == (12, 3, 6)
    assert usage.total_token_count == 21
    assert (told.model_version, bool(told.response_id)) == (MODEL, True)
    body = sent(target)
    assert [message["content"] for message in body["messages"]] == ["Be brief.", QUESTION]
    assert (body["model"], body["max_tokens"], body["stop"], body["seed"]) == (MODEL, 5, ["END"], 7)


@pytest.mark.parametrize("version", ["v1", "v1beta"])
async def test_a_question_is_answered_as_a_stream(tmp_path: Path, version: str) -> None:
    async with client(tmp_path, version) as (api, _):
        stream = await api.models.generate_content_stream(model=MODEL, contents=QUESTION)
        parts = [part async for part in stream]
    thoughts = [part.text for one in parts for part in one.candidates[0].content.parts if part.thought]
    assert "".join(part.text or "" for part in parts) == "Hi\u2028there"
    assert thoughts == ["Look."]
    assert parts[-1].candidates[0].finish_reason.name == "STOP"
    assert parts[-1].usage_metadata.total_token_count == 21


async def test_the_synchronous_client_streams_too(tmp_path: Path) -> None:
    async with served(openai_server, "openai", tmp_path) as (running, _):

        def talk() -> str:
            with genai_client(running.url, "v1") as api:
                stream = api.models.generate_content_stream(model=MODEL, contents=QUESTION)
                return "".join(part.text or "" for part in stream)

        assert await asyncio.to_thread(talk) == "Hi\u2028there"


async def test_a_silent_target_does_not_break_the_stream(tmp_path: Path) -> None:
    async with client(tmp_path, keepalive=0.02) as (api, _):
        stream = await api.models.generate_content_stream(model="slow", contents=QUESTION)
        assert "".join([part.text or "" async for part in stream]) == "Hi\u2028there"


@pytest.mark.parametrize("stream", [False, True])
async def test_functions_are_called_and_their_results_sent_back(tmp_path: Path, stream: bool) -> None:
    function = types.FunctionDeclaration(
        name="weather",
        parameters=types.Schema(
            type=types.Type.OBJECT, properties={"city": types.Schema(type=types.Type.STRING)}, required=["city"]
        ),
    )
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[function])])
    asked = types.Content(role="user", parts=[types.Part(text=QUESTION)])
    async with client(tmp_path) as (api, target):
        if stream:
            events = await api.models.generate_content_stream(model=MODEL, contents=[asked], config=config)
            parts = [part async for event in events for part in event.candidates[0].content.parts]
        else:
            told = await api.models.generate_content(model=MODEL, contents=[asked], config=config)
            parts = told.candidates[0].content.parts
        calls = [part.function_call for part in parts if part.function_call]
        assert [call.args for call in calls] == [{"city": city} for city in CITIES]
        results = [
            types.Part.from_function_response(name="weather", response={"result": call.args["city"]}) for call in calls
        ]
        answered = [asked, types.Content(role="model", parts=parts), types.Content(role="user", parts=results)]
        told = await api.models.generate_content(model=MODEL, contents=answered, config=config)
    assert told.text == "Hi there"
    body = sent(target)
    assert body["tools"][0]["function"]["parameters"]["properties"] == {"city": {"type": "string"}}
    returned = [message for message in body["messages"] if message["role"] == "tool"]
    assert [message["tool_call_id"] for message in returned] == [f"call_{city}" for city in CITIES]
    assert [message["content"] for message in returned] == CITIES


async def test_functions_are_called_by_the_client_itself(tmp_path: Path) -> None:
    config = types.GenerateContentConfig(tools=[weather])
    async with client(tmp_path) as (api, target):
        told = await api.models.generate_content(model=MODEL, contents=QUESTION, config=config)
    assert told.text == "Hi there"
    results = [message["content"] for message in sent(target)["messages"] if message["role"] == "tool"]
    assert results == [weather(city) for city in CITIES]


async def test_a_conversation_goes_on(tmp_path: Path) -> None:
    async with client(tmp_path) as (api, target):
        chat = api.chats.create(model=MODEL)
        await chat.send_message(QUESTION)
        await chat.send_message("And now?")
    assert [message["role"] for message in sent(target)["messages"]] == ["user", "assistant", "user"]
    assert sent(target)["messages"][1]["content"] == "Hi there"


async def test_a_streamed_conversation_goes_on_with_one_message_for_each_answer(tmp_path: Path) -> None:
    async with client(tmp_path) as (api, target):
        chat = api.chats.create(model=MODEL)
        for question in (QUESTION, "And now?"):
            async for _ in await chat.send_message_stream(question):
                pass
    assert [message["role"] for message in sent(target)["messages"]] == ["user", "assistant", "user"]
    assert sent(target)["messages"][1]["content"] == "Hi\u2028there"


async def test_an_image_and_a_schema_cross(tmp_path: Path) -> None:
    schema = {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}}
    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=schema)
    picture = types.Part.from_bytes(data=PNG, mime_type="image/png")
    async with client(tmp_path) as (api, target):
        told = await api.models.generate_content(model=MODEL, contents=[picture, "Where?"], config=config)
    assert told.parsed == {"city": "Paris"}
    body = sent(target)
    url = body["messages"][0]["content"][0]["image_url"]["url"]
    assert base64.b64decode(url.partition(",")[2]) == PNG
    assert body["response_format"]["json_schema"]["schema"]["properties"] == {"city": {"type": "string"}}


async def test_texts_are_embedded(tmp_path: Path) -> None:
    async with client(tmp_path) as (api, target):
        config = types.EmbedContentConfig(output_dimensionality=2)
        told = await api.models.embed_content(model="m1", contents=["a", "b"], config=config)
    assert [embedding.values for embedding in told.embeddings] == [[0.5, 0], [0.5, 1]]
    assert (sent(target)["input"], sent(target)["dimensions"]) == (["a", "b"], 2)


async def test_models_are_listed_and_shown(tmp_path: Path) -> None:
    async with client(tmp_path, "v1beta") as (api, _):
        listed = [model async for model in await api.models.list()]
        shown = await api.models.get(model="m1")
    assert [model.name for model in listed] == ["models/m1"]
    assert shown == listed[0]


async def test_what_is_dropped_is_named_in_a_header(tmp_path: Path) -> None:
    setting = types.SafetySetting(
        category=types.HarmCategory.HARM_CATEGORY_HARASSMENT, threshold=types.HarmBlockThreshold.BLOCK_NONE
    )
    config = types.GenerateContentConfig(safety_settings=[setting])
    async with client(tmp_path) as (api, _):
        told = await api.models.generate_content(model=MODEL, contents=QUESTION, config=config)
    assert told.sdk_http_response.headers["x-mooltiproxy-dropped"] == "safetySettings"


async def test_an_error_has_the_targets_words_and_googles_status(tmp_path: Path) -> None:
    async with client(tmp_path) as (api, _):
        with pytest.raises(errors.ClientError, match="does not exist") as caught:
            await api.models.generate_content(model="nope", contents=QUESTION)
        assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")
        with pytest.raises(errors.ClientError, match="does not exist"):
            _ = [part async for part in await api.models.generate_content_stream(model="nope", contents=QUESTION)]


async def test_a_stream_that_breaks_off_ends_with_an_error(tmp_path: Path) -> None:
    seen = []
    async with client(tmp_path) as (api, _):
        with pytest.raises(errors.APIError, match="it died"):
            async for part in await api.models.generate_content_stream(model="dying", contents=QUESTION):
                seen.append(part.text)
    assert seen == ["Hi"]


async def test_a_wrong_key_raises_the_sdks_own_error(tmp_path: Path) -> None:
    async with served(openai_server, "openai", tmp_path) as (running, _):
        api = genai_client(running.url, "v1", "wrong")
        with pytest.raises(errors.ClientError) as caught:
            await api.aio.models.generate_content(model=MODEL, contents=QUESTION)
        await api.aio.aclose()
        api.close()
    assert (caught.value.code, caught.value.status) == (401, "UNAUTHENTICATED")


SIGNATURE = "c2lnbmF0dXJl"
COUNTS = {"promptTokenCount": 12, "candidatesTokenCount": 3, "thoughtsTokenCount": 6, "totalTokenCount": 21}
LISTED = {"name": "models/m1", "version": "001", "displayName": "m1", "inputTokenLimit": 4096}
FIELDS = {"contents", "systemInstruction", "tools", "toolConfig", "generationConfig"}


def fault_of(body: Mapping[str, Any]) -> str | None:
    """What the service would refuse."""
    if body.keys() - FIELDS:
        return f"Unknown name {body.keys() - FIELDS}"
    called: list[str] = []
    previous = "model"
    for content in body["contents"]:
        if content["role"] == previous or not content["parts"]:
            return "roles must alternate, and contents must not be empty"
        previous = content["role"]
        calls = [part for part in content["parts"] if "functionCall" in part]
        results = [part["functionResponse"]["id"] for part in content["parts"] if "functionResponse" in part]
        if results != called:
            return "the results must be as many as the calls, and in their order"
        if calls and not calls[0].get("thoughtSignature"):
            return "Function call is missing a thought_signature"
        called = [part["functionCall"]["id"] for part in calls]
    return None


def gemini_parts(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    if body.get("tools") and "functionResponse" not in body["contents"][-1]["parts"][0]:
        calls: list[dict[str, Any]] = [
            {"functionCall": {"id": f"call_{city}", "name": "weather", "args": {"city": city}}} for city in CITIES
        ]
        return [{**calls[0], "thoughtSignature": SIGNATURE}, *calls[1:]]
    return [{"text": "Look.", "thought": True}, {"text": "Hi"}, {"text": " there"}]


def gemini_answer(body: Mapping[str, Any]) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": gemini_parts(body)}, "finishReason": "STOP", "index": 0}
    return {"candidates": [candidate], "usageMetadata": COUNTS, "modelVersion": "m1"}


def gemini_stream(body: Mapping[str, Any]) -> list[bytes]:
    events: list[Any] = [
        {"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}]} for part in gemini_parts(body)
    ]
    last = {"candidates": [{"finishReason": "STOP", "index": 0}], "usageMetadata": COUNTS}
    return [chunk(encode_sse(event)) for event in (*events, last)]


ANSWERS: Mapping[str, Callable[[Any], Any]] = {
    "generateContent": gemini_answer,
    "batchEmbedContents": lambda body: {"embeddings": [{"values": [0.5, 1.0]}] * len(body["requests"])},
    "countTokens": lambda body: {"totalTokens": 7},
    "models?pageSize=1000": lambda body: {"models": [LISTED]},
    "m1": lambda body: LISTED,
}


async def gemini_server(peer: Peer, received: Received) -> None:
    body = orjson.loads(received.body or b"{}")
    method = received.line.split()[1].removeprefix("/v1beta/").rpartition("/")[2].rpartition(":")[2]
    fault = fault_of(body) if "contents" in body and method != "countTokens" else None
    if received.value("x-goog-api-key") != "the-google-key":
        reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
        error = {"code": 400, "message": "API key not valid", "status": "INVALID_ARGUMENT", "details": [reason]}
        await peer.send(answer(orjson.dumps({"error": error}), status="400 Bad Request"))
    elif fault:
        error = {"code": 400, "message": fault, "status": "INVALID_ARGUMENT"}
        await peer.send(answer(orjson.dumps({"error": error}), status="400 Bad Request"))
    elif method == "streamGenerateContent?alt=sse":
        await peer.send(STREAM_HEAD + b"".join(gemini_stream(body)) + b"0\r\n\r\n")
    else:
        await peer.send(answer(orjson.dumps(ANSWERS[method](body))))


@asynccontextmanager
async def openai_client(folder: Path, key: str = "the-google-key") -> AsyncIterator[tuple[Any, Upstream]]:
    """An openai client of a proxy in front of Gemini's server, and that server."""
    async with served(gemini_server, "gemini", folder, key=key) as (running, target):
        async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key=KEY, max_retries=0) as api:
            yield api, target


TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
MESSAGES: list[Any] = [{"role": "user", "content": QUESTION}]


async def test_openai_chats_with_gemini(tmp_path: Path) -> None:
    async with openai_client(tmp_path) as (api, target):
        raw = await api.chat.completions.with_raw_response.create(
            model="gemini-3-pro", messages=MESSAGES, logit_bias={"1": 1}, max_completion_tokens=5
        )
    told = raw.parse()
    assert (told.choices[0].message.content, told.choices[0].finish_reason) == ("Hi there", "stop")
    assert (told.usage.completion_tokens, told.usage.total_tokens) == (9, 21)
    assert raw.headers["x-mooltiproxy-dropped"] == "logit_bias"
    assert target.requests[-1].line == "POST /v1beta/models/gemini-3-pro:generateContent HTTP/1.1"
    assert sent(target)["generationConfig"] == {"maxOutputTokens": 5}


@pytest.mark.parametrize("stream", [False, True])
async def test_openai_calls_functions_of_gemini_and_brings_signatures_back(tmp_path: Path, stream: bool) -> None:
    async with openai_client(tmp_path) as (api, target):
        if stream:
            async with api.chat.completions.stream(model="gemini-3-pro", messages=MESSAGES, tools=TOOLS) as events:
                async for _ in events:
                    pass
                told = await events.get_final_completion()
        else:
            told = await api.chat.completions.create(model="gemini-3-pro", messages=MESSAGES, tools=TOOLS)
        message = told.choices[0].message
        assert told.choices[0].finish_reason == "tool_calls"
        results = [
            {"role": "tool", "tool_call_id": call.id, "content": orjson.loads(call.function.arguments)["city"]}
            for call in reversed(message.tool_calls)
        ]
        history = [*MESSAGES, message.model_dump(exclude_none=True), *results]
        done = await api.chat.completions.create(model="gemini-3-pro", messages=history, tools=TOOLS)
    assert done.choices[0].message.content == "Hi there"
    assert sent(target)["contents"][1]["parts"][0]["thoughtSignature"] == SIGNATURE


@pytest.mark.parametrize("stream", [False, True])
async def test_anthropic_calls_functions_of_gemini_and_brings_signatures_back(tmp_path: Path, stream: bool) -> None:
    asked: dict[str, Any] = {"model": "gemini-3-pro", "max_tokens": 64}
    asked["tools"] = [{"name": "weather", "input_schema": {"type": "object"}}]
    async with served(gemini_server, "gemini", tmp_path, key="the-google-key") as (running, target):
        async with anthropic.AsyncAnthropic(base_url=running.url, api_key=KEY, max_retries=0) as api:
            if stream:
                async with api.messages.stream(messages=MESSAGES, **asked) as events:
                    told = await events.get_final_message()
            else:
                told = await api.messages.create(messages=MESSAGES, **asked)
            calls = [block for block in told.content if block.type == "tool_use"]
            results = [{"type": "tool_result", "tool_use_id": call.id, "content": call.input["city"]} for call in calls]
            answered: list[Any] = [{"role": "assistant", "content": told.content}, {"role": "user", "content": results}]
            done: Any = await api.messages.create(messages=[*MESSAGES, *answered], **asked)
    assert [block.type for block in told.content] == ["thinking", "tool_use", "tool_use"]
    assert done.content[-1].text == "Hi there"
    parts = sent(target)["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == [SIGNATURE, None]


@pytest.mark.parametrize("stream", [False, True])
async def test_responses_calls_functions_of_gemini_and_brings_signatures_back(tmp_path: Path, stream: bool) -> None:
    asked: dict[str, Any] = {"model": "gemini-3-pro", "store": False, "include": ["reasoning.encrypted_content"]}
    asked["tools"] = [{"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}]
    async with openai_client(tmp_path) as (api, target):
        if stream:
            async with api.responses.stream(input=MESSAGES, **asked) as events:
                async for _ in events:
                    pass
                told = await events.get_final_response()
        else:
            told = await api.responses.create(input=MESSAGES, **asked)
        calls = [item for item in told.output if item.type == "function_call"]
        results = [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"} for call in calls]
        done = await api.responses.create(input=[*MESSAGES, *told.output, *results], **asked)
    assert [item.type for item in told.output] == ["reasoning", "function_call", "function_call"]
    assert done.output_text == "Hi there"
    parts = sent(target)["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == [SIGNATURE, None]


async def test_openai_streams_from_gemini(tmp_path: Path) -> None:
    async with openai_client(tmp_path) as (api, _):
        stream = await api.chat.completions.create(
            model="m1", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        chunks = [one async for one in stream]
    text = "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
    assert text == "Hi there"
    assert chunks[-1].usage.completion_tokens_details.reasoning_tokens == 6


async def test_a_key_that_google_refuses_is_not_the_clients(tmp_path: Path) -> None:
    async with openai_client(tmp_path, "another-key") as (api, _):
        with pytest.raises(openai.InternalServerError, match="own credentials") as caught:
            await api.chat.completions.create(model="m1", messages=MESSAGES)
    assert caught.value.status_code == 502


async def test_googles_client_passes_through_to_gemini(tmp_path: Path) -> None:
    async with client(tmp_path, "v1beta", gemini_server, "gemini", key="the-google-key") as (api, target):
        told = await api.models.generate_content(model="m1", contents=QUESTION)
        counted = await api.models.count_tokens(model="m1", contents=QUESTION)
        embedded = await api.models.embed_content(model="m1", contents=["a", "b"])
    assert (told.text, counted.total_tokens) == ("Hi there", 7)
    assert [embedding.values for embedding in embedded.embeddings] == [[0.5, 1.0]] * 2
    assert all(request.value("x-goog-api-key") == "the-google-key" for request in target.requests)
