"""The sockets of the workers."""

import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import aiohttp
import pytest

from mooltiproxy.bans import Bans
from mooltiproxy.certs import write_pair
from mooltiproxy.config.load import from_data
from mooltiproxy.endpoints.reload import Outcome
from mooltiproxy.engines.owner import Engines
from mooltiproxy.metrics import Metrics
from mooltiproxy.server import Server, Shared
from mooltiproxy.upstream.session import PooledSession
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


async def no_reload() -> Outcome:
    return Outcome(False, [])


async def test_what_is_handed_in_is_served_with_tls(tmp_path: Path) -> None:
    cert, _ = write_pair(tmp_path / "certificates")
    target = {"url": "http://127.0.0.1:9", "speaks": "tgi"}
    data = {"targets": {"default": "one", "one": target}, "system": {"ssl": True}}
    config = from_data(data, tmp_path, {"MOOLTIPROXY_KEY": "the-proxy-key"})
    metrics, session = Metrics(), PooledSession()
    with bound("127.0.0.1", 0, 1) as [place]:
        shared = Shared(
            Bans(config.cerbere), metrics, Engines(session, metrics), sys.stdout, [place[0].dup()], no_reload
        )
        server = Server(config, shared=shared)
        await server.start()
        context = ssl.create_default_context(cafile=str(cert))
        async with aiohttp.ClientSession() as client, client.get(f"{server.urls[0]}/ping", ssl=context) as response:
            assert (response.url.scheme, await response.text()) == ("https", "pong")
        await server.drain(0)
        await session.close()
