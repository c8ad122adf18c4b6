"""Whether the servers of a configuration can run on one machine at all, beside those that are never stopped."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from mooltiproxy.config.model import PORT, Config
from mooltiproxy.config.servers import Wanted, wanted
from mooltiproxy.config.shapes import Where

Found = tuple[Where, str]
"""A place in the file, and what is wrong there."""


def impossible(config: Config) -> Iterator[Found]:
    """What could never be, and what would push each other out at once."""
    servers = list(wanted(config))
    groups: defaultdict[str, list[Wanted]] = defaultdict(list)
    for server in servers:
        if server.group:
            groups[server.group].append(server)
    for members in groups.values():
        yield from _crowded(members)
    yield from _at_one_port(servers)
    pinned = [server for server in servers if server.run.pin]
    for server in servers:
        yield from _too_large(server, config.system.budget, [one for one in pinned if one is not server])


def _crowded(members: Sequence[Wanted]) -> Iterator[Found]:
    """A group whose place is never free, or is fought for from the start."""
    first, *others = members
    for member in members:
        if member.run.pin and others:
            other = next(one for one in members if one is not member)
            yield _at(member, "pin"), f"{other.name} is in the same group and could never run beside it"
    for member in [one for one in members if one.run.preload][1:]:
        yield _at(member, "preload"), "another server of its group is started with the proxy already"


def _at_one_port(servers: Sequence[Wanted]) -> Iterator[Found]:
    """Servers of ours that listen at the same place, and could run at the same time."""
    first_at: dict[str, Wanted] = {}
    for server in servers:
        if server.run.engine is None and PORT not in server.target.url:
            first = first_at.setdefault(urlsplit(server.target.url).netloc, server)
            if first is not server and not (server.group and server.group == first.group):
                what = f"{first.name} listens there, too: give both the same `run.group`, or let {PORT} be picked"
                yield ("targets", server.target.name, "url"), what


def _too_large(server: Wanted, budget: Mapping[str, int], pinned: Sequence[Wanted]) -> Iterator[Found]:
    for resource, needed in server.memory.items():
        taken = sum(one.memory.get(resource, 0) for one in pinned)
        if resource in budget and needed + taken > budget[resource]:
            beside = " beside the servers with `pin`" if needed <= budget[resource] else ""
            yield _at(server, "memory"), f"{server.name} has no room in system.budget.{resource}{beside}"


def _at(server: Wanted, key: str) -> Where:
    return ("targets", server.target.name, "run", key)
