"""Stores that are shared, the file and the server: exact counts together, and what happens when they are gone."""

import asyncio
import logging
import random
import resource
import sqlite3
import stat
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest
from redis.asyncio import Redis

from mooltiproxy.bans import Bans
from mooltiproxy.certs import write_pair
from mooltiproxy.config.model import Cerbere
from mooltiproxy.errors import ConfigError, StoreUnavailable
from mooltiproxy.store import MemoryStore, Store, Used, Window, make_store, redis, shared, sqlite
from mooltiproxy.store.addresses import Note, What
from mooltiproxy.store.backend import Answer, Batch, StoreDown
from mooltiproxy.store.memory import today
from mooltiproxy.store.shared import SharedStore
from mooltiproxy.store.sqlite import SQLiteBackend
from tests.servers.redis_server import redis_server

MINUTE = Window("minute", 10, 60)
HOUR = Window("hour", 1000, 3600)
Opened = Callable[..., Awaitable[Store]]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is busy with other tests, a store that is well may take its time."""
    monkeypatch.setattr(shared, "PATIENCE", 20.0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores look more often for what others have learned."""
    monkeypatch.setattr(shared, "SYNC", 0.1)


@pytest.fixture(params=["sqlite", "redis"])
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opened]:
    """Opens the store of the test once more, as another process would."""
    async with AsyncExitStack() as stack:
        if request.param == "redis":
            where = (await stack.enter_async_context(redis_server(tmp_path))).url
        else:
            where = f"sqlite:{tmp_path / 'store.db'}"

        async def one_more(bans: Bans | None = None) -> Store:
            return await stack.enter_async_context(started(where, bans))

        yield one_more


@asynccontextmanager
async def started(where: str, bans: Bans | None = None, *, fails_open: bool = True) -> AsyncIterator[Store]:
    store = make_store(where, fails_open=fails_open)
    if bans is not None:
        store.watch(bans)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


async def granted(store: Store, *windows: Window, of: int = 100, amount: float = 1.0) -> int:
    """How many of so many takes, all at once, were let through."""
    takes = [store.take([(window, amount) for window in windows]) for _ in range(of)]
    return sum(verdict.refused is None for verdict in await asyncio.gather(*takes))


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def test_two_processes_together_get_as_much_as_the_limit_of_ten_thousand_takes(opened: Opened) -> None:
    one, other = await opened(), await opened()
    limit = Window("shared", 4321, 3600)
    counts: list[int] = []
    for _ in range(10):
        counts += await asyncio.gather(granted(one, limit, of=500), granted(other, limit, of=500))
    assert sum(counts) == 4321


async def test_of_several_windows_all_are_taken_or_none(opened: Opened) -> None:
    store = await opened()
    assert await granted(store, MINUTE, HOUR) == 10
    verdict = await store.take([(HOUR, 0)])
    assert verdict.levels[0].remaining == 990


async def test_a_refusal_says_which_window_and_when(opened: Opened) -> None:
    store = await opened()
    await granted(store, MINUTE, of=10)
    verdict = await store.take([(HOUR, 1), (MINUTE, 1)])
    assert verdict.refused == MINUTE
    assert verdict.retry_after == pytest.approx(66, abs=1)
    assert [round(level.remaining) for level in verdict.levels] == [1000, 0]
    assert (await store.take([(MINUTE, 11)])).retry_after == float("inf")


async def test_what_is_added_and_given_back_counts_for_everybody(opened: Opened) -> None:
    one, other = await opened(), await opened()
    one.add([(MINUTE, 9.5)])
    one.add([(MINUTE, -4)])
    assert (await one.take([(MINUTE, 0)])).levels[0].remaining == 4.5
    assert await granted(other, MINUTE) == 4


async def test_windows_slide(opened: Opened) -> None:
    store = await opened()
    window = Window("short", 10, 0.2)
    await granted(store, window, of=10)
    verdict = await store.take([(window, 5)])
    await asyncio.sleep(verdict.retry_after + 0.01)
    assert (await store.take([(window, 5)])).refused is None
    assert (await store.take([(window, 5)])).refused == window


async def test_usage_is_summed_over_processes(opened: Opened) -> None:
    one, other = await opened(), await opened()
    one.count(Used("alice", "llama", 1, 10, 20, 0.5))
    other.count(Used("alice", "llama", 2, 1, 2, 0.25))
    other.count(Used("bob", "a/b:c \ud800", 1))
    await other.close()
    day = today()
    assert await one.usage(day, day) == [
        (day, Used("alice", "llama", 3, 11, 22, 0.75)),
        (day, Used("bob", "a/b:c ?", 1)),
    ]
    assert len(await one.usage(day, day, "bob")) == 1


