"""What on-demand servers may have of a machine, who gives way to whom, and who is there from the start."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import orjson
import pytest

from mooltiproxy.engines import memory, owner
from tests.engines.running import becomes, generated, running_engines, shown, until
from tests.servers.engines import toy_target
from tests.servers.proxy import Proxy

STREAM = {"model": "slow", "stream": True, "max_tokens": 200, "messages": [{"role": "user", "content": "Hi"}]}


async def states(running: Proxy) -> dict[str, Any]:
    async with running.client.get("/-/status") as response:
        return {one["target"]: one["state"] for one in orjson.loads(await response.read())["targets"]}


async def test_servers_run_beside_each_other_as_far_as_the_budget_goes(tmp_path: Path) -> None:
    targets: dict[str, Any] = {name: toy_target(memory="400MB") for name in ("a", "b", "c")}
    async with running_engines(tmp_path, budget="1GB", **targets) as running:
        for name in ("a", "b"):
            assert (await generated(running, name))[0] == 200
        assert await states(running) == {"a": "ready", "b": "ready", "c": "stopped"}
        assert (await generated(running, "c"))[0] == 200
        assert await states(running) == {"a": "stopped", "b": "ready", "c": "ready"}  # the one idle longest has left


async def test_a_server_that_grew_beyond_what_it_said_makes_others_wait_for_its_end(tmp_path: Path) -> None:
    grown = toy_target("--hold", "300", memory="10MB")
    async with running_engines(tmp_path, budget="310MB", grown=grown, other=toy_target(memory="100MB")) as running:
        assert (await generated(running, "grown"))[0] == 200
        used = (await becomes(running, "grown", lambda found: found["memory"]))["memory"]
        assert used["ram"] > 300 * 2**20
        assert (await generated(running, "other"))[0] == 200
        assert await states(running) == {"grown": "stopped", "other": "ready"}


async def test_a_start_waits_until_its_memory_is_really_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = {"ram": 10**6}

    async def free() -> dict[str, int]:
        return dict(left)

    monkeypatch.setattr(memory, "free", free)
    monkeypatch.setattr(owner, "ROOM_POLL", 0.01)
    async with running_engines(tmp_path, toy=toy_target(memory="1GB")) as running:
        asked = asyncio.ensure_future(generated(running, "toy"))
        assert (await until(running, "toy", state="starting"))["pid"] is None
        left["ram"] = 2 * 10**9
        assert (await asked)[0] == 200


async def test_a_start_whose_memory_does_not_get_free_fails_with_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def free() -> dict[str, int]:
        return {"ram": 2**30, "gpu": 2**20}

    monkeypatch.setattr(memory, "free", free)
    async with running_engines(tmp_path, toy=toy_target(memory={"gpu": "1GiB"}, ready_timeout=0.1)) as running:
        status, answer = await generated(running, "toy")
    assert status == 503
    assert "it needs 1,024 MiB of gpu, but 1 MiB are free" in answer["error"]


async def test_a_preloaded_server_is_there_before_it_is_asked_and_again_after_a_crash(tmp_path: Path) -> None:
    async with running_engines(tmp_path, toy=toy_target(preload=True), other=toy_target()) as running:
        pid = (await until(running, "toy", state="ready"))["pid"]
        assert (await shown(running, "other"))["state"] == "stopped"
        os.kill(pid, signal.SIGKILL)
        found = await becomes(running, "toy", lambda found: found["state"] == "ready" and found["pid"] != pid)
        assert found["error"] == ""


async def test_a_pinned_server_stays_whatever_a_request_says_until_it_is_unloaded(tmp_path: Path) -> None:
    async with running_engines(tmp_path, toy=toy_target(pin=True, unload_after=0)) as running:
        assert (await generated(running, "toy", keep_alive=0))[0] == 200
        found = await shown(running, "toy")
        assert (found["state"], found["until"]) == ("ready", -1)
        async with running.client.post("/-/unload") as response:
            assert orjson.loads(await response.read()) == {"unloaded": ["toy"]}


async def test_a_server_that_swaps_now_leaves_in_the_middle_of_its_answers_which_end_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mooltiproxy.engines.schedule.MAX_STAY", 0.0)
    slow = toy_target("--delay", "0.05", group="gpu", swap="now")
    async with running_engines(tmp_path, slow=slow, other=toy_target(group="gpu")) as running:
        async with running.client.post("/v1/messages", json=STREAM) as response:
            await response.content.readuntil(b"\n\n")
            assert (await generated(running, "other"))[0] == 200
            rest = await response.read()
        assert b"event: error\n" in rest
        assert await states(running) == {"slow": "stopped", "other": "ready"}


@pytest.mark.parametrize(("cancel", "state"), [(True, "stopped"), (False, "ready")])
async def test_a_start_that_nobody_waits_for_any_more_is_broken_off_if_it_is_said_so(
    tmp_path: Path, cancel: bool, state: str
) -> None:
    target = toy_target("--load-time", "0.5", cancel_start=cancel)
    async with running_engines(tmp_path, toy=target) as running:
        asked = asyncio.ensure_future(generated(running, "toy"))
        await until(running, "toy", waiting=1)
        asked.cancel()
        await until(running, "toy", state=state)
