"""Keys of clients: what each of them may do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from mooltiproxy.keys import hash_of
from tests.servers.proxy import Proxy, proxy
from tests.servers.scripted import Upstream, answer, answering, upstream

ALICE, BOB = "the-key-of-alice", "the-key-of-bob"
CHAT = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "container": "c"}
ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}


@asynccontextmanager
async def running(**alice: Any) -> AsyncIterator[tuple[Proxy, Upstream]]:
    """A proxy before two targets, with a key by its hash and one from the environment."""
    async with upstream(answering(answer(orjson.dumps(ANSWER)))) as up:
        target = {"url": up.url, "speaks": "openai"}
        keys = {"alice": {"hash": hash_of(ALICE), **alice}, "bob": {"envkey": "BOB_KEY"}}
        config = {"targets": {"default": "one", "one": target, "two": target}, "keys": keys}
        async with proxy(config, BOB_KEY=BOB) as found:
            yield found, up


async def asked(found: Proxy, key: str, **fields: str) -> tuple[int, Any, str | None]:
    headers = {"authorization": f"Bearer {key}", **fields}
    async with found.client.post("/v1/messages", json=CHAT, headers=headers) as response:
        return response.status, await response.json(), response.headers.get("x-mooltiproxy-dropped")


@pytest.mark.parametrize("key", [ALICE, BOB])
async def test_every_key_is_let_in_and_goes_no_further(key: str) -> None:
    async with running() as (found, up):
        assert (await asked(found, key))[0] == 200
        assert key not in repr(up.requests)


@pytest.mark.parametrize("key", [ALICE.upper(), hash_of(ALICE), hash_of(ALICE).removeprefix("sha256:"), "alice"])
async def test_what_is_no_key_is_not(key: str) -> None:
    async with running() as (found, _):
        assert (await asked(found, key))[0] == 401


async def test_the_log_names_the_key_and_does_not_show_it(capsys: pytest.CaptureFixture[str]) -> None:
    async with running() as (found, _):
        await asked(found, ALICE)
    logged = capsys.readouterr().out
    assert " alice POST /v1/messages " in logged
    assert ALICE not in logged


async def test_a_key_for_one_target_may_not_ask_another() -> None:
    async with running(targets=["one"]) as (found, up):
        assert (await asked(found, ALICE))[0] == 200
        status, body, _ = await asked(found, ALICE, target="two")
        assert (status, body["error"]["type"]) == (403, "permission_error")
        assert len([one for one in up.requests if one.line.startswith("POST")]) == 1


async def test_a_key_decides_about_losses_before_the_target_does() -> None:
    async with running(losses={"default": "reject"}) as (found, _):
        assert (await asked(found, ALICE))[0] == 400
        assert (await asked(found, BOB))[::2] == (200, "container")
    async with running(losses={"other": "allow"}) as (found, _):
        assert (await asked(found, ALICE))[::2] == (200, None)


async def test_the_proxys_own_figures_are_for_the_master_key() -> None:
    async with running() as (found, _):
        async with found.client.get("/-/metrics", headers={"authorization": f"Bearer {ALICE}"}) as response:
            assert response.status == 403
        async with found.client.get("/-/metrics") as response:
            assert response.status == 200
