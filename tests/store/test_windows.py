"""Sliding windows and the memory store: what is let through, how long to wait, and what a stepping clock does."""

import math
from datetime import date
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooltiproxy.store import MemoryStore, Used, Window
from mooltiproxy.store.memory import today
from mooltiproxy.store.usage import OTHER, UsageTable
from mooltiproxy.store.windows import Counter, verdict
from tests.clock import Clock

MINUTE = Window("minute", 10, 60)
DAY = Window("day", 25, 86400)
STEP = 86400.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return MemoryStore(clock)


def granted(store: MemoryStore, *windows: Window, of: int, amount: float = 1.0) -> int:
    """How many of so many takes were let through."""
    return sum(store.take_now([(window, amount) for window in windows]).refused is None for _ in range(of))


def test_as_much_as_the_limit_is_let_through(store: MemoryStore) -> None:
    assert granted(store, MINUTE, of=100) == 10


def test_a_refusal_says_which_window_and_when_it_is_worth_asking_again(store: MemoryStore, clock: Clock) -> None:
    granted(store, MINUTE, DAY, of=10)
    verdict = store.take_now([(MINUTE, 1), (DAY, 1)])
    assert verdict.refused == MINUTE
    clock.time += verdict.retry_after - 0.01
    assert store.take_now([(MINUTE, 1)]).refused
    clock.time += 0.01
    assert store.take_now([(MINUTE, 1)]).refused is None


def test_of_several_windows_all_are_taken_or_none(store: MemoryStore, clock: Clock) -> None:
    assert granted(store, MINUTE, DAY, of=100) == 10
    assert store.take_now([(DAY, 0)]).levels[0].remaining == 15
    clock.time += 120
    assert granted(store, MINUTE, DAY, of=100) == 10
    clock.time += 120
    assert granted(store, MINUTE, DAY, of=100) == 5


@pytest.mark.parametrize("seed", range(5))
def test_a_window_alone_is_taken_as_one_beside_others(seed: int, store: MemoryStore, clock: Clock) -> None:
    random, window, counter = Random(seed), Window("alone", 5.0, 10.0), Counter(clock.time, 1.0)
    store.take_now([(window, 1.0)])
    for _ in range(1_000):
        clock.time += random.choice((0.0, 0.1, 1.0, 7.0, 12.0, 25.0))
        wants = [(window, random.choice((0.0, 0.5, 1.0, 3.0, 6.0)))]
        found, expected = store.take_now(wants), verdict(wants, [counter], clock.time)
        assert found.refused == expected.refused
        assert (found.retry_after, *found.levels[0]) == pytest.approx((expected.retry_after, *expected.levels[0]))


def test_what_is_refused_by_two_windows_waits_for_the_slower(store: MemoryStore) -> None:
    granted(store, DAY, of=25)
    granted(store, MINUTE, of=10)
    assert store.take_now([(MINUTE, 1), (DAY, 1)]).retry_after > 80000


def test_what_was_counted_before_weighs_less_and_less(store: MemoryStore, clock: Clock) -> None:
    granted(store, MINUTE, of=10)
    clock.time += 60 + 30
    assert granted(store, MINUTE, of=100) == 5


def test_a_level_tells_what_remains_and_when_all_is_there_again(store: MemoryStore, clock: Clock) -> None:
    verdict = store.take_now([(MINUTE, 4)])
    assert verdict.levels[0] == (6, 120)
    clock.time += 100
    level = store.take_now([(MINUTE, 0)]).levels[0]
    assert level.remaining == pytest.approx(10 - 4 / 3) and level.reset == 20
    clock.time += 20
    assert store.take_now([(MINUTE, 0)]).levels[0] == (10, 0)


def test_more_than_the_limit_will_never_fit(store: MemoryStore) -> None:
    assert store.take_now([(MINUTE, 11)]).retry_after == math.inf


def test_money_is_counted_to_the_last_tenth_of_a_cent(store: MemoryStore) -> None:
    assert granted(store, Window("money", 1.0, 60), of=2000, amount=0.001) == 1000


def test_large_amounts_are_exact(store: MemoryStore) -> None:
    assert granted(store, Window("tokens", 1e12, 60), of=12, amount=1e11) == 10


def test_what_was_used_beyond_the_limit_has_to_expire_first(store: MemoryStore, clock: Clock) -> None:
    store.add([(MINUTE, 40)])
    assert store.take_now([(MINUTE, 1)]).levels[0].remaining == 0
    clock.time += 60 + 45
    assert granted(store, MINUTE, of=1) == 0
    clock.time += 2
    assert granted(store, MINUTE, of=1) == 1


