"""The one owner of all engines: carries out what the schedule decides, and tells it what comes of that.

Everything that changes the schedule happens between two awaits of one event loop, so nobody ever acts on an older state
of it. A task for each run of an engine does the slow work (spawning, asking whether it is ready, waiting for its end)
and comes back with the result.
"""

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from mooltiproxy.config.model import MODEL, Config, Run
from mooltiproxy.config.servers import Wanted, key_variables, made_of, wanted
from mooltiproxy.engines import memory, remote
from mooltiproxy.engines.driver import CannotStart, Driver
from mooltiproxy.engines.leftovers import end_leftovers
from mooltiproxy.engines.local import Local
from mooltiproxy.engines.logs import Log
from mooltiproxy.engines.schedule import Admit, Decision, Reason, Refuse, Rules, Schedule, Start, State, Stop, Ticket
from mooltiproxy.errors import NotRunning
from mooltiproxy.metrics import Metrics
from mooltiproxy.upstream.request import Plan
from mooltiproxy.upstream.session import Origin, PooledSession

log = logging.getLogger("mooltiproxy.engines")

LAST_WORDS = 10
"""Lines of a server's output that a message about its end quotes."""
LAST_GRACE = 1.0
"""Seconds that servers get to end by themselves when the time of `system.drain` is over."""
MEASURE_EVERY = 10.0
"""Seconds between two measurements of what engines use."""
ROOM_WAIT, ROOM_POLL = 30.0, 0.25
"""Seconds for which a start waits until its memory is really free, at the most, and between two looks."""
MIN_SECRET = 8
"""Characters from which on a value of `env:` is masked in what a server says: shorter ones are no keys."""


@dataclass(slots=True)
class Kept:
    """One engine as it is kept here: what the file says of it, and what runs.

    `seen` is what a run is made of: if that changes, the engine is started anew. `error` is why the last run failed.
    """

    wanted: Wanted
    plan: Plan
    seen: object
    log: Log = field(default_factory=Log)
    driver: Driver | None = None
    task: "asyncio.Task[None] | None" = None
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    error: str = ""
    memory: Mapping[str, int] = field(default_factory=dict)

    @property
    def run(self) -> Run:
        """What the file says of it."""
        return self.wanted.run

    @property
    def origin(self) -> Origin | None:
        """Where it is to be found; None where it does not run."""
        return self.driver.origin if self.driver else None


