"""What a key may ask: models, endpoints, and for how long."""

import gzip
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from mooltiproxy.keys import hash_of
from tests.servers.proxy import Proxy, proxy
from tests.servers.scripted import Peer, Received, Upstream, answer, upstream

ALICE = "the-key-of-alice"
JSON = "application/json"
LISTED = {"object": "list", "data": [{"id": name, "object": "model"} for name in ("llama-8b", "llama-70b", "gpt-5")]}


async def echoing(peer: Peer, received: Received) -> None:
    """Lists its models, and answers all else with the request's body."""
    is_list = received.line.startswith("GET /v1/models HTTP")
    await peer.send(answer(orjson.dumps(LISTED) if is_list else received.body or b"{}"))


@asynccontextmanager
async def running(
    alice: Mapping[str, Any], targets: Mapping[str, Any] | None = None, **more: Any
) -> AsyncIterator[tuple[Proxy, Upstream]]:
    """A proxy whose client has a key with such rights, before one target of OpenAI's API, or these at its url."""
    async with upstream(echoing) as up:
        own = targets or {"one": {"speaks": "openai"}}
        placed = {name: {"url": up.url, **target} for name, target in own.items()}
        keys = {"alice": {"hash": hash_of(ALICE), **alice}, "bob": {"envkey": "BOB_KEY", "models": ["of-bob"]}}
        config = {"targets": {"default": next(iter(own)), **placed}, "keys": keys, **more}
        async with proxy(config, BOB_KEY="the-key-of-bob") as found:
            found.client.headers["Authorization"] = f"Bearer {ALICE}"
            yield found, up


async def posted(
    running: Proxy, body: Any, path: str = "/v1/chat/completions", media_type: str = JSON, **headers: str
) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    sent = {"content-type": media_type, **headers}
    async with running.client.post(path, data=data, headers=sent) as response:
        return response.status, orjson.loads(await response.read())


def chat(model: str | None = None) -> dict[str, Any]:
    return {"messages": [], **({"model": model} if model is not None else {})}


# Models.


@pytest.mark.parametrize("model", ["llama-8b", "llama-", "tiny", "tiny:latest"])
async def test_a_key_may_ask_for_its_models_by_name_and_by_pattern(model: str) -> None:
    async with running({"models": ["llama-*", "tiny"]}) as (found, _):
        assert await posted(found, chat(model)) == (200, chat(model))


@pytest.mark.parametrize("model", ["gpt-5", "llama", "a-llama-8b", "tiny2", "Tiny", "tiny:8b"])
async def test_another_model_is_a_403_that_names_it_and_nothing_of_other_keys(model: str) -> None:
    async with running({"models": ["llama-*", "tiny"]}) as (found, up):
        status, body = await posted(found, chat(model))
        assert (status, body["error"]["code"]) == (403, "permission_denied")
        assert f"may not ask for model {model}" in body["error"]["message"]
        assert "bob" not in orjson.dumps(body).decode()
        assert up.requests == []


HIDDEN = [
    b'{"model": "gpt-5", "messages": [{"model": "llama-8b"}]}',
    b'{"messages": [], "meta": {"model": "llama-8b"}, "mo\\u0064el": "gpt-5"}',
    b'{"model": "gpt-5", "note": "\\"model\\": \\"llama-8b\\""}',
    b'{"model": "llama-8b", "model": "gpt-5"}',
    b'{"model": "llama-8b", "Model": "gpt-5"}',
    b'{"model": "llama-8b", "models": ["gpt-5"]}',
    b'{"model": "llama-8b", "fallbacks": ["gpt-5"]}',
    b'{"model": "llama-8b", "input_file_id": "file-1"}',
    b'{"model": "llama-8b", "tools": [{"type": "function"}, {"type": "image_generation", "model": "gpt-5"}]}',
    b'{"model": "llama-8b", "tools": [{"model": "gpt-5"}], "tools": []}',
    b'{"model": "llama-8b", "parameters": {"adapter_id": "gpt-5"}}',
    b'{"model": "llama-8b", "requests": [{"custom_id": "1", "params": {"model": "gpt-5"}}]}',
    b'{"messages": []}',
    b'{"model": null}',
    b'{"model": ""}',
    b'["llama-8b"]',
]


@pytest.mark.parametrize("body", HIDDEN)
async def test_no_spelling_of_a_body_gets_another_model_past_the_key(body: bytes) -> None:
    async with running({"models": ["llama-*"]}) as (found, up):
        assert (await posted(found, body))[0] == 403
        assert up.requests == []


async def test_of_a_model_that_is_named_twice_all_readers_get_the_one_that_was_checked() -> None:
    async with running({"models": ["llama-*"]}) as (found, up):
        assert (await posted(found, b'{"model": "gpt-5", "mo\\u0064el": "llama-8b"}'))[0] == 200
        assert b"gpt-5" not in up.requests[0].body


