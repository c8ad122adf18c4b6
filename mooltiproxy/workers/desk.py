"""What one worker asks of the supervisor's engines, in its name: whatever it holds is given back when it ends."""

import asyncio
from collections.abc import Sequence

from mooltiproxy.engines.logs import Follower
from mooltiproxy.engines.owner import Engines
from mooltiproxy.engines.states import Ticket
from mooltiproxy.errors import NotRunning
from mooltiproxy.workers.engines import in_seconds
from mooltiproxy.workers.link import Handler, Link

ALL_LINES = 1_000_000
AT_ONCE = 1000
"""Lines in one message."""


class Desk:
    """The tickets of one worker, and the logs that it follows."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._tickets: dict[int, Ticket] = {}
        self._waiting: dict[int, asyncio.Task[None]] = {}
        self._following: dict[str, asyncio.Task[None]] = {}

    def open(self, link: Link) -> None:
        """Whom to answer, until it closes."""
        self._link = link
        link.closed.add_done_callback(lambda _: self._close())

    def handlers(self) -> dict[str, Handler]:
        """What the worker can ask."""
        return {
            "ask": self._ask,
            "leave": self._leave,
            "let go": self._engines.let_go,
            "unload": self._unload,
            "log": self._log,
            "enough": self._enough,
        }

    def _ask(self, number: int, name: str, keep_alive: float | str | None) -> None:
        ticket = Ticket(name, in_seconds(keep_alive))
        try:
            self._engines.ask(ticket)
        except NotRunning as error:
            self._link.tell("refuse", number, str(error), error.retry_after)
            return
        self._tickets[number] = ticket
        origin = self._engines.origin(ticket)
        if origin is not None:
            self._link.tell("admit", number, origin)
        else:
            self._waiting[number] = asyncio.ensure_future(self._wait(number, ticket))

    async def _wait(self, number: int, ticket: Ticket) -> None:
        try:
            self._link.tell("admit", number, await self._engines.wait(ticket))
        except NotRunning as error:
            self._link.tell("refuse", number, str(error), error.retry_after)
            self._engines.leave(self._tickets.pop(number))
        del self._waiting[number]

    def _leave(self, number: int) -> None:
        ticket = self._tickets.pop(number, None)
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            waiting.cancel()
        if ticket is not None:
            self._engines.leave(ticket)

    async def _unload(self, names: Sequence[str] | None) -> list[str]:
        return await self._engines.unload(names)

    async def _log(self, name: str) -> None:
        """Tell what an engine has said, and from now on what it says, until `enough`."""
        try:
            log = await self._engines.log_of(name)
        except KeyError:  # it has been taken out of the configuration meanwhile
            self._link.tell("says no more", name)
            return
        lines = log.history(ALL_LINES)
        for begin in range(0, len(lines) or 1, AT_ONCE):
            self._link.tell("has said", name, begin, lines[begin : begin + AT_ONCE])
        following = self._following.get(name)
        if following is None or following.done():
            self._following[name] = asyncio.ensure_future(self._follow(name, log.follow()))

    async def _follow(self, name: str, follower: Follower) -> None:
        try:
            async for lines in follower:
                self._link.tell("says", name, lines)
                await self._link.caught_up()
            self._link.tell("says no more", name)
        finally:
            follower.end()

    def _enough(self, name: str) -> None:
        following = self._following.pop(name, None)
        if following is not None:
            following.cancel()

    def _close(self) -> None:
        for number in list(self._tickets):
            self._leave(number)
        for name in list(self._following):
            self._enough(name)