async def test_no_number_of_models_fills_the_store(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sqlite, redis):
        monkeypatch.setattr(module, "MOST_ROWS", 3)
    one = await opened()
    for batch in range(3):
        for model in range(3):
            one.count(Used("alice", f"model {batch}.{model}"))
        one.count(Used("bob", "model 0.0", 1))
        before, other = one, await opened()
        await before.close()  # what is counted is written
        one = other
    rows = await one.usage(today(), today())
    assert len(rows) == 5
    assert [row.used.requests for row in rows if row.used.key == "bob"] == [3]


async def test_whatever_numbers_targets_claim_the_store_goes_on(opened: Opened) -> None:
    for _ in range(2):
        store = await opened()
        store.count(Used("alice", "llama", 1, 10**30, 2**63, 1e300))
        await store.close()
    store = await opened()
    assert store.is_up
    (row,) = await store.usage(today(), today())
    assert (row.used.requests, row.used.tokens_in) == (2, 10**15)


async def test_a_ban_and_its_end_reach_the_others_within_about_a_second(opened: Opened) -> None:
    first, second = await banning(opened), await banning(opened)
    first.wrong_key("192.0.2.1")
    assert first.wrong_key("192.0.2.1")
    await until(lambda: second.is_banned("192.0.2.1"), 3)
    second.lift("192.0.2.1")
    await until(lambda: not first.is_banned("192.0.2.1"), 3)


@pytest.mark.usefixtures("quick")
async def test_wrong_keys_at_two_processes_count_together(opened: Opened) -> None:
    first, second = await banning(opened), await banning(opened)
    first.wrong_key("192.0.2.1")
    second.wrong_key("192.0.2.1")
    await until(lambda: first.is_banned("192.0.2.1") and second.is_banned("192.0.2.1"), 3)


async def test_bans_outlive_the_process(opened: Opened) -> None:
    store = await opened()
    first = Bans(Cerbere())
    first.tell.append(store.note)
    first.add("192.0.2.1", 3600)
    first.add("2001:db8::1", 0)
    await store.close()
    second = await banning(opened)
    assert second.is_banned("192.0.2.1") and second.is_banned("2001:db8::2")
    assert [(ban.address, ban.is_for_good) for ban in second.listed()] == [
        ("192.0.2.1", False),
        ("2001:db8::/64", True),
    ]


async def banning(opened: Opened) -> Bans:
    """The bans of one more process, once it knows those of the others."""
    bans = Bans(Cerbere(max_tries=2, ban=60))
    store = await opened(bans)
    bans.tell.append(store.note)
    return bans


@pytest.mark.usefixtures("quick")
async def test_more_bans_than_one_answer_holds_are_all_learned(opened: Opened) -> None:
    first = await banning(opened)
    for number in range(2500):
        first.add(f"10.0.{number // 250}.{number % 250}", 3600)
    second = await banning(opened)
    await until(lambda: len(second.listed()) == 2500)


# The store is down.