async def test_a_body_that_cannot_be_read_is_refused_where_models_count() -> None:
    body = orjson.dumps(chat("llama-8b"))
    async with running({"models": ["llama-*"]}) as (found, up):
        assert (await posted(found, body, media_type="text/plain"))[0] == 403
        assert (await posted(found, gzip.compress(body), **{"content-encoding": "gzip"}))[0] == 403
        assert up.requests == []


async def test_no_charset_reads_another_model_out_of_a_body() -> None:
    body = b'{"model": "llama-8b", "a": "+ACI-,+ACI-model+ACI-:+ACI-gpt-5+ACI-,+ACI-b+ACI-:+ACI-"}'
    async with running({"models": ["llama-*"]}) as (found, up):
        assert (await posted(found, body, media_type=f"{JSON}; charset=utf-7"))[0] == 403
        assert (await posted(found, body, media_type=f"{JSON}; charset=UTF-8"))[0] == 200
        assert len(up.requests) == 1


@pytest.mark.parametrize("query", ["model=gpt-5", "a=b&mod%65l=gpt-5", "Model=gpt-5", "model="])
async def test_the_query_names_no_other_model(query: str) -> None:
    async with running({"models": ["llama-*"]}) as (found, up):
        assert (await posted(found, chat("llama-8b"), f"/v1/chat/completions?{query}"))[0] == 403
        assert up.requests == []
        assert (await posted(found, chat("llama-8b"), "/v1/chat/completions?model=llama-70b&a=model"))[0] == 200


async def test_what_tools_are_called_with_names_no_model() -> None:
    messages = [{"role": "assistant", "tool_calls": [{"function": {"arguments": {"model": "T"}}}]}]
    tools = [{"type": "function", "function": {"name": "buy", "parameters": {"properties": {"model": {}}}}}]
    async with running({"models": ["llama-*"]}) as (found, _):
        body = {"model": "llama-8b", "messages": messages, "tools": tools, "metadata": {"model": "any"}}
        assert await posted(found, body) == (200, body)


async def test_the_name_of_the_file_counts_and_not_what_its_target_calls_it() -> None:
    models = {"mine": {"target": "one", "name": "gpt-5"}, "*": {"target": "one", "name": "default-model"}}
    async with running({"models": ["mine"]}, models=models) as (found, _):
        assert await posted(found, chat("mine")) == (200, chat("gpt-5"))
        assert (await posted(found, chat("gpt-5")))[0] == 403
        assert (await posted(found, chat()))[0] == 403


async def test_who_names_no_model_gets_the_one_of_the_route_if_the_key_has_that() -> None:
    models = {"*": {"target": "one", "name": "default-model"}}
    async with running({"models": ["default-model"]}, models=models) as (found, up):
        assert (await posted(found, chat()))[0] == 200
        assert orjson.loads(up.requests[0].body)["model"] == "default-model"


@pytest.mark.parametrize("way", ["path", "header"])
async def test_to_name_the_target_is_no_way_around_the_models(way: str) -> None:
    two = {"one": {"speaks": "openai"}, "two": {"speaks": "openai"}}
    path = "/to/two/v1/chat/completions" if way == "path" else "/v1/chat/completions"
    headers = {"target": "two"} if way == "header" else {}
    async with running({"models": ["llama-*"]}, two) as (found, _):
        assert (await posted(found, chat("gpt-5"), path, **headers))[0] == 403
        assert (await posted(found, chat("llama-8b"), path, **headers))[0] == 200


async def test_a_model_in_the_path_counts_and_so_does_one_beside_it_in_the_body() -> None:
    async with running({"models": ["gemini-a"]}, {"one": {"speaks": "gemini"}}) as (found, _):
        body = {"contents": [{"parts": [{"text": "hi"}]}]}
        assert (await posted(found, body, "/v1beta/models/gemini-b:generateContent"))[0] == 403
        assert (await posted(found, body, "/v1beta/models/gemini-a:generateContent"))[0] == 200
        named = {**body, "model": "models/gemini-a"}
        assert (await posted(found, named, "/v1beta/models/gemini-a:generateContent"))[0] == 200
        named["model"] = "models/gemini-b"
        assert (await posted(found, named, "/v1beta/models/gemini-a:generateContent"))[0] == 403
        for path in ("batchEmbedContents", "countTokens"):
            place: Any = [named] if path == "batchEmbedContents" else named
            beside = {"requests" if path == "batchEmbedContents" else "generateContentRequest": place}
            assert (await posted(found, beside, f"/v1beta/models/gemini-a:{path}"))[0] == 403


async def test_what_leads_to_all_paths_of_a_target_is_not_for_keys_with_models() -> None:
    async with running({"models": ["llama-*"]}, {"one": {"speaks": "gemini"}}, rest={"prefix": "/rest"}) as (found, up):
        path = "/rest/passthrough/v1beta/models/gpt-5:generateContent"
        assert (await posted(found, {"model": "llama-8b", "contents": []}, path))[0] == 403
        assert up.requests == []


