"""The models behind several targets: one list for every client, and where a model that is listed is asked."""

import asyncio
import dataclasses
import hashlib
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anthropic
import ollama
import openai
import orjson
import pytest
from google import genai
from google.genai import types

from mooltiproxy.catalogue import live
from mooltiproxy.catalogue.answers import _expires
from mooltiproxy.config.load import from_data
from mooltiproxy.config.model import Run
from mooltiproxy.endpoints import OPEN, endpoints
from mooltiproxy.engines.schedule import State
from mooltiproxy.middlewares.routing import FOR_ALL_KEYS
from mooltiproxy.routing import Router
from tests.servers.engines import toy_target
from tests.servers.proxy import BEARER, KEY, Proxy, proxy
from tests.servers.scripted import Peer, Received, Script, Upstream, answer, upstream

GPT = {"id": "gpt", "object": "model", "created": 1_700_000_000, "owned_by": "lab", "root": "kept", "max_model_len": 99}
LLAMA = {
    "name": "llama3:latest",
    "model": "llama3:latest",
    "modified_at": "2026-11-14T22:13:20.5Z",
    "size": 5,
    "digest": "ab" * 32,
    "details": {"format": "gguf", "family": "llama", "quantization_level": "Q4_0", "parameter_size": "8B"},
    "extra": "kept",
}
CLAUDE = {"id": "claude", "type": "model", "display_name": "Claude", "created_at": "2025-01-01T00:00:00Z"}
TOLD: Mapping[str, Any] = {
    "GET /v1/models": {"object": "list", "data": [GPT]},
    "GET /api/tags": {"models": [LLAMA]},
    "GET /api/ps": {"models": [{**LLAMA, "expires_at": "2026-11-14T22:18:20Z", "size_vram": 5, "context_length": 8}]},
    "POST /api/show": {"details": LLAMA["details"], "template": "own"},
    "GET /v1/models?limit=1000": {"data": [CLAUDE], "has_more": True},
}
SIGN: Any = {"anthropic-version": "2023-06-01"}
EVERY = ["bob", "gpt", "llama3:latest", "claude"]


def telling(told: Mapping[str, Any] = TOLD) -> Script:
    """A server of any API that tells this of its models, and answers all else with the request's body."""

    async def script(peer: Peer, received: Received) -> None:
        found = told.get(received.line.removesuffix(" HTTP/1.1"))
        await peer.send(answer(received.body or b"{}" if found is None else orjson.dumps(found)))

    return script


@asynccontextmanager
async def behind(told: Mapping[str, Any] = TOLD, **more: Any) -> AsyncIterator[tuple[Proxy, Upstream]]:
    """The proxy before one server that is three targets, each by another API, and a fourth target that is down."""
    async with upstream(telling(told)) as up:
        targets: dict[str, Any] = {
            "default": "cloud",
            "cloud": {"url": up.url, "speaks": "openai"},
            "down": {"url": "http://127.0.0.1:1", "speaks": "openai"},
            "local": {"url": up.url, "speaks": "ollama"},
            "other": {"url": up.url, "speaks": "anthropic"},
        }
        models = {"bob": {"target": "local", "name": "llama3"}, "x-*": {"target": "other"}}
        async with proxy({"targets": targets, "models": models, **more}, ALICE="the-key-of-alice") as running:
            yield running, up


async def got(running: Proxy, path: str, status: int = 200, **headers: str) -> Any:
    async with running.client.get(path, headers=headers) as response:
        assert response.status == status
        return orjson.loads(await response.read())


async def posted(running: Proxy, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    async with running.client.post(path, json=body, headers=headers) as response:
        return response.status, orjson.loads(await response.read())


def names(body: Any) -> list[str]:
    return [one.get("id") or one["name"] for one in body.get("data", body.get("models"))]


def asked(up: Upstream) -> list[str]:
    return [one.line.removesuffix(" HTTP/1.1") for one in up.requests if one.line.startswith("POST")]


async def test_openais_client_sees_the_models_of_every_target() -> None:
    async with behind() as (running, _):
        async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key=KEY) as client:
            models = [model async for model in client.models.list()]
    assert [model.id for model in models] == EVERY
    assert models[1].to_dict() == GPT


