"""The engines of a worker and their owner, joined by a link, in one process: who asks, and who holds what."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mooltiproxy.config.load import from_data
from mooltiproxy.config.model import Config
from mooltiproxy.engines.owner import Engines
from mooltiproxy.engines.states import Ticket
from mooltiproxy.errors import NotRunning
from mooltiproxy.metrics import Metrics
from mooltiproxy.upstream.session import PooledSession
from mooltiproxy.workers.desk import Desk
from mooltiproxy.workers.engines import RemoteEngines
from mooltiproxy.workers.link import Link
from tests.servers.engines import engines
from tests.servers.small import small_target


class Counting(Link):
    """A link that remembers what was told."""

    sent: list[tuple[Any, ...]]

    def tell(self, what: str, *words: Any) -> None:
        self.sent.append((what, *words))
        super().tell(what, *words)


@dataclass
class Joined:
    """The owner of the engines, and what each of two workers has of them."""

    owner: Engines
    workers: list[RemoteEngines]
    links: list[Counting]
    sent: list[tuple[Any, ...]]

    async def settled(self) -> None:
        """Returns when all that was said has been heard."""
        for link in self.links:
            await link.ask("nothing")

    async def in_flight(self) -> int:
        """What the owner knows of."""
        await self.settled()
        return (await self.owner.states())[0].in_flight


def configured(tmp_path: Path, **run: Any) -> Config:
    data = engines(a=small_target(tmp_path, **run))
    return from_data(data, tmp_path, {"MOOLTIPROXY_KEY": "the-proxy-key"})


@asynccontextmanager
async def joined(config: Config) -> AsyncIterator[Joined]:
    """Two workers and the supervisor's engines."""
    session, links = PooledSession(), list[Link]()
    told: dict[str, Any] = {}

    def on_change() -> None:
        now = owner.ready("a")
        if now != told.get("a"):
            told["a"] = now
            for link in links:
                link.tell("engine", "a", now)

    owner = Engines(session, Metrics(), on_change)
    owner.configure(config)
    here = Joined(owner, [], [], [])
    for _ in range(2):
        ours, theirs = socket.socketpair()
        desk = Desk(owner)
        there = Link({**desk.handlers(), "nothing": lambda: None})
        handlers: dict[str, Any] = {}
        link = Counting(handlers)
        link.sent = here.sent
        worker = RemoteEngines(link)
        handlers.update({"engine": worker.now, "admit": worker.admit, "refuse": worker.refuse})
        for end, one in ((ours, there), (theirs, link)):
            end.setblocking(False)
            await one.open(end)
        desk.open(there)
        links.append(there)
        worker.configure(config)
        here.workers.append(worker)
        here.links.append(link)
    try:
        yield here
    finally:
        for side in (*links, *here.links):
            side.close()
            await side.closed
        await owner.close(0)
        await session.close()


async def let_in(worker: RemoteEngines, keep_alive: float | None = None) -> Ticket:
    """A request that has got through."""
    ticket = Ticket("a", keep_alive)
    worker.ask(ticket)
    if worker.origin(ticket) is None:
        await worker.wait(ticket)
    assert worker.origin(ticket) == worker.ready("a")
    return ticket


async def test_further_requests_of_a_worker_join_without_asking(tmp_path: Path) -> None:
    async with joined(configured(tmp_path)) as here:
        worker, other = here.workers
        tickets = [await let_in(worker) for _ in range(5)]
        assert [what for what, *_ in here.sent] == ["ask"]
        assert worker.in_flight() == {"a": 5} and await here.in_flight() == 1
        await let_in(other)
        assert await here.in_flight() == 2
        for ticket in tickets[1:]:
            worker.leave(ticket)
        assert await here.in_flight() == 2
        worker.leave(tickets[0])
        assert await here.in_flight() == 1 and worker.in_flight() == {}


async def test_whoever_leaves_first_the_engine_is_held_until_the_last(tmp_path: Path) -> None:
    async with joined(configured(tmp_path)) as here:
        worker, _ = here.workers
        first = await let_in(worker)
        second = await let_in(worker)
        worker.leave(first)
        here.owner.let_go("a")
        await here.settled()
        assert (await here.owner.states())[0].state == "draining" and worker.ready("a") is None
        worker.leave(second)
        await here.settled()
        assert (await here.owner.states())[0].state == "stopping"


