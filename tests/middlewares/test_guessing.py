"""A scripted attack on the keys of a real proxy, over IPv4 and IPv6, with every header that could lie of its sender."""

import secrets
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.servers.proxy_process import KEY, Running, running_proxy
from tests.servers.toy import Toy, running_toy

TRIES = 5
LYING = ("X-Forwarded-For", "X-Real-IP", "Forwarded", "CF-Connecting-IP", "True-Client-IP", "X-Client-IP")
BYSTANDER = "127.0.0.77"
CONFIG = """
system: {host: "%s", port: 0, drain: 1}
cerbere: {max_tries: %d, ban: 1h}
targets: {default: toy, toy: {url: "%s", mapping: {/info: }}}
"""


@pytest.fixture(scope="module")
def toy() -> Iterator[Toy]:
    with running_toy() as toy:
        yield toy


@pytest.fixture(scope="module")
def running(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_proxy(tmp_path_factory.mktemp("guessing"), CONFIG % ("127.0.0.1", TRIES, toy.url)) as running:
        yield running


def asked(running: Running, sender: str, key: str, path: str = "/info", **fields: str) -> int:
    """The status that somebody gets who comes from this address."""
    at = sender if ":" in sender else "127.0.0.1"
    with closing(HTTPConnection(at, running.port, timeout=20, source_address=(sender, 0))) as connection:
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}", **fields})
        return connection.getresponse().status


def lies() -> dict[str, str]:
    return dict.fromkeys(LYING, secrets.choice(("192.0.2.1", BYSTANDER, "::1", "127.0.0.1", "unknown")))


def guessed(running: Running, sender: str) -> list[int]:
    """What sixty guesses get, ten at a time."""
    with ThreadPoolExecutor(10) as pool:
        return sorted(pool.map(lambda _: asked(running, sender, secrets.token_urlsafe(8), **lies()), range(60)))


@pytest.mark.parametrize("sender", ["127.0.0.2", "127.0.0.3"])
def test_a_guesser_gets_so_many_tries_and_bans_nobody_else(running: Running, sender: str) -> None:
    assert guessed(running, sender) == [401] * TRIES + [403] * (60 - TRIES)
    assert asked(running, sender, KEY, **lies()) == 403
    assert asked(running, BYSTANDER, KEY) == 200


def test_a_guesser_over_ipv6_gets_no_more(toy: Toy, tmp_path: Path) -> None:
    with running_proxy(tmp_path, CONFIG % ("::1", TRIES, toy.url)) as running:
        assert guessed(running, "::1") == [401] * TRIES + [403] * (60 - TRIES)
        assert asked(running, "::1", KEY, **lies()) == 403


def test_a_scanner_is_banned_without_ever_sending_a_key(running: Running) -> None:
    statuses = [asked(running, "127.0.0.4", "", f"/{number}/wp-login.php") for number in range(4 * TRIES + 5)]
    assert statuses[0] == 401 and statuses[-1] == 403
    assert asked(running, "127.0.0.4", KEY) == 403


def test_who_is_banned_is_sent_away_before_the_body(running: Running) -> None:
    for _ in range(TRIES):
        asked(running, "127.0.0.5", "wrong")
    with socket.create_connection(("127.0.0.1", running.port), 20, ("127.0.0.5", 0)) as connection:
        connection.sendall(b"POST /info HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 403") and b"connection: close" in answer.lower()


def test_hundreds_of_bans_are_told_by_the_proxy(running: Running) -> None:
    with closing(HTTPConnection("127.0.0.1", running.port, timeout=20)) as connection:
        for number in range(300):
            body = b'{"address": "198.51.%d.%d"}' % divmod(number, 250)
            connection.request("POST", "/-/bans", body, {"Authorization": f"Bearer {KEY}"})
            answer = connection.getresponse()
            listed = answer.read()
    assert listed.count(b"198.51.") == 300
    assert asked(running, BYSTANDER, KEY) == 200
