"""The configuration as the program uses it: frozen, complete, every name resolved.

`load` is the only maker. Times are seconds, sizes are bytes, secrets are kept out of `repr`.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mooltiproxy.config.prompts import Library
from mooltiproxy.discovery import Registry
from mooltiproxy.errors import Problem
from mooltiproxy.mapping.chat_template import ChatTemplate
from mooltiproxy.mapping.dialect import Dialect, Endpoint, Reply
from mooltiproxy.mapping.model_names import LATEST
from mooltiproxy.mapping.settings import Settings
from mooltiproxy.mapping.translate import Translation

PASSTHROUGH = "/passthrough"
"""Below the prefix of `rest:`: what follows is a path of the target's own, asked untouched."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits in seconds for each phase of an upstream request; None is no limit."""

    connect: float | None = 30.0
    first_byte: float | None = 30.0
    idle: float | None = 30.0
    total: float | None = None


@dataclass(frozen=True, slots=True)
class TLS:
    """The listener's certificate; `client_ca` asks every client for a certificate that it has signed."""

    cert: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class System:
    """`system:`."""

    host: str = "127.0.0.1"
    port: int = 8000
    tls: TLS | None = None
    debug: bool = False
    timeouts: Timeouts = field(default_factory=Timeouts)
    masterkey: str = field(default="", repr=False)
    drain: float = 30.0
    max_body: int = 64 * 1024 * 1024
    cors: tuple[str, ...] = ("*",)
    private_images: bool = False
    budget: Mapping[str, int] = field(default_factory=dict)
    workers: int = 1
    store: str = field(default="memory", repr=False)
    store_failure: str = "open"
    watch: bool = False

    def needs_restart(self, after: "System") -> list[str]:
        """The fields that are others in `after`, and that a running proxy cannot change."""
        return [name for name in LISTENING if getattr(self, name) != getattr(after, name)]


LISTENING = ("host", "port", "tls", "workers", "store", "store_failure")
"""Fields of `System` that hold for as long as the process listens."""


