"""rate_limit: requests and places of keys and addresses, and how clients of each API are told."""

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from mooltiproxy.limits.rules import network_of
from tests.limits.sending import ALICE, BOB, MASTER, at_once, limited
from tests.servers.openai_chat import openai_chat
from tests.servers.scripted import Peer, Received, answer

BEHIND_A_PROXY = {"trusted_proxies": ["127.0.0.1"]}


async def test_a_request_too_many_is_refused_until_the_window_slides() -> None:
    async with limited({"requests": "2/1m"}) as one:
        assert [(await one.chat())[0] for _ in range(3)] == [200, 200, 429]
        _, fields, body = await one.chat()
        assert 1 <= int(fields["retry-after"]) <= 120
        error = orjson.loads(body)["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert error["message"].startswith("this key has had its 2 requests in 1m: try again in ")
        assert len(one.target.requests) == 2


async def test_each_key_has_its_own_count() -> None:
    async with limited({"requests": "1/1m"}) as one:
        assert [(await one.chat(key=key))[0] for key in (ALICE, BOB, ALICE, BOB)] == [200, 200, 429, 429]


async def test_a_keys_own_limit_goes_before_that_of_all_and_the_others_stay() -> None:
    async with limited({"requests": "1/1m", "concurrent": 5}, alice={"requests": "2/1m"}) as one:
        assert [(await one.chat())[0] for _ in range(3)] == [200, 200, 429]
        assert [(await one.chat(key=BOB))[0] for _ in range(2)] == [200, 429]


async def test_the_master_key_counts_by_address() -> None:
    async with limited({"requests": "1/1m"}, cerbere=BEHIND_A_PROXY) as one:
        assert await asked_from(one, "192.0.2.1") == 200
        assert await asked_from(one, "192.0.2.2") == 200
        assert await asked_from(one, "192.0.2.1") == 429


async def asked_from(one: Any, address: str, key: str = MASTER) -> int:
    headers = {"Authorization": f"Bearer {key}", "X-Forwarded-For": address}
    async with one.proxy.client.post("/v1/chat/completions", json={"messages": []}, headers=headers) as response:
        return int(response.status)


async def test_limits_by_address_hold_for_all_keys_and_a_network_of_ipv6_is_one() -> None:
    async with limited({"requests": "1/1m", "per": "ip"}, cerbere=BEHIND_A_PROXY) as one:
        assert await asked_from(one, "2001:db8::1", ALICE) == 200
        assert await asked_from(one, "2001:db8::2", BOB) == 429
        assert await asked_from(one, "2001:db8:0:1::1", BOB) == 200
    assert network_of("local", 64) == "local"


async def test_several_windows_are_taken_together_or_not_at_all() -> None:
    async with limited({"requests": ["3/1h", "1/1s"]}) as one:
        assert [(await one.chat())[0] for _ in range(2)] == [200, 429]
        await asyncio.sleep(1.05)
        _, fields, _ = await one.chat()
        # The refused one has taken nothing of the longer window.
        assert fields["x-ratelimit-remaining-requests"] in ("0", "1")
        await asyncio.sleep(2.05)
        status, fields, _ = await one.chat()
        assert (status, fields["x-ratelimit-limit-requests"], fields["x-ratelimit-remaining-requests"]) in (
            (200, "3", "0"),
            (200, "1", "0"),
        )


async def test_places_are_exact_under_many_requests_at_once() -> None:
    open_now, most = 0, 0

    async def counting(peer: Peer, received: Received) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0.05)
        open_now -= 1
        await peer.send(answer(b"{}"))

    async with limited({"concurrent": 7}, counting) as one, at_once(one):
        statuses = [status for status, _, _ in await asyncio.gather(*(one.chat() for _ in range(200)))]
        assert most == 7
        assert set(statuses) == {200, 429}
        assert (await one.chat())[0] == 200
        assert len(one.proxy.server._counts.slots) == 0


async def test_a_place_is_free_again_when_its_client_leaves() -> None:
    async def silent(peer: Peer, received: Received) -> None:
        await peer.gone()

    async with limited({"concurrent": 1}, silent) as one:
        task = asyncio.create_task(one.chat())
        await one.target.asked.wait()
        assert (await one.chat())[0] == 429
        task.cancel()
        await one.target.script_ended.wait()
        for _ in range(100):
            if not len(one.proxy.server._counts.slots):
                break
            await asyncio.sleep(0.01)
        assert len(one.proxy.server._counts.slots) == 0


