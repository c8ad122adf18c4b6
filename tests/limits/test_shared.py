"""Two proxies and one Redis: what both let through together, and what becomes of that when the Redis is killed."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mooltiproxy.keys import hash_of
from tests.servers.proxy import Proxy, passing, proxy
from tests.servers.redis_server import redis_server
from tests.servers.scripted import answer, answering, upstream

PATH = "/chat/completions"
AT_ONCE = 32


def limited(url: str, store: str, **limits: int) -> dict[str, Any]:
    """A configuration with a key for each of these limits of an hour."""
    keys = {name: {"hash": hash_of(name), "limits": {"requests": f"{most}/1h"}} for name, most in limits.items()}
    return passing(url) | {"system": {"store": store}, "keys": keys}


async def statuses(proxies: list[Proxy], key: str, requests: int) -> Counter[int]:
    """How many requests got which status, sent in turns to these proxies, many at a time."""
    left = iter(range(requests))
    found: Counter[int] = Counter()

    async def send(running: Proxy) -> None:
        for _ in left:
            async with running.client.get(PATH, headers={"Authorization": f"Bearer {key}"}) as response:
                await response.read()
                found[response.status] += 1

    await asyncio.gather(*(send(proxies[number % len(proxies)]) for number in range(AT_ONCE)))
    return found


async def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def test_two_proxies_let_as_much_through_as_one_limit_says(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as server, upstream(answering(answer())) as up:
        data = limited(up.url, server.url, alice=4_000)
        async with proxy(data) as one, proxy(data) as other:
            assert await statuses([one, other], "alice", 10_000) == {200: 4_000, 429: 6_000}


async def test_a_redis_that_is_killed_under_load_costs_no_request_and_limits_hold_again_when_it_is_back(
    tmp_path: Path,
) -> None:
    async with redis_server(tmp_path) as server, upstream(answering(answer())) as up:
        data = limited(up.url, server.url, alice=100_000, bob=20)
        async with proxy(data) as one, proxy(data) as other:
            load = asyncio.ensure_future(statuses([one, other], "alice", 1_000))
            await until(lambda: len(up.requests) > 200)
            await server.kill()
            assert await load == {200: 1_000}
            await server.start()
            await until(lambda: one.server._store.is_up and other.server._store.is_up)
            assert await statuses([one, other], "bob", 100) == {200: 20, 429: 80}
