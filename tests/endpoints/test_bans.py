"""/-/bans and `mooltiproxy bans`: who is banned, and who is not any more."""

import asyncio
from typing import Any

import pytest

from mooltiproxy.cli import main
from tests.servers.proxy import KEY, Proxy, passing, proxy

NOWHERE = passing("http://127.0.0.1:1") | {"cerbere": {"whitelist": ["10.0.0.0/8"]}}


async def asked(running: Proxy, method: str, query: str = "", body: Any = None) -> tuple[int, Any]:
    async with running.client.request(method, f"/-/bans{query}", json=body) as response:
        return response.status, await response.json()


async def test_bans_are_added_listed_and_lifted() -> None:
    async with proxy(NOWHERE) as running:
        assert await asked(running, "GET") == (200, {"bans": []})
        status, told = await asked(running, "POST", body={"address": "192.0.2.1", "seconds": 3600})
        assert (status, told["bans"][0]["address"]) == (200, "192.0.2.1")
        assert 3590 < told["bans"][0]["seconds"] <= 3600
        await asked(running, "POST", body={"address": "2001:db8::7"})
        _, told = await asked(running, "DELETE", "?address=192.0.2.1")
        assert told == {"bans": [{"address": "2001:db8::/64", "seconds": None, "times": 1}]}
        assert await asked(running, "DELETE", "?address=2001:db8::/64") == (200, {"bans": []})


async def test_a_ban_that_is_added_counts_at_once() -> None:
    async with proxy(NOWHERE | {"cerbere": {"trusted_proxies": ["127.0.0.1"]}}) as running:
        await asked(running, "POST", body={"address": "::ffff:192.0.2.1"})
        async with running.client.get("/ping", headers={"X-Forwarded-For": "192.0.2.1"}) as response:
            assert response.status == 403


@pytest.mark.parametrize(
    ("method", "query", "body", "status"),
    [
        ("POST", "", {"address": "elsewhere"}, 400),
        ("POST", "", {"address": "192.0.2.0/24"}, 400),
        ("POST", "", {"address": "10.1.2.3"}, 400),
        ("POST", "", {"address": "192.0.2.1", "seconds": -1}, 400),
        ("POST", "", {"address": "192.0.2.1", "seconds": True}, 400),
        ("POST", "", {"address": "192.0.2.1", "seconds": ""}, 400),
        ("POST", "", ["192.0.2.1"], 400),
        ("DELETE", "", None, 400),
        ("DELETE", "?address=x/64", None, 400),
        ("DELETE", "?address=192.0.2.9", None, 404),
        ("PUT", "", None, 405),
    ],
)
async def test_what_is_wrong_is_refused(method: str, query: str, body: Any, status: int) -> None:
    async with proxy(NOWHERE) as running:
        assert (await asked(running, method, query, body))[0] == status
        assert running.server._bans.listed() == []


async def test_the_command_asks_the_running_proxy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOOLTIPROXY_KEY", KEY)
    async with proxy(NOWHERE) as running:

        async def ran(*words: str) -> tuple[int, str, str]:
            code = await asyncio.to_thread(main, ["bans", *words, "--url", running.url])
            said = capsys.readouterr()
            return code, " ".join(said.out.split()), said.err

        assert (await ran("add", "192.0.2.1", "--seconds", "5400"))[0] == 0
        await ran("add", "2001:db8::1")
        _, listed, _ = await ran("list")
        assert listed in (
            "address ends in times 192.0.2.1 1h30m 1 2001:db8::/64 never 1",
            "address ends in times 192.0.2.1 1h29m 1 2001:db8::/64 never 1",
        )
        assert (await ran("lift", "192.0.2.1"))[1] == "address ends in times 2001:db8::/64 never 1"
        code, _, wrong = await ran("lift", "192.0.2.1")
        assert (code, wrong) == (1, f"{running.url} answered 404: this address is not banned\n")
        running.server._bans.add("127.0.0.1", 60)
        assert "has banned the address that this is asked from" in (await ran("list"))[2]
        running.server._bans.lift("127.0.0.1")
        monkeypatch.setenv("MOOLTIPROXY_KEY", "wrong")
        assert "does not take the key" in (await ran("list"))[2]
