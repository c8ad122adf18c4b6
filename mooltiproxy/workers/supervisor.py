"""Starts workers and starts them again, and holds what there must be only one of: engines, counts of wrong keys, and
the configuration in force."""

import asyncio
import logging
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

from mooltiproxy.activation import handed_over
from mooltiproxy.bans import Bans
from mooltiproxy.config.inputs import Inputs
from mooltiproxy.config.model import Config
from mooltiproxy.config.servers import wanted
from mooltiproxy.config.target_tls import contexts_of
from mooltiproxy.endpoints.reload import NOTHING_TO_RELOAD, Outcome
from mooltiproxy.engines.owner import Engines
from mooltiproxy.errors import ConfigError, Problem
from mooltiproxy.metrics import Metrics, Written
from mooltiproxy.server import (
    LEAVE,
    NO_KEY,
    loop_factory,
    not_reloaded,
    reloaded,
    set_up_logging,
    urls,
    watched_sources,
)
from mooltiproxy.store import SQLITE
from mooltiproxy.store.addresses import Note
from mooltiproxy.upstream.session import Origin, PooledSession
from mooltiproxy.watcher import Watcher
from mooltiproxy.workers.child import Child
from mooltiproxy.workers.desk import Desk
from mooltiproxy.workers.engines import written
from mooltiproxy.workers.link import Gone, Handler, Refused
from mooltiproxy.workers.output import new_lock
from mooltiproxy.workers.place import Place
from mooltiproxy.workers.sockets import Listening, listening, shared

log = logging.getLogger("mooltiproxy")

PATIENCE = 60.0
"""Seconds that a worker has to read a configuration, and that one which is to replace another has to serve."""
NOT_NOW = "SIGUSR2 came while workers were starting: send it again once they serve"
NOT_REPLACED = "the restart ends here: worker %d of %d cannot be replaced, it and those after it stay as they are:\n%s"
STORE = "counted.db"
"""The file in which workers count together where `system.store` names none; it ends with the supervisor."""
BEYOND_DRAIN = 5.0
"""Seconds that workers have to end beyond `system.drain`."""

Reload = Callable[[], tuple[Config, Inputs]]
"""Reads the configuration again; raises ConfigError."""


def supervise(
    config: Config, inputs: Inputs, command: Sequence[str], *, verbose: bool = False, reload: Reload | None = None
) -> int:
    """Serve with `system.workers` processes until SIGTERM or SIGINT; the exit code. `command` is what starts a worker,
    up to the option that makes it one.

    Raises ConfigError for what cannot be served, OSError where the address cannot be bound.
    """
    set_up_logging(verbose)

    async def run() -> None:
        await Supervisor(config, inputs, command, reload).run()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run())
    return 0