async def test_anthropics_client_sees_them_on_one_page() -> None:
    async with behind() as (running, _):
        async with anthropic.AsyncAnthropic(base_url=running.url, api_key=KEY) as client:
            page = await client.models.list()
            models = [model async for model in page]
    assert [model.id for model in models] == EVERY
    assert (page.has_more, page.first_id, page.last_id) == (False, "bob", "claude")
    assert models[-1].display_name == "Claude"


async def test_ollamas_client_sees_them_with_all_that_an_ollama_says_of_its_own() -> None:
    async with behind() as (running, _):
        async with ollama.AsyncClient(running.url, headers=BEARER) as client:
            models = (await client.list()).models
        told = await got(running, "/api/tags")
    assert [model.model for model in models] == EVERY
    assert told["models"][2] == LLAMA
    own, other = models[0], models[1]
    assert own.details is not None and own.details.quantization_level == "Q4_0"
    assert other.digest == hashlib.sha256(b"gpt").hexdigest()


def googles_models(url: str) -> list[types.Model]:
    with genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=url)) as client:
        return list(client.models.list())


async def test_googles_client_sees_them() -> None:
    async with behind() as (running, _):
        models = await asyncio.to_thread(googles_models, running.url)
    assert [model.name for model in models] == [f"models/{name}" for name in EVERY]
    assert models[1].input_token_limit == 99


async def test_a_later_page_is_empty() -> None:
    async with behind() as (running, _):
        body = await got(running, "/v1/models?after_id=claude", **SIGN)
    assert body == {"data": [], "has_more": False, "first_id": None, "last_id": None}


async def test_a_slow_target_is_left_out_and_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PATIENCE", 0.1)

    async def script(peer: Peer, received: Received) -> None:
        if received.line.startswith("GET /api"):
            await peer.gone()
        await telling()(peer, received)

    async with upstream(script) as up:
        targets = {"default": "a", "a": {"url": up.url, "speaks": "openai"}, "b": {"url": up.url, "speaks": "ollama"}}
        async with proxy({"targets": targets}) as running:
            many = await asyncio.gather(*(got(running, "/v1/models") for _ in range(5)))
        assert [names(body) for body in many] == [["gpt"]] * 5
        assert [one.line for one in up.requests].count("GET /api/tags HTTP/1.1") == 1


async def test_what_a_target_has_told_last_stands_while_it_is_down() -> None:
    told = dict(TOLD)
    async with behind(told) as (running, _):
        await got(running, "/v1/models")
        told["GET /api/tags"] = {"error": "busy"}
        assert names(await got(running, "/api/tags")) == EVERY
        assert (await posted(running, "/api/chat", {"model": "llama3:latest"}))[0] == 200


async def test_a_key_sees_what_it_may_ask() -> None:
    keys = {"alice": {"envkey": "ALICE", "targets": ["local"]}}
    async with behind(keys=keys) as (running, up):
        told = await got(running, "/v1/models", authorization="Bearer the-key-of-alice")
        assert names(told) == ["bob", "llama3:latest"]
        running_models = await got(running, "/api/ps", authorization="Bearer the-key-of-alice")
        assert names(running_models) == ["llama3:latest"]
        status, _ = await posted(
            running, "/api/chat", {"model": "llama3:latest"}, authorization="Bearer the-key-of-alice"
        )
        assert (status, asked(up)) == (200, ["POST /api/chat"])
        status, _ = await posted(running, "/api/chat", {"model": "gpt"}, authorization="Bearer the-key-of-alice")
        assert status == 403


async def test_a_list_that_the_file_maps_stays_as_it_is() -> None:
    async with upstream(telling()) as up:
        one = {"url": up.url, "speaks": "openai", "mapping": {"/v1/models": None}}
        two = {"url": up.url, "speaks": "ollama"}
        async with proxy({"targets": {"default": "one", "one": one, "two": two}}) as running:
            assert await got(running, "/v1/models") == TOLD["GET /v1/models"]


async def test_a_target_that_is_named_lists_its_own() -> None:
    async with behind() as (running, _):
        assert names(await got(running, "/to/cloud/v1/models")) == ["gpt"]
        assert names(await got(running, "/to/local/api/tags")) == ["bob", "llama3:latest"]


async def test_what_targets_listed_is_kept_across_a_reload_as_far_as_they_are_the_same() -> None:
    async with behind() as (running, up):
        await got(running, "/v1/models")
        server = running.server
        targets = {name: dataclasses.replace(one) for name, one in server._config.targets.items()}
        targets["other"] = dataclasses.replace(targets["other"], url="http://127.0.0.1:1")
        server.prepare(dataclasses.replace(server._config, targets=targets))()
        assert server._live.names == {"cloud": {"gpt"}, "local": {"llama3:latest"}}
        assert names(await got(running, "/v1/models")) == EVERY[:-1]