async def test_a_body_counts_beside_a_path_of_the_users_own_that_has_a_model() -> None:
    mapping = {"/v1beta/models/llama-8b:generateContent": "/v1/chat/completions"}
    async with running({"models": ["llama-*"]}, {"one": {"mapping": mapping}}) as (found, up):
        path = "/v1beta/models/llama-8b:generateContent"
        assert (await posted(found, chat("gpt-5"), path))[0] == 403
        assert (await posted(found, chat("llama-70b"), path))[0] == 200
        assert len(up.requests) == 1


async def test_the_refusal_has_the_form_of_the_clients_api() -> None:
    async with running({"models": ["llama-*"]}) as (found, _):
        status, body = await posted(found, {**chat("gpt-5"), "max_tokens": 1}, "/v1/messages")
        assert (status, body["type"], body["error"]["type"]) == (403, "error", "permission_error")


async def test_a_path_of_no_api_names_no_model() -> None:
    async with running({"models": ["llama-*"]}, {"one": {"mapping": {"/thing": None}}}) as (found, up):
        async with found.client.get("/thing") as response:
            assert response.status == 403
        assert (await posted(found, {"model": "llama-8b"}, "/thing"))[0] == 200
        assert len(up.requests) == 1


# Lists of models.


async def names(running: Proxy, path: str, **headers: str) -> list[str]:
    async with running.client.get(path, headers=headers) as response:
        body = orjson.loads(await response.read())
        assert response.status == 200, body
        return [one.get("id") or one["name"] for one in body.get("data", body.get("models"))]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("path", ["/v1/models", "/to/one/v1/models", "/api/tags"])
async def test_a_list_has_only_what_the_key_may_ask_for(path: str, count: int) -> None:
    targets = {name: {"speaks": "openai"} for name in ("one", "two")[:count]}
    models = {"llama-of-ours": {"target": "one"}, "other": {"target": "one"}}
    async with running({"models": ["llama-*"]}, targets, models=models) as (found, _):
        assert await names(found, path) == ["llama-of-ours", "llama-8b", "llama-70b"]


async def test_one_model_is_told_of_to_whom_may_ask_for_it() -> None:
    async with running({"models": ["llama-*"]}) as (found, _):
        for model, status in (("llama-8b", 200), ("gpt-5", 403)):
            async with found.client.get(f"/v1/models/{model}") as response:
                assert response.status == status


async def test_a_list_of_another_target_is_none_of_the_keys_business() -> None:
    two = {"one": {"speaks": "openai"}, "two": {"speaks": "openai"}}
    async with running({"models": ["*"], "targets": ["one"]}, two) as (found, _):
        async with found.client.get("/to/two/v1/models") as response:
            assert response.status == 403
        async with found.client.get("/to/three/v1/models") as response:
            assert response.status == 404


# Endpoints.


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/chat/completions", 200),
        ("/chat/completions", 200),
        ("/v1/responses", 200),
        ("/v1/embeddings", 403),
        ("/v1/completions", 403),
        ("/to/one/v1/embeddings", 403),
        ("/v1/moderations", 403),
    ],
)
async def test_a_key_may_use_its_endpoints_by_label_or_kind(path: str, status: int) -> None:
    async with running({"endpoints": ["chat"]}) as (found, up):
        got, body = await posted(found, chat("m"), path)
        assert got == status
        assert len(up.requests) == (status == 200)
        if status == 403:
            assert body["error"]["code"] == "permission_denied"


async def test_a_label_of_one_api_is_only_that() -> None:
    async with running({"endpoints": ["responses", "models"]}) as (found, _):
        assert (await posted(found, {"model": "m", "input": "hi"}, "/v1/responses"))[0] == 200
        assert (await posted(found, chat("m")))[0] == 403
        assert await names(found, "/v1/models") == ["llama-8b", "llama-70b", "gpt-5"]


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("HEAD", 200), ("DELETE", 403), ("PATCH", 403)])
async def test_an_endpoint_is_what_it_does_by_its_own_method(method: str, status: int) -> None:
    async with running({"endpoints": ["models"]}) as (found, up):
        async with found.client.request(method, "/v1/models/gpt-5") as response:
            assert response.status == status
        assert len(up.requests) == (status == 200)


async def test_paths_of_the_users_own_are_what_their_api_calls_them() -> None:
    mapping = {"/bob": {"from": "anthropic", "to": "tgi"}, "/mine": "/v1/embeddings", "/else": None}
    async with running({"endpoints": ["embeddings"]}, {"one": {"mapping": mapping}}) as (found, _):
        statuses = [(await posted(found, {"input": "x"}, path))[0] for path in ("/mine", "/bob", "/else")]
        assert statuses == [200, 403, 403]


# Expiry.


@pytest.mark.parametrize(("expires", "status"), [("2999-12-31", 200), ("2020-01-01T00:00:00Z", 401)])
async def test_a_key_that_has_expired_is_a_401_that_says_so(expires: str, status: int) -> None:
    async with running({"expires": expires}, cerbere={"max_tries": 1}) as (found, up):
        for _ in range(2):  # whoever had a key is no guesser, and not banned
            got, body = await posted(found, chat("m"))
            assert got == status
        if status == 401:
            assert "expired (2020-01-01T00:00:00Z)" in body["error"]["message"]
            assert up.requests == []
