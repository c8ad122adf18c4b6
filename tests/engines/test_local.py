"""Servers that are processes: what they are given."""

import socket

from mooltiproxy.engines.local import PORTS, free_port


def test_each_server_gets_another_port_and_none_that_is_taken() -> None:
    first = free_port()
    with socket.socket() as taken:
        following = PORTS[(PORTS.index(first) + 1) % len(PORTS)]
        taken.bind(("127.0.0.1", following))
        second = free_port()
    assert len({first, following, second} & set(PORTS)) == 3
