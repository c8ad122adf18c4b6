"""Mapping entries that name two dialects (`from`, `to`): which endpoints are meant."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from voluptuous import Invalid

from mooltiproxy.mapping.dialect import STAND_INS, Dialect, Endpoint, Kind
from mooltiproxy.mapping.translate import endpoint_at

Place = tuple[Dialect, Endpoint]

DEFAULT_KIND: Kind = "chat"
FUNCTIONS = ("in", "out", "stream")


def pair(dialects: Mapping[str, Dialect], client_path: str, entry: Mapping[str, Any]) -> tuple[Place, Place]:
    """The client's endpoint and the target's of an entry that has `to`; raises Invalid where there are none.

    The paths say which endpoints these are; where both are of the user's own making it is about chat.
    """
    to = dialects[entry["to"]]
    asked = [endpoint for endpoint in to.endpoints if _is_asked_at(to, endpoint, str(entry.get("path", "")))]
    kinds_there = [endpoint.kind for endpoint in asked]
    kind = DEFAULT_KIND if DEFAULT_KIND in kinds_there or not asked else kinds_there[0]
    client = _client(dialects, client_path, entry, kind)
    kinds = (client[1].kind, *STAND_INS.get(client[1].kind, ()))
    found = _first_of(kinds, asked or to.endpoints)
    if found is None and asked:
        message = f"{client[0].name}'s {client[1].kind} cannot be asked at {entry['path']}, which is {kind}"
        raise Invalid(message, ["path"])
    if found is None:
        raise Invalid(f"{to.name} has nothing for {client[1].kind} of {client[0].name}", ["to"])
    return client, (to, found)


def fitting_pairs(dialects: Mapping[str, Dialect], target: Mapping[str, Any]) -> Iterator[Invalid]:
    """What is wrong with the entries of a target's `mapping` that name dialects, as they stand in the file."""
    mapping = target.get("mapping")
    for client_path, entry in mapping.items() if isinstance(mapping, dict) else ():
        try:
            if isinstance(entry, dict) and entry.get("to") in dialects and entry.get("from", entry["to"]) in dialects:
                pair(dialects, str(client_path), entry)
        except Invalid as error:
            yield Invalid(error.msg, ["mapping", client_path, *error.path])


def names_one_way(entry: Mapping[str, Any]) -> Iterator[Invalid]:
    """An entry names functions, or dialects, or neither."""
    if "from" in entry and "to" not in entry:
        yield Invalid("expected `to:` beside it, the dialect that the target speaks at this path", ["from"])
    mixed = [name for name in FUNCTIONS if name in entry]
    if "to" in entry and mixed:
        yield Invalid("expected either functions (in, out, stream) or dialects (from, to), not both", [mixed[0]])


def _client(dialects: Mapping[str, Dialect], client_path: str, entry: Mapping[str, Any], kind: Kind) -> Place:
    named = entry.get("from")
    known = _at({named: dialects[named]} if named else dialects, client_path)
    if known is not None:
        return known
    if not named:
        raise Invalid("expected `from:`, the dialect of the clients: no dialect has this path", ["to"])
    endpoint = _first_of((kind, *STAND_INS.get(kind, ())), dialects[named].endpoints)
    if endpoint is None:
        raise Invalid(f"{named} has no {kind}", ["from"])
    return dialects[named], endpoint


def _at(dialects: Mapping[str, Dialect], path: str) -> Place | None:
    """Whose endpoint a client's path is, with or without the base of its API."""
    bases = dict.fromkeys(["", *(dialect.base for dialect in dialects.values())])
    return next(filter(None, (endpoint_at(dialects, base + path) for base in bases)), None)


def _is_asked_at(dialect: Dialect, endpoint: Endpoint, path: str) -> bool:
    known = {*endpoint.paths, endpoint.target_path}
    return bool(path) and not known.isdisjoint({path, dialect.base + path})


def _first_of(kinds: Iterable[Kind], endpoints: Collection[Endpoint]) -> Endpoint | None:
    return next((endpoint for kind in kinds for endpoint in endpoints if endpoint.kind == kind), None)
