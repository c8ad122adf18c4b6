"""What a target turns out not to have: learned from its 404 and 405, and asked for in another way."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from mooltiproxy.config.load import from_data
from mooltiproxy.config.model import MappingEntry
from tests.servers.proxy import proxy
from tests.servers.scripted import Peer, Received, answer, upstream

MISSING = answer(b'{"detail": "Not Found"}', status="404 Not Found")
NOT_ALLOWED = answer(b'{"detail": "Method Not Allowed"}', status="405 Method Not Allowed")
HELLO = {"role": "assistant", "content": "Hello"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
ANSWERS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"choices": [{"index": 0, "message": HELLO, "finish_reason": "stop"}], "usage": USAGE},
    "/v1/completions": {"choices": [{"index": 0, "text": "Hello", "finish_reason": "stop"}], "usage": USAGE},
    "/v1/responses": {
        "status": "completed",
        "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello"}]}],
    },
}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
CLIENTS: dict[str, dict[str, Any]] = {
    "/generate": {"model": "m", "inputs": "Hi"},
    "/api/generate": {"model": "m", "prompt": "Hi", "stream": False},
    "/v1/completions": {"model": "m", "prompt": "Hi"},
    "/api/chat": {**CHAT, "stream": False},
    "/v1/messages": {**CHAT, "max_tokens": 9},
    "/v1/chat/completions": CHAT,
    "/v1/responses": {"model": "m", "input": "Hi"},
}

Script = Callable[[Peer, Received], Awaitable[None]]


def serving(*paths: str, otherwise: bytes = MISSING) -> Script:
    """A server that has these paths and nothing else."""

    async def script(peer: Peer, received: Received) -> None:
        path = received.line.split()[1]
        await peer.send(answer(orjson.dumps(ANSWERS[path])) if path in paths else otherwise)

    return script


def speaking(url: str, **target: Any) -> dict[str, Any]:
    return {"targets": {"default": "one", "one": {"url": url, "speaks": "openai"} | target}}


async def asked(script: Script, path: str, *bodies: Any, **target: Any) -> tuple[list[str], list[tuple[int, str]]]:
    """Ask one after the other: the paths that the target was asked at, and status and text of each answer."""
    answers = []
    async with upstream(script) as up, proxy(speaking(up.url, **target)) as running:
        for body in bodies:
            async with running.client.post(path, json=body) as response:
                answers.append((response.status, await response.text()))
    return [received.line.split()[1] for received in up.requests], answers


FIRST = {
    "/v1/completions": ["/v1/completions"],
    "/v1/responses": ["/v1/responses"],
    "/generate": ["/v1/completions"],
}


@pytest.mark.parametrize("path", list(CLIENTS))
async def test_a_server_that_only_chats_serves_clients_of_all_apis(path: str) -> None:
    tried, answers = await asked(serving("/v1/chat/completions"), path, CLIENTS[path], CLIENTS[path])
    assert tried == [*FIRST.get(path, []), "/v1/chat/completions", "/v1/chat/completions"]
    assert [status for status, _ in answers] == [200, 200]
    assert all("Hello" in text for _, text in answers)


@pytest.mark.parametrize("path", list(CLIENTS))
async def test_a_server_that_only_has_responses_is_found_at_the_end_of_the_chain(path: str) -> None:
    tried, answers = await asked(serving("/v1/responses"), path, CLIENTS[path], CLIENTS[path])
    before = [one for one in (*FIRST.get(path, []), "/v1/chat/completions") if path != "/v1/responses"]
    assert tried == [*before, "/v1/responses", "/v1/responses"]
    assert [status for status, _ in answers] == [200, 200]
    assert all("Hello" in text for _, text in answers)


async def test_a_405_is_learned_as_well() -> None:
    script = serving("/v1/chat/completions", otherwise=NOT_ALLOWED)
    tried, answers = await asked(script, "/generate", CLIENTS["/generate"])
    assert (tried, answers[0][0]) == (["/v1/completions", "/v1/chat/completions"], 200)


async def test_a_server_that_has_nothing_is_asked_everything_once_and_its_own_words_are_told() -> None:
    body = CLIENTS["/generate"]
    tried, answers = await asked(serving(), "/generate", body, body)
    assert tried == ["/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/responses"]
    assert [status for status, _ in answers] == [404, 404]
    assert orjson.loads(answers[0][1])["error"] == "Not Found"


async def test_a_missing_model_is_told_and_not_learned() -> None:
    missing = answer(b'{"error": {"message": "The model `m` does not exist"}}', status="404 X")
    body = CLIENTS["/generate"]
    tried, answers = await asked(serving(otherwise=missing), "/generate", body, body)
    assert tried == ["/v1/completions"] * 2
    assert [status for status, _ in answers] == [404, 404]
    assert orjson.loads(answers[0][1])["error"] == "The model `m` does not exist"


async def test_a_conversation_at_a_text_endpoint_does_not_make_that_endpoint_missing() -> None:
    script = serving("/v1/completions", "/v1/responses")
    async with upstream(script) as up, proxy(speaking(up.url)) as running:
        for body in (CLIENTS["/api/generate"], CLIENTS["/api/generate"], {**CLIENTS["/api/generate"], "raw": True}):
            async with running.client.post("/api/generate", json=body) as response:
                assert (response.status, (await response.json())["response"]) == (200, "Hello")
    paths = [received.line.split()[1] for received in up.requests]
    assert paths == ["/v1/chat/completions", "/v1/responses", "/v1/responses", "/v1/completions"]


async def test_what_is_learned_of_one_client_counts_for_all() -> None:
    async with upstream(serving("/v1/responses")) as up, proxy(speaking(up.url)) as running:
        for path in ("/v1/messages", "/api/chat"):
            async with running.client.post(path, json=CLIENTS[path]) as response:
                assert response.status == 200
    assert [received.line.split()[1] for received in up.requests] == ["/v1/chat/completions"] + ["/v1/responses"] * 2


async def test_the_ledger_tells_what_the_last_way_lost() -> None:
    body = {"model": "m", "inputs": "Hi", "parameters": {"seed": 1, "do_sample": True}}
    async with upstream(serving("/v1/responses")) as up, proxy(speaking(up.url)) as running:
        async with running.client.post("/generate", json=body) as response:
            assert response.headers.getall("x-mooltiproxy-dropped") == ["seed"]


async def test_with_endpoints_nothing_is_learned() -> None:
    tried, answers = await asked(serving(), "/generate", CLIENTS["/generate"], endpoints=["chat", "responses"])
    assert (tried, answers[0][0]) == (["/v1/chat/completions"], 404)


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


@pytest.mark.parametrize(
    "grammar", [{"type": "json", "value": SCHEMA}, {"type": "json_schema", "value": {"schema": SCHEMA}}]
)
async def test_json_is_asked_for_as_a_chat_where_text_completions_know_no_formats(grammar: Any) -> None:
    body = {"model": "m", "inputs": "Hi", "parameters": {"grammar": grammar}}
    async with upstream(serving("/v1/chat/completions", "/v1/completions")) as up, proxy(speaking(up.url)) as running:
        async with running.client.post("/generate", json=body) as response:
            assert (response.status, (await response.json())["generated_text"]) == (200, "Hello")
    assert up.requests[0].line.split()[1] == "/v1/chat/completions"
    assert orjson.loads(up.requests[0].body)["response_format"]["json_schema"]["schema"] == SCHEMA


@pytest.mark.parametrize(
    ("grammar", "target"),
    [({"type": "regex", "value": "a+"}, {}), ({"type": "json", "value": SCHEMA}, {"endpoints": ["completions"]})],
)
async def test_a_format_that_no_endpoint_knows_is_refused_by_name(grammar: Any, target: dict[str, Any]) -> None:
    body = {"model": "m", "inputs": "Hi", "parameters": {"grammar": grammar}}
    tried, answers = await asked(serving(), "/generate", body, **target)
    assert (tried, answers[0][0]) == ([], 400)
    assert "format" in answers[0][1] or "regex" in answers[0][1]


def test_no_chain_asks_a_path_twice() -> None:
    data = {"url": "http://127.0.0.1:1", "speaks": ["openai", "anthropic", "ollama", "tgi", "gemini"]}
    config = from_data({"targets": {"default": "all", "all": data}}, Path(), {"MOOLTIPROXY_KEY": "k" * 32})
    for entry in config.targets["all"].mapping.values():
        paths = [one.path for one in chain(entry)]
        assert len(set(paths)) == len(paths)
        assert all(re.match("/|$", path) for path in paths)


def chain(entry: MappingEntry | None) -> list[MappingEntry]:
    return [entry, *chain(entry.fallback)] if entry else []