class Engines:
    """All engines of this process; outlives reloads. To be made inside the running loop."""

    def __init__(self, session: PooledSession, metrics: Metrics, on_change: Callable[[], None] = lambda: None) -> None:
        """`on_change` is called after whatever may have changed what `ready` says."""
        self._session = session
        self._metrics = metrics
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._schedule = Schedule()
        self._engines: dict[str, Kept] = {}
        self._waiting: dict[Ticket, asyncio.Future[Origin]] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_due = math.inf
        self._measuring: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._secrets: tuple[str, ...] = ()
        self._budget: Mapping[str, int] = {}
        self._grace = math.inf
        self._looked_for_leftovers = False

    # What the server does with it.

    def configure(self, config: Config) -> None:
        """Take up a configuration: engines whose own settings have not changed go on as they are."""
        self._secrets = _secrets_in(config)
        servers = {server.name: server for server in wanted(config)}
        if servers and not self._looked_for_leftovers:
            self._looked_for_leftovers = True
            for pid in end_leftovers():
                log.warning("ended process %d, a model server that a killed proxy had left behind", pid)
        for name in [name for name in self._schedule.engines if name not in servers]:
            self._apply(self._schedule.remove(name, self._loop.time()))
            self._forget(name)
        before, self._budget = self._budget, config.system.budget
        wider = {name: max(size, before.get(name, size)) for name, size in self._budget.items()}
        self._apply(self._schedule.set_budget(wider, self._loop.time()))  # nobody is refused for half of the changes
        for server in servers.values():
            self._configure_one(server, config)
        self._apply(self._schedule.set_budget(self._budget, self._loop.time()))

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
        """From now on stop each engine as soon as nobody needs it, and show nobody what comes."""
        for engine in self._engines.values():
            engine.log.close()
        self._apply(self._schedule.close(self._loop.time()))

    async def close(self, within: float) -> None:
        """Stop all engines at once, in parallel; those that have not ended `within` seconds are killed."""
        self._grace = max(within, LAST_GRACE)
        for engine in self._engines.values():
            if engine.driver is not None and engine.stop.is_set():  # it had more time until now
                self._in_background(engine.driver.stop(self._grace))
        while tasks := [one.task for one in self._engines.values() if one.task is not None and not one.task.done()]:
            for engine in self._engines.values():
                engine.stop.set()
            await asyncio.wait(tasks)
        for other in (self._alarm, self._measuring, *self._background):
            if other is not None:
                other.cancel()

    async def states(self) -> list["Shown"]:
        """What there is to tell of each engine."""
        return [self._shown(name) for name in self._schedule.engines]

    async def log_of(self, name: str) -> Log:
        """What this engine, one of `states`, has said in all its runs."""
        return self._engines[name].log

    # What gates do.

    def ask(self, ticket: Ticket) -> None:
        """A request comes."""
        if ticket.engine not in self._schedule.engines:
            raise NotRunning("the target has been taken out of the proxy's configuration")
        decisions = self._schedule.ask(ticket, self._loop.time())
        if ticket.admitted and len(decisions) == 1:
            return  # it runs, and nothing else follows: the common case
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
        decisions = self._schedule.leave(ticket, self._loop.time())
        if decisions:
            self._apply(decisions)
        else:
            self._arm()

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
        self._on_change()

    def _arm(self) -> None:
        """Have `tick` called when it is due; an alarm that comes too early does no harm."""
        due = self._schedule.alarm
        if due is None or self._alarm is not None and self._alarm_due <= due:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_due = due  # uvloop's handle of what is due within half a millisecond does not know
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
            Reason.TOO_LARGE: "the model's server takes more memory than it can have: see system.budget and `memory`",
            Reason.PINNED: "another server of its group is kept running: unload that one first",
        }
        error = NotRunning(texts[reason])
        error.retry_after = max(math.ceil(retry_after), 1)
        return error

    def _start(self, engine: Kept) -> None:
        engine.stop = asyncio.Event()
        engine.log.begin()
        driver = engine.driver = self._driver(engine)
        engine.task = asyncio.ensure_future(self._run(engine, driver))

    def _driver(self, engine: Kept) -> Driver:
        """What runs it the next time."""
        make = remote.DRIVERS.get(engine.run.engine or "")
        if make is None:
            return Local(self._session, engine.plan, engine.wanted, engine.log)
        return make(self._session, engine.plan, engine.run, engine.wanted.values.get(MODEL, ""))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    # One run of an engine.

    async def _run(self, engine: Kept, driver: Driver) -> None:
        """From the start of an engine to its end."""
        name, began = engine.wanted.name, self._loop.time()
        failure = await self._failure(engine, self._begin(engine, driver))
        if failure:
            await self._end(engine, driver, engine.run.stop_timeout)
            self._failed(engine, failure)
            return
        if not engine.stop.is_set():
            engine.error = ""
            self._metrics.started(name, "ready")
            log.info("%s: ready after %.1f s", name, self._loop.time() - began)
            self._apply(self._schedule.started(name, self._loop.time()))
            self._measure()
        await self._until_end(engine, driver)

    async def _begin(self, engine: Kept, driver: Driver) -> None:
        await self._room(engine)
        if not engine.stop.is_set():
            await driver.start()
            await self._until_ready(engine, driver)

    @staticmethod
    async def _failure(engine: Kept, beginning: Coroutine[Any, Any, None]) -> str:
        """Why the begin of a run has failed, "" where it has not."""
        try:
            await beginning
        except CannotStart as error:
            return str(error)
        except Exception:
            log.exception("%s: unexpected error", engine.wanted.name)
            return "the proxy failed"
        return ""

    async def _until_end(self, engine: Kept, driver: Driver) -> None:
        """From when an engine is ready to its end."""
        name = engine.wanted.name
        await self._first(engine, driver)
        if not engine.stop.is_set():
            self._lost(engine, driver.ended.result())
        await self._end(engine, driver, engine.run.stop_timeout)
        log.info("%s: stopped", name)
        self._apply(self._schedule.ended(name, self._loop.time()))
        self._forget(name)

    def _lost(self, engine: Kept, how: str) -> None:
        """It has ended by itself: a process has crashed, or a server with an API has let go of a model."""
        name = engine.wanted.name
        engine.error = self._quoted(engine, f"the model's server ended by itself ({how})")
        log.log(logging.WARNING if engine.run.engine else logging.ERROR, "%s: %s", name, engine.error)
        self._metrics.started(name, "lost" if engine.run.engine else "crashed")
        self._apply(self._schedule.lost(name, self._loop.time()))

    def _failed(self, engine: Kept, failure: str) -> None:
        name = engine.wanted.name
        engine.error = self._quoted(engine, f"the model's server could not be started: {failure}")
        log.error("%s: %s", name, engine.error)
        self._metrics.started(name, "failed")
        self._apply(self._schedule.failed(name, self._loop.time()))
        self._forget(name)

    def _forget(self, name: str) -> None:
        """Let go of an engine that has been removed."""
        if name not in self._schedule.engines and name in self._engines:
            self._engines.pop(name).log.close()

    async def _end(self, engine: Kept, driver: Driver, grace: float) -> None:
        """Nothing of the run is left when this returns."""
        await driver.stop(min(grace, self._grace))
        engine.driver, engine.memory = None, {}

    async def _room(self, engine: Kept) -> None:
        """Wait until there is as much memory as the file says; raises CannotStart. A process that has ended may take a
        while to give its own back."""
        needed = engine.wanted.memory if engine.run.engine is None else {}
        until = self._loop.time() + min(ROOM_WAIT, engine.run.ready_timeout or ROOM_WAIT)
        while needed and not engine.stop.is_set():
            free = await memory.free()
            lacking = [name for name, size in needed.items() if free.get(name, size) < size]
            if not lacking:
                return
            if self._loop.time() >= until:
                name = lacking[0]
                raise CannotStart(f"it needs {_in_mib(needed[name])} of {name}, but {_in_mib(free[name])} are free")
            await asyncio.sleep(ROOM_POLL)

    async def _until_ready(self, engine: Kept, driver: Driver) -> None:
        """Wait until it takes requests, or is to be stopped; raises CannotStart."""
        getting_ready = asyncio.ensure_future(driver.ready())
        try:
            await self._first(engine, driver, getting_ready)
            if getting_ready.done():
                getting_ready.result()
            elif not engine.stop.is_set():
                raise CannotStart(f"it ended ({driver.ended.result()})")
        finally:
            getting_ready.cancel()
            await asyncio.wait([getting_ready])

    @staticmethod
    async def _first(engine: Kept, driver: Driver, *others: "asyncio.Future[None]") -> None:
        """Return when it has ended, is to be stopped, or one of the others is done."""
        stopped = asyncio.ensure_future(engine.stop.wait())
        try:
            any_of: list[asyncio.Future[Any]] = [driver.ended, stopped, *others]
            await asyncio.wait(any_of, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()

    # What is found out beside.

    async def _adopt(self, engine: Kept) -> None:
        """Take up an engine that was loaded before we came."""
        driver, name, seen = self._driver(engine), engine.wanted.name, engine.seen
        if not await driver.is_loaded():
            return
        await driver.start()
        known = self._schedule.engines.get(name)
        is_same = self._engines.get(name) is engine and engine.seen == seen
        if known is None or not is_same or known.state is not State.STOPPED:
            return
        log.info("%s: is loaded already", name)
        engine.stop, engine.driver = asyncio.Event(), driver
        engine.task = asyncio.ensure_future(self._go_on(engine, driver))
        self._apply(self._schedule.found(name, self._loop.time()))

    async def _go_on(self, engine: Kept, driver: Driver) -> None:
        """The rest of the run of an engine that was loaded already."""
        failure = await self._failure(engine, self._until_ready(engine, driver))
        if failure and not driver.ended.done():
            driver.ended.set_result(failure)
        self._measure()
        await self._until_end(engine, driver)

    def _measure(self) -> None:
        """Begin to measure what engines use, or measure at once."""
        if self._measuring is not None:
            self._measuring.cancel()
        self._measuring = self._in_background(self._keep_measuring())

    async def _keep_measuring(self) -> None:
        """Until nothing runs any more."""
        while running := [one for one in self._engines.values() if one.driver is not None]:
            for engine in running:
                if engine.driver is not None:
                    await self._measure_one(engine, engine.driver)
            await asyncio.sleep(MEASURE_EVERY)

    async def _measure_one(self, engine: Kept, driver: Driver) -> None:
        used = await driver.memory()
        if used and engine.driver is driver:
            engine.memory = used
            self._apply(self._schedule.measured(engine.wanted.name, used, self._loop.time()))

    def _quoted(self, engine: Kept, message: str) -> str:
        """A message with the last words of the server."""
        lines = engine.log.tail(LAST_WORDS)
        return "\n".join([f"{message}; its last words:", *lines]) if lines else message

    def _configure_log(self, engine: Kept) -> None:
        own = (value for value in engine.run.env.values() if len(value) >= MIN_SECRET)
        engine.log.configure(engine.run.log_lines, (*self._secrets, *own))

    def _configure_one(self, server: Wanted, config: Config) -> None:
        name, target, now = server.name, server.target, self._loop.time()
        dialect = config.registry.dialects[target.speaks[0]] if target.speaks else None
        plan = Plan.of(target, dialect)
        seen = made_of(server)
        engine = self._engines.get(name)
        rules = _rules(server)
        if engine is None:
            engine = self._engines[name] = Kept(server, plan, seen)
            self._configure_log(engine)
            self._apply(self._schedule.configure(name, rules, now))
            if server.run.engine is not None:
                self._in_background(self._adopt(engine))
            return
        changed = engine.seen != seen
        engine.wanted, engine.plan, engine.seen = server, plan, seen
        self._configure_log(engine)
        self._apply(self._schedule.configure(name, rules, now))
        if changed:
            if self._schedule.engines[name].is_running:
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
            pid=engine.driver.pid or None if engine.driver else None,
            memory=engine.memory,
            error=engine.error,
            log=tuple(engine.log.tail(LAST_WORDS * 2)),
        )


