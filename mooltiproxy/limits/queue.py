"""Places at a target that takes so many requests at a time; those who wait get theirs in turns, key by key."""

import asyncio
from collections import OrderedDict, deque

from mooltiproxy.config.model import Concurrent
from mooltiproxy.errors import Crowded


class Ticket:
    """One request's place, or its wait for one."""

    __slots__ = ("future", "is_in", "who")

    def __init__(self, who: str) -> None:
        self.who = who
        self.is_in = False
        self.future: asyncio.Future[None] | None = None


class Queue:
    """The places of one target. Outlives reloads; all that is decided, is decided between two awaits."""

    def __init__(self, name: str, rules: Concurrent) -> None:
        self._name = name
        self._rules = rules
        self._in = 0
        self._waiting: OrderedDict[str, deque[Ticket]] = OrderedDict()
        self._count = 0

    def configure(self, rules: Concurrent) -> None:
        """New rules; those who are in stay."""
        self._rules = rules
        self._admit()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._count

    def ask(self, who: str) -> Ticket:
        """A place, or the wait for one; raises Crowded."""
        ticket = Ticket(who)
        if self._in < self._rules.most and not self._count:
            self._let_in(ticket)
        elif self._count >= self._rules.max_waiting:
            raise Crowded(f"target {self._name} has no place, and {self._count} requests wait for one already")
        else:
            ticket.future = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(who, deque()).append(ticket)
            self._count += 1
        return ticket

    async def wait(self, ticket: Ticket) -> None:
        """Returns once the request has its place; raises Crowded. `leave` is to be called whatever happens."""
        assert ticket.future is not None
        try:
            async with asyncio.timeout(self._rules.max_wait):
                await ticket.future
        except TimeoutError:
            if not ticket.is_in:
                lasted = f"{self._rules.max_wait:g} seconds"
                raise Crowded(f"target {self._name} had no place for this request within {lasted}") from None

    def leave(self, ticket: Ticket) -> None:
        """The request is over, or does not wait any longer. May be called twice."""
        if ticket.is_in:
            ticket.is_in = False
            self._in -= 1
            self._admit()
            return
        line = self._waiting.get(ticket.who)
        if line is not None and ticket in line:
            line.remove(ticket)
            self._count -= 1
            if not line:
                del self._waiting[ticket.who]

    def _let_in(self, ticket: Ticket) -> None:
        ticket.is_in = True
        self._in += 1
        if ticket.future is not None and not ticket.future.done():
            ticket.future.set_result(None)

    def _admit(self) -> None:
        while self._count and self._in < self._rules.most:
            who, line = self._waiting.popitem(last=False)
            self._count -= 1
            self._let_in(line.popleft())
            if line:
                self._waiting[who] = line  # behind all others that wait
