"""/-/usage and `mooltiproxy usage`: what keys have used, by day and model."""

import asyncio
from datetime import timedelta
from typing import Any

import orjson
import pytest

from mooltiproxy.cli import main
from mooltiproxy.store import Used
from mooltiproxy.store.memory import today
from tests.servers.proxy import KEY, Proxy, passing, proxy

DATA = passing("http://127.0.0.1:1") | {"keys": {"alice": {"envkey": "ALICE"}}}
OF_ALICE = Used("alice", "llama", 2, 30, 40, 0.5)
OF_BOB = Used("bob", "gemma", 1, 3, 4, 0.25)


async def asked(running: Proxy, query: str = "", **headers: str) -> tuple[int, Any]:
    async with running.client.get(f"/-/usage{query}", headers=headers) as response:
        return response.status, await response.json()


def count(running: Proxy) -> None:
    for used in (OF_ALICE, OF_BOB):
        running.server._store.count(used)


async def test_usage_is_told_by_key_and_model() -> None:
    async with proxy(DATA, ALICE="the-key-of-alice") as running:
        count(running)
        day = today().isoformat()
        rows = [{"day": day, **OF_ALICE._asdict()}, {"day": day, **OF_BOB._asdict()}]
        assert await asked(running) == (200, {"usage": rows})
        assert await asked(running, f"?day={day}") == (200, {"usage": rows})
        assert await asked(running, f"?from=2026-01-01&to={today() - timedelta(days=1)}") == (200, {"usage": []})


async def test_a_key_sees_its_own_usage() -> None:
    async with proxy(DATA, ALICE="the-key-of-alice") as running:
        count(running)
        _, told = await asked(running, Authorization="Bearer the-key-of-alice")
        assert [row["key"] for row in told["usage"]] == ["alice"]


@pytest.mark.parametrize("query", ["?day=soon", "?from=2026-01-02&to=2026-01-01", "?from=1990-01-01", "?to=20260101x"])
async def test_days_that_are_none_are_refused(query: str) -> None:
    async with proxy(DATA, ALICE="x") as running:
        assert (await asked(running, query))[0] == 400


async def test_what_clients_name_is_nothing_but_a_cell_of_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOOLTIPROXY_KEY", KEY)
    async with proxy(DATA, ALICE="x") as running:
        running.server._store.count(Used("alice", "a\nb\x1b[2J\u202e", 1))
        assert await asyncio.to_thread(main, ["usage", "--url", running.url]) == 0
        assert capsys.readouterr().out.splitlines()[1].split()[2] == r"a\nb\x1b[2J\u202e"


async def test_the_command_prints_a_table_or_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOOLTIPROXY_KEY", KEY)
    async with proxy(DATA, ALICE="x") as running:
        count(running)
        assert await asyncio.to_thread(main, ["usage", "--url", running.url]) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert lines[1:] == [
            [today().isoformat(), "alice", "llama", "2", "30", "40", "0.5000"],
            [today().isoformat(), "bob", "gemma", "1", "3", "4", "0.2500"],
            ["all", "3", "33", "44", "0.7500"],
        ]
        await asyncio.to_thread(main, ["usage", "--json", "--day", "2026-01-01", "--url", running.url])
        assert orjson.loads(capsys.readouterr().out) == []
