"""What became of each leaf of a request: found in what is sent, changed by a rule that has a name, or in the ledger."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

ATOMS = re.compile(r"parameters|schema|input_schema|metadata|logit_bias|arguments|input|prediction|field_of_tomorrow")
"""Fields that count as one leaf, whatever they hold."""


@dataclass(frozen=True)
class Leaf:
    """A value that a request says. `place` is where, without the numbers of lists: `messages[].content`."""

    place: str
    value: Any


@dataclass(frozen=True)
class Sent:
    """What was made of a request."""

    target: str
    asked: Mapping[str, Any]
    body: Any
    path: str
    dropped: tuple[str, ...]
    leaves: list[Any] = field(default_factory=list)

    def has(self, value: Any) -> bool:
        """Whether a value is sent: a text as a piece of a text, anything else as it is."""
        if isinstance(value, str):
            return value in self.path or any(isinstance(one, str) and value in one for one in self.leaves)
        return any(type(one) is type(value) and one == value for one in self.leaves)

    def says(self, name: str, value: Any) -> bool:
        """Whether a field of this name is sent with this value, wherever it is."""
        return any(one == value and type(one) is type(value) for one in values_at(self.body, name))

    def ledger(self) -> set[str]:
        """The names of the fields that were dropped or clamped."""
        names = (entry.removeprefix("clamped ").partition(" ")[0] for entry in self.dropped)
        return {re.sub(r"\[\d+\]", "[]", name) for name in names}


Rule = Callable[[Leaf, Sent], bool]
"""Whether a leaf's meaning is kept, although the leaf as such is not sent."""


def leaves(value: Any, place: str = "") -> Iterator[Leaf]:
    """Every leaf below a value."""
    if place and ATOMS.fullmatch(place.rpartition(".")[2]):
        yield Leaf(place, value)
    elif isinstance(value, dict):
        for name, below in value.items():
            yield from leaves(below, f"{place}.{name}" if place else name)
    elif isinstance(value, list):
        for below in value:
            yield from leaves(below, f"{place}[]")
    else:
        yield Leaf(place, value)


def everything(value: Any) -> Iterator[Any]:
    """A value and all values below it, texts that hold JSON read as well."""
    yield value
    if isinstance(value, str) and value.startswith("{"):
        yield orjson.loads(value)
    if isinstance(value, dict | list):
        for below in value.values() if isinstance(value, dict) else value:
            yield from everything(below)


def values_at(value: Any, name: str) -> Iterator[Any]:
    """The values of all fields of this name."""
    if isinstance(value, dict):
        yield from ([value[name]] if name in value else [])
        value = list(value.values())
    if isinstance(value, list):
        for below in value:
            yield from values_at(below, name)


def unexplained(sent: Sent, rules: Mapping[str, Rule], names: Mapping[str, str]) -> list[Leaf]:
    """The leaves that are neither sent, nor changed by a rule, nor named in the ledger.

    `rules` and `names` (other names in the ledger) are by place, or by the end of a place.
    """
    ledger = sent.ledger()
    return [leaf for leaf in leaves(sent.asked) if not _explained(leaf, sent, rules, names, ledger)]


def _explained(leaf: Leaf, sent: Sent, rules: Mapping[str, Rule], names: Mapping[str, str], ledger: set[str]) -> bool:
    rule = _at(rules, leaf.place)
    if rule is not None and rule(leaf, sent):
        return True
    if rule is None and sent.has(leaf.value):
        return True
    return bool(ledger & {*_prefixes(leaf.place), *str(_at(names, leaf.place) or "").split()})


def _prefixes(place: str) -> Iterator[str]:
    """The place, all that it is part of, and the same as a dialect names it that does not say where in a list."""
    parts = place.split(".")
    for length in range(1, len(parts) + 1):
        yield ".".join(parts[:length])
        yield ".".join(parts[:length]).replace("[]", "")


def _at(table: Mapping[str, Any], place: str) -> Any:
    """The entry for a place: the longest end of it that the table has."""
    parts = place.split(".")
    return next((table[end] for at in range(len(parts)) if (end := ".".join(parts[at:])) in table), None)