@dataclass(frozen=True, slots=True)
class Shown:
    """What there is to tell of an engine: `name` is its own, `target` whose it is. Times are seconds since 1970;
    `until` is when it stops if nobody asks it, `math.inf` for never, None where it does not run or is busy. `memory`
    are bytes by resource, as far as measured."""

    name: str
    target: str
    models: tuple[str, ...]
    state: State
    since: float
    in_flight: int
    waiting: int
    until: float | None
    pid: int | None
    memory: Mapping[str, int]
    error: str
    log: tuple[str, ...]


def _rules(server: Wanted) -> Rules:
    """How the schedule is to treat it."""
    run = server.run
    return Rules(
        group=server.group,
        unload_after=math.inf if run.unload_after is None else run.unload_after,
        max_waiting=run.max_waiting,
        max_wait=run.max_wait,
        needs=server.memory,
        pin=run.pin,
        preload=run.preload,
        swap_now=run.swap == "now",
        cancel_start=run.cancel_start,
    )


def _secrets_in(config: Config) -> tuple[str, ...]:
    """The keys of a configuration, to be masked, and the password of its store."""
    targets = config.targets.values()
    keys = {config.system.masterkey, *(one.key for one in targets), *(one.run.admin_key for one in targets if one.run)}
    of_clients = {os.environ.get(name, "") for name in key_variables(config)}
    password = urlsplit(config.system.store).password or ""
    keys |= {key for key in (*of_clients, password, unquote(password)) if len(key) >= MIN_SECRET}
    return tuple(sorted(filter(None, keys), key=len, reverse=True))


def _in_mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