async def test_a_request_that_comes_while_the_engine_closes_waits_for_its_next_run(tmp_path: Path) -> None:
    async with joined(configured(tmp_path)) as here:
        worker, _ = here.workers
        first = await let_in(worker)
        here.owner.let_go("a")  # the worker has not heard of it yet, and joins
        joining = Ticket("a")
        worker.ask(joining)
        assert worker.origin(joining) is not None
        await here.settled()
        late = Ticket("a")
        worker.ask(late)
        assert worker.origin(late) is None
        worker.leave(first)
        assert (await here.owner.states())[0].state == "draining"
        worker.leave(joining)
        await worker.wait(late)
        assert await here.in_flight() == 1


async def test_a_request_that_says_keep_alive_always_asks(tmp_path: Path) -> None:
    async with joined(configured(tmp_path)) as here:
        worker, _ = here.workers
        first, second = await let_in(worker), await let_in(worker, 3600)
        assert [what for what, *_ in here.sent] == ["ask", "ask"] and await here.in_flight() == 2
        for ticket in (first, second):
            worker.leave(ticket)
        assert await here.in_flight() == 0
        third = await let_in(worker, float("inf"))
        worker.leave(third)
        await here.settled()
        assert (await here.owner.states())[0].until == float("inf")


async def test_who_leaves_the_queue_is_not_waited_for(tmp_path: Path) -> None:
    async with joined(configured(tmp_path, ready_timeout=20)) as here:
        worker, other = here.workers
        tickets = [Ticket("a") for _ in range(3)]
        for ticket in tickets:
            worker.ask(ticket)
        worker.leave(tickets[1])
        await here.settled()
        assert (await here.owner.states())[0].waiting == 2
        for ticket in (tickets[0], tickets[2]):
            await worker.wait(ticket)
            worker.leave(ticket)
        assert await here.in_flight() == 0


async def test_a_client_that_leaves_just_when_it_is_let_in_holds_nothing(tmp_path: Path) -> None:
    async with joined(configured(tmp_path)) as here:
        worker, _ = here.workers
        first = await let_in(worker)
        worker.leave(first)
        gone = Ticket("a")
        worker.ask(gone)
        worker.leave(gone)  # its admission is on the way
        assert await here.in_flight() == 0 and worker.in_flight() == {}


async def test_a_full_queue_and_a_failed_start_are_refused_as_in_one_process(tmp_path: Path) -> None:
    async with joined(configured(tmp_path, max_waiting=1, command="false ${port}")) as here:
        worker, other = here.workers
        waiting, too_many = Ticket("a"), Ticket("a")
        worker.ask(waiting)
        await here.settled()
        other.ask(too_many)
        with pytest.raises(NotRunning, match="too many requests wait") as full:
            await other.wait(too_many)
        assert full.value.retry_after == 1
        with pytest.raises(NotRunning, match="could not be started") as failed:
            await worker.wait(waiting)
        assert failed.value.retry_after is not None
        for engines_of, ticket in ((worker, waiting), (other, too_many)):
            engines_of.leave(ticket)
        assert await here.in_flight() == 0


async def test_an_engine_that_is_not_configured_is_refused_at_once(tmp_path: Path) -> None:
    async with joined(configured(tmp_path)) as here:
        with pytest.raises(NotRunning, match="taken out"):
            here.workers[0].ask(Ticket("b"))
        assert here.sent == []


async def test_what_a_worker_holds_and_waits_for_is_given_back_when_its_link_ends(tmp_path: Path) -> None:
    async with joined(configured(tmp_path)) as here:
        worker, other = here.workers
        await let_in(worker)
        await let_in(worker, 60)
        await let_in(other)
        assert await here.in_flight() == 3
        here.owner.let_go("a")
        worker.ask(Ticket("a", 1))
        await here.settled()
        assert (await here.owner.states())[0].waiting == 1
        here.links.pop(0).close()
        await asyncio.sleep(0.05)
        told = (await here.owner.states())[0]
        assert (told.in_flight, told.waiting) == (1, 0)
