"""Runs the proxy: makes the chain, listens, reloads on SIGHUP, drains on SIGTERM. One process, one event loop."""

import asyncio
import functools
import gc
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mooltiproxy.activation import handed_over
from mooltiproxy.bans import Bans
from mooltiproxy.body_log import formatter
from mooltiproxy.catalogue.answers import Catalogue
from mooltiproxy.catalogue.live import Live
from mooltiproxy.config.model import Config
from mooltiproxy.config.target_tls import contexts_of
from mooltiproxy.endpoints import OPEN, endpoints
from mooltiproxy.endpoints.reload import NOTHING_TO_RELOAD, Outcome, Reload
from mooltiproxy.engines.access import Access
from mooltiproxy.engines.gates import gates
from mooltiproxy.engines.owner import Engines
from mooltiproxy.errors import ConfigError, Problem
from mooltiproxy.keyring import Keyring
from mooltiproxy.limits.gates import Queues
from mooltiproxy.limits.ledger import Counts
from mooltiproxy.limits.rules import RuleBook
from mooltiproxy.limits.slots import Slots
from mooltiproxy.limits.telling import Teller
from mooltiproxy.listener import Current, Listener
from mooltiproxy.metrics import Metrics
from mooltiproxy.middlewares import Parts, build_chain
from mooltiproxy.middlewares.access_log import AccessLog, Output
from mooltiproxy.plan import plan
from mooltiproxy.routing import Router
from mooltiproxy.store import make_store
from mooltiproxy.tls import Certificates
from mooltiproxy.upstream.fetch import AttachmentFetcher
from mooltiproxy.upstream.forward import Forwarder
from mooltiproxy.upstream.session import PooledSession
from mooltiproxy.upstream.templates import TemplateFetcher
from mooltiproxy.watcher import Watched, Watcher

log = logging.getLogger("mooltiproxy")

BACKLOG = 2048
TLS_HANDSHAKE_TIMEOUT = 15.0
LEAVE = 5.0
"""Seconds that connections have for a last request once somebody else listens in our place."""
NOBODY_TO_REPLACE = "SIGUSR2 replaces workers one after the other: this takes system.workers of 2 or more"
NO_KEY = "there is no master key: set MOOLTIPROXY_KEY in the environment, e.g. to `openssl rand -hex 24`"


