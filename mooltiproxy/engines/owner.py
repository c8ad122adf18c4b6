"""The one owner of all engines: carries out what the schedule decides, and tells it what comes of that.

Everything that changes the schedule happens between two awaits of one event loop, so nobody ever acts on an older state
of it. A task for each run of an engine does the slow work (spawning, asking whether it is ready, waiting for its end)
and comes back with the result.
"""

import asyncio
import logging
import math
import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from mooltiproxy.config.model import PORT, Config, Run, Timeouts
from mooltiproxy.config.servers import Wanted, made_of, wanted
from mooltiproxy.engines.leftovers import end_leftovers
from mooltiproxy.engines.process import LAST_WORDS, CannotStart, Log, Process
from mooltiproxy.engines.schedule import Admit, Decision, Reason, Refuse, Rules, Schedule, Start, State, Stop, Ticket
from mooltiproxy.errors import NotRunning, UpstreamError
from mooltiproxy.metrics import Metrics
from mooltiproxy.upstream.fetch import get
from mooltiproxy.upstream.request import Plan
from mooltiproxy.upstream.session import Origin, PooledSession

log = logging.getLogger("mooltiproxy.engines")

POLL, SLOWEST_POLL = 0.05, 0.5
"""Seconds between two questions whether a server is ready: at first, and later."""
POLL_TIMEOUTS = Timeouts(connect=1.0, first_byte=2.0, idle=2.0, total=3.0)
MAX_POLLED = 1024 * 1024
LAST_GRACE = 1.0
"""Seconds that servers get to end by themselves when the time of `system.drain` is over."""
OWN_VARIABLES = "MOOLTIPROXY_"
"""What the names of variables begin with that are no server's business: the master key is among them."""


@dataclass(slots=True)
class Engine:
    """One server: what the file says of it, and what runs.

    `seen` is what a run is made of: if that changes, the engine is started anew. `error` is why the last run failed.
    """

    wanted: Wanted
    plan: Plan
    seen: object
    log: Log = field(default_factory=Log)
    process: Process | None = None
    origin: Origin | None = None
    task: "asyncio.Task[None] | None" = None
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    error: str = ""

    @property
    def run(self) -> Run:
        """What the file says of it."""
        return self.wanted.run


