"""`concurrent` of targets: so many requests at a time, the others wait, in turns."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from mooltiproxy.config.model import Concurrent
from mooltiproxy.errors import Crowded, NotFound
from mooltiproxy.limits.gates import Queues, _Gate
from mooltiproxy.limits.queue import Queue
from mooltiproxy.upstream.session import Origin
from tests.limits.sending import ALICE, BOB, Limited, at_once, limited
from tests.servers.openai_chat import openai_chat
from tests.servers.scripted import Peer, Received, answer

ORIGIN = Origin.of("http://127.0.0.1:1")


class Gated:
    """A target that answers one request each time it is told to; counts how many it has at a time."""

    def __init__(self) -> None:
        self.now, self.most = 0, 0
        self.tokens = asyncio.Semaphore(0)
        self.asked: list[str] = []

    async def __call__(self, peer: Peer, received: Received) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        self.asked.append(orjson.loads(received.body)["user"])
        await self.tokens.acquire()
        self.now -= 1
        await peer.send(answer(b"{}"))


@asynccontextmanager
async def gated(**concurrent: Any) -> AsyncIterator[tuple[Limited, Gated, Queue]]:
    target = Gated()
    async with limited(script=target, target={"concurrent": {"most": 1, **concurrent}}) as one:
        yield one, target, one.proxy.server._queues._queues["one"]


async def reached(count: Any, wanted: int) -> None:
    """Returns once a count is what it should become."""
    for _ in range(400):
        if count() == wanted:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"it stayed at {count()}")


async def test_a_target_never_has_more_than_it_may_and_all_are_answered() -> None:
    async with gated(most=5) as (one, target, queue), at_once(one):
        asked = [asyncio.create_task(one.chat(user=str(number))) for number in range(200)]
        await reached(lambda: queue.waiting, 195)
        for _ in asked:
            target.tokens.release()
        assert {status for status, _, _ in await asyncio.gather(*asked)} == {200}
        assert target.most == 5
        assert queue.waiting == 0


async def test_waiting_requests_come_in_turns_key_by_key() -> None:
    async with gated() as (one, target, queue):
        asked = []
        for number, (user, key) in enumerate([("a1", ALICE), ("a2", ALICE), ("a3", ALICE), ("b1", BOB), ("b2", BOB)]):
            asked.append(asyncio.create_task(one.chat(user=user, key=key)))
            await reached(lambda: len(target.asked) + queue.waiting, number + 1)
        for _ in asked:
            target.tokens.release()
        await asyncio.gather(*asked)
        assert target.asked == ["a1", "a2", "b1", "a3", "b2"]


async def test_too_many_that_wait_are_refused() -> None:
    async with gated(max_waiting=1) as (one, target, queue):
        asked = [asyncio.create_task(one.chat(user=user)) for user in ("1", "2")]
        await reached(lambda: queue.waiting, 1)
        status, fields, body = await one.chat(user="3")
        assert (status, fields["retry-after"]) == (503, "5")
        assert "target one has no place" in orjson.loads(body)["error"]["message"]
        target.tokens.release()
        target.tokens.release()
        await asyncio.gather(*asked)


async def test_who_has_waited_too_long_is_refused() -> None:
    async with gated(max_wait=0.1) as (one, target, queue):
        first = asyncio.create_task(one.chat(user="1"))
        await one.target.asked.wait()
        status, fields, _ = await one.chat(user="2")
        assert (status, fields["retry-after"]) == (503, "5")
        assert queue.waiting == 0
        target.tokens.release()
        await first


async def test_who_leaves_makes_room_whether_it_waited_or_was_answered() -> None:
    async with gated() as (one, target, queue):
        asked = [asyncio.create_task(one.chat(user="1"))]
        await one.target.asked.wait()
        asked += [asyncio.create_task(one.chat(user=user)) for user in ("2", "3")]
        await reached(lambda: queue.waiting, 2)
        asked[1].cancel()
        await reached(lambda: queue.waiting, 1)
        asked[0].cancel()
        await reached(lambda: queue.waiting, 0)
        await reached(lambda: len(target.asked), 2)
        assert target.asked == ["1", "3"]
        target.tokens.release()
        target.tokens.release()
        assert (await asked[2])[0] == 200


async def test_a_streaming_client_is_kept_awake_while_it_waits() -> None:
    started = asyncio.Event()

    async def slow(peer: Peer, received: Received) -> None:
        if not started.is_set():
            started.set()
            await asyncio.sleep(1.8)
        await openai_chat(peer, received)

    async with limited({"tokens": "100000/1d"}, slow, target={"concurrent": 1}) as one:
        first = asyncio.create_task(one.chat(stream=True))
        await started.wait()
        _, fields, body = await one.chat(stream=True)
        assert body.startswith(b": keep-alive\n\ndata: ")
        assert body.endswith(b"data: [DONE]\n\n")
        assert b'"usage":{' not in body
        assert fields["x-ratelimit-limit-tokens"] == "100000"
        await first
        assert {row.tokens_in + row.tokens_out for row in await one.used()} == {30}


async def test_questions_about_models_do_not_wait() -> None:
    async with gated() as (one, target, _):
        first = asyncio.create_task(one.chat(user="1"))
        await one.target.asked.wait()
        target.tokens.release()
        await first
        assert one.proxy.server._queues.waiting() == {"one": 0}


# The queue itself.


async def test_new_rules_let_those_in_who_wait() -> None:
    queue = Queue("one", Concurrent(1))
    first, second, third = (queue.ask("a") for _ in range(3))
    assert [ticket.is_in for ticket in (first, second, third)] == [True, False, False]
    queue.configure(Concurrent(2))
    assert [ticket.is_in for ticket in (first, second, third)] == [True, True, False]
    await queue.wait(second)
    for ticket in (first, second, third, third):
        queue.leave(ticket)
    assert queue.ask("b").is_in


async def test_who_has_got_a_place_and_leaves_at_that_moment_gives_it_back() -> None:
    queue = Queue("one", Concurrent(1))
    first, second = queue.ask("a"), queue.ask("b")
    waiting = asyncio.create_task(queue.wait(second))
    await asyncio.sleep(0)
    queue.leave(first)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    queue.leave(second)
    assert queue.ask("c").is_in


async def test_a_place_is_given_back_where_the_server_behind_it_is_not_there() -> None:
    class Nobody:
        def ask(self, model: str | None, keep_alive: float | None, who: str) -> Any:
            raise NotFound("no server")

    queue = Queue("one", Concurrent(1))
    gate = _Gate(queue, ORIGIN, Nobody())  # type: ignore[arg-type]
    for _ in range(3):
        with pytest.raises(NotFound):
            gate.ask(None, None, "a")
    with pytest.raises(Crowded):
        queue.configure(Concurrent(1, max_waiting=0))
        queue.ask("a")
        queue.ask("a")


def test_a_target_without_the_word_has_no_gate() -> None:
    assert Queues().waiting() == {}
