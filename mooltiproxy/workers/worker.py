"""One of several workers: serves as a single process would, and does what its supervisor says."""

import asyncio
import logging
import os
import select
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mooltiproxy.config.inputs import Inputs
from mooltiproxy.config.model import Config
from mooltiproxy.endpoints.reload import Outcome
from mooltiproxy.errors import ConfigError
from mooltiproxy.server import Server, Shared, calm_collector, loop_factory, set_up_logging
from mooltiproxy.store import MEMORY, SQLITE
from mooltiproxy.store.addresses import Record
from mooltiproxy.workers.engines import RemoteEngines
from mooltiproxy.workers.link import PROTOCOL, Link, Refused
from mooltiproxy.workers.output import SharedOutput
from mooltiproxy.workers.shared import SharedBans, SharedMetrics

log = logging.getLogger("mooltiproxy.workers")

STDOUT = 1
OTHER_VERSION = "the installed version cannot work under the one that runs: it takes a full restart"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
"""They are the supervisor's business, and may well be sent to all processes of a terminal or a service."""
LAST_MOMENTS = 3.0
"""Seconds that a worker has after the end of its supervisor, whatever it is doing."""

Configured = Callable[[Inputs], Config]
"""Makes the configuration of the command line from what the supervisor has read; raises ConfigError."""


def work(handed: str, configured: Configured, *, verbose: bool = False) -> int:
    """Serve until the supervisor says otherwise or has ended; the exit code. `handed` are the supervisor's protocol and
    the numbers of file descriptors: the link, what is locked for standard output, and the sockets to listen on."""
    set_up_logging(verbose)
    protocol, *descriptors = [int(number) for number in handed.split(",")]
    if protocol != PROTOCOL:
        log.error(OTHER_VERSION)
        return 1
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
    for one in descriptors:
        os.set_inheritable(one, False)
    link, lock, *listening = descriptors
    end = socket.socket(fileno=link)
    threading.Thread(target=_end_after, args=(link,), daemon=True).start()

    async def run() -> None:
        await Worker(configured, lock, [socket.socket(fileno=one) for one in listening]).run(end)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run())
    return 0


def _end_after(link: int) -> None:
    """End this process some time after the supervisor, even where a function of the user's blocks the event loop."""
    watch = select.poll()
    watch.register(link, 0)
    watch.poll()
    time.sleep(LAST_MOMENTS)
    os._exit(1)


class Worker:
    """What the supervisor can have done."""

    def __init__(self, configured: Configured, lock: int, sockets: Sequence[socket.socket]) -> None:
        """To be made inside the running loop."""
        self._configured = configured
        self._sockets = sockets
        self._output = SharedOutput(STDOUT, lock)
        self._server: Server | None = None
        self._put_in_force: Callable[[], None] | None = None
        self._counted: Path | None = None  # the folder of the supervisor's store, if it has one
        self._ending = asyncio.Event()
        self._link = Link({**self._orders(), **self._news()})
        self._bans = SharedBans(self._link)
        self._metrics = SharedMetrics(self._link)
        self._engines = RemoteEngines(self._link)

    async def run(self, end: socket.socket) -> None:
        """Serve until told to end, or until nobody is there who could."""
        await self._link.open(end)
        ending = asyncio.ensure_future(self._ending.wait())
        any_of: list[asyncio.Future[Any]] = [ending, self._link.closed]
        await asyncio.wait(any_of, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if self._server is not None:
            draining = asyncio.ensure_future(self._server.drain(0.0 if self._link.closed.done() else None))
            await asyncio.wait([draining, self._link.closed], return_when=asyncio.FIRST_COMPLETED)
            if self._link.closed.done():
                await asyncio.wait([draining], timeout=LAST_MOMENTS / 2)
        if self._link.closed.done() and self._counted is not None:
            shutil.rmtree(self._counted, ignore_errors=True)  # nobody is left who could
        self._link.tell("counted", self._metrics.written())
        self._link.close()

    def _orders(self) -> dict[str, Callable[..., Any]]:
        return {
            "start": self._start,
            "prepare": self._prepare,
            "commit": self._commit,
            "hand over": self._hand_over,
            "drain": self._ending.set,
            "pulse": lambda: None,
            "report": lambda: {"metrics": self._metrics.written(), "in_flight": self._engines.in_flight()},
        }

    def _news(self) -> dict[str, Callable[..., Any]]:
        return {
            "known": lambda *record: self._bans.learn([Record(*record)]),
            "engine": lambda *words: self._engines.now(*words),
            "admit": lambda *words: self._engines.admit(*words),
            "refuse": lambda *words: self._engines.refuse(*words),
            "has said": lambda *words: self._engines.has_said(*words),
            "says": lambda *words: self._engines.says(*words),
            "says no more": lambda *words: self._engines.says_no_more(*words),
        }

    def _start(
        self, inputs: Mapping[str, Any], records: Sequence[Sequence[Any]], origins: Mapping[str, Mapping[str, Any]]
    ) -> Coroutine[Any, Any, None]:
        """What is known so far counts at once: news of it may follow while the configuration is read."""
        self._bans.learn([Record(*record) for record in records])
        for name, origin in origins.items():
            self._engines.now(name, origin)
        return self._begin(inputs)

    async def _begin(self, inputs: Mapping[str, Any]) -> None:
        try:
            config = await asyncio.to_thread(self._read, Inputs(**inputs))
            shared = Shared(self._bans, self._metrics, self._engines, self._output, self._sockets, self._reload_all)
            server = Server(config, shared=shared)
            await server.start()
        except ConfigError as error:
            raise Refused(str(error)) from error
        calm_collector()
        self._server = server

    def _read(self, inputs: Inputs) -> Config:
        """The configuration, with a store that all workers have; raises ConfigError."""
        config = self._configured(inputs)
        if config.system.store != MEMORY or not inputs.store:
            return config
        self._counted = Path(inputs.store.removeprefix(SQLITE)).parent
        return replace(config, system=replace(config.system, store=inputs.store))

    async def _hand_over(self) -> None:
        """Leave what comes to a successor, and end."""
        assert self._server is not None
        await self._server.hand_over()
        self._ending.set()

    async def _reload_all(self) -> Outcome:
        """Have the supervisor read the configuration anew, for all workers."""
        return Outcome(*await self._link.ask("reload"))

    async def _prepare(self, inputs: Mapping[str, Any]) -> None:
        """Read another configuration, which counts from `commit` on."""
        assert self._server is not None
        try:
            config = await asyncio.to_thread(self._read, Inputs(**inputs))
            self._put_in_force = self._server.prepare(config)
        except ConfigError as error:
            raise Refused(str(error)) from error

    def _commit(self) -> None:
        assert self._put_in_force is not None
        self._put_in_force()