def serve(config: Config, *, verbose: bool = False, reload: Callable[[], Config] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; the exit code. `reload` makes the new configuration on SIGHUP.

    Raises ConfigError for what cannot be served, OSError where the address cannot be bound.
    """
    set_up_logging(verbose)

    async def run() -> None:
        await Server(config, reload).run()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run())
    return 0


def set_up_logging(verbose: bool) -> None:
    """Have the log written to standard error."""
    to_stderr = logging.StreamHandler(sys.stderr)
    to_stderr.setFormatter(formatter())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[to_stderr])
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the event loop."""
    try:
        import uvloop
    except ImportError:  # Windows has none
        return None
    return uvloop.new_event_loop


@dataclass(frozen=True, slots=True)
class Shared:
    """What one of several workers has in common with the others. `sockets` are those to listen on, `reload` is for all
    of them."""

    bans: Bans
    metrics: Metrics
    engines: Access
    output: Output
    sockets: Sequence[socket.socket]
    reload: Reload


class Server:
    """The running proxy; owns the session, the bans, the engines and the listener, which outlive a reload."""

    def __init__(
        self, config: Config, reload: Callable[[], Config] | None = None, shared: Shared | None = None
    ) -> None:
        """To be made inside the running loop; raises ConfigError for what cannot be served."""
        self._reload = reload
        self._session = PooledSession()
        self._bans = shared.bans if shared else Bans(config.cerbere)
        system = config.system
        self._store = make_store(system.store, fails_open=system.store_failure == "open")
        self._store.watch(self._bans)
        self._bans.tell.append(self._store.note)
        self._log = AccessLog(shared.output if shared else sys.stdout)
        self._metrics = shared.metrics if shared else Metrics()
        self._engines: Access = shared.engines if shared else Engines(self._session, self._metrics)
        self._counts = Counts(self._store, Slots(), Teller(self._metrics))
        self._queues = Queues()
        self._given = shared.sockets if shared else handed_over()
        self._sockets: list[asyncio.Server] = []
        self._live = Live(self._session)
        self._watcher = Watcher()
        self._reload_all = shared.reload if shared else self._reload_undisturbed
        self._certificates = Certificates(config.system.tls) if config.system.tls else None
        made = self._made_of(config)
        self._listener = Listener(made.current)
        self._take_up(made)
        self._stop = asyncio.Event()
        self._changing = asyncio.Lock()
        self._reloading: set[asyncio.Task[Outcome]] = set()

    async def run(self) -> None:
        """Listen, serve until a signal, and return once drained."""
        self._handle_signals()
        await self.start()
        calm_collector()
        for url in self.urls:
            log.info("listening on %s", url)
        await self._stop.wait()
        await self.drain()

    async def start(self) -> None:
        """Listen; raises OSError where the address cannot be bound."""
        system = self._config.system
        await self._store.start()
        tls = self._certificates.context if self._certificates else None
        listen = functools.partial(
            asyncio.get_running_loop().create_server,
            self._listener,
            ssl=tls,
            ssl_handshake_timeout=TLS_HANDSHAKE_TIMEOUT if tls else None,
            backlog=BACKLOG,
        )
        if self._given:
            self._sockets = [await listen(sock=one) for one in self._given]
        else:
            self._sockets = [await listen(system.host, system.port)]

    @property
    def urls(self) -> list[str]:
        """Where it listens."""
        return urls(self._config, [bound for server in self._sockets for bound in server.sockets])

    def _made_of(self, config: Config) -> "_Made":
        """What serves a configuration; raises ConfigError for one without a master key, at a reload too."""
        if not config.system.masterkey:
            raise ConfigError(Problem(NO_KEY))
        keyring, contexts = Keyring(config), contexts_of(config.targets)
        router = Router(config, self._live.names)
        catalogue = Catalogue(config, self._live, self._engines)
        before = self._queues.gates(config, gates(config, self._engines))
        forwarder = Forwarder(config, self._session, router.dialect_of, self._metrics, before)
        attachments = AttachmentFetcher(self._session, allow_private=config.system.private_images)
        templates = TemplateFetcher(self._session, config)
        own = endpoints(config, self._metrics, self._engines, self._reload_all, self._bans, self._store)
        parts = Parts(
            config,
            keyring,
            router,
            catalogue,
            self._bans,
            self._log,
            own,
            OPEN,
            attachments,
            templates,
            RuleBook(config),
            self._counts,
        )
        current = Current(build_chain(parts, forwarder.forward), router, config.system.max_body)
        return _Made(config, current, catalogue, keyring, contexts)

    def prepare(self, config: Config) -> Callable[[], None]:
        """Make what serves another configuration; gives back what puts it in force. Raises ConfigError."""
        made = self._made_of(config)

        def put_in_force() -> None:
            self._listener.current = made.current
            self._take_up(made)
            self._renew_certificates()

        return put_in_force

    def _take_up(self, made: "_Made") -> None:
        """Let those know of a configuration who outlive it."""
        config = self._config = made.config
        self._engines.configure(config)
        self._bans.configure(config.cerbere)
        self._queues.configure(config)
        self._session.trust(made.contexts)
        self._live.configure(made.catalogue.sources.values())
        self._watcher.watch(list(self._watched(made)))

    def _watched(self, made: "_Made") -> Iterator[Watched]:
        """The files that count anew when they have changed."""
        if made.config.keys_file is not None:
            yield Watched([made.config.keys_file], lambda: renew_keys(made.keyring))
        if self._certificates is not None:
            yield Watched(self._certificates.files, lambda: asyncio.to_thread(self._renew_certificates))
        of_targets = [file for target in made.config.targets.values() if target.tls for file in target.tls.files]
        if of_targets:
            yield Watched(of_targets, lambda: self._renew_trust(made.config))
        if self._reload is not None:
            yield from watched_sources(made.config, self._reload_undisturbed)

    def _renew_certificates(self) -> None:
        """Take up the listener's certificate as its files are now."""
        if self._certificates is not None:
            try:
                if self._certificates.renew():
                    log.info("new connections get the certificate of the files that have changed")
            except ConfigError as error:
                log.error("the last good certificate stays: %s", error)

    async def _renew_trust(self, config: Config) -> None:
        """Take up the certificates and authorities of targets as their files are now."""
        try:
            self._session.trust(await asyncio.to_thread(contexts_of, config.targets))
        except ConfigError as error:
            log.error("the last good certificates stay: %s", error)
            return
        log.info("new connections to targets are made with the certificates that have changed")

    async def hand_over(self) -> None:
        """Leave new connections to a successor that listens already; returns when those that are open may end: what has
        come to them until then is answered, and clients that keep one are told to open another."""
        for server in self._sockets:
            server.close()
        self._listener.take_leave()
        await asyncio.sleep(LEAVE)

    async def drain(self, within: float | None = None) -> None:
        """Stop listening, let open answers finish for `within` seconds (`system.drain`), then end what is left, model
        servers included."""
        limit = self._config.system.drain if within is None else within
        end = self._listener.now() + limit
        for server in self._sockets:
            server.close()
        self._listener.pre_shutdown()
        self._engines.retire()
        try:
            async with asyncio.timeout(limit):
                await self._listener.drained()
        except TimeoutError:
            log.warning("%d answers were cut: they took longer than system.drain allows", self._listener.active)
        self._watcher.close()
        await self._listener.close()
        await self._live.close()
        await self._engines.close(end - self._listener.now())
        await self._session.close()
        await self._store.close()
        self._log.flush()

    def _handle_signals(self) -> None:
        if sys.platform == "win32":
            return
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._begin_reload)
        loop.add_signal_handler(signal.SIGUSR2, lambda: log.warning(NOBODY_TO_REPLACE))

    def _begin_reload(self) -> "asyncio.Task[Outcome]":
        task = asyncio.create_task(self.reload())
        self._reloading.add(task)
        task.add_done_callback(self._reloading.discard)
        return task

    async def _reload_undisturbed(self) -> Outcome:
        """The same for somebody who may leave before it is done."""
        return await asyncio.shield(self._begin_reload())

    async def reload(self) -> Outcome:
        """Read the configuration anew and put it in force, one reload after the other. Validated first, then the chain
        is swapped at once: a bad file changes nothing, and the log says why.

        The file is read in a thread: `speaks: auto` waits for servers there, and no request has to.
        """
        if self._reload is None:
            log.warning(NOTHING_TO_RELOAD)
            return Outcome(False, [NOTHING_TO_RELOAD])
        async with self._changing:
            stamps = await asyncio.to_thread(self._watcher.now)
            try:
                config = await asyncio.to_thread(self._reload)
                put_in_force = self.prepare(config)
            except ConfigError as error:
                return not_reloaded(str(error))
            before = self._config
            put_in_force()
            self._watcher.seen(stamps)
        return reloaded(before, config)


