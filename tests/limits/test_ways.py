"""What becomes of limits where a request goes another way, the configuration changes, or the store is down."""

import asyncio
from pathlib import Path

import orjson
import pytest

from mooltiproxy.config.load import from_data
from mooltiproxy.errors import StoreUnavailable
from mooltiproxy.store import Used, Verdict, Wants
from tests.limits.sending import ALICE, Limited, at_once, limited, model
from tests.servers.openai_chat import openai_chat
from tests.servers.proxy import KEY
from tests.servers.scripted import Peer, Received, answer

TARGETS = {"default": "one", "one": {"url": "http://127.0.0.1:1", "speaks": "openai"}}


async def test_a_request_that_is_asked_in_another_way_counts_once() -> None:
    async def without_responses(peer: Peer, received: Received) -> None:
        if "/responses" in received.line:
            await peer.send(answer(b'{"error": {"message": "no such path"}}', status="404 Not Found"))
        else:
            await openai_chat(peer, received)

    models = model(limits={"requests": "5/1h", "tokens": "1000/1h", "concurrent": 1})
    async with limited(script=without_responses, models=models) as one:
        for left in ("4", "3"):
            body = {"model": "m1", "input": "Hi", "max_output_tokens": 10}
            async with one.proxy.client.post("/v1/responses", json=body) as response:
                assert response.status == 200
                assert response.headers.getall("x-ratelimit-remaining-requests") == [left]
        assert await one.used() == [Used("master", "m1", 2, 24, 6, 0.0)]
        assert len(one.target.requests) == 3


async def test_what_was_counted_outlasts_a_reload_and_new_limits_hold_for_it() -> None:
    async with limited({"requests": "3/1h"}) as one:
        await one.chat()
        await one.chat()
        reload(one, {"requests": "2/1h"})
        status, fields, _ = await one.chat()
        assert (status, fields["x-ratelimit-limit-requests"]) == (429, "2")
        reload(one, {"requests": "9/1h"})
        assert (await one.chat())[1]["x-ratelimit-remaining-requests"] == "6"


def reload(one: Limited, limits: dict[str, str]) -> None:
    from mooltiproxy.keys import hash_of

    targets = {"default": "one", "one": {"url": one.target.url, "speaks": "openai"}}
    data = {"targets": targets, "limits": limits, "keys": {"alice": {"hash": hash_of(ALICE)}}}
    one.proxy.server.prepare(from_data(data, Path(), {"MOOLTIPROXY_KEY": KEY}))()


async def test_where_the_store_is_down_and_must_not_be_limited_requests_are_a_503() -> None:
    async with limited({"requests": "9/1h", "concurrent": 1}) as one:
        store = one.proxy.server._counts.store

        async def down(wants: Wants) -> Verdict:
            raise StoreUnavailable("what limits are counted in does not answer")

        store.take_now = lambda wants: None  # type: ignore[method-assign]
        store.take = down  # type: ignore[method-assign]
        for _ in range(2):  # its place is given back
            status, fields, body = await one.chat()
            assert (status, fields["retry-after"]) == (503, "1")
            assert orjson.loads(body)["error"]["type"] == "server_error"


async def test_a_models_places_are_exact_and_given_back_by_what_fails() -> None:
    now, most = 0, 0

    async def failing(peer: Peer, received: Received) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1
        await peer.send(answer(b"{}", status="500 Internal Server Error"))

    async with limited(script=failing, models=model(limits={"concurrent": 3})) as one, at_once(one):
        statuses = [status for status, _, _ in await asyncio.gather(*(one.chat() for _ in range(60)))]
        assert most == 3
        assert set(statuses) == {429, 500}
        assert len(one.proxy.server._counts.slots) == 0


async def test_a_models_limit_may_be_for_each_key() -> None:
    models = model(limits={"requests": "1/1h", "per": "key"})
    async with limited(models=models) as one:
        assert [(await one.chat())[0], (await one.chat(key="the-key-of-bob"))[0], (await one.chat())[0]] == [
            200,
            200,
            429,
        ]


async def test_one_entry_of_models_is_one_count_whatever_its_star_stands_for() -> None:
    models = {"m*": {"target": "one", "limits": {"requests": "1/1h"}}}
    async with limited(models=models) as one:
        assert [(await one.chat(model=name))[0] for name in ("m1", "m2")] == [200, 429]


@pytest.mark.parametrize(
    ("limits", "middlewares", "said"),
    [
        ({"requests": "1/1m"}, ["routing"], ["bearer_auth", "rate_limit"]),
        ({"cost": "1/1d"}, None, ["price"]),
        ({"requests": "1/1m"}, None, []),
    ],
)
def test_limits_that_cannot_hold_are_warned_about(
    limits: dict[str, str], middlewares: list[str] | None, said: list[str]
) -> None:
    data = {"targets": TARGETS, "limits": limits, **({"middlewares": middlewares} if middlewares else {})}
    messages = [problem.message for problem in from_data(data, Path(), {"MOOLTIPROXY_KEY": KEY}).warnings]
    assert len(messages) == len(said)
    assert all(word in message for word, message in zip(said, messages, strict=True))


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_a_limit_is_exact_under_many_requests_at_once(tmp_path: Path, store: str) -> None:
    where = f"sqlite:{tmp_path}/state.db" if store == "sqlite" else store
    async with limited({"requests": "20/1h", "tokens": "100000/1h"}, system={"store": where}) as one, at_once(one):
        statuses = [status for status, _, _ in await asyncio.gather(*(one.chat() for _ in range(60)))]
        assert sorted(statuses) == [200] * 20 + [429] * 40
        assert await one.used() == [Used("alice", "m1", 20, 240, 60, 0.0)]
        _, fields, _ = await one.chat(key="the-key-of-bob")
        assert fields["x-ratelimit-remaining-requests"] == "19"
