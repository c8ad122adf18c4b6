"""One worker process, as its supervisor sees it."""

import asyncio
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from mooltiproxy.metrics import Written
from mooltiproxy.workers.link import PROTOCOL, Gone, Handler, Link, Refused

PULSE = 5.0
"""Seconds from one answer of a worker to the next question whether its event loop turns."""
LONGEST_SILENCE = 30.0
"""Seconds without an answer after which it does not count as a worker any more."""
PATIENCE = 1.0
"""Seconds that a worker has to report; what it reported last counts where it takes longer."""


class Child:
    """A worker that runs; made by `start`. `generation` is the configuration that it has, counted from the first;
    `serves` tells that it has begun."""

    def __init__(self, process: asyncio.subprocess.Process, link: Link, generation: int) -> None:
        self.pid = process.pid
        self.link = link
        self.generation = generation
        self.ended = asyncio.ensure_future(process.wait())
        self.serves = False
        self.counted: Written = {}

    @classmethod
    async def start(
        cls, command: Sequence[str], handed: Sequence[int], handlers: Mapping[str, Handler], generation: int
    ) -> "Child":
        """Start a process that has these file descriptors; raises OSError. Signals of a terminal do not reach it: they
        are for the supervisor alone."""
        ours, theirs = socket.socketpair()
        with theirs:
            descriptors = [theirs.fileno(), *handed]
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    "--worker",
                    ",".join(map(str, [PROTOCOL, *descriptors])),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=descriptors,
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)
        known = dict(handlers)
        link = Link(known)
        child = cls(process, link, generation)
        known["counted"] = child.count
        await link.open(ours)
        return child

    def count(self, counted: Written) -> None:
        """Take what it has counted."""
        self.counted = counted

    async def report(self) -> dict[str, int]:
        """How many requests of each engine it answers; keeps what it has counted."""
        try:
            async with asyncio.timeout(PATIENCE):
                told: dict[str, Any] = await self.link.ask("report")
        except (TimeoutError, Gone, Refused):
            return {}
        self.count(told["metrics"])
        flying: dict[str, int] = told["in_flight"]
        return flying

    async def is_stuck(self) -> bool:
        """Returns once it has not answered for too long: true; or once it has ended: false."""
        try:
            while True:
                await asyncio.sleep(PULSE)
                async with asyncio.timeout(LONGEST_SILENCE):
                    await self.link.ask("pulse")
        except TimeoutError:
            return True
        except Gone:
            return False

    async def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        await asyncio.shield(self.ended)
        self.link.close()

    @property
    def end(self) -> str:
        """How it has ended, in words."""
        code = self.ended.result()
        return f"with exit code {code}" if code >= 0 else f"by signal {-code}"
