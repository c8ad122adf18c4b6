"""The sockets of the workers."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from mooltiproxy.workers import sockets
from mooltiproxy.workers.sockets import Listening, abandon, listening


@contextmanager
def bound(host: str, port: int, workers: int) -> Iterator[list[Listening]]:
    with ExitStack() as opened:
        made = listening(host, port, workers)
        for one in (one for place in made for one in place):
            opened.callback(one.close)
        yield made


def accepted(place: Listening) -> int:
    """How many connections wait there."""
    found = 0
    for one in place:
        try:
            while True:
                one.accept()[0].close()
                found += 1
        except BlockingIOError:
            continue
    return found


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_port_0_is_the_same_port_for_all_workers_and_addresses(host: str) -> None:
    with bound(host, 0, 3) as made:
        ports = {one.getsockname()[1] for place in made for one in place}
        assert len(made) == 3 and len(ports) == 1 and ports != {0}


def test_connections_are_spread_over_the_workers() -> None:
    with bound("127.0.0.1", 0, 2) as made, ExitStack() as opened:
        for _ in range(64):
            opened.enter_context(socket.create_connection(made[0][0].getsockname()))
        counts = [accepted(place) for place in made]
    assert sum(counts) == 64 and min(counts) > 10


def test_a_port_that_somebody_listens_on_is_not_shared_with_them() -> None:
    with bound("127.0.0.1", 0, 2) as made:
        port = made[0][0].getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            listening("127.0.0.1", port, 2)


def test_nobody_is_sent_to_a_place_that_is_abandoned() -> None:
    with bound("127.0.0.1", 0, 2) as made, ExitStack() as opened:
        abandon(made[0])
        opened.callback(made[0][0].close)
        name = made[1][0].getsockname()
        for _ in range(32):
            opened.enter_context(socket.create_connection(name))
        assert accepted(made[1]) == 32
        made[0][0].listen()
        made[0][0].setblocking(False)
        for _ in range(64):
            opened.enter_context(socket.create_connection(name))
        assert accepted(made[0]) > 10


def test_where_the_kernel_does_not_spread_connections_all_share_one_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "SPREADS", False)
    with bound("127.0.0.1", 0, 2) as made, ExitStack() as opened:
        name = made[0][0].getsockname()
        abandon(made[0])
        for _ in range(8):
            opened.enter_context(socket.create_connection(name))
        assert accepted(made[1]) == 8