class Engines:
    """All engines of this process; outlives reloads. To be made inside the running loop."""

    def __init__(self, session: PooledSession, metrics: Metrics) -> None:
        self._session = session
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._schedule = Schedule()
        self._engines: dict[str, Engine] = {}
        self._waiting: dict[Ticket, asyncio.Future[Origin]] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._secrets: tuple[str, ...] = ()
        self._grace = math.inf
        self._looked_for_leftovers = False

    # What the server does with it.

    def configure(self, config: Config) -> None:
        """Take up a configuration: engines whose own settings have not changed go on as they are."""
        self._secrets = tuple(
            key for key in (config.system.masterkey, *(target.key for target in config.targets.values())) if key
        )
        servers = {server.name: server for server in wanted(config)}
        if servers and not self._looked_for_leftovers:
            self._looked_for_leftovers = True
            for pid in end_leftovers():
                log.warning("ended process %d, a model server that a killed proxy had left behind", pid)
        for name in [name for name in self._schedule.engines if name not in servers]:
            self._apply(self._schedule.remove(name, self._loop.time()))
            self._forget(name)
        for server in servers.values():
            self._configure_one(server, config)

    async def unload(self, names: Sequence[str] | None = None) -> list[str]:
        """Stop engines, all where no names are given, once their requests are answered; the names of those that ran.
        Returns when they have ended."""
        known = self._schedule.engines
        chosen = [name for name in (known if names is None else names) if name in known and known[name].is_running]
        tasks = [task for name in chosen if (task := self._engines[name].task)]
        for name in chosen:
            self._apply(self._schedule.unload(name, self._loop.time()))
        if tasks:
            await asyncio.wait(tasks)
        return chosen

    def retire(self) -> None:
        """From now on stop each engine as soon as nobody needs it."""
        self._apply(self._schedule.close(self._loop.time()))

    async def close(self, within: float) -> None:
        """Stop all engines at once, in parallel; those that have not ended `within` seconds are killed."""
        self._grace = max(within, LAST_GRACE)
        while tasks := [one.task for one in self._engines.values() if one.task is not None and not one.task.done()]:
            for engine in self._engines.values():
                engine.stop.set()
            await asyncio.wait(tasks)
        if self._alarm is not None:
            self._alarm.cancel()

    def states(self) -> list["Shown"]:
        """What there is to tell of each engine."""
        return [self._shown(name) for name in self._schedule.engines]

    # What gates do.

    def ask(self, ticket: Ticket) -> None:
        """A request comes."""
        if ticket.engine not in self._schedule.engines:
            raise NotRunning("the target has been taken out of the proxy's configuration")
        decisions = self._schedule.ask(ticket, self._loop.time())
        if not ticket.admitted:
            self._waiting[ticket] = self._loop.create_future()
        self._apply(decisions)

    def origin(self, ticket: Ticket) -> Origin | None:
        """Where an admitted request is to be sent; None while it waits."""
        return self._engines[ticket.engine].origin if ticket.admitted else None

    def ready(self, name: str) -> Origin | None:
        """Where an engine is to be found; None where it takes no requests now."""
        engine = self._schedule.engines.get(name)
        return self._engines[name].origin if engine is not None and engine.state is State.READY else None

    def let_go(self, name: str) -> None:
        """Stop an engine once its requests are answered."""
        if name in self._schedule.engines:
            self._apply(self._schedule.unload(name, self._loop.time()))

    async def wait(self, ticket: Ticket) -> Origin:
        """Where to send the request, once the engine is ready; raises NotRunning."""
        return await self._waiting[ticket]

    def leave(self, ticket: Ticket) -> None:
        """The request is over, whichever way."""
        future = self._waiting.pop(ticket, None)
        if future is not None and future.done() and not future.cancelled():
            future.exception()  # its client has left: nobody is told any more
        self._apply(self._schedule.leave(ticket, self._loop.time()))

    # What is decided.

    def _apply(self, decisions: Sequence[Decision]) -> None:
        for decision in decisions:
            match decision:
                case Admit(ticket):
                    self._admit(ticket)
                case Refuse(ticket, reason, retry_after):
                    self._refuse(ticket, reason, retry_after)
                case Start(name):
                    self._start(self._engines[name])
                case Stop(name):
                    self._engines[name].stop.set()
        self._arm()

    def _arm(self) -> None:
        """Have `tick` called when it is due; an alarm that comes too early does no harm."""
        due = self._schedule.alarm
        if due is None or self._alarm is not None and self._alarm.when() <= due:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self._alarm = None
        self._apply(self._schedule.tick(self._loop.time()))

    def _admit(self, ticket: Ticket) -> None:
        future = self._waiting.get(ticket)
        origin = self._engines[ticket.engine].origin
        if future is not None and not future.done() and origin is not None:
            future.set_result(origin)

    def _refuse(self, ticket: Ticket, reason: Reason, retry_after: float) -> None:
        future = self._waiting.get(ticket)
        if future is not None and not future.done():
            future.set_exception(self._error(ticket.engine, reason, retry_after))

    def _error(self, name: str, reason: Reason, retry_after: float) -> NotRunning:
        engine = self._engines[name]
        texts = {
            Reason.FULL: "too many requests wait for this model's server already, ask again later",
            Reason.LATE: "the model's server was not free in time, ask again later",
            Reason.REMOVED: "the target has been taken out of the proxy's configuration",
            Reason.FAILED: engine.error or "the model's server does not start",
        }
        error = NotRunning(texts[reason])
        error.retry_after = max(math.ceil(retry_after), 1)
        return error

    def _start(self, engine: Engine) -> None:
        engine.stop = asyncio.Event()
        engine.log = Log()
        engine.task = asyncio.ensure_future(self._run(engine))

    # One run of an engine.

    async def _run(self, engine: Engine) -> None:
        """From the start of an engine to its end."""
        name, began = engine.wanted.name, self._loop.time()
        try:
            engine.process = process = await self._spawned(engine)
            failure = await self._until_ready(engine, process)
        except CannotStart as error:
            failure = str(error)
        except Exception:
            log.exception("%s: unexpected error", name)
            failure = "the proxy failed"
        if failure:
            await self._end(engine, 0.0 if engine.process is None else engine.run.stop_timeout)
            self._failed(engine, failure)
            return
        if not engine.stop.is_set():
            engine.error = ""
            self._metrics.started(name, "ready")
            log.info("%s: ready after %.1f s", name, self._loop.time() - began)
            self._apply(self._schedule.started(name, self._loop.time()))
            await self._first(process.ended, engine.stop)
        if not engine.stop.is_set():
            engine.error = self._quoted(engine, f"the model's server ended by itself ({_code(process)})")
            log.error("%s: %s", name, engine.error)
            self._metrics.started(name, "crashed")
        await self._end(engine, engine.run.stop_timeout)
        log.info("%s: stopped", name)
        self._apply(self._schedule.ended(name, self._loop.time()))
        self._forget(name)

    def _failed(self, engine: Engine, failure: str) -> None:
        name = engine.wanted.name
        engine.error = self._quoted(engine, f"the model's server could not be started: {failure}")
        log.error("%s: %s", name, engine.error)
        self._metrics.started(name, "failed")
        self._apply(self._schedule.failed(name, self._loop.time()))
        self._forget(name)

    def _forget(self, name: str) -> None:
        """Let go of an engine that has been removed."""
        if name not in self._schedule.engines:
            self._engines.pop(name, None)

    async def _end(self, engine: Engine, grace: float) -> None:
        """Nothing of the run is left when this returns."""
        if engine.process is not None:
            await engine.process.stop(min(grace, self._grace))
        engine.process = engine.origin = None

    async def _spawned(self, engine: Engine) -> Process:
        """The new process; raises CannotStart."""
        port = free_port() if not engine.plan.origin.port else engine.plan.origin.port
        if engine.plan.origin.port and await _listens(engine.plan.origin):
            raise CannotStart(f"another server listens on {engine.plan.origin.authority} already")
        engine.origin = engine.plan.origin.at(port)
        run = engine.run
        values = {PORT: str(port), **engine.wanted.values}
        command = [_filled(word, values) for word in run.command]
        environ = {name: value for name, value in os.environ.items() if not name.startswith(OWN_VARIABLES)}
        environ |= {name: _filled(value, values) for name, value in run.env.items()}
        log.info("%s: starting, to listen on %s", engine.wanted.name, engine.origin.authority)
        return await Process.start(command, run.cwd, environ, run.stop_timeout, engine.log)

    async def _until_ready(self, engine: Engine, process: Process) -> str:
        """Wait until it takes requests, or is to be stopped; why it does not, "" otherwise."""
        polling = asyncio.ensure_future(self._poll(engine))
        try:
            async with asyncio.timeout(engine.run.ready_timeout):
                await self._first(process.ended, engine.stop, polling)
            if polling.done():
                polling.result()
        except TimeoutError:
            limit = f"within {engine.run.ready_timeout:g} s (ready_timeout)"
            return f"it did not answer {engine.run.ready} with 200 {limit}"
        finally:
            polling.cancel()
        return f"it ended ({_code(process)})" if process.ended.done() and not engine.stop.is_set() else ""

    async def _poll(self, engine: Engine) -> None:
        """Return once the server says that it is ready."""
        assert engine.origin is not None
        pause = POLL
        fields = dict([engine.plan.key_field.decode().strip().split(": ", 1)]) if engine.plan.key_field else {}
        path = engine.origin.base + engine.run.ready
        while True:
            with suppress(UpstreamError):
                whole = await get(self._session, engine.origin, path, POLL_TIMEOUTS, MAX_POLLED, fields=fields)
                if whole.status == 200:
                    return
            await asyncio.sleep(pause)
            pause = min(pause * 1.2, SLOWEST_POLL)

    @staticmethod
    async def _first(ended: "asyncio.Future[int]", stop: asyncio.Event, *others: "asyncio.Future[None]") -> None:
        """Return when the process has ended, is to be stopped, or one of the others is done."""
        stopped = asyncio.ensure_future(stop.wait())
        try:
            any_of: list[asyncio.Future[Any]] = [ended, stopped, *others]
            await asyncio.wait(any_of, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()

    def _quoted(self, engine: Engine, message: str) -> str:
        """A message with the last words of the server."""
        lines = engine.log.tail(LAST_WORDS, self._secrets_of(engine))
        return "\n".join([f"{message}; its last words:", *lines]) if lines else message

    def _secrets_of(self, engine: Engine) -> tuple[str, ...]:
        return (*self._secrets, *(value for value in engine.run.env.values() if len(value) >= MIN_SECRET))

    def _configure_one(self, server: Wanted, config: Config) -> None:
        name, target, run, now = server.name, server.target, server.run, self._loop.time()
        dialect = config.registry.dialects[target.speaks[0]] if target.speaks else None
        plan = Plan.of(target, dialect)
        seen = made_of(server)
        engine = self._engines.get(name)
        rules = Rules(
            run.group, math.inf if run.unload_after is None else run.unload_after, run.max_waiting, run.max_wait
        )
        if engine is None:
            self._engines[name] = Engine(server, plan, seen)
            self._apply(self._schedule.configure(name, rules, now))
            return
        changed = engine.seen != seen
        engine.wanted, engine.plan, engine.seen = server, plan, seen
        self._apply(self._schedule.configure(name, rules, now))
        if changed and self._schedule.engines[name].is_running:
            log.info("%s: its settings have changed, it will be started anew", name)
            self._apply(self._schedule.unload(name, now, outdated=True))

    def _shown(self, name: str) -> "Shown":
        known, engine = self._schedule.engines[name], self._engines[name]
        offset = time.time() - self._loop.time()
        until = known.until
        return Shown(
            name=name,
            target=engine.wanted.target.name,
            models=engine.wanted.models,
            state=known.state,
            since=known.since + offset,
            in_flight=known.in_flight,
            waiting=len(known.waiting),
            until=None if until is None else until + offset,
            pid=engine.process.pid if engine.process else None,
            error=engine.error,
            log=tuple(engine.log.tail(LAST_WORDS * 2, self._secrets_of(engine))),
        )


MIN_SECRET = 8
"""Characters from which on a value of `env:` is masked in what a server says: shorter ones are no keys."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What there is to tell of an engine: `name` is its own, `target` whose it is. Times are seconds since 1970;
    `until` is when it stops if nobody asks it, `math.inf` for never, None where it does not run or is busy."""

    name: str
    target: str
    models: tuple[str, ...]
    state: State
    since: float
    in_flight: int
    waiting: int
    until: float | None
    pid: int | None
    error: str
    log: tuple[str, ...]


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


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


def _code(process: Process) -> str:
    """The exit code of a process that has ended, in words."""
    code = process.ended.result()
    return f"by signal {code - 128}" if code > 128 else f"exit code {code}"