async def test_health_checks_do_not_count() -> None:
    async with limited({"requests": "1/1m", "per": "ip"}) as one:
        for _ in range(3):
            async with one.proxy.client.get("/ping") as response:
                assert response.status == 200
        assert (await one.chat())[0] == 200


# What each API's clients are told.

OPENAI = {"x-ratelimit-limit-requests": "5", "x-ratelimit-remaining-requests": "4"}
ANTHROPIC = {"anthropic-ratelimit-requests-limit": "5", "anthropic-ratelimit-requests-remaining": "4"}


@pytest.mark.parametrize(
    ("path", "told", "reset"),
    [
        ("/v1/chat/completions", OPENAI, "x-ratelimit-reset-requests"),
        ("/v1/messages", ANTHROPIC, "anthropic-ratelimit-requests-reset"),
        ("/v1beta/models/m1:generateContent", {**OPENAI, "ratelimit": '"requests";r=4;t=120'}, "ratelimit"),
        ("/api/chat", {**OPENAI, "ratelimit": '"requests";r=4;t=120'}, "ratelimit"),
    ],
)
async def test_every_answer_tells_how_the_limit_stands(path: str, told: Mapping[str, str], reset: str) -> None:
    async with limited({"requests": "5/1m"}) as one:
        status, fields, body = await one.chat(path, contents=[{"parts": [{"text": "Hi"}]}], stream=False)
        assert told.items() <= fields.items(), body
        assert fields[reset]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/chat/completions", ("error", "type", "rate_limit_error")),
        ("/v1/responses", ("error", "type", "rate_limit_error")),
        ("/v1/messages", ("error", "type", "rate_limit_error")),
        ("/v1beta/models/m1:generateContent", ("error", "status", "RESOURCE_EXHAUSTED")),
        ("/generate", ("error_type", "", "overloaded")),
        ("/api/chat", ("error", "", None)),
    ],
)
async def test_the_refusal_has_the_form_of_the_clients_api(path: str, kind: tuple[str, str, str | None]) -> None:
    async with limited({"requests": "1/1h"}) as one:
        await one.chat()
        status, fields, body = await one.chat(path)
        told = orjson.loads(body)
        found = told[kind[0]][kind[1]] if kind[1] else told[kind[0]]
        assert status == 429
        assert int(fields["retry-after"]) > 3000
        assert found == kind[2] if kind[2] else found
        if kind[2] == "RESOURCE_EXHAUSTED":
            assert any(detail["@type"].endswith("RetryInfo") for detail in told["error"]["details"])


async def test_a_targets_own_limits_are_told_only_where_the_proxy_has_none() -> None:
    async def telling(peer: Peer, received: Received) -> None:
        told = ["x-ratelimit-remaining-requests: 777", "x-ratelimit-remaining-tokens: 888"]
        await peer.send(answer(b"{}", *told))

    async with limited({"requests": "5/1m"}, telling) as one:
        async with one.proxy.client.post("/v1/chat/completions", json={"messages": []}) as response:
            assert response.headers.getall("x-ratelimit-remaining-requests") == ["4"]
            assert response.headers.getall("x-ratelimit-remaining-tokens") == ["888"]


async def test_a_soft_limit_is_told_logged_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async with limited({"soft": {"requests": "1/1h"}}) as one:
        answers = [await one.chat() for _ in range(3)]
        assert [status for status, _, _ in answers] == [200, 200, 200]
        told = [fields.get("x-mooltiproxy-over") for _, fields, _ in answers]
        assert told == [None, "key: 1 requests in 1h", "key: 1 requests in 1h"]
        assert "x-ratelimit-limit-requests" not in answers[0][1]
        assert [record.getMessage() for record in caplog.records] == [
            "key:alice is over its soft limit of 1 requests in 1h"
        ]
        async with one.proxy.client.get("/-/metrics") as response:
            assert 'mooltiproxy_over_soft_limit_total{of="requests",whose="key"} 2.0' in await response.text()


async def test_without_limits_nothing_stands_in_the_chain() -> None:
    async with limited() as one:
        _, fields, _ = await one.chat()
        assert not [name for name in fields if "ratelimit" in name]
        assert await one.used() == []


async def test_a_script_of_the_tests_answers_as_it_should() -> None:
    async with limited({"requests": "5/1m"}, openai_chat) as one:
        assert orjson.loads((await one.chat())[2])["usage"]["total_tokens"] == 15
