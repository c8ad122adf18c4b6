"""Runs the proxy: makes the chain, listens, reloads on SIGHUP, drains on SIGTERM. One process, one event loop."""

import asyncio
import functools
import gc
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mooltiproxy.bans import Bans
from mooltiproxy.body_log import formatter
from mooltiproxy.catalogue.answers import Catalogue
from mooltiproxy.catalogue.live import Live
from mooltiproxy.config.model import TLS, Config
from mooltiproxy.endpoints import OPEN, endpoints
from mooltiproxy.engines.access import Access
from mooltiproxy.engines.gates import gates
from mooltiproxy.engines.owner import Engines
from mooltiproxy.errors import ConfigError, Problem
from mooltiproxy.keyring import Keyring
from mooltiproxy.listener import Current, Listener
from mooltiproxy.metrics import Metrics
from mooltiproxy.middlewares import Parts, build_chain
from mooltiproxy.middlewares.access_log import AccessLog, Output
from mooltiproxy.routing import Router
from mooltiproxy.store import make_store
from mooltiproxy.upstream.fetch import AttachmentFetcher
from mooltiproxy.upstream.forward import Forwarder
from mooltiproxy.upstream.session import PooledSession
from mooltiproxy.upstream.templates import TemplateFetcher

log = logging.getLogger("mooltiproxy")

BACKLOG = 2048
TLS_HANDSHAKE_TIMEOUT = 15.0
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
    """What one of several workers has in common with the others. `sockets` are those to listen on."""

    bans: Bans
    metrics: Metrics
    engines: Access
    output: Output
    sockets: Sequence[socket.socket]


class Server:
    """The running proxy; owns the session, the bans, the engines and the listener, which outlive a reload."""

    def __init__(
        self, config: Config, reload: Callable[[], Config] | None = None, shared: Shared | None = None
    ) -> None:
        """To be made inside the running loop."""
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
        self._given = shared.sockets if shared else ()
        self._sockets: list[asyncio.Server] = []
        self._live = Live(self._session)
        current, catalogue = self._made_of(config)
        self._listener = Listener(current)
        self._take_up(config, catalogue)
        self._stop = asyncio.Event()
        self._reloading: asyncio.Task[None] | None = None

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
        """Listen; raises OSError where the address cannot be bound, ConfigError for unusable certificates."""
        system = self._config.system
        await self._store.start()
        tls = tls_context(system.tls) if system.tls else None
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

    def _made_of(self, config: Config) -> tuple[Current, Catalogue]:
        """What serves a configuration; raises ConfigError for one without a master key, at a reload too."""
        if not config.system.masterkey:
            raise ConfigError(Problem(NO_KEY))
        router = Router(config, self._live.names)
        catalogue = Catalogue(config, self._live, self._engines)
        before = gates(config, self._engines)
        forwarder = Forwarder(config, self._session, router.dialect_of, self._metrics, before)
        attachments = AttachmentFetcher(self._session, allow_private=config.system.private_images)
        templates = TemplateFetcher(self._session, config)
        own = endpoints(config, self._metrics, self._engines, self._bans, self._store)
        parts = Parts(
            config, Keyring(config), router, catalogue, self._bans, self._log, own, OPEN, attachments, templates
        )
        current = Current(build_chain(parts, forwarder.forward), router, config.system.max_body)
        return current, catalogue

    def prepare(self, config: Config) -> Callable[[], None]:
        """Make what serves another configuration; gives back what puts it in force. Raises ConfigError."""
        current, catalogue = self._made_of(config)

        def put_in_force() -> None:
            self._listener.current = current
            self._take_up(config, catalogue)

        return put_in_force

    def _take_up(self, config: Config, catalogue: Catalogue) -> None:
        """Let those know of a configuration who outlive it."""
        self._config = config
        self._engines.configure(config)
        self._bans.configure(config.cerbere)
        self._live.configure(catalogue.sources.values())

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

    def _begin_reload(self) -> None:
        """Reload in a task, one after the other where signals come faster."""
        self._reloading = asyncio.create_task(self._apply_new_configuration(self._reloading))

    async def _apply_new_configuration(self, before: "asyncio.Task[None] | None") -> None:
        """Validate first, then swap the chain at once; a bad file changes nothing and says why.

        The file is read in a thread: `speaks: auto` waits for servers there, and no request has to.
        """
        if before is not None:
            await asyncio.wait([before])
        if self._reload is None:
            log.warning("nothing to reload: the proxy was started without a configuration file")
            return
        try:
            config = await asyncio.to_thread(self._reload)
            put_in_force = self.prepare(config)
        except ConfigError as error:
            log.error("the configuration was not reloaded:\n%s", error)
            return
        changed = self._config.system.needs_restart(config.system)
        put_in_force()
        tell_reload(changed)


def tell_reload(waiting: Sequence[str]) -> None:
    """Log that another configuration is in force, but for the fields of `System` that wait for a restart."""
    if waiting:
        log.warning("system.host, port, ssl, workers and store change only with a restart")
    log.info("the configuration was reloaded")


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


def tls_context(tls: TLS) -> ssl.SSLContext:
    """The listener's TLS: 1.2 or newer, HTTP/1.1, a client certificate where `client_ca` is set; raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(tls.cert, tls.key)
        if tls.client_ca:
            context.load_verify_locations(tls.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(Problem(f"the certificates cannot be used: {error}", path=("system", "ssl"))) from error
    return context
