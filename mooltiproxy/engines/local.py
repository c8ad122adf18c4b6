"""An engine that is a process of ours: started by its command, ready when it says so."""

import asyncio
import logging
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from itertools import chain, cycle, islice
from random import randrange

from mooltiproxy.config.model import PORT, Timeouts
from mooltiproxy.config.servers import Wanted
from mooltiproxy.engines import memory
from mooltiproxy.engines.driver import CannotStart
from mooltiproxy.engines.logs import Log
from mooltiproxy.engines.process import Process, Stop, StopRequest
from mooltiproxy.errors import UpstreamError
from mooltiproxy.upstream.fetch import get
from mooltiproxy.upstream.request import Plan
from mooltiproxy.upstream.session import Origin, PooledSession

log = logging.getLogger("mooltiproxy.engines")

POLL, SLOWEST_POLL = 0.05, 0.5
"""Seconds between two questions whether a server is ready: at first, and later."""
POLL_TIMEOUTS = Timeouts(connect=1.0, first_byte=2.0, idle=2.0, total=3.0)
MAX_POLLED = 1024 * 1024
PORTS = range(20_000, 32_000)
"""What `PORT` is picked of: below what systems give to outgoing connections, among them our questions whether a server
is ready, which would now and then take a port before its server does."""
_PORTS = islice(cycle(PORTS), randrange(len(PORTS)), None)
OWN_VARIABLES = "MOOLTIPROXY_"
"""What the names of variables begin with that are no server's business: the master key is among them."""


class Local:
    """One process; see `Driver`."""

    def __init__(self, session: PooledSession, plan: Plan, server: Wanted, output: Log) -> None:
        """`output` takes what it writes."""
        self.origin: Origin | None = None
        self.pid = 0
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._session = session
        self._plan = plan
        self._server = server
        self._output = output
        self._process: Process | None = None
        self._last_answer = ""

    async def is_loaded(self) -> bool | None:
        """It is not: what runs already is not ours."""
        return False

    async def start(self) -> None:
        """Start the process; raises CannotStart."""
        fixed = self._plan.origin
        if fixed.port and await _listens(fixed):
            raise CannotStart(f"another server listens on {fixed.authority} already")
        self.origin = fixed.at(fixed.port or free_port())
        run = self._server.run
        values = {PORT: str(self.origin.port), **self._server.values}
        command = [_filled(word, values) for word in run.command]
        kept = (name for name in os.environ if not name.startswith(OWN_VARIABLES) and name not in self._server.withheld)
        environ = {name: os.environ[name] for name in kept}
        environ |= {name: _filled(value, values) for name, value in run.env.items()}
        log.info("%s: starting, to listen on %s", self._server.name, self.origin.authority)
        stop = self._stop_by(self.origin, [_filled(word, values) for word in run.stop])
        self._process = await Process.start(command, run.cwd, environ, run.stop_timeout, self._output, stop)
        self.pid = self._process.pid
        self._process.ended.add_done_callback(self._tell_end)

    async def ready(self) -> None:
        """Return once it answers its path with 200; raises CannotStart."""
        run = self._server.run
        try:
            async with asyncio.timeout(run.ready_timeout):
                await self._poll()
        except TimeoutError:
            limit = f"within {run.ready_timeout:g} s (ready_timeout)"
            raise CannotStart(f"it did not answer {run.ready} with 200 {limit}{self._last_answer}") from None

    async def stop(self, grace: float) -> None:
        """End it and all that it has started."""
        if self._process is not None:
            await self._process.stop(grace)

    async def memory(self) -> Mapping[str, int]:
        """What its processes use."""
        return await memory.used(self.pid) if self.pid else {}

    def _stop_by(self, origin: Origin, words: list[str]) -> Stop:
        """What ends it: see `Run.stop`."""
        if words[:1] != ["POST"]:
            return words
        scheme = "https" if origin.tls else "http"
        return StopRequest(f"{scheme}://{origin.authority}{origin.base}{words[1]}", self._fields())

    def _fields(self) -> dict[str, str]:
        """The header with the server's key, if it has one."""
        field = self._plan.key_field.decode().strip() if self._plan.key_field else ""
        return dict([field.split(": ", 1)]) if field else {}

    def _tell_end(self, ended: "asyncio.Future[int]") -> None:
        if not self.ended.done() and not ended.cancelled():
            code = ended.result()
            self.ended.set_result(f"by signal {code - 128}" if code > 128 else f"exit code {code}")

    async def _poll(self) -> None:
        assert self.origin is not None
        pause, fields = POLL, self._fields()
        path = self.origin.base + self._server.run.ready
        while True:
            try:
                whole = await get(self._session, self.origin, path, POLL_TIMEOUTS, MAX_POLLED, fields=fields)
            except UpstreamError as error:
                self._last_answer = f": {error}"
            else:
                if whole.status == 200:
                    return
                self._last_answer = f", but with {whole.status}"
            await asyncio.sleep(pause)
            pause = min(pause * 1.2, SLOWEST_POLL)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on, another one each time."""
    for port in chain(islice(_PORTS, len(PORTS)), (0,)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found: int = probe.getsockname()[1]
            return found
    raise CannotStart("no port of the loopback interface is free")


def _filled(text: str, values: Mapping[str, str]) -> str:
    """A text with these words replaced."""
    for word, value in values.items():
        text = text.replace(word, value)
    return text


async def _listens(origin: Origin) -> bool:
    """Whether there is a server already."""
    try:
        async with asyncio.timeout(POLL_TIMEOUTS.connect):
            _, writer = await asyncio.open_connection(origin.host, origin.port)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True
