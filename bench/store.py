"""What a take costs in each store: `python -m bench.store` prints takes per second and microseconds of processor each.

SQLite writes to a temporary folder; Redis is a server that is started here, if `redis-server` is installed. Takes come
in waves, as many at once as a busy proxy has requests, and one after the other, as of a single client.
"""

import asyncio
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvloop

from mooltiproxy.bans import Bans
from mooltiproxy.config.model import Cerbere
from mooltiproxy.store import Store, Window, make_store

WINDOWS = [Window("key:requests", 1e12, 900), Window("key:tokens", 1e15, 86400)]
WANTS = [(WINDOWS[0], 1.0), (WINDOWS[1], 500.0)]
ROUNDS = 20_000


async def main() -> None:
    """Measure all of them."""
    print(f"{'store':8} {'at once':>8} {'takes/s':>10} {'us of this process each':>24}")
    await measured("memory", make_store("memory"))
    with tempfile.TemporaryDirectory() as folder:
        await measured("sqlite", make_store(f"sqlite:{folder}/store.db"))
        if shutil.which("redis-server"):
            async with redis(Path(folder)) as url:
                await measured("redis", make_store(url))
    for many in (1, 1000):
        print(f"is_banned with {many:4} bans: {ban_check(many):.3f} us")


async def measured(name: str, store: Store) -> None:
    """Print a row for one at a time, and one for many."""
    await store.start()
    for at_once in (1, 64):
        rounds = ROUNDS if name == "memory" or at_once > 1 else ROUNDS // 10
        begin, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(taker(store, rounds // at_once) for _ in range(at_once)))
        seconds, used = time.perf_counter() - begin, time.process_time() - cpu
        print(f"{name:8} {at_once:8} {rounds / seconds:10.0f} {used / rounds * 1e6:24.1f}")
    await store.close()


async def taker(store: Store, rounds: int) -> None:
    """One client after whose answer the next request comes."""
    for _ in range(rounds):
        verdict = store.take_now(WANTS) or await store.take(WANTS)
        assert verdict.refused is None


def ban_check(many: int) -> float:
    """Microseconds to see that an address is not banned, where so many others are."""
    bans = Bans(Cerbere())
    for number in range(many):
        bans.add(f"10.0.{number // 256}.{number % 256}", 3600)
    begin = time.perf_counter()
    for _ in range(ROUNDS * 10):
        bans.is_banned("192.0.2.1")
    return (time.perf_counter() - begin) / (ROUNDS * 10) * 1e6


@asynccontextmanager
async def redis(folder: Path) -> AsyncIterator[str]:
    """A server of its own, and its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--save", "", "--dir", str(folder), "--logfile", "redis.log"]
    process = await asyncio.create_subprocess_exec(*command)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            await asyncio.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        await process.wait()


if __name__ == "__main__":
    uvloop.run(main())
