"""Target by prefix, header, model, or default."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from mooltiproxy.config.load import from_data
from mooltiproxy.mapping.json_edit import model_of, with_model
from mooltiproxy.routing import Router
from tests.servers.proxy import KEY, head, proxy
from tests.servers.scripted import Peer, Received, answer, upstream

PATH = "/chat/completions"


async def named(peer: Peer, received: Received) -> None:
    await peer.send(answer(received.line.split()[1].encode()))


def two_targets(url: str) -> dict[str, Any]:
    mapping = {PATH: None}
    return {
        "targets": {
            "default": "one",
            "one": {"url": f"{url}/one", "mapping": mapping},
            "two": {"url": f"{url}/two", "mapping": mapping},
        },
        "models": {"big": {"target": "two", "name": "vendor/Big-70B"}, "small": {"target": "one"}},
    }


async def asked(headers: dict[str, str], path: str = PATH, body: bytes = b"{}") -> tuple[int, bytes, bytes]:
    async with upstream(named) as up, proxy(two_targets(up.url)) as running:
        headers = {"content-type": "application/json"} | headers
        async with running.client.post(path, data=body, headers=headers) as response:
            return response.status, await response.read(), up.requests[0].body if up.requests else b""


async def test_the_default_target_is_asked_where_nothing_is_named() -> None:
    assert (await asked({}))[:2] == (200, b"/one/chat/completions")


async def test_the_target_header_chooses() -> None:
    assert (await asked({"target": "two"}))[:2] == (200, b"/two/chat/completions")


async def test_the_path_prefix_chooses_and_wins_over_the_header() -> None:
    assert (await asked({"target": "one"}, f"/to/two{PATH}"))[:2] == (200, b"/two/chat/completions")
    assert (await asked({}, f"/to/two/v1{PATH}"))[:2] == (200, b"/two/chat/completions")


async def test_the_bodys_model_chooses_and_gets_its_upstream_name() -> None:
    body = b'{ "model" : "big", "x": 1.0, "messages": [{"model": "big"}]}'
    status, path, sent = await asked({}, body=body)
    assert (status, path) == (200, b"/two/chat/completions")
    assert sent == b'{ "model" : "vendor/Big-70B", "x": 1.0, "messages": [{"model": "big"}]}'


FORM = "application/x-www-form-urlencoded"


async def test_the_model_counts_in_what_curl_calls_a_form() -> None:
    status, path, sent = await asked({"content-type": FORM}, body=b'{"model": "big"}')
    assert (status, path, sent) == (200, b"/two/chat/completions", b'{"model": "vendor/Big-70B"}')


@pytest.mark.parametrize("body", [b"model=big", b"{model=big", b'["model"]', b'{"model": 1}'])
async def test_a_form_stays_one(body: bytes) -> None:
    assert await asked({"content-type": FORM}, body=body) == (200, b"/one/chat/completions", body)


async def test_an_unknown_model_goes_to_the_default_target_unchanged() -> None:
    assert await asked({}, body=b'{"model": "other"}') == (200, b"/one/chat/completions", b'{"model": "other"}')


async def test_a_named_target_wins_over_the_model() -> None:
    status, path, sent = await asked({"target": "one"}, body=b'{"model": "big"}')
    assert (path, sent) == (b"/one/chat/completions", b'{"model": "big"}')


NOWHERE: list[tuple[dict[str, str], str]] = [
    ({"target": "three"}, PATH),
    ({}, f"/to/three{PATH}"),
    ({}, "/to/"),
    ({}, "/nowhere"),
]


@pytest.mark.parametrize(("headers", "path"), NOWHERE)
async def test_an_unknown_target_or_unmapped_path_is_404(headers: dict[str, str], path: str) -> None:
    assert (await asked(headers, path))[0] == 404


async def test_a_query_string_never_makes_a_path_unmapped() -> None:
    assert (await asked({}, f"{PATH}?api-version=1"))[:2] == (200, b"/one/chat/completions?api-version=1")


def gemini_target(url: str) -> dict[str, Any]:
    renamed = {"target": "one", "name": "vendor/big:70b"}
    return {"targets": {"default": "one", "one": {"url": url, "speaks": "gemini"}}, "models": {"big": renamed}}


MODELS_IN_PATHS = [
    ("POST", "/v1/models/a/b:7b:countTokens", "/v1beta/models/a/b:7b:countTokens"),
    ("POST", "/v1beta/models/big:generateContent?alt=sse", "/v1beta/models/vendor/big:70b:generateContent?alt=sse"),
    ("GET", "/v1beta/models/a:countTokens", "/v1beta/models/a:countTokens"),
    ("GET", "/v1beta/models/.hidden/..b", "/v1beta/models/.hidden/..b"),
]


@pytest.mark.parametrize(("method", "path", "sent"), MODELS_IN_PATHS)
async def test_a_model_in_the_path_may_hold_slashes_and_colons(method: str, path: str, sent: str) -> None:
    async with upstream(named) as up, proxy(gemini_target(up.url)) as running:
        async with running.client.request(method, path, json={} if method == "POST" else None) as response:
            assert (response.status, await response.text()) == (200, sent)


def test_the_longest_ending_behind_a_model_wins_whatever_the_order() -> None:
    config = from_data(gemini_target("http://127.0.0.1:1"), Path(), {"MOOLTIPROXY_KEY": KEY})
    router = Router(config)
    route = router.route("/v1beta/models/a:b:countTokens", None, None)
    assert (route.entry.client_path, route.path_model) == ("/v1beta/models/{model}:countTokens", "a:b")
    assert router.model_in("/v1beta/models/a:b:countTokens") == "a:b"


DOT_SEGMENTS = ["..", ".", "a/..", "../a", "a/../b", "a//b", "a/./b", ""]


@pytest.mark.parametrize("name", DOT_SEGMENTS)
async def test_a_model_whose_name_would_lead_elsewhere_is_404(name: str) -> None:
    async with upstream(named) as up, proxy(gemini_target(up.url)) as running:
        received = await running.raw(head(f"GET /v1beta/models/{name}"))
        assert received.startswith(b"HTTP/1.1 404")
        assert not up.requests


async def test_two_target_headers_are_refused() -> None:
    async with upstream(named) as up, proxy(two_targets(up.url)) as running:
        head = f"GET {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ntarget: one\r\ntarget: two\r\n\r\n"
        assert b"400" in await running.raw(head.encode())


UNREADABLE = [b"{", b"[" * 100_000, b'{"model": 1}', b'{"model": "\\ud800"}', b"\xff", b'{"a": NaN}']


@pytest.mark.parametrize("body", UNREADABLE)
async def test_a_body_that_cannot_be_routed_by_is_400(body: bytes) -> None:
    assert (await asked({}, body=body))[0] == 400


@pytest.mark.parametrize(
    ("body", "edited"),
    [
        (b'{"model":"a"}', b'{"model":"b"}'),
        (b'{"mod\\u0065l":"a"}', b'{"mod\\u0065l":"b"}'),
        (b'{"model":"a","model":"c"}', b'{"model":"b","model":"b"}'),
        (b'{"x":{"model":"a"},"y":["model","a"],"model":"a"}', b'{"x":{"model":"a"},"y":["model","a"],"model":"b"}'),
        (b'{"x":"\\"model\\":\\"a\\"","model":"a\\"b"}', b'{"x":"\\"model\\":\\"a\\"","model":"b"}'),
        (b'{"n":123456789012345678901234567890,"model":"a"}', b'{"n":123456789012345678901234567890,"model":"b"}'),
        (b'{"f":1.10,"e":1e999,"model":"a"}', b'{"f":1.10,"e":1e999,"model":"b"}'),
        (b'{"y":"model","model" : "a"}', b'{"y":"model","model" : "b"}'),
    ],
)
def test_only_the_top_level_model_is_replaced(body: bytes, edited: bytes) -> None:
    assert with_model(body, "b") == edited


def test_the_model_of_what_is_no_object_is_none() -> None:
    assert model_of(b"[1]") is None
    assert model_of(b'{"model": null}') == ""
    assert model_of(orjson.dumps({"model": "m"})) == "m"


async def test_a_users_own_middleware_is_an_ordinary_aiohttp_middleware(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from aiohttp import web\n"
        "@web.middleware\n"
        "async def teapot(request, handler):\n"
        "    if request.headers.get('x-tea'):\n"
        "        raise web.HTTPForbidden(text=(await request.read()).decode())\n"
        "    return await handler(request)\n"
    )
    async with upstream(named) as up:
        chain = ["access_log", "mine:teapot", "bearer_auth", "routing", "mapping"]
        config = two_targets(up.url) | {"middlewares": chain}
        async with proxy(config, tmp_path) as running:
            async with running.client.post(PATH, data=b"{}", headers={"x-tea": "1"}) as response:
                assert (response.status, await response.read()) == (403, b"{}")
                assert "x-request-id" in response.headers
            async with running.client.post(PATH, data=b"{}") as response:
                assert response.status == 200


async def test_an_empty_target_is_no_target() -> None:
    assert (await asked({"target": ""}))[0] == 404
    assert (await asked({}, f"/to/{PATH}"))[0] == 404


async def test_a_request_without_a_body_is_routed_whatever_type_it_announces() -> None:
    async with upstream(named) as up, proxy(two_targets(up.url)) as running:
        async with running.client.get(PATH, headers={"content-type": "application/json"}) as response:
            assert response.status == 200


def test_a_large_body_is_edited_in_little_time_and_memory() -> None:
    body = b'{"model": "a", "image": "' + b"A" * 32_000_000 + b'"}'
    assert with_model(body, "b").startswith(b'{"model": "b", "image": "AAA')


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1beta/models/org%2Fm1%3A7b:countTokens", "org/m1:7b"),
        ("/v1beta/models/a%2F%2e%2e%2Fb:countTokens", None),
        ("/v1beta/models/a%3Fb:countTokens", None),
        ("/v1beta/models/a%252Fb:countTokens", None),
    ],
)
def test_a_model_in_the_path_may_be_escaped_but_stays_a_name(path: str, model: str | None) -> None:
    config = from_data(gemini_target("http://127.0.0.1:1"), Path(), {"MOOLTIPROXY_KEY": KEY})
    assert Router(config).model_in(path) == model


MODELS = answer(b'{"object": "list", "data": [{"id": "m1", "object": "model", "created": 1, "owned_by": "me"}]}')


@pytest.mark.parametrize(
    ("headers", "keys"),
    [
        ({}, {"object", "data"}),
        ({"anthropic-version": "2023-06-01"}, {"data", "has_more", "first_id", "last_id"}),
        ({"x-goog-api-key": KEY}, {"models"}),
    ],
)
async def test_a_path_of_several_dialects_is_answered_in_the_clients_own(
    headers: dict[str, str], keys: set[str]
) -> None:
    async def script(peer: Peer, received: Received) -> None:
        await peer.send(MODELS)

    async with upstream(script) as up:
        config = {"targets": {"default": "one", "one": {"url": up.url, "speaks": "openai"}}}
        async with proxy(config) as running, running.client.get("/v1/models", headers=headers) as response:
            assert response.status == 200
            assert set(await response.json()) == keys
