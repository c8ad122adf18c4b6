"""What the proxy answers by itself where the target speaks another API: no request goes to the target."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from mappers.ollama import VERSION
from mooltiproxy.config.load import from_data
from mooltiproxy.config.model import MappingEntry
from mooltiproxy.explain import Question, explain
from tests.servers.proxy import proxy
from tests.servers.scripted import Peer, Received, answer, upstream

RUNNING = b"Ollama is running"


async def named(peer: Peer, received: Received) -> None:
    """Answers with the request's line."""
    await peer.send(answer(b"" if received.line.startswith("HEAD") else received.line.encode()))


def one(url: str = "http://127.0.0.1:1", **target: Any) -> dict[str, Any]:
    return {"targets": {"default": "one", "one": {"url": url, **target}}}


@pytest.mark.parametrize("speaks", ["openai", "anthropic", "gemini", "tgi"])
async def test_clients_of_ollama_find_a_server_in_front_of_any_target(speaks: str) -> None:
    async with upstream(named) as up, proxy(one(up.url, speaks=speaks)) as running:
        async with running.client.head("/") as found:
            assert (found.status, await found.read()) == (200, b"")
        async with running.client.get("/to/one/") as found:
            assert (found.status, await found.read(), found.content_type) == (200, RUNNING, "text/plain")
        async with running.client.get("/api/version") as told:
            assert await told.json() == {"version": VERSION}
    assert not up.requests


async def test_an_ollama_server_tells_its_own_version() -> None:
    async with upstream(named) as up, proxy(one(up.url, speaks="ollama")) as running:
        async with running.client.get("/api/version") as told:
            assert await told.read() == b"GET /api/version HTTP/1.1"
        async with running.client.head("/") as found:
            assert found.status == 200
    assert len(up.requests) == 1


async def test_they_need_the_key() -> None:
    async with proxy(one(speaks="openai")) as running:
        async with running.client.get("/", headers={"authorization": "Bearer wrong"}) as refused:
            assert refused.status == 401


async def test_what_is_posted_to_the_same_path_goes_to_the_target() -> None:
    async with upstream(named) as up, proxy(one(up.url, speaks="tgi")) as running:
        async with running.client.post("/", json={"inputs": "Hi"}) as told:
            assert await told.read() == b"POST / HTTP/1.1"
        async with running.client.post("/api/version", json={}) as refused:
            assert refused.status == 404


async def test_a_path_of_the_file_wins() -> None:
    async with upstream(named) as up, proxy(one(up.url, speaks="openai", mapping={"/": "/hello"})) as running:
        async with running.client.get("/") as told:
            assert await told.read() == b"GET /hello HTTP/1.1"


async def test_a_target_without_an_api_has_no_such_paths() -> None:
    async with proxy(one(mapping={"/chat/completions": None})) as running:
        async with running.client.get("/api/version") as missing:
            assert missing.status == 404


def test_explain_shows_what_the_proxy_answers_itself() -> None:
    (line,) = explain(from_data(one(speaks="openai"), Path("."), {}), Question("/api/version"))
    assert line.endswith(orjson.dumps({"version": VERSION}).decode())


def entries(*speaks: str) -> dict[str, MappingEntry]:
    return dict(from_data(one(speaks=list(speaks)), Path("."), {}).targets["one"].mapping)


def description(entry: MappingEntry | None) -> str | None:
    return entry.translation.description if entry and entry.translation else None


def test_what_lists_all_models_is_never_asked_for_one_instead() -> None:
    alone, both = entries("ollama"), entries("ollama", "openai")
    assert alone["/api/tags"].fallback is None
    assert description(both["/api/tags"].fallback) == "ollama tags to openai models"
    assert description(alone["/api/show"].fallback) == "ollama show to ollama tags"
    assert description(alone["/api/ps"].fallback) == "ollama ps to ollama tags"


def test_one_model_is_asked_for_where_the_target_can_be_asked_for_one() -> None:
    assert description(entries("ollama")["/v1/models/{model}"]) == "openai model to ollama show"
    assert description(entries("openai")["/api/show"]) == "ollama show to openai model"
    assert description(entries("gemini")["/api/show"]) == "ollama show to gemini model"


async def test_debug_logs_what_the_proxy_answers_in_a_targets_place(caplog: pytest.LogCaptureFixture) -> None:
    config = one(speaks="openai") | {"system": {"debug": True}}
    with caplog.at_level("INFO", "mooltiproxy.bodies"):
        async with proxy(config) as running:
            async with running.client.post("/api/generate", json={"model": "m"}) as told:
                assert (await told.json(content_type=None))["done_reason"] == "load"
    logged = "\n".join(caplog.messages)
    assert "answer of the proxy itself" in logged
    assert "request to the target" not in logged
