"""Blacklist, whitelist, bans, and whose X-Forwarded-For is believed."""

import ipaddress
from typing import Any

import pytest

from mooltiproxy.bans import MAX_ADDRESSES, Bans
from mooltiproxy.config.model import Cerbere
from mooltiproxy.middlewares.ip_rules import client_address
from tests.servers.proxy import BEARER, head, passing, proxy
from tests.servers.scripted import answer, answering, upstream

PATH = "/chat/completions"
WRONG = {"Authorization": "Bearer wrong"}
NETWORKS = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1/128"))


def gate(url: str, **cerbere: Any) -> dict[str, Any]:
    return passing(url) | {"cerbere": cerbere}


async def statuses(running: Any, *headers: dict[str, str]) -> list[int]:
    seen = []
    for each in headers:
        async with running.client.get(PATH, headers=each) as response:
            seen.append(response.status)
    return seen


async def test_an_address_is_banned_after_max_tries_wrong_keys() -> None:
    async with upstream(answering(answer())) as up, proxy(gate(up.url, max_tries=2)) as running:
        assert await statuses(running, WRONG, WRONG, BEARER) == [401, 401, 403]
    assert up.requests == []


async def test_a_right_key_makes_up_for_wrong_ones() -> None:
    async with upstream(answering(answer())) as up, proxy(gate(up.url, max_tries=2)) as running:
        assert await statuses(running, WRONG, BEARER, WRONG, BEARER) == [401, 200, 401, 200]


async def test_a_missing_key_is_no_wrong_key() -> None:
    async with upstream(answering(answer())) as up, proxy(gate(up.url, max_tries=1)) as running:
        assert b"401" in await running.raw(head(f"GET {PATH}", key=None))
        assert await statuses(running, BEARER) == [200]


async def test_a_whitelisted_address_is_never_banned() -> None:
    async with upstream(answering(answer())) as up:
        async with proxy(gate(up.url, max_tries=1, whitelist=["127.0.0.0/8"])) as running:
            assert await statuses(running, WRONG, WRONG, BEARER) == [401, 401, 200]


async def test_a_blacklisted_address_gets_403_whatever_its_key() -> None:
    async with proxy(gate("http://127.0.0.1:1", blacklist=["127.0.0.1"])) as running:
        assert await statuses(running, BEARER) == [403]


async def test_a_stranger_cannot_dodge_a_ban_nor_frame_another_with_x_forwarded_for() -> None:
    async with upstream(answering(answer())) as up, proxy(gate(up.url, max_tries=1)) as running:
        assert await statuses(running, WRONG | {"X-Forwarded-For": "1.2.3.4"}) == [401]
        assert await statuses(running, BEARER | {"X-Forwarded-For": "5.6.7.8"}) == [403]


async def test_behind_a_trusted_proxy_the_forwarded_address_counts() -> None:
    async with upstream(answering(answer())) as up:
        async with proxy(gate(up.url, max_tries=1, trusted_proxies=["127.0.0.1"])) as running:
            assert await statuses(running, WRONG | {"X-Forwarded-For": "1.2.3.4"}) == [401]
            assert await statuses(running, BEARER | {"X-Forwarded-For": "1.2.3.4"}) == [403]
            assert await statuses(running, BEARER | {"X-Forwarded-For": "::ffff:1.2.3.4"}) == [403]
            assert await statuses(running, BEARER | {"X-Forwarded-For": "5.6.7.8"}) == [200]


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ([], "10.0.0.1"),
        (["1.2.3.4"], "1.2.3.4"),
        (["9.9.9.9, 1.2.3.4, 10.0.0.7"], "1.2.3.4"),
        (["9.9.9.9", "1.2.3.4"], "1.2.3.4"),
        (["1.2.3.4:5678"], "1.2.3.4"),
        (["[2001:db8::1]:99"], "2001:db8::1"),
        (["fe80::1%a zone"], "fe80::1"),
        (["rubbish"], "10.0.0.1"),
        (["1.2.3.4, rubbish"], "10.0.0.1"),
        (["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
    ],
)
def test_the_last_address_that_no_trusted_proxy_has_is_the_clients(forwarded: list[str], address: str) -> None:
    assert client_address("10.0.0.1", forwarded, NETWORKS) == address


def test_x_forwarded_for_of_a_stranger_means_nothing() -> None:
    assert client_address("11.0.0.1", ["1.2.3.4"], NETWORKS) == "11.0.0.1"


def test_a_ban_ends_after_its_time() -> None:
    now = 0.0
    bans = Bans(Cerbere(max_tries=1, ban=60), clock=lambda: now)
    assert bans.wrong_key("a")
    assert bans.is_banned("a")
    now = 61.0
    assert not bans.is_banned("a")


def test_a_ban_of_zero_seconds_lasts() -> None:
    now = 0.0
    bans = Bans(Cerbere(max_tries=1, ban=0), clock=lambda: now)
    bans.wrong_key("a")
    now = 1e9
    assert bans.is_banned("a")


def test_the_table_of_addresses_is_bounded() -> None:
    bans = Bans(Cerbere(max_tries=2, ban=0))
    for number in range(MAX_ADDRESSES + 10):
        bans.wrong_key(str(number))
    assert repr(bans) == f"<Bans 0 banned, {MAX_ADDRESSES} suspected>"