async def test_while_the_server_is_gone_each_process_counts_alone_and_nobody_waits(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as server, started(server.url) as store:
        assert await granted(store, MINUTE) == 10
        await server.kill()
        begin = time.monotonic()
        assert await granted(store, MINUTE) == 10
        assert time.monotonic() - begin < 5
        verdict = store.take_now([(MINUTE, 1)])
        assert verdict is not None and verdict.refused
        await server.start()
        await until(lambda: bool(store.is_up))
        assert await granted(store, MINUTE) == 10


async def test_a_server_that_hangs_holds_nobody_up_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with redis_server(tmp_path) as server, started(server.url) as store:
        monkeypatch.setattr(shared, "PATIENCE", 0.2)
        server.stop()
        begin = time.monotonic()
        assert await granted(store, MINUTE) == 10
        assert time.monotonic() - begin < 5
        assert not store.is_up
        server.go_on()
        await until(lambda: bool(store.is_up))


async def test_a_server_killed_and_back_under_load_refuses_nothing_but_what_is_too_much(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as server, started(server.url) as one, started(server.url) as other:
        stopped = False

        async def load(store: Store) -> int:
            takes = 0
            while not stopped:
                _ = store.take_now([(HOUR, 0.001)]) or await store.take([(HOUR, 0.001)])
                takes += 1
                await asyncio.sleep(0)
            return takes

        loads = [asyncio.ensure_future(load(store)) for store in (one, other) for _ in range(4)]
        await asyncio.sleep(0.2)
        await server.kill()
        await until(lambda: not one.is_up and not other.is_up)
        await server.start()
        await until(lambda: bool(one.is_up and other.is_up))
        limit = Window("after", 700, 3600)
        assert sum(await asyncio.gather(granted(one, limit, of=500), granted(other, limit, of=500))) == 700
        stopped = True
        assert min(await asyncio.gather(*loads)) > 10


@pytest.mark.usefixtures("quick")
async def test_a_server_that_has_lost_everything_is_told_of_bans_and_usage(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as server:
        bans = Bans(Cerbere())
        async with started(server.url, bans) as store:
            bans.tell.append(store.note)
            bans.add("192.0.2.1", 3600)
            await asyncio.sleep(0.05)
            await server.kill()
            await until(lambda: not store.is_up)
            bans.add("192.0.2.2", 3600)
            store.count(Used("alice", "llama", 3))
            await server.start()
            await until(lambda: bool(store.is_up))
            other = Bans(Cerbere())
            async with started(server.url, other):
                await until(lambda: other.is_banned("192.0.2.1") and other.is_banned("192.0.2.2"), 3)
            assert (await store.usage(today(), today()))[0].used.requests == 3


@pytest.mark.usefixtures("quick")
async def test_what_was_written_although_no_answer_came_is_not_written_again(opened: Opened) -> None:
    bans, store = Bans(Cerbere(max_tries=3)), await opened()
    store.watch(bans)
    bans.tell.append(store.note)
    assert isinstance(store, SharedStore)
    backend = store._backend
    carry_out, lost = backend.exchange, 0

    async def without_an_answer(batch: Batch) -> Answer:
        nonlocal lost
        answer = await carry_out(batch)
        if lost < 3:
            lost += 1
            raise StoreDown("it has not answered")
        return answer

    backend.exchange = without_an_answer  # type: ignore[method-assign]
    bans.wrong_key("192.0.2.1")
    store.count(Used("alice", "llama", 1))
    await until(lambda: lost == 3 and bool(store.is_up))
    other = Bans(Cerbere(max_tries=3))
    (await opened()).watch(other)
    await until(lambda: bool(other.records()))
    assert not bans.is_banned("192.0.2.1")
    assert [record.score for record in other.records()] == [pytest.approx(1, abs=0.01)]
    await store.close()
    assert [row.used.requests for row in await (await opened()).usage(today(), today())] == [1]


async def test_what_a_store_knows_is_older_than_what_it_is_about_to_be_told(opened: Opened) -> None:
    bans, store = Bans(Cerbere(max_tries=9, ban=60)), await opened()
    store.watch(bans)
    bans.tell.append(store.note)
    assert isinstance(store, SharedStore)
    backend = store._backend
    carry_out, was_banned = backend.exchange, list[bool]()

    async def banned_meanwhile(batch: Batch) -> Answer:
        was_banned.append(bans.is_banned("192.0.2.1"))
        answer = await carry_out(batch)
        if len(was_banned) == 1:
            bans.add("192.0.2.1", 60)
        return answer

    backend.exchange = banned_meanwhile  # type: ignore[method-assign]
    bans.wrong_key("192.0.2.1")
    await until(lambda: len(was_banned) > 1)
    assert was_banned[:2] == [False, True]


async def test_a_fault_of_the_store_is_told_once_with_its_place(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    store = await opened()
    assert isinstance(store, SharedStore)

    async def failing(batch: Batch) -> Answer:
        raise LookupError

    store._backend.exchange = failing  # type: ignore[method-assign]
    for _ in range(3):
        assert await granted(store, MINUTE, of=1) == 1
        await asyncio.sleep(0.3)
    assert [(record.levelname, bool(record.exc_info)) for record in caplog.records] == [("WARNING", True)]


@pytest.mark.usefixtures("quick")
async def test_a_server_that_is_as_it_was_before_is_told_of_bans_and_tells_of_new_ones(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as server:
        one, other = Bans(Cerbere()), Bans(Cerbere())
        async with started(server.url, one) as store, started(server.url, other) as second:
            one.tell.append(store.note)
            other.tell.append(second.note)
            for number in range(5):
                one.add(f"192.0.2.{number}", 3600)
            await until(lambda: len(other.listed()) == 5)
            async with Redis.from_url(server.url) as client:  # as one that was killed between two snapshots
                await client.delete(*[name async for name in client.scan_iter("mooltiproxy:1:address:*")])
                await client.delete("mooltiproxy:1:changed")
                await client.set("mooltiproxy:1:number", 2)
            third = Bans(Cerbere())
            async with started(server.url, third):
                await until(lambda: len(third.listed()) == 5)
            one.add("192.0.2.9", 3600)
            await until(lambda: other.is_banned("192.0.2.9"))


async def test_what_somebody_else_has_written_there_is_passed_over(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as server:
        async with Redis.from_url(server.url) as client:
            await client.set("mooltiproxy:1:address:192.0.2.1", "by hand")
            await client.set("mooltiproxy:1:window:minute", "by hand")
            await client.zadd("mooltiproxy:1:changed", {"192.0.2.1": 1})
        bans = Bans(Cerbere())
        async with started(server.url, bans) as store:
            assert store.is_up and await granted(store, MINUTE) == 10
            assert bans.records() == []


async def test_a_server_behind_tls_is_asked_where_its_certificate_is_trusted(tmp_path: Path) -> None:
    certificate, key = map(str, write_pair(tmp_path))
    async with redis_server(tmp_path, (certificate, key)) as server:
        async with started(server.url) as store:
            assert store.is_up and await granted(store, MINUTE) == 10
        async with started(server.url.partition("?")[0]) as store:
            assert not store.is_up


async def test_the_script_counts_as_this_process_does(tmp_path: Path) -> None:
    chance = random.Random(7)
    windows = [Window("few", 3, 3600), Window("some", 100, 7200), Window("money", 1.5, 86400)]
    async with redis_server(tmp_path) as server, started(server.url) as there:
        here = MemoryStore()
        for _ in range(300):
            wants = [(window, window.limit * chance.random() / 4) for window in chance.sample(windows, 2)]
            told, expected = await there.take(wants), here.take_now(wants)
            assert told.refused == expected.refused
            assert told.retry_after == pytest.approx(expected.retry_after, abs=5)
            for one, other in zip(told.levels, expected.levels, strict=True):
                assert one == pytest.approx(other, abs=5e-2, rel=1e-3)
            given = [(window, window.limit * (chance.random() - 0.7)) for window in chance.sample(windows, 1)]
            there.add(given)
            here.add(given)


async def test_the_script_is_sent_again_where_the_server_has_forgotten_it(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as server, started(server.url) as store:
        async with Redis.from_url(server.url) as client:
            await client.script_flush()
        assert await granted(store, MINUTE) == 10
        assert store.is_up


async def test_closed_refuses_what_cannot_be_counted_and_says_when_to_come_back() -> None:
    async with started("redis://:secret-word@127.0.0.1:9/0", fails_open=False) as store:
        assert store.take_now([(MINUTE, 1)]) is None
        with pytest.raises(StoreUnavailable) as refused:
            await store.take([(MINUTE, 1)])
        assert (refused.value.status, refused.value.retry_after) == (503, 1)
        with pytest.raises(StoreUnavailable):
            await store.usage(today(), today())


async def test_the_log_says_it_once_and_never_the_password(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with started("redis://user:secret-word@127.0.0.1:9/0?health_check_interval=7"):
        await asyncio.sleep(1)
    assert len(caplog.records) == 1
    assert "redis://127.0.0.1:9/0 is down" in caplog.text
    assert "secret-word" not in caplog.text


async def test_a_wrong_password_counts_as_down_and_is_not_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with redis_server(tmp_path) as server:
        async with started(server.url.replace(server.password, "secret-word")) as store:
            assert await granted(store, MINUTE) == 10
    assert "is down" in caplog.text and "secret-word" not in caplog.text


def test_without_its_package_redis_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mooltiproxy.store.redis", None)
    with pytest.raises(ConfigError, match=r"pip install 'mooltiproxy\[redis\]'"):
        make_store("redis://127.0.0.1:9/0")


# The file.


HAMMER = """
import asyncio, sys
from mooltiproxy.store import Window, make_store, shared
shared.PATIENCE = 20

async def main():
    store = make_store(f"sqlite:{sys.argv[1]}", fails_open=False)
    await store.start()
    window = Window("hammered", 1500, 3600)
    async def taker():
        return sum([(await store.take([(window, 1)])).refused is None for _ in range(100)])
    print(sum(await asyncio.gather(*(taker() for _ in range(8)))))
    await store.close()

asyncio.run(main())
"""


async def test_four_processes_that_hammer_one_file_get_exactly_the_limit(tmp_path: Path) -> None:
    command = (sys.executable, "-c", HAMMER, str(tmp_path / "store.db"))
    processes = [await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE) for _ in range(4)]
    counts = [int((await process.communicate())[0]) for process in processes]
    assert sum(counts) == 1500


async def test_counts_outlive_the_process(tmp_path: Path) -> None:
    where = f"sqlite:{tmp_path / 'store.db'}"
    async with started(where) as store:
        assert await granted(store, MINUTE, of=7) == 7
    async with started(where) as store:
        assert await granted(store, MINUTE) == 3


async def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    async with started(f"sqlite:{tmp_path / 'store.db'}") as store:
        await granted(store, MINUTE)
        assert {stat.S_IMODE(file.stat().st_mode) for file in files(tmp_path)} == {0o600}


@pytest.mark.parametrize("step", [86400.0, -86400.0])
async def test_a_clock_that_steps_neither_blocks_nor_opens_for_long(tmp_path: Path, step: float) -> None:
    now = 1.8e9
    backend = SQLiteBackend(tmp_path / "store.db", lambda: now)
    await backend.open()

    async def taken(of: int = 100) -> int:
        verdicts = (await backend.exchange(Batch(takes=[[(MINUTE, 1.0)]] * of))).verdicts
        return sum(verdict.refused is None for verdict in verdicts)

    assert await taken() == 10
    now += step
    assert await taken() == (10 if step > 0 else 0)
    now += 120
    assert await taken() == 10
    await backend.close()


async def test_a_ban_gets_no_longer_by_a_clock_that_is_set_back(tmp_path: Path) -> None:
    now = 1.8e9
    backend = SQLiteBackend(tmp_path / "store.db", lambda: now)
    await backend.open()
    await backend.exchange(Batch(notes=[Note("192.0.2.1", What.BAN, 1, 60)]))
    now -= 86400
    bans = Bans(Cerbere())
    store = make_store(f"sqlite:{tmp_path / 'store.db'}")
    store.watch(bans)
    await backend.close()
    await store.start()
    assert bans.listed()[0].seconds <= 60
    await store.close()


async def test_a_file_that_is_removed_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    async with started(f"sqlite:{file}") as store:
        assert await granted(store, MINUTE) == 10
        for one in files(tmp_path):
            one.unlink()
        assert await granted(store, MINUTE) == 10
        assert not store.is_up
        await until(lambda: bool(store.is_up))
        assert await granted(store, MINUTE) == 10
        assert file.exists()


@pytest.mark.parametrize("content", [b"this is no database " * 100, b""])
async def test_a_file_that_is_no_store_is_left_alone(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "store.db"
    file.write_bytes(content)
    if not content:
        with closing(sqlite3.connect(file)) as db:
            db.execute("CREATE TABLE theirs (x)")
        content = file.read_bytes()
    async with started(f"sqlite:{file}") as store:
        assert not store.is_up
        assert await granted(store, MINUTE) == 10
    assert "is down: file is not a database" in caplog.text or "move it away" in caplog.text
    assert file.read_bytes() == content


async def test_a_file_that_is_broken_while_it_is_used_counts_as_down(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    async with started(f"sqlite:{file}") as store:
        assert await granted(store, MINUTE) == 10
        for one in files(tmp_path):
            one.write_bytes(b"rubbish" * 10_000)
        await until(lambda: not store.is_up, 3)
        assert await granted(store, MINUTE) == 10


async def test_a_file_that_somebody_locks_holds_nobody_up_for_long(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    async with started(f"sqlite:{file}") as store:
        with closing(sqlite3.connect(file, isolation_level=None)) as db:
            db.execute("BEGIN EXCLUSIVE")
            begin = time.monotonic()
            assert await granted(store, MINUTE) == 10
            assert time.monotonic() - begin < 5
            assert not store.is_up
            db.execute("ROLLBACK")
        await until(lambda: bool(store.is_up))
        assert await granted(store, MINUTE) == 10


async def test_a_full_disk_counts_as_down(tmp_path: Path) -> None:
    async with started(f"sqlite:{tmp_path / 'store.db'}") as store:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
        try:
            assert await granted(store, MINUTE) == 10
            assert not store.is_up
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        await until(lambda: bool(store.is_up))


async def test_what_has_waited_too_long_is_rolled_back(tmp_path: Path) -> None:
    backend = SQLiteBackend(tmp_path / "store.db")
    await backend.open()
    waiting = asyncio.ensure_future(backend.exchange(Batch(takes=[[(MINUTE, 1.0)]] * 5000)))
    await asyncio.sleep(0.001)
    waiting.cancel()
    answer = await backend.exchange(Batch(takes=[[(MINUTE, 0.0)]]))
    assert answer.verdicts[0].levels[0].remaining == 10
    await backend.close()


async def test_a_store_of_another_version_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    async with started(f"sqlite:{file}"):
        pass
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA user_version = 99")
    backend = SQLiteBackend(file)
    with pytest.raises(StoreDown, match="move it away"):
        await backend.open()
    await backend.close()
