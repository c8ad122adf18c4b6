"""Engines as a worker sees them: their one owner is in the supervisor.

A worker that has been let through to an engine lets further requests of its own join without asking, as long as the
engine takes requests: it leaves only when its last one is over, so an engine is never stopped under a request. What a
worker does not know yet (the engine closes this very moment) costs nothing but that wait.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from mooltiproxy.config.model import Config
from mooltiproxy.config.servers import wanted
from mooltiproxy.engines.logs import Log
from mooltiproxy.engines.owner import Shown
from mooltiproxy.engines.states import State, Ticket
from mooltiproxy.errors import NotRunning
from mooltiproxy.upstream.session import Origin
from mooltiproxy.workers.link import Link
from mooltiproxy.workers.log_copy import LogCopy


@dataclass(slots=True)
class Here:
    """The requests of this worker that one engine is answering, and the numbers of those that the owner knows of."""

    requests: int = 0
    known: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Asked:
    """A request that the owner was asked for."""

    number: int
    answer: "asyncio.Future[Origin]"


class RemoteEngines:
    """The engines of the supervisor; see `Access`. To be made inside the running loop."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._numbers = count(1)
        self._names: frozenset[str] = frozenset()
        self._open: dict[str, Origin] = {}
        self._here: defaultdict[str, Here] = defaultdict(Here)
        self._let_in: dict[Ticket, Origin] = {}
        self._asked: dict[Ticket, Asked] = {}
        self._tickets: dict[int, Ticket] = {}
        self._logs: dict[str, LogCopy] = {}

    def configure(self, config: Config) -> None:
        """Take up a configuration; what is to be done about it does the owner."""
        self._names = frozenset(server.name for server in wanted(config))

    def retire(self) -> None:
        """Show nobody what comes from now on."""
        for log in self._logs.values():
            log.close()

    async def close(self, within: float) -> None:
        """Nothing is to be ended here."""

    async def unload(self, names: Sequence[str] | None = None) -> list[str]:
        """Have them stopped."""
        unloaded: list[str] = await self._link.ask("unload", names)
        return unloaded

    async def states(self) -> list[Shown]:
        """What the owner tells, with the requests of all workers."""
        return [shown(told) for told in await self._link.ask("states")]

    async def log_of(self, name: str) -> Log:
        """A copy of the engine's log, which gets its new lines as long as somebody follows it."""
        known = self._logs.get(name)
        if known is None or known.is_closed:
            known = self._logs[name] = LogCopy()
        known.wanted += 1
        try:
            await self._link.ask("log", name)  # what it holds comes before the answer
        finally:
            known.wanted -= 1
        return known

    def ask(self, ticket: Ticket) -> None:
        """A request comes."""
        name = ticket.engine
        if name not in self._names:
            raise NotRunning("the target has been taken out of the proxy's configuration")
        origin, here = self._open.get(name), self._here[name]
        if origin is not None and here.known and ticket.keep_alive is None:
            here.requests += 1
            self._let_in[ticket] = origin
            return
        asked = self._asked[ticket] = Asked(next(self._numbers), self._loop.create_future())
        self._tickets[asked.number] = ticket
        self._link.tell("ask", asked.number, name, _or_word(ticket.keep_alive))

    def origin(self, ticket: Ticket) -> Origin | None:
        """Where a request is to be sent; None while it waits."""
        return self._let_in.get(ticket)

    async def wait(self, ticket: Ticket) -> Origin:
        """Where to send the request, once the engine is ready; raises NotRunning."""
        return await self._asked[ticket].answer

    def leave(self, ticket: Ticket) -> None:
        """The request is over."""
        asked = self._asked.pop(ticket, None)
        if asked is not None and self._tickets.pop(asked.number, None) is not None:
            self._link.tell("leave", asked.number)
        if asked is not None and asked.answer.done() and not asked.answer.cancelled():
            asked.answer.exception()  # its client has left: nobody is told any more
        if self._let_in.pop(ticket, None) is not None:
            here = self._here[ticket.engine]
            here.requests -= 1
            while len(here.known) > here.requests:
                self._link.tell("leave", here.known.pop())

    def ready(self, name: str) -> Origin | None:
        """Where an engine is to be found; None where it takes no requests now."""
        return self._open.get(name)

    def let_go(self, name: str) -> None:
        """Have an engine stopped once its requests are answered."""
        self._link.tell("let go", name)

    # What the supervisor says.

    def now(self, name: str, origin: Mapping[str, Any] | None) -> None:
        """An engine takes requests there, or takes none."""
        if origin is None:
            self._open.pop(name, None)
        else:
            self._open[name] = Origin(**origin)

    def admit(self, number: int, origin: Mapping[str, Any]) -> None:
        """A request may be sent there. Of one that is over, the owner has been told."""
        ticket = self._tickets.pop(number, None)
        if ticket is None:
            return
        here = self._here[ticket.engine]
        here.requests += 1
        here.known.append(number)
        found = self._let_in[ticket] = Origin(**origin)
        answer = self._asked[ticket].answer
        if not answer.done():
            answer.set_result(found)

    def refuse(self, number: int, reason: str, retry_after: int | None) -> None:
        """A request is not to wait any longer."""
        ticket = self._tickets.pop(number, None)
        answer = self._asked[ticket].answer if ticket is not None else None
        if answer is not None and not answer.done():
            error = NotRunning(reason)
            error.retry_after = retry_after
            answer.set_exception(error)

    def has_said(self, name: str, begin: int, lines: Sequence[str]) -> None:
        """An engine whose log was asked for has said this so far, beginning with that line."""
        self._logs[name].renew(begin, lines)

    def says(self, name: str, lines: Sequence[str]) -> None:
        """It says more."""
        if not self._logs[name].more(lines):
            self._link.tell("enough", name)

    def says_no_more(self, name: str) -> None:
        """It has been taken out of the configuration, or the proxy ends."""
        self._logs[name].close()

    def in_flight(self) -> dict[str, int]:
        """How many requests of this worker each engine is answering."""
        return {name: here.requests for name, here in self._here.items() if here.requests}


FOREVER = "forever"
"""What stands for infinity, which JSON does not have."""


def _or_word(seconds: float | None) -> float | str | None:
    return FOREVER if seconds == math.inf else seconds


def in_seconds(seconds: float | str | None) -> float | None:
    """A time that came as plain data."""
    return math.inf if isinstance(seconds, str) else seconds


def written(one: Shown) -> dict[str, Any]:
    """An engine as plain data."""
    fields = {name: getattr(one, name) for name in Shown.__slots__}
    return fields | {"until": _or_word(one.until)}


def shown(fields: Mapping[str, Any]) -> Shown:
    """An engine of plain data."""
    models, log = tuple(fields["models"]), tuple(fields["log"])
    until = in_seconds(fields["until"])
    return Shown(**{**fields, "models": models, "log": log, "state": State(fields["state"]), "until": until})