class Supervisor:
    """The process that workers belong to; serves no request itself."""

    def __init__(self, config: Config, inputs: Inputs, command: Sequence[str], reload: Reload | None) -> None:
        """To be made inside the running loop."""
        self._config = config
        self._inputs = inputs
        self._generation = 1
        self._command = command
        self._reload = reload
        self._loop = asyncio.get_running_loop()
        self._session = PooledSession()
        self._metrics = Metrics()
        self._engines = Engines(self._session, self._metrics, self._tell_engines)
        self._names = _engines_of(config)
        self._origins: dict[str, Origin] = {}
        self._bans = Bans(config.cerbere)
        self._lock = new_lock()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._sockets: list[Listening] = []
        self._places: list[Place] = []
        self._children: set[Child] = set()
        self._stop = asyncio.Event()
        self._changing = asyncio.Lock()
        self._restarting = asyncio.Lock()
        self._watcher = Watcher()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Bind, start the workers, serve until a signal, and return once all is drained."""
        if not self._config.system.masterkey:
            raise ConfigError(Problem(NO_KEY))
        try:
            self._folder = _folder()
            self._sockets = self._bound()
            self._handle_signals()
            self._session.trust(contexts_of(self._config.targets))
            self._engines.configure(self._config)
            if self._reload is not None:
                self._watcher.watch(list(watched_sources(self._config, self.reload)))
            if await self._start_all():
                await self._stop.wait()
        finally:
            await self._drain()

    def _written(self, inputs: Inputs) -> dict[str, Any]:
        """What a worker is told to read, and where all of them count."""
        store = f"{SQLITE}{Path(self._folder.name) / STORE}" if self._folder else ""
        return asdict(replace(inputs, store=store))

    def _bound(self) -> list[Listening]:
        """The sockets of each worker; raises OSError."""
        system, given = self._config.system, handed_over()
        return shared(given, system.workers) if given else listening(system.host, system.port, system.workers)

    async def _start_all(self) -> bool:
        """Whether all workers serve: a signal may come first. Raises ConfigError where one cannot."""
        starting = [asyncio.ensure_future(self._started(place)) for place in self._sockets]
        stopped = asyncio.ensure_future(self._stop.wait())
        started = asyncio.ensure_future(asyncio.wait(starting, return_when=asyncio.FIRST_EXCEPTION))
        any_of: list[asyncio.Future[Any]] = [started, stopped]
        await asyncio.wait(any_of, return_when=asyncio.FIRST_COMPLETED)
        for task in (started, stopped, *starting):
            task.cancel()
        await asyncio.wait(starting)
        for task in starting:
            if not task.cancelled() and (failure := task.exception()):
                raise failure
        if any(task.cancelled() for task in starting):
            return False
        children = [task.result() for task in starting]
        pairs = enumerate(zip(self._sockets, children, strict=True), 1)
        self._places = [Place(number, sockets, self._started, child) for number, (sockets, child) in pairs]
        log.info("%d workers serve, as processes %s", len(children), ", ".join(str(child.pid) for child in children))
        for url in urls(self._config, self._sockets[0]):
            log.info("listening on %s", url)
        return True

    async def _started(self, sockets: Listening) -> Child:
        """A worker that serves what is to be served; raises ConfigError where it cannot."""
        desk = Desk(self._engines)
        handed = [self._lock.fileno(), *(one.fileno() for one in sockets)]
        child = await Child.start(self._command, handed, {**desk.handlers(), **self._handlers()}, self._generation)
        desk.open(child.link)
        child.link.closed.add_done_callback(lambda _: self._forget(child))
        self._children.add(child)
        try:
            records = [list(record) for record in self._bans.records()]
            await child.link.ask("start", self._written(self._inputs), records, self._origins)
            async with self._changing:
                if child.generation != self._generation:
                    await self._prepare(child, self._inputs)
                    await self._commit(child)
                child.serves = True
        except Refused as reason:
            await child.kill()
            raise ConfigError(Problem(str(reason))) from reason
        except Gone:
            await child.kill()
            raise ConfigError(Problem(f"a worker ended {child.end} while it was starting")) from None
        except asyncio.CancelledError:
            await child.kill()
            raise
        return child

    def _forget(self, child: Child) -> None:
        """A worker has ended; what it has counted stays."""
        self._children.discard(child)
        self._metrics.add(child.counted)

    async def _drain(self) -> None:
        """Have all workers stop listening and finish their answers, then end them, and the model servers."""
        end = self._loop.time() + self._config.system.drain
        self._watcher.close()
        for place in self._places:
            place.close()
        for task in self._tasks:
            task.cancel()
        for one in chain.from_iterable(self._sockets):
            one.close()
        self._engines.retire()
        children = list(self._children)
        for child in children:
            child.link.tell("drain")
        if children:
            await asyncio.wait([child.ended for child in children], timeout=self._config.system.drain + BEYOND_DRAIN)
        await asyncio.gather(*(child.kill() for child in children))
        await self._engines.close(end - self._loop.time())
        await self._session.close()
        self._lock.close()
        if self._folder is not None:
            self._folder.cleanup()

    def _handle_signals(self) -> None:
        for name in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(name, self._stop.set)
        self._loop.add_signal_handler(signal.SIGHUP, lambda: self._in_background(self.reload()))
        self._loop.add_signal_handler(signal.SIGUSR2, lambda: self._in_background(self.restart()))

    def _in_background(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Other processes for the same work.

    async def restart(self) -> None:
        """Reload, then have every worker replaced by one that is started from the files as they are now, one after the
        other; stops at one that cannot be started."""
        if self._restarting.locked() or not self._places:
            log.warning(NOT_NOW)
            return
        async with self._restarting:
            if self._reload is not None:
                await self.reload()
            for place in self._places:
                try:
                    async with asyncio.timeout(PATIENCE):
                        child, before = await place.renew()
                except (ConfigError, OSError) as error:  # a TimeoutError among them
                    reason = str(error) or f"it does not serve after {PATIENCE:g} s"
                    log.error(NOT_REPLACED, place.number, len(self._places), reason)
                    return
                log.info("worker %d is now process %d", place.number, child.pid)
                if before is not None:
                    self._in_background(self._leave(before))
            log.info("all workers have been replaced")

    async def _leave(self, child: Child) -> None:
        """Let a worker end that has a successor."""
        child.serves = False
        child.link.tell("hand over")
        await asyncio.wait([child.ended], timeout=LEAVE + self._config.system.drain + BEYOND_DRAIN)
        await child.kill()

    # A new configuration.

    async def reload(self) -> Outcome:
        """Read it, have every worker read it, and only then put it in force: a bad one changes nothing anywhere."""
        if self._reload is None:
            log.warning(NOTHING_TO_RELOAD)
            return Outcome(False, [NOTHING_TO_RELOAD])
        async with self._changing:
            stamps = await asyncio.to_thread(self._watcher.now)
            try:
                config, inputs = await asyncio.to_thread(self._reload)
                if not config.system.masterkey:
                    raise ConfigError(Problem(NO_KEY))
                contexts = contexts_of(config.targets)
                children = [child for child in self._children if child.serves]
                await asyncio.gather(*(self._prepare(child, inputs) for child in children))
            except (ConfigError, Refused) as error:
                return not_reloaded(str(error))
            before = self._config
            self._config, self._inputs, self._names = config, inputs, _engines_of(config)
            self._generation += 1
            self._bans.configure(config.cerbere)
            self._session.trust(contexts)
            self._engines.configure(config)
            await asyncio.gather(*(self._commit(child) for child in children))
            self._watcher.watch(list(watched_sources(config, self.reload)))
            self._watcher.seen(stamps)
        return reloaded(before, config)

    async def _prepare(self, child: Child, inputs: Inputs) -> None:
        """Have a worker read a configuration; raises Refused. One that ends meanwhile has a successor."""
        try:
            async with asyncio.timeout(PATIENCE):
                await child.link.ask("prepare", self._written(inputs))
        except Gone:
            return
        except TimeoutError:
            raise Refused(f"worker process {child.pid} does not answer") from None

    async def _commit(self, child: Child) -> None:
        """Have a worker put in force what it has read; one that ends meanwhile has a successor."""
        child.generation = self._generation
        with suppress(Gone, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await child.link.ask("commit")

    # What all workers share.

    def _handlers(self) -> dict[str, Handler]:
        return {
            "note": self._note,
            "states": self._states,
            "metrics": self._counted,
            "reload": self._reload_for_worker,
        }

    def _tell(self, what: str, *words: Any) -> None:
        for child in self._children:
            child.link.tell(what, *words)

    async def _reload_for_worker(self) -> tuple[bool, Sequence[str]]:
        outcome = await self.reload()
        return outcome.is_done, outcome.lines

    def _note(self, *note: Any) -> None:
        """A worker has learned something of an address."""
        self._tell("known", *self._bans.hear(Note(*note)))

    def _tell_engines(self) -> None:
        """Let workers know which engines take requests, where that has changed."""
        for name in [*self._names, *self._origins]:
            now = self._engines.ready(name)
            if now == self._origins.get(name):
                continue
            self._tell("engine", name, now)
            if now is None:
                del self._origins[name]
            else:
                self._origins[name] = now

    async def _states(self) -> list[dict[str, Any]]:
        """What there is to tell of each engine, with the requests of all workers."""
        flying: Counter[str] = Counter()
        for told in await self._reports():
            flying.update(told)
        return [written(replace(one, in_flight=flying[one.name])) for one in await self._engines.states()]

    async def _counted(self) -> Written:
        """What all workers have counted, those that have ended included."""
        await self._reports()
        whole = await self._metrics.whole()
        for child in self._children:
            whole.add(child.counted)
        return whole.written()

    async def _reports(self) -> list[dict[str, int]]:
        return await asyncio.gather(*(child.report() for child in self._children))


def _folder() -> "tempfile.TemporaryDirectory[str] | None":
    """A folder of our own for what workers count together; None where there is none to be had."""
    try:
        return tempfile.TemporaryDirectory(prefix="mooltiproxy-")
    except OSError as error:
        log.warning("limits and usage count in each worker alone, since there is no folder for a file: %s", error)
        return None


def _engines_of(config: Config) -> frozenset[str]:
    return frozenset(server.name for server in wanted(config))
