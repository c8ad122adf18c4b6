"""llm-proxy-api's endpoints, through the engine and over sockets."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from mappers.openai import chat
from mappers.rest import dialect
from mooltiproxy.config.load import from_data
from mooltiproxy.errors import BadRequest, ConfigError, NotFound, UpstreamTimeout
from mooltiproxy.mapping.framing import encode_sse
from mooltiproxy.mapping.neutral import NOWHERE, Asked
from mooltiproxy.mapping.translate import DialectTranslation, Translated
from mooltiproxy.routing import Router
from tests.servers.proxy import passing, proxy
from tests.servers.scripted import answer, answering, upstream

_HERE = Path()
ASKED = {"model_name": "gemma", "user_last_statement": "Tea?"}
JSON, SSE = "application/json", "text/event-stream"
CHUNKS = (
    encode_sse({"choices": [{"index": 0, "delta": {"role": "assistant", "content": "With "}}]})
    + encode_sse({"choices": [{"index": 0, "delta": {"content": "milk."}}]})
    + encode_sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    + encode_sse("[DONE]")
)
WHOLE = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Milk."}, "finish_reason": "stop"}]}


def translated(path: str, body: Any, asked: Asked = NOWHERE) -> Translated:
    endpoint = next(one for one in dialect.endpoints if path in one.paths)
    return DialectTranslation(endpoint, chat.endpoint, {}, "").request(body, asked)


def sent(path: str, body: Any, asked: Asked = NOWHERE) -> Any:
    return orjson.loads(translated(path, body, asked).body)


def library(name: str, language: str | None) -> str | None:
    return {"chat-conversation-simple": f"Be kind ({language}).", "pirate": f"Be a pirate ({language})."}.get(name)


def in_front_of(url: str, prefix: str = "/rest", **more: Any) -> dict[str, Any]:
    target = {"url": url, "speaks": "openai"}
    return {"rest": {"prefix": prefix}, "targets": {"default": "one", "one": target}, **more}


def test_a_chat_streams_unless_the_client_says_otherwise() -> None:
    body = {"model": "gemma", "messages": [{"role": "user", "content": "Tea?"}]}
    assert translated("/chat", body).streaming
    assert translated("/chat", {**body, "stream": None}).streaming
    assert not translated("/chat", {**body, "stream": False}).streaming


def test_a_chat_may_name_its_model_in_either_way() -> None:
    body = {"messages": [{"role": "user", "content": "Tea?"}]}
    assert sent("/chat", {"model": "gemma", **body})["model"] == "gemma"
    assert sent("/chat", {"model_name": "gemma", "model": "llama", **body})["model"] == "gemma"


def test_a_conversation_becomes_messages_in_their_order() -> None:
    history = [{"user": "Hello", "assistant": "Hi"}, {"role": "user", "content": "Well?"}, {"assistant": "Yes."}]
    assert sent("/conversation_with_model", {**ASKED, "historical_messages": history})["messages"] == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Well?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Tea?"},
    ]


def test_the_options_of_a_conversation_get_their_names_at_the_target() -> None:
    options = {"temperature": 0.2, "top_k": 5, "top_p": 0.9, "typical_p": 0.8, "repetition_penalty": 1.1}
    body = sent("/conversation_with_model", {**ASKED, **options, "max_new_tokens": 7, "stream": False})
    assert body.pop("messages") and body.pop("model") == "gemma"
    assert body == {**options, "max_tokens": 7}


def test_a_conversation_begins_with_the_librarys_prompt_in_the_clients_language() -> None:
    body = sent("/conversation_with_model", {**ASKED, "language": "en"}, Asked(prompt=library))
    assert body["messages"][0] == {"role": "system", "content": "Be kind (en)."}


def test_an_extended_conversation_brings_its_own_system_prompt() -> None:
    body = sent("/extended_conversation_with_model", {**ASKED, "system_prompt": "Be brief."}, Asked(prompt=library))
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}


def test_a_system_prompt_may_be_the_name_of_one_in_the_library() -> None:
    asked = {**ASKED, "system_prompt": "pirate", "language": "pl"}
    body = sent("/extended_conversation_with_model", asked, Asked(prompt=library))
    assert body["messages"][0] == {"role": "system", "content": "Be a pirate (pl)."}


def test_an_extended_conversation_without_a_system_prompt_is_a_plain_one() -> None:
    assert sent("/extended_conversation_with_model", ASKED, Asked(prompt=library))["messages"][0]["role"] == "system"
    assert sent("/extended_conversation_with_model", ASKED)["messages"][0]["role"] == "user"


def test_a_system_prompt_of_a_plain_conversation_is_named_as_dropped() -> None:
    request = translated("/conversation_with_model", {**ASKED, "system_prompt": "Be brief."})
    assert request.dropped == ("system_prompt",)


@pytest.mark.parametrize(
    ("path", "missing"),
    [
        ("/chat", "model_name, messages"),
        ("/conversation_with_model", "model_name, user_last_statement"),
        ("/extended_conversation_with_model", "model_name, user_last_statement"),
    ],
)
def test_everything_that_is_missing_is_named_at_once(path: str, missing: str) -> None:
    with pytest.raises(BadRequest, match=missing) as error:
        translated(path, {"temperature": 1})
    assert error.value.param == "model_name"


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"user_last_statement": 5}, "user_last_statement"),
        ({"historical_messages": [{}]}, "historical_messages"),
        ({"historical_messages": [{"role": "tool", "content": "x"}]}, "historical_messages[0].role"),
        ({"language": 5}, "language"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_a_field_of_the_wrong_type_is_named(wrong: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as error:
        translated("/conversation_with_model", {**ASKED, **wrong})
    assert error.value.param == param


def test_a_whole_answer_of_a_conversation_is_its_text_and_its_time() -> None:
    read = translated("/conversation_with_model", {**ASKED, "stream": False}).answer(JSON, {})
    assert read is not None
    written = orjson.loads(read.feed(orjson.dumps(WHOLE)) + read.end())
    assert written.pop("generation_time") >= 0
    assert written == {"response": "Milk."}


def test_a_streamed_answer_of_a_conversation_is_chunks() -> None:
    read = translated("/conversation_with_model", ASKED).answer(SSE, {})
    assert read is not None
    events = (read.feed(CHUNKS) + read.end()).split(b"\n\n")
    assert events[-2:] == [b"data: [DONE]", b""]
    deltas = [orjson.loads(event[6:])["choices"][0]["delta"] for event in events[:-2]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "With milk."


def test_errors_have_the_form_of_these_endpoints() -> None:
    assert dialect.write_error(BadRequest("no"), "id") == {"error": "bad_request", "details": "no", "request_id": "id"}
    assert dialect.write_error(NotFound("no"), "id")["error"] == "not_found"
    assert dialect.write_error(UpstreamTimeout("no"), "id")["error"] == "internal_error"


def test_without_a_prefix_there_are_no_such_endpoints() -> None:
    config = from_data({"targets": {"default": "one", "one": {"url": "http://a", "speaks": "openai"}}}, _HERE, {})
    assert not [path for path in config.targets["one"].mapping if "conversation" in path]
    assert "rest" not in config.registry.dialects


def test_no_target_can_speak_it() -> None:
    with pytest.raises(ConfigError, match="no such dialect"):
        from_data({"rest": {"prefix": "/rest"}, **passing("http://a", speaks="rest")}, _HERE, {})


@pytest.mark.parametrize("rest", [{}, {"prefix": "rest"}, {"prefix": "/a?b"}, {"prefx": "/rest"}])
def test_a_prefix_that_is_none_is_a_mistake_of_the_file(rest: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="rest"):
        from_data({"rest": rest, **passing("http://a")}, _HERE, {})


async def test_a_stream_comes_through_the_proxy() -> None:
    async with (
        upstream(answering(answer(CHUNKS, media_type=SSE))) as target,
        proxy(in_front_of(target.url)) as running,
    ):
        async with running.client.post("/rest/conversation_with_model", json=ASKED) as response:
            assert response.content_type == SSE
            assert b"milk" in await response.read()
        assert target.requests[0].line.startswith("POST /v1/chat/completions ")


async def test_a_model_is_found_by_the_name_that_these_bodies_give_it() -> None:
    models = {"gemma": {"target": "one", "name": "google/gemma-3-12b-it"}}
    async with (
        upstream(answering(answer(orjson.dumps(WHOLE)))) as target,
        proxy(in_front_of(target.url, models=models)) as running,
    ):
        async with running.client.post("/rest/conversation_with_model", json={**ASKED, "stream": False}) as response:
            assert (await response.json())["response"] == "Milk."
        assert orjson.loads(target.requests[0].body)["model"] == "google/gemma-3-12b-it"


async def test_ping_is_answered_and_tags_are_the_targets_models() -> None:
    listed = {"object": "list", "data": [{"id": "gemma", "object": "model"}]}
    async with (
        upstream(answering(answer(orjson.dumps(listed)))) as target,
        proxy(in_front_of(target.url)) as running,
    ):
        async with running.client.get("/rest/ping") as response:
            assert await response.json() == {"status": True, "body": "pong"}
        async with running.client.get("/rest/tags") as response:
            assert [model["name"] for model in (await response.json())["models"]] == ["gemma"]


async def test_passthrough_leads_to_every_path_of_the_target_untouched() -> None:
    async with (
        upstream(answering(answer(b'{"odd": 1}'))) as target,
        proxy(in_front_of(f"{target.url}/v1")) as running,
    ):
        async with running.client.put("/rest/passthrough/lora/adapters?x=1", data=b"raw bytes") as response:
            assert await response.read() == b'{"odd": 1}'
        async with running.client.post("/rest/passthrough") as response:
            assert response.status == 200
        assert [one.line for one in target.requests] == ["PUT /v1/lora/adapters?x=1 HTTP/1.1", "POST /v1 HTTP/1.1"]
        assert target.requests[0].body == b"raw bytes"


@pytest.mark.parametrize("path", ["/../admin", "/a/%2e%2e/%2e%2e/b", "/..%5cb"])
def test_passthrough_stays_below_the_targets_url(path: str) -> None:
    router = Router(from_data(in_front_of("http://a/v1"), _HERE, {}))
    with pytest.raises(NotFound):
        router.route(f"/rest/passthrough{path}", None, None)


async def test_a_refusal_has_the_form_of_these_endpoints_over_http() -> None:
    async with proxy(in_front_of("http://127.0.0.1:9")) as running:
        async with running.client.post("/rest/conversation_with_model", json={}) as response:
            assert response.status == 400
            assert (await response.json())["error"] == "bad_request"


def test_below_api_its_paths_stand_in_the_place_of_ollamas() -> None:
    config = from_data(in_front_of("http://a", "/api"), _HERE, {})
    assert Router(config).dialect_of("/api/chat").name == "rest"
    translation = config.targets["one"].mapping["/api/chat"].translation
    assert translation is not None
    assert translation.description == "rest chat to openai chat"


def test_a_target_of_ollamas_api_keeps_its_paths() -> None:
    data = in_front_of("http://a", "/api")
    data["targets"]["one"]["speaks"] = "ollama"
    assert from_data(data, _HERE, {}).targets["one"].mapping["/api/chat"].translation is None
