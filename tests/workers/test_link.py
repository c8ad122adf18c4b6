"""Messages between two processes, here in one."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mooltiproxy.workers.link import LARGEST, Gone, Handler, Link, Refused


@asynccontextmanager
async def linked(handlers: dict[str, Handler]) -> AsyncIterator[tuple[Link, Link]]:
    """Who asks, and who has these handlers."""
    ends = socket.socketpair()
    one, other = Link({}), Link(handlers)
    for link, end in zip((one, other), ends, strict=True):
        end.setblocking(False)
        await link.open(end)
    yield one, other
    one.close()
    await other.closed


async def refusing(reason: str) -> None:
    raise Refused(reason)


async def failing() -> None:
    raise ValueError("a secret")


async def test_messages_are_handled_in_order_whatever_their_size() -> None:
    got: list[Any] = []
    async with linked({"take": got.append, "all": lambda: len(got)}) as (link, _):
        sizes = [0, 1, 70_000, 3, 1_000_000, 2]
        for size in sizes:
            link.tell("take", "x" * size)
        assert await link.ask("all") == len(sizes)
    assert [len(text) for text in got] == sizes


async def test_a_coroutine_answers_later_than_what_comes_after_it() -> None:
    may = asyncio.Event()

    async def slow() -> str:
        await may.wait()
        return "slow"

    async with linked({"slow": slow, "fast": lambda: "fast", "now": may.set}) as (link, _):
        asked = asyncio.ensure_future(link.ask("slow"))
        assert await link.ask("fast") == "fast"
        link.tell("now")
        assert await asked == "slow"


async def test_a_handler_that_fails_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with linked({"divide": lambda number: 1 / number}) as (link, _):
        link.tell("divide", 0)
        with pytest.raises(Refused, match="ZeroDivisionError"):
            await link.ask("divide", 0)
        assert await link.ask("divide", 2) == 0.5
    assert caplog.text.count("unexpected error") == 2


async def test_a_refusal_says_why_and_a_fault_does_not(caplog: pytest.LogCaptureFixture) -> None:
    async with linked({"refuse": refusing, "fail": failing}) as (link, _):
        with pytest.raises(Refused, match="not today"):
            await link.ask("refuse", "not today")
        with pytest.raises(Refused, match="^unexpected error: ValueError$"):
            await link.ask("fail")
    assert "a secret" in caplog.text


async def test_who_waits_for_an_answer_is_told_that_the_other_has_gone() -> None:
    async with linked({"never": lambda: asyncio.sleep(60)}) as (link, other):
        asked = asyncio.ensure_future(link.ask("never"))
        await asyncio.sleep(0)
        other.close()
        with pytest.raises(Gone):
            await asked
        with pytest.raises(Gone):
            await link.ask("never")
        link.tell("never")


async def test_who_reads_nothing_any_more_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mooltiproxy.workers.link.LARGEST", 1_000_000)
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setblocking(False)
        link = Link({})
        await link.open(ours)
        for _ in range(100):
            link.tell("much", "x" * 100_000)
        await link.closed
    assert caplog.text.count("has stopped to read") == 1


async def test_what_is_no_message_ends_the_link(caplog: pytest.LogCaptureFixture) -> None:
    async with linked({}) as (link, other):
        other.data_received((LARGEST + 1).to_bytes(4))
        await link.closed
    assert "cannot be read" in caplog.text


async def test_a_fast_writer_waits_for_a_slow_reader() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    link = Link({})
    await link.open(ours)
    link.tell("much", "x" * 10_000_000)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(link.caught_up(), 0.05)
    theirs.close()
    await link.caught_up()
    await link.closed
