"""What `limits:` comes to for one client and one model: the windows that count for its request. Prepared at load."""

import ipaddress
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeVar

from mooltiproxy.config.limits import KINDS
from mooltiproxy.config.model import NO_LIMITS, Config, Key, Limits, Model, Rate
from mooltiproxy.keys import MASTER
from mooltiproxy.store import Wants, Window

Scope = Literal["key", "ip", "model"]

K = TypeVar("K", str, tuple[str, str])

UNLIMITED = 1e12
"""The limit of a window that is only told: more than anybody uses, and few enough for its fractions to count."""
MOST_ADDRESSES = 10_000
"""Addresses whose rules are kept."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One window. Over `soft` it is told; `scope` and `of` say what it counts, `text` how its limit is written."""

    window: Window
    scope: Scope
    of: str
    soft: float
    text: str

    @property
    def is_hard(self) -> bool:
        """Whether it refuses anything."""
        return self.window.limit < UNLIMITED


@dataclass(frozen=True, slots=True)
class Place:
    """At most `most` requests at a time under this name."""

    name: str
    most: int
    scope: Scope


@dataclass(frozen=True, slots=True)
class Rules:
    """What counts for one client, or for one client and model. `wants` is what each request takes of `requests`, `only`
    the one among these, where nothing else is to be looked at before a request is routed."""

    requests: tuple[Rule, ...] = ()
    amounts: tuple[Rule, ...] = ()
    places: tuple[Place, ...] = ()
    wants: Wants = ()
    only: Rule | None = None

    @classmethod
    def of(cls, rules: Iterable[Rule], places: Iterable[Place]) -> "Rules":
        """These, by what they count."""
        every = tuple(rules)
        requests = tuple(rule for rule in every if rule.of == "requests")
        at_a_time = tuple(places)
        amounts = tuple(rule for rule in every if rule.of != "requests")
        is_alone = len(requests) == 1 and math.isinf(requests[0].soft) and not at_a_time
        only = requests[0] if is_alone else None
        return cls(requests, amounts, at_a_time, tuple((rule.window, 1.0) for rule in requests), only)


NO_RULES = Rules()


class RuleBook:
    """The rules of a configuration."""

    def __init__(self, config: Config) -> None:
        keys, models = (*config.keys, *config.file_keys), config.models.values()
        of_clients = [config.limits, *(key.limits for key in keys)]
        of_models = [model.limits for model in models]
        self._top = config.limits
        self._prefix = config.cerbere.ipv6_prefix
        self.has_clients = any(of_clients)
        self.has_models = any(of_models)
        prices = any(model.price for model in models)
        self.counts_usage = config.limits.usage or prices or any(map(_has_amounts, (*of_clients, *of_models)))
        """Whether it is to be found out what requests use."""
        self._by_key: dict[str, Rules] = {}
        self._by_address: dict[tuple[str, str], Rules] = {}
        self._by_model: dict[str, Rules] = {}

    def of_client(self, key: Key | None, address: str) -> Rules:
        """The rules for who sends a request; `key` is None where none is asked for."""
        name = key.name if key is not None else MASTER
        known = self._by_key.get(name) or self._by_address.get((name, address))
        return known if known is not None else self._of_address(name, key.limits if key else NO_LIMITS, address)

    def _of_address(self, name: str, own: Limits, address: str) -> Rules:
        if self._per(name) == "key" and own.per != "ip":
            return _kept(self._by_key, name, self._made(name, own, ""))
        made = self._made(name, own, network_of(address, self._prefix))
        return _kept(self._by_address, (name, address), made)

    def of_model(self, model: Model | None, key: Key | None, address: str) -> Rules:
        """The rules of the model that is asked for."""
        limits = model.limits if model is not None else NO_LIMITS
        if not limits:
            return NO_RULES
        name = f"model:{limits.name}"
        if limits.per is not None:
            by_key = limits.per == "key" and key is not None and key.name != MASTER
            name += f":key:{key.name}" if by_key and key is not None else f":ip:{network_of(address, self._prefix)}"
        known = self._by_model.get(name)
        if known is None:
            rules = Rules.of(_rules(limits, KINDS, name, "model"), _places(limits, name, "model"))
            known = _kept(self._by_model, name, rules)
        return known

    def _per(self, name: str) -> str:
        """Whom the limits of the whole file are for, where they are those of this key."""
        return self._top.per or ("ip" if name == MASTER else "key")

    def _made(self, name: str, own: Limits, network: str) -> Rules:
        """The rules of a key: for each thing that is counted its own limits, or those of the whole file."""
        rules: list[Rule] = []
        places: list[Place] = []
        own_name = f"key:{name}" + (f":ip:{network}" if own.per == "ip" else "")
        is_ip = self._per(name) == "ip"
        top_name = f"ip:{network}" if is_ip else f"key:{name}"
        top_scope: Scope = "ip" if is_ip else "key"
        said = [kind for kind in KINDS if kind in own.hard or kind in own.soft]
        rules += _rules(own, said, own_name, "key")
        rules += _rules(self._top, [kind for kind in KINDS if kind not in said], top_name, top_scope)
        places += _places(own, own_name, "key") or _places(self._top, top_name, top_scope)
        return Rules.of(rules, places)


def _kept(known: dict[K, Rules], name: K, made: Rules) -> Rules:
    if len(known) >= MOST_ADDRESSES:
        known.clear()
    known[name] = made
    return made


def _has_amounts(limits: Limits) -> bool:
    return any(kind in rates for kind in ("tokens", "cost") for rates in (limits.hard, limits.soft))


def _rules(limits: Limits, kinds: Iterable[str], name: str, scope: Scope) -> list[Rule]:
    """A window for each time that is named, however often: the least of its limits counts."""
    rules = []
    for kind in kinds:
        hard, soft = _least(limits.hard.get(kind, ())), _least(limits.soft.get(kind, ()))
        for seconds in sorted({**hard, **soft}):
            limit = hard.get(seconds, UNLIMITED)
            told = soft.get(seconds, math.inf)
            window = Window(f"{name}:{kind}:{seconds:g}", limit, seconds)
            amount = told if limit >= UNLIMITED else limit
            rules.append(Rule(window, scope, kind, told, f"{amount:.15g} {kind} in {seconds_text(seconds)}"))
    return rules


def _least(rates: Iterable[Rate]) -> Mapping[float, float]:
    least: dict[float, float] = {}
    for rate in rates:
        least[rate.seconds] = min(rate.amount, least.get(rate.seconds, math.inf))
    return least


def _places(limits: Limits, name: str, scope: Scope) -> list[Place]:
    return [Place(name, limits.concurrent, scope)] if limits.concurrent is not None else []


def seconds_text(seconds: float) -> str:
    """A time as the file writes it: `15m`, `1d`."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"


@lru_cache(maxsize=MOST_ADDRESSES)
def network_of(address: str, prefix: int) -> str:
    """What counts as one address: one of IPv4, so many bits of IPv6, since a client has all that begin with them."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], prefix), strict=False))
    except ValueError:
        return address