def test_what_is_given_back_is_there_again(store: MemoryStore) -> None:
    granted(store, MINUTE, of=10)
    store.add([(MINUTE, -3)])
    assert granted(store, MINUTE, of=10) == 3


def test_what_is_given_back_in_the_next_window_comes_off_the_one_before(store: MemoryStore, clock: Clock) -> None:
    store.take_now([(MINUTE, 10)])
    clock.time += 60 + 54
    store.add([(MINUTE, -8)])
    assert granted(store, MINUTE, of=100) == 9


@pytest.mark.parametrize("step", [STEP, -STEP])
def test_a_clock_that_steps_neither_blocks_nor_opens_for_long(store: MemoryStore, clock: Clock, step: float) -> None:
    granted(store, MINUTE, of=10)
    clock.time += step
    assert granted(store, MINUTE, of=100) == (10 if step > 0 else 0)
    assert granted(store, MINUTE, of=100) == 0
    clock.time += 120
    assert granted(store, MINUTE, of=100) == 10


@given(
    st.lists(
        st.tuples(st.floats(0, 200), st.floats(0, 12)),
        min_size=1,
        max_size=60,
    )
)
def test_no_window_of_time_ever_gets_twice_its_limit(asked: list[tuple[float, float]]) -> None:
    clock = Clock()
    store = MemoryStore(clock)
    taken: list[tuple[float, float]] = []
    for pause, amount in asked:
        clock.time += pause
        if store.take_now([(MINUTE, amount)]).refused is None:
            taken.append((clock.time, amount))
        recent = sum(amount for time, amount in taken if time > clock.time - 60)
        assert recent <= 2 * MINUTE.limit + 1e-6


@given(st.lists(st.floats(0.1, 9), min_size=1, max_size=30), st.floats(0, 150), st.floats(0.1, 10))
def test_who_waits_as_long_as_told_gets_it(taken: list[float], pause: float, amount: float) -> None:
    clock = Clock()
    store = MemoryStore(clock)
    for one in taken:
        store.take_now([(MINUTE, one)])
        clock.time += pause / len(taken)
    verdict = store.take_now([(MINUTE, amount)])
    clock.time += verdict.retry_after + 1e-6
    assert verdict.refused is None or store.take_now([(MINUTE, amount)]).refused is None


def test_no_number_of_names_fills_the_memory_and_who_is_at_the_limit_stays(clock: Clock) -> None:
    store = MemoryStore(clock, most=100)
    granted(store, MINUTE, of=10)
    for at in range(10_000):
        store.take_now([(Window(f"hostile {at}", 10, 60), 1)])
        assert len(store) <= 100
    assert granted(store, MINUTE, of=1) == 0


def test_what_has_expired_is_forgotten(clock: Clock) -> None:
    store = MemoryStore(clock)
    for at in range(1000):
        store.take_now([(Window(f"old {at}", 10, 60), 1)])
    clock.time += 121
    for at in range(600):
        store.take_now([(Window(f"new {at}", 10, 60), 1)])
    assert len(store) <= 600


async def test_usage_is_summed_by_day_key_and_model(store: MemoryStore) -> None:
    store.count(Used("alice", "llama", requests=1, tokens_in=10, tokens_out=20, cost=0.5))
    store.count(Used("alice", "llama", requests=1, tokens_in=1, tokens_out=2, cost=0.25))
    store.count(Used("bob", "llama", requests=1))
    day = today()
    assert await store.usage(day, day) == [
        (day, Used("alice", "llama", 2, 11, 22, 0.75)),
        (day, Used("bob", "llama", 1)),
    ]
    assert [row.used.key for row in await store.usage(day, day, "bob")] == ["bob"]


def test_no_number_of_models_fills_the_memory() -> None:
    table = UsageTable(most_rows=100)
    for at in range(1000):
        table.add(date(2026, 1, 1), Used(f"key {at // 2}", f"model {at}", requests=1))
    rows = table.between(date.min, date.max)
    assert len(rows) <= 201
    assert sum(row.used.requests for row in rows) == 1000
    assert rows[0].used.key == OTHER


def test_only_so_many_days_are_kept_in_memory() -> None:
    table = UsageTable()
    for day in range(1, 200):
        table.add(date.fromordinal(day), Used("key", "model", 1))
    assert table.between(date.min, date.max)[0].day == date.fromordinal(138)
