"""The sockets that workers listen on. The supervisor keeps them open, so that what has come to one whose worker has
died waits there for its successor."""

import socket
import sys
from contextlib import ExitStack
from typing import Any

BACKLOG = 2048
SPREADS = sys.platform == "linux"
"""Whether the kernel spreads connections over sockets that share an address (SO_REUSEPORT, socket(7)): on other systems
the last one gets all of them, or there is no such thing."""

Listening = list[socket.socket]
"""One socket for each address of a host."""


def listening(host: str, port: int, workers: int) -> list[Listening]:
    """The sockets of each worker, all on one port where `port` is 0. Raises OSError: also where somebody else listens
    already, who would share the port without being asked."""
    with ExitStack() as ours:
        alone = _alone(_addresses(host, port), ours)
        if not SPREADS:
            return shared([_listens(one) for one in alone], workers)
        names = [(one.family, one.getsockname()) for one in alone]
    with ExitStack() as ours:
        made = [[ours.enter_context(_bound(*name, shares=True)) for name in names] for _ in range(workers)]
        for one in (one for sockets in made for one in sockets):
            _listens(one)
        ours.pop_all()
    return made


def abandon(sockets: Listening) -> None:
    """Let connections go to the other workers: what waits here is reset. The same sockets come back as such that nobody
    can connect to until a worker listens on them. Where all workers share one socket the others serve its queue."""
    if not SPREADS:
        return
    for place, one in enumerate(sockets):
        if not one.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
            continue  # it was handed over, and is everybody's
        family, name = one.family, one.getsockname()
        one.close()
        sockets[place] = _bound(family, name, shares=True)


def shared(given: Listening, workers: int) -> list[Listening]:
    """The same sockets for each worker: whichever is free first gets a connection."""
    return [[one.dup() for one in given] for _ in range(workers)]


def _alone(addresses: list[tuple[int, Any]], ours: ExitStack) -> Listening:
    """Sockets that nobody shares, on the same port."""
    made: Listening = []
    for family, (host, port, *others) in addresses:
        picked = made[0].getsockname()[1] if made else port
        made.append(ours.enter_context(_bound(family, (host, picked, *others))))
    return made


def _addresses(host: str, port: int) -> list[tuple[int, Any]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((int(family), address) for family, _, _, _, address in found))


def _bound(family: int, address: Any, *, shares: bool = False) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shares:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


def _listens(bound: socket.socket) -> socket.socket:
    bound.listen(BACKLOG)
    bound.setblocking(False)
    return bound