async def test_targets_are_asked_again_from_time_to_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "EVERY", 0.01)
    async with behind() as (running, up):
        async with asyncio.timeout(5):
            while len([one for one in up.requests if one.line == "GET /api/tags HTTP/1.1"]) < 3:
                await up.asked.wait()
                up.asked.clear()
        assert "local" in running.server._live.names


async def test_a_single_target_is_asked_nothing_of_its_own_accord() -> None:
    async with upstream(telling()) as up:
        async with proxy({"targets": {"default": "one", "one": {"url": up.url, "speaks": "openai"}}}) as running:
            router = running.server._listener.current.router
            assert (router.wants_model, up.connections) == (False, 0)


async def test_a_model_that_another_target_lists_is_asked_there() -> None:
    async with behind() as (running, up):
        await got(running, "/v1/models")
        status, body = await posted(running, "/api/chat", {"model": "llama3:latest", "messages": []})
        assert (status, body["model"], asked(up)) == (200, "llama3:latest", ["POST /api/chat"])


async def test_ollamas_words_for_a_server_are_there_before_several_targets() -> None:
    async with behind() as (running, _):
        assert "version" in await got(running, "/api/version")
        async with running.client.get("/") as response:
            assert await response.text() == "Ollama is running"


def router(known: Mapping[str, list[str]], **models: Any) -> Router:
    """Three targets that are known to list these; `local` speaks Ollama's API."""
    target = {"url": "http://127.0.0.1:1", "speaks": "openai"}
    targets = {"default": "one", "one": target, "two": target, "local": {**target, "speaks": "ollama"}}
    config = from_data({"targets": targets, "models": models}, Path(), {"MOOLTIPROXY_KEY": KEY})
    return Router(config, {name: frozenset(names) for name, names in known.items()})


def found(known: Router, name: str, allowed: list[str] | None = None) -> tuple[str, str | None]:
    """The target, and what it is asked for where that is another name than the client's."""
    route = known.route("/v1/chat/completions", None, name, allowed)
    return route.target.name, route.model.upstream_name if route.model and route.is_renamed else None


LISTS = {"one": ["a", "both"], "two": ["b", "both", "b:free"], "local": ["llama3:latest", "llama3:8b", "b"]}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a", ("one", None)),
        ("b", ("two", None)),
        ("both", ("one", None)),
        ("nobody", ("one", None)),
        ("", ("one", None)),
        ("b:free", ("two", None)),
        ("b:exl2", ("two", "b")),
        ("llama3", ("local", "llama3:latest")),
        ("llama3:8b", ("local", None)),
        ("llama3:70b", ("one", None)),
    ],
)
def test_a_model_goes_to_the_first_target_that_lists_it(name: str, expected: tuple[str, str | None]) -> None:
    assert found(router(LISTS), name) == expected


def test_the_default_target_has_what_nobody_knows_better() -> None:
    assert found(router({"two": ["b"]}), "b") == ("one", None)


def test_a_default_target_whose_server_is_the_proxys_own_has_what_the_file_says() -> None:
    own = {"url": "http://127.0.0.1:${port}", "speaks": "openai", "run": {"command": "serve --port ${port}"}}
    other = {"url": "http://127.0.0.1:1", "speaks": "openai"}
    data = {"targets": {"default": "own", "own": own, "other": other}, "models": {"b": {"target": "own"}}}
    known = Router(from_data(data, Path(), {"MOOLTIPROXY_KEY": KEY}), {"other": frozenset("ab")})
    assert [found(known, name)[0] for name in ("a", "b", "c")] == ["other", "own", "own"]


def test_a_key_finds_models_only_where_it_may_ask() -> None:
    assert found(router(LISTS), "b", ["one", "local"]) == ("local", None)
    assert found(router({"local": ["b"]}), "b", ["local"]) == ("local", None)


