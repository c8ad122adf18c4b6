"""One of the workers, whichever process that is."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from mooltiproxy.errors import ConfigError
from mooltiproxy.workers.child import LONGEST_SILENCE, Child
from mooltiproxy.workers.sockets import Listening, abandon

log = logging.getLogger("mooltiproxy")

STABLE = 10.0
"""Seconds after which a worker that ends does not count as one that ends again and again."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds until such a one is started again: the first time, and the most that doubling makes of it."""

Start = Callable[[Listening], Awaitable[Child]]
"""Starts a worker that listens there, and returns once it serves; raises ConfigError, OSError."""


class Place:
    """Has a process serve these sockets from the first one, `child`, until it is closed."""

    def __init__(self, number: int, sockets: Listening, start: Start, child: Child) -> None:
        """To be made inside the running loop."""
        self.number = number
        self._sockets = sockets
        self._start = start
        self._child: Child | None = child
        self._starting = asyncio.Lock()
        self._is_closed = False
        self._tending = asyncio.ensure_future(self._tend())

    async def renew(self) -> tuple[Child, Child | None]:
        """Have another process serve, which is the first of what is given back, and then leave the one that did so far
        to itself. Raises ConfigError, OSError where no other can be started: then that one stays."""
        async with self._starting:
            self._tending.cancel()
            before = self._child
            try:
                self._child = await self._start(self._sockets)
            finally:
                if not self._is_closed:
                    self._tending = asyncio.ensure_future(self._tend())
            return self._child, before

    def close(self) -> None:
        """Start no process any more."""
        self._is_closed = True
        self._tending.cancel()

    async def _tend(self) -> None:
        failures = 0
        while True:
            began = asyncio.get_running_loop().time()
            if self._child is not None:
                await self._end_of(self._child)
            was_stable = self._child is not None and asyncio.get_running_loop().time() - began >= STABLE
            self._child = None
            failures = 1 if was_stable else failures + 1
            if failures > 1:
                abandon(self._sockets)
                await asyncio.sleep(min(FIRST_PAUSE * 2 ** min(failures - 2, 10), LONGEST_PAUSE))
            try:
                async with self._starting:
                    self._child = await self._start(self._sockets)
                log.info("worker %d serves again, as process %d", self.number, self._child.pid)
            except (ConfigError, OSError) as error:
                abandon(self._sockets)  # before anybody can know: what comes from now on is for the others
                log.error("worker %d cannot be started:\n%s", self.number, error)

    async def _end_of(self, child: Child) -> None:
        """Returns once this process has ended; one whose event loop stands still is ended."""
        stuck = asyncio.ensure_future(child.is_stuck())
        try:
            any_of: list[asyncio.Future[int] | asyncio.Future[bool]] = [child.ended, stuck]
            await asyncio.wait(any_of, return_when=asyncio.FIRST_COMPLETED)
            if stuck.done() and stuck.result():
                log.error(
                    "worker %d (process %d) has not answered for %g s: it is killed; what blocks its event loop?",
                    self.number,
                    child.pid,
                    LONGEST_SILENCE,
                )
                await child.kill()
        finally:
            stuck.cancel()
        await asyncio.shield(child.ended)
        log.error("worker %d (process %d) has ended %s", self.number, child.pid, child.end)
