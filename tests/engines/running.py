"""The proxy with servers that it starts, and what tests ask it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from tests.servers.engines import BODY, engines, processes
from tests.servers.proxy import Proxy, proxy


async def generated(running: Proxy, target: str, **fields: Any) -> tuple[int, Any]:
    async with running.client.post("/generate", json={**BODY, **fields}, headers={"target": target}) as response:
        return response.status, orjson.loads(await response.read())


async def shown(running: Proxy, target: str) -> dict[str, Any]:
    async with running.client.get("/-/status") as response:
        assert response.status == 200
        targets: list[dict[str, Any]] = orjson.loads(await response.read())["targets"]
    return next(one for one in targets if one["target"] == target)


async def until(running: Proxy, target: str, seconds: float = 5.0, **wanted: Any) -> dict[str, Any]:
    """The status of a target once it is like this."""
    return await becomes(running, target, lambda found: wanted.items() <= found.items(), seconds)


async def becomes(
    running: Proxy, target: str, is_so: Callable[[dict[str, Any]], Any], seconds: float = 5.0
) -> dict[str, Any]:
    """The status of a target once this holds for it."""
    async with asyncio.timeout(seconds):
        while True:
            found = await shown(running, target)
            if is_so(found):
                return found
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running_engines(
    folder: Path, *, budget: str | None = None, **targets: dict[str, Any]
) -> AsyncIterator[Proxy]:
    """The proxy with these targets; no process of theirs is left at the end."""
    marker = str(folder)
    for target in targets.values():
        target["run"]["command"] += f" --log {folder}/toy.jsonl" if "--log" not in target["run"]["command"] else ""
    data = engines(**targets)
    data["system"]["budget"] = budget
    async with proxy(data, folder) as running:
        yield running
    assert list(processes(marker)) == []