NAMED: Any = {
    "m": {"target": "two", "name": "vendor/m"},
    "m:1": {"target": "one", "name": "m1"},
    "m:p*": {"target": "one", "name": "p*"},
    "m*": {"target": "one", "name": "any"},
    "tagged": {"target": "local", "name": "llama3:8b"},
    "late:latest": {"target": "two", "name": "late"},
    "b": {"target": "one", "name": "file"},
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("m", ("two", "vendor/m")),
        ("m:1", ("one", "m1")),
        ("m:exl2", ("two", "vendor/m")),
        ("m:latest", ("two", "vendor/m")),
        ("m:p2", ("one", "p2")),
        ("more", ("one", "any")),
        ("tagged:latest", ("local", "llama3:8b")),
        ("tagged:70b", ("one", None)),
        ("late", ("two", None)),
        ("b:free", ("two", None)),
        ("b:other", ("one", "file")),
        ("host:80/m", ("one", None)),
    ],
)
def test_a_name_goes_before_its_tagless_form_and_that_before_shorter_patterns(
    name: str, expected: tuple[str, str | None]
) -> None:
    assert found(router(LISTS, **NAMED), name) == expected


def test_a_client_that_writes_a_tag_gets_it_back() -> None:
    assert router({}, **NAMED).route("/v1/chat/completions", None, "m:exl2").alias == "m:exl2"


async def test_an_ollama_shows_its_own_models_in_its_own_words() -> None:
    async with behind() as (running, _):
        await got(running, "/v1/models")
        for name in ("bob", "llama3", "llama3:latest"):
            assert (await posted(running, "/api/show", {"model": name}))[1] == TOLD["POST /api/show"]


async def test_a_model_of_the_file_is_shown_though_its_target_does_not_list_it() -> None:
    models = {"carl": {"target": "cloud", "name": "c", "system": "Be kind.", "defaults": {"temperature": 0.5}}}
    async with behind(models=models) as (running, _):
        async with ollama.AsyncClient(running.url, headers=BEARER) as client:
            shown = await client.show("carl:latest")
        assert (shown.parameters or "").split() == ["temperature", "0.5"]
        assert shown.capabilities == ["completion", "tools"]
        assert (await posted(running, "/api/show", {"model": "carl"}))[1]["system"] == "Be kind."
        assert (await got(running, "/v1/models/carl", **SIGN))["display_name"] == "carl"


async def test_a_model_that_another_target_lists_is_shown_by_that() -> None:
    async with behind({**TOLD, "GET /v1/models/claude": {**CLAUDE, "max_input_tokens": 77}}) as (running, _):
        await got(running, "/v1/models")
        async with ollama.AsyncClient(running.url, headers=BEARER) as client:
            shown = await client.show("claude:latest")
    assert shown.modelinfo is not None and shown.modelinfo["unknown.context_length"] == 77


async def test_a_single_target_is_found_to_have_a_model_without_its_tag() -> None:
    async with upstream(telling()) as up:
        async with proxy({"targets": {"default": "one", "one": {"url": up.url, "speaks": "openai"}}}) as running:
            status, shown = await posted(running, "/api/show", {"model": "gpt:latest"})
    assert (status, shown["model_info"]["unknown.context_length"]) == (200, 99)


async def test_what_nobody_knows_is_404_as_ollama_says_it() -> None:
    async with behind() as (running, _):
        async with ollama.AsyncClient(running.url, headers=BEARER) as client:
            with pytest.raises(ollama.ResponseError) as refused:
                await client.show("nobody")
    assert refused.value.status_code == 404
    assert "nobody" in refused.value.error


@asynccontextmanager
async def with_an_engine(folder: Path, **more: Any) -> AsyncIterator[Proxy]:
    """The proxy before a server of its own, with a file for each of its two models, and an Ollama."""
    (folder / "config").mkdir()
    for name in ("small", "large"):
        sections = "model: {model_name: NAME-exl2, max_seq_len: 4096}\ndraft_model: {draft_model_name: d}\n"
        template = "template: {temperature: 0.5, stop: [END], system: Be kind.}\n"
        (folder / f"config/{name}.yml").write_text(sections.replace("NAME", name) + template)
    async with upstream(telling()) as up:
        toy = toy_target(log=folder / "toy.jsonl", unload_after="5m", env={"MODEL": "${model}"})
        targets = {"default": "toy", "toy": toy, "local": {"url": up.url, "speaks": "ollama"}}
        data = {"targets": targets, "models_dir": "config", "system": {"timeout": 20}, **more}
        async with proxy(data, folder, ALICE="the-key-of-alice") as running:
            yield running


