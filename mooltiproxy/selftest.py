"""`mooltiproxy selftest`: asks a live target what it can do, and says so, one line each.

Which APIs the target has is asked at the target itself. Everything else is asked through a proxy of our own on a free
loopback port, so that every answer is the live path's.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

from mooltiproxy.abilities import CHAT_PROBES, MAX_ANSWER, Client, Probe, Unable, answers, embeddings, models
from mooltiproxy.config.build import below_base, split_base
from mooltiproxy.config.model import Cerbere, Config, System, Target, Timeouts
from mooltiproxy.config.target_tls import contexts_of
from mooltiproxy.errors import ConfigError, Problem, ProxyError, UpstreamError
from mooltiproxy.mapping.dialect import Dialect
from mooltiproxy.server import Server
from mooltiproxy.upstream.fetch import Whole, ask
from mooltiproxy.upstream.request import Plan, request_head
from mooltiproxy.upstream.session import PooledSession

NOT_THERE = frozenset({404, 405, 501})
TELLS_NOTHING = frozenset({401, 403})
LONGEST_WHY = 160


@dataclass(frozen=True, slots=True)
class Finding:
    """What one probe has found out."""

    name: str
    able: bool
    why: str = ""

    def __str__(self) -> str:
        word = "yes" if self.able else "no"
        return f"{self.name:<18} {word}: {self.why}" if self.why else f"{self.name:<18} {word}"


@dataclass(frozen=True, slots=True)
class Wish:
    """What to test: a target by its name, with which model (None: one of its own), and seconds for each probe."""

    target: str
    model: str | None = None
    timeout: float = 30.0


Configure = Callable[[Sequence[str]], Config]
"""The configuration, where these are the dialects of a target that says `speaks: auto`; raises ConfigError."""


async def selftest(configure: Configure, wish: Wish, say: Callable[[str], None]) -> None:
    """Say what the target can do, line by line.

    Raises ConfigError for a configuration without this target, UpstreamError where it does not answer at all.
    """
    config = _alone(configure(("openai",)), wish)
    target = config.targets[wish.target]
    session = PooledSession()
    session.trust(contexts_of(config.targets))

    def tell(line: object) -> None:
        text = str(line)
        say(text.replace(target.key, "***") if target.key else text)

    try:
        tell(f"{'target':<18} {target.url}")
        known = [dialect for dialect in config.registry.dialects.values() if not dialect.below_prefix]
        dialects = await _Natives(session, target, wish).findings(known)
        for finding in dialects.values():
            tell(finding)
        spoken = [name for name, finding in dialects.items() if finding.able] or ["openai"]
        await _through_proxy(_alone(configure(spoken), wish), session, wish, tell)
    finally:
        await session.close()


def _alone(config: Config, wish: Wish) -> Config:
    """The configuration with this target only, for a proxy of ours: its own address, key and limits, and no log."""
    if wish.target not in config.targets:
        there = ", ".join(config.targets)
        raise ConfigError(Problem(f"there is no target {wish.target}: name one of {there}, or the url of a server"))
    if config.targets[wish.target].run is not None:
        raise ConfigError(Problem(f"target {wish.target} has `run:`: start its server and name its url instead"))
    return replace(
        config,
        targets={wish.target: config.targets[wish.target]},
        default_target=wish.target,
        models={name: model for name, model in config.models.items() if model.target == wish.target},
        system=System(
            port=0,
            masterkey=secrets.token_hex(24),
            timeouts=Timeouts(connect=wish.timeout, first_byte=None, idle=None),
            drain=1.0,
        ),
        cerbere=Cerbere(),
        middlewares=tuple(name for name in config.middlewares if name != "access_log"),
    )


class _Natives:
    """Asks a target itself which APIs it has."""

    def __init__(self, session: PooledSession, target: Target, wish: Wish) -> None:
        self._session = session
        self._target = target
        self._model = wish.model or "model"
        self._timeout = wish.timeout
        self._error: UpstreamError | None = None
        self._answered = False

    async def findings(self, dialects: Iterable[Dialect]) -> dict[str, Finding]:
        """A finding for each dialect, by its name; raises UpstreamError where nothing at all was answered."""
        known = list(dialects)
        root = split_base(self._target.url, known)[0]
        found = await asyncio.gather(*(self._find(dialect, replace(self._target, url=root)) for dialect in known))
        if not self._answered and self._error is not None:
            raise self._error
        return dict(zip([dialect.name for dialect in known], found, strict=True))

    async def _find(self, dialect: Dialect, target: Target) -> Finding:
        plan = Plan.of(target, dialect)
        there: list[str] = []
        missing: list[str] = []
        for method, path in _questions(dialect):
            path = path.replace("{model}", quote(self._model))
            is_there, answer = await self._ask(plan, dialect, method, path)
            (there if is_there else missing).append(f"{method} {path} ({answer})")
        why = "; not ".join(", ".join(asked) for asked in (there, missing) if asked)
        return Finding(f"speaks {dialect.name}", bool(there), why)

    async def _ask(self, plan: Plan, dialect: Dialect, method: str, path: str) -> tuple[bool, str]:
        """Whether the path is there as the dialect has it, and what was answered."""
        body = b"{}" if method == "POST" else b""
        fixed = {"content-type": "application/json", "accept-encoding": "identity", **dialect.fixed_fields}
        fields = [(name.encode(), value.encode()) for name, value in fixed.items()]
        where = plan.origin.base + path
        head = request_head(plan, plan.origin, where, method, fields, None, body, None)
        limits = Timeouts(self._timeout, self._timeout, self._timeout, self._timeout)
        whole = Whole(asyncio.get_running_loop().create_future(), MAX_ANSWER)
        try:
            await ask(self._session, plan.origin, head + body, whole, limits)
        except UpstreamError as error:
            self._error = error
            return False, "no answer"
        self._answered = True
        return _is_there(dialect, method, whole), str(whole.status)


def _questions(dialect: Dialect) -> Iterator[tuple[str, str]]:
    """What to ask for a dialect: the path by which it is known, and those of its chats."""
    if dialect.probe is not None:
        yield "GET", dialect.probe[0]
    for path in dict.fromkeys(endpoint.paths[0] for endpoint in dialect.endpoints if endpoint.kind == "chat"):
        yield "POST", below_base(dialect, path)


def _is_there(dialect: Dialect, method: str, whole: Whole) -> bool:
    """Whether an answer speaks for the dialect: of those to an empty request any JSON but a refusal for want of a key.

    A 422 is about the request whatever its form (TGI's is plain text).
    """
    if method == "GET":
        return dialect.probe is not None and dialect.probe[1](whole.status, whole.json())
    return whole.status == 422 or whole.status not in NOT_THERE | TELLS_NOTHING and whole.json() is not None


async def _through_proxy(config: Config, session: PooledSession, wish: Wish, tell: Callable[[object], None]) -> None:
    """Tell the findings of a proxy's client."""
    server = Server(config)
    await server.start()
    try:
        client = Client(session, server.urls[0], config.system.masterkey)
        tell(await _found(client, "models", models, wish.timeout))
        named = [name for name, model in config.models.items() if not model.is_pattern]
        client.model = wish.model or next(iter((*named, *client.models)), "default")
        tell(f"{'model':<18} {_printable(client.model)}")
        answered = await _found(client, "answer", answers, wish.timeout)
        tell(answered)
        for name, probe in CHAT_PROBES.items():
            nothing = Finding(name, False, "not asked, for want of an answer")
            tell(await _found(client, name, probe, wish.timeout) if answered.able else nothing)
        tell(await _found(client, "embeddings", embeddings, wish.timeout))
    finally:
        await session.close()  # the proxy must not wait for questions that were given up
        await server.drain()


async def _found(client: Client, name: str, probe: Probe, timeout: float) -> Finding:
    """What a probe finds out in its time."""
    try:
        async with asyncio.timeout(timeout):
            return Finding(name, True, _printable(await probe(client)))
    except TimeoutError:
        return Finding(name, False, f"no answer within {timeout:g} s (--timeout)")
    except (Unable, ProxyError) as error:
        return Finding(name, False, _printable(str(error)))


def _printable(text: str) -> str:
    """One short line that no terminal takes for commands."""
    line = " ".join(text.split())
    line = "".join(character if character.isprintable() else "?" for character in line)
    return line if len(line) <= LONGEST_WHY else f"{line[: LONGEST_WHY - 3]}..."