@dataclass(frozen=True, slots=True)
class _Made:
    """A configuration, and what serves it."""

    config: Config
    current: Current
    catalogue: Catalogue
    keyring: Keyring
    contexts: Mapping[str, ssl.SSLContext]


def watched_sources(config: Config, reload: Reload) -> Iterator[Watched]:
    """With `system.watch`: all that a configuration was read from, to be read anew when it has changed."""

    async def changed() -> None:
        log.info("a file of the configuration has changed")
        await reload()

    if config.system.watch and config.file is not None:
        yield Watched([config.file, *config.sources], changed)


async def renew_keys(keyring: Keyring) -> None:
    """Take up `keys_file` as it is now; its last good keys stay where it cannot be used."""
    try:
        gone = await asyncio.to_thread(keyring.renew)
    except ConfigError as error:
        log.error("keys_file was not read anew, its last good keys stay: %s", str(error).replace("\n", "; "))
        return
    log.info("keys_file was read anew%s", f", revoked: {', '.join(sorted(gone))}" if gone else "")


def not_reloaded(reason: str) -> Outcome:
    """Log that a configuration has been refused."""
    log.error("the configuration was not reloaded:\n%s", reason)
    return Outcome(False, reason.split("\n"))


def reloaded(before: Config, after: Config) -> Outcome:
    """Log that another configuration is in force, but for the fields of `System` that wait for a restart."""
    if before.system.needs_restart(after.system):
        log.warning("system.host, port, ssl, workers and store change only with a restart")
    log.info("the configuration was reloaded")
    return Outcome(True, plan(before, after))


def urls(config: Config, sockets: Iterable[socket.socket]) -> list[str]:
    """Where these listen."""
    scheme = "https" if config.system.tls else "http"
    names = [bound.getsockname()[:2] for bound in sockets]
    return [f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}" for host, port in names]


def calm_collector() -> None:
    """Let the garbage collector pass over what lives as long as the process, and look at the rest less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