async def test_ollamas_client_sees_what_runs_and_when_that_ends(tmp_path: Path) -> None:
    async with with_an_engine(tmp_path) as running:
        before = (await got(running, "/api/ps"))["models"]
        body = {"model": "small:exl2", "prompt": "Hi", "raw": True, "stream": False, "options": {"num_predict": 3}}
        status, told = await posted(running, "/api/generate", body)
        assert (status, told["model"]) == (200, "small:exl2")
        async with ollama.AsyncClient(running.url, headers=BEARER) as client:
            own, other = (await client.ps()).models
            listed = [one.model for one in (await client.list()).models]
        status_told = await got(running, "/status")
        entries = (await got(running, "/api/ps"))["models"]
    assert (own.model, own.size_vram, own.context_length) == ("small", 0, 4096)
    assert own.expires_at is not None
    assert own.expires_at.timestamp() == pytest.approx(status_told["until"], abs=1)
    assert other.model == "llama3:latest"
    assert set(entries[0]) == set(entries[1]) - {"modified_at", "extra"}
    assert len(entries[0]["digest"]) == 64
    assert names({"models": before}) == ["llama3:latest"]
    assert listed == ["large", "small", "llama3:latest"]
    expected = {"model": "small", "model_params": {"model_name": "small-exl2", "max_seq_len": 4096}}
    expected |= {"draft_model_params": {"draft_model_name": "d"}, "current_source": "tabbyAPI"}
    assert expected.items() <= status_told.items()
    assert status_told["model_template"] == {"temperature": 0.5, "stop": ["END"], "system": "Be kind."}
    assert [(one["source"], one["parameters"]) for one in status_told["targets"]] == [
        ("tabbyAPI", {"temperature": 0.5, "stop": ["END"]}),
        ("tabbyAPI", {"temperature": 0.5, "stop": ["END"]}),
        ("ollama", {}),
    ]


@pytest.mark.parametrize(
    ("state", "until", "unload_after", "expected"),
    [
        (State.READY, 2_000_000_000.0, 60.0, 2_000_000_000.0),
        (State.READY, math.inf, 60.0, None),
        (State.READY, None, None, None),
        (State.READY, None, 60.0, 1060.0),
        (State.DRAINING, None, 60.0, 1000.0),
    ],
)
def test_when_a_model_leaves_the_memory(
    state: State,
    until: float | None,
    unload_after: float | None,
    expected: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.time", lambda: 1000.0)
    shown: Any = SimpleNamespace(state=state, until=until)
    assert _expires(shown, Run(("x",), Path(), unload_after=unload_after)) == expected


async def test_a_model_whose_server_does_not_run_is_shown_without_starting_it(tmp_path: Path) -> None:
    async with with_an_engine(tmp_path) as running:
        async with ollama.AsyncClient(running.url, headers=BEARER) as client:
            shown = await client.show("large:exl2")
            with pytest.raises(ollama.ResponseError) as refused:
                await client.show("nobody")
        states = [one["state"] for one in (await got(running, "/-/status"))["targets"]]
    assert shown.modelinfo == {
        "general.architecture": "unknown",
        "general.basename": "large:exl2",
        "unknown.context_length": 4096,
    }
    assert (shown.parameters or "").split() == ["stop", '"END"', "temperature", "0.5"]
    assert shown.details is not None and shown.details.parent_model == "large-exl2"
    assert refused.value.status_code == 404
    assert states == ["stopped", "stopped", None]


async def test_the_proxys_own_endpoints_are_for_keys_with_admin(tmp_path: Path) -> None:
    keys = {"alice": {"envkey": "ALICE"}, "root": {"envkey": "ROOT", "admin": True}}
    data = {"targets": {"default": "one", "one": {"url": "http://127.0.0.1:1", "speaks": "openai"}}, "keys": keys}
    async with proxy(data, ALICE="the-key-of-alice", ROOT="the-key-of-root") as running:
        server = running.server
        own = (
            set(endpoints(server._config, server._metrics, server._engines, server.reload, server._bans, server._store))
            - set(OPEN)
            - FOR_ALL_KEYS
        )
        assert {"/-/status", "/status", "/-/unload", "/unload", "/-/metrics"} <= own
        for path in own:
            for method in ("GET", "POST"):
                async with running.client.request(
                    method, path, headers={"authorization": "Bearer the-key-of-alice"}
                ) as refused:
                    assert refused.status == 403
            async with running.client.get(path, headers={"authorization": "Bearer the-key-of-root"}) as taken:
                assert taken.status != 403