@dataclass(frozen=True, slots=True)
class Cerbere:
    """`cerbere:`, the gate's IP rules. `ban` is seconds of a first ban, 0 for good (with a store in memory: until
    restart); in `forget` seconds half of what counts against an address is forgotten, with 0 nothing. Addresses of IPv6
    count by networks of `ipv6_prefix` bits."""

    max_tries: int = 3
    ban: float = 0.0
    forget: float = 3600.0
    ipv6_prefix: int = 64
    whitelist: tuple[Network, ...] = ()
    blacklist: tuple[Network, ...] = ()
    trusted_proxies: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `amount` of something within `seconds`."""

    amount: float
    seconds: float


Rates = Mapping[str, tuple[Rate, ...]]
"""By what is counted: `requests`, `tokens` or `cost`."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`limits:` of the file, of a key or of a model. What is over a rate of `hard` is refused, over one of `soft` told.

    `concurrent` is how many requests are answered at a time. `per` is for whom each counter is: a `key`, an address
    (`ip`), or None where that is not said. `name` is what the counters are called by: the entry that has the limits.
    """

    hard: Rates = field(default_factory=dict)
    soft: Rates = field(default_factory=dict)
    concurrent: int | None = None
    per: str | None = None
    name: str = ""
    usage: bool = False

    def __bool__(self) -> bool:
        return bool(self.hard or self.soft or self.concurrent)


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Price:
    """Money for a million tokens."""

    input: float = 0.0
    output: float = 0.0

    def cost(self, tokens_in: float, tokens_out: float) -> float:
        """What these cost."""
        return (tokens_in * self.input + tokens_out * self.output) / 1e6


@dataclass(frozen=True, slots=True)
class Concurrent:
    """`concurrent:` of a target: `most` requests are asked at a time, `max_waiting` more wait, each `max_wait` seconds
    at the longest."""

    most: int
    max_waiting: int = 512
    max_wait: float = 600.0


@dataclass(frozen=True, slots=True)
class MappingEntry:
    """One client path of a target: the path asked there (below the target's url) and the translation, if any.

    Both paths may hold `{model}`, the name that stands there. `dialect` is what the target speaks here, where that is
    known: it says how the target wants its key. `fallback` is used once the target has answered that it does not have
    this path. `is_explicit` tells what the file says from what `speaks` implies; `client` is the dialect of its
    clients where the file names it. `passing` is whose bodies come here, where they pass to the target or to functions
    as the client wrote them: there the settings of `models:` are put into the body itself. `endpoint` is what clients
    have here, None for what no API has.
    """

    client_path: str
    path: str
    translation: Translation | None = None
    dialect: Dialect | None = None
    fallback: "MappingEntry | None" = None
    is_explicit: bool = False
    client: Dialect | None = None
    passing: Endpoint | None = None
    endpoint: Endpoint | None = None


PORT = "${port}"
"""In a target's `url` and `run`: the port that is picked when its server is started."""
MODEL, CONFIG = "${model}", "${config}"
"""In `run`: the model's name at the target, and its file in `models_dir`. Each model has a server of its own then."""


@dataclass(frozen=True, slots=True)
class Run:
    """`run:` of a target: its server is started when it is asked, and stopped when it is not.

    The words of `command` and `stop`, and the values of `env`, may hold `PORT`, `MODEL` and `CONFIG`. None in
    `ready_timeout` and `unload_after` is never. Of the servers of a `group` one runs at a time. With `engine` there is
    no command: it names the API by which a server that runs already loads models, as TabbyAPI's `admin_key` allows,
    with more fields from `load`. `stop` is a command, `POST` and a path, or nothing for SIGTERM. `memory` are bytes by
    resource (`ram`, `gpu`, `gpu0`).
    """

    command: tuple[str, ...] = field(repr=False)
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    ready: str = "/health"
    ready_timeout: float | None = 60.0
    stop_timeout: float = 10.0
    unload_after: float | None = 900.0
    group: str = ""
    max_waiting: int = 512
    max_wait: float = 600.0
    engine: str | None = None
    admin_key: str | None = field(default=None, repr=False)
    admin_envkey: str | None = field(default=None, compare=False)
    load: Mapping[str, Any] = field(default_factory=dict)
    stop: tuple[str, ...] = field(default=(), repr=False)
    swap: str = "drain"
    memory: Mapping[str, int] = field(default_factory=dict)
    pin: bool = False
    preload: bool = False
    cancel_start: bool = False
    log_lines: int = 200


@dataclass(frozen=True, slots=True)
class TargetTLS:
    """How a target is recognised: by the authorities in `ca` instead of the system's, or by nothing without `verify`;
    and the certificate that it is shown. `key` may stand in the file of `cert`."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    verify: bool = True

    @property
    def files(self) -> list[Path]:
        """What it is read from."""
        return [file for file in (self.ca, self.cert, self.key) if file is not None]


@dataclass(frozen=True, slots=True)
class Target:
    """One entry of `targets:`. `mapping` is by client path, derived entries of `speaks` included.

    `losses` is a policy by class of loss (see mapping.losses); `keepalive` is seconds of silence in a stream. `replies`
    are answered by the proxy itself, by client path. With `run`, the port in `url` may be `PORT`. `written` is what the
    file says of `url` and of all that shapes `mapping`, to be compared with another file's.
    """

    name: str
    url: str
    key: str | None = field(default=None, repr=False)
    envkey: str | None = field(default=None, compare=False)
    preserve_method: bool = False
    speaks: tuple[str, ...] = ()
    losses: Mapping[str, str] = field(default_factory=dict)
    keepalive: float | None = 15.0
    mapping: Mapping[str, MappingEntry] = field(default_factory=dict)
    replies: Mapping[str, Reply] = field(default_factory=dict)
    run: Run | None = None
    tls: TargetTLS | None = None
    concurrent: Concurrent | None = None
    written: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Model:
    """One entry of `models:`: a name that clients ask for, the target that has it, and its name there.

    Both names may hold a `*`: what a client writes in its place in the first comes into that of the second. `settings`
    are None where nothing is to be put into its requests. `file` is its own in `models_dir`, and `told` what
    that says in its sections `model`, `draft_model` and `template`. `memory` is what a server of its own takes, None
    for what its target says.
    """

    name: str
    target: str
    upstream_name: str
    settings: Settings | None = None
    file: Path | None = None
    memory: Mapping[str, int] | None = None
    told: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    limits: Limits = NO_LIMITS
    price: Price | None = None

    @property
    def is_pattern(self) -> bool:
        """Whether the name stands for many."""
        return "*" in self.name


@dataclass(frozen=True, slots=True)
class Key:
    """One entry of `keys:` or `keys_file`, or the master key. `digest` is SHA-256, None where only a `certificate` is
    the key, by its name such as `CN=alice`.

    None in `targets`, `models` (names, perhaps with a `*`) and `endpoints` is all of them; `losses` go before those of
    the target. `expires` is Unix seconds from which on the key is none, None for never.
    """

    name: str
    digest: bytes | None = field(repr=False)
    targets: frozenset[str] | None = None
    losses: Mapping[str, str] = field(default_factory=dict)
    is_admin: bool = False
    limits: Limits = NO_LIMITS
    models: tuple[str, ...] | None = None
    endpoints: frozenset[str] | None = None
    expires: float | None = None
    certificate: str | None = None
    envkey: str | None = field(default=None, compare=False)

    def may_name(self, model: str) -> bool:
        """Whether it may ask for a model of this name."""
        spellings = {model, model.removesuffix(LATEST)}
        return self.models is None or any(_fits(pattern, name) for pattern in self.models for name in spellings)

    def may_use(self, endpoint: Endpoint | None) -> bool:
        """Whether it may use an endpoint; None is one that no API has. What it may use is named by label or by kind,
        and whoever may list models may also ask about one."""
        if self.endpoints is None:
            return True
        if endpoint is None:
            return False
        words = {endpoint.label, endpoint.kind, *(("models",) if endpoint.kind in ABOUT_MODELS else ())}
        return not words.isdisjoint(self.endpoints)


ABOUT_MODELS = ("models", "model", "running")
"""The kinds of endpoints that tell what models there are."""


def _fits(pattern: str, name: str) -> bool:
    before, star, after = pattern.partition("*")
    if not star:
        return name == pattern
    return len(name) >= len(before) + len(after) and name.startswith(before) and name.endswith(after)


@dataclass(frozen=True, slots=True)
class Config:
    """A whole, valid configuration. `folder` is where the file lies (mappers/, prompters/, certificates/); `file_keys`
    are those of `keys_file` when it was read; `sources` are the files and folders beside it that it was made of."""

    targets: Mapping[str, Target]
    default_target: str
    registry: Registry
    folder: Path
    file: Path | None = None
    sources: tuple[Path, ...] = ()
    system: System = field(default_factory=System)
    cerbere: Cerbere = field(default_factory=Cerbere)
    keys: tuple[Key, ...] = ()
    keys_file: Path | None = None
    file_keys: tuple[Key, ...] = ()
    models: Mapping[str, Model] = field(default_factory=dict)
    limits: Limits = NO_LIMITS
    library: Library = field(default_factory=Library)
    rest_prefix: str | None = None
    templates: Mapping[str, Mapping[str, str] | ChatTemplate] = field(default_factory=dict)
    middlewares: tuple[str, ...] = ()
    warnings: tuple[Problem, ...] = ()

    def names_at(self, target: str) -> list[str]:
        """The names under `models:` that a list of this target's models has."""
        return [model.name for model in self.models.values() if model.target == target and not model.is_pattern]
