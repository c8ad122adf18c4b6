"""Sockets that were opened by somebody else, as systemd does."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from mooltiproxy.activation import handed_over
from tests.servers.proxy_process import KEY

ROOT = Path(__file__).parent.parent
CONFIG = """\
system: {{host: 192.0.2.1, port: 9, workers: {workers}}}
targets: {{default: a, a: {{url: "http://127.0.0.1:9", speaks: openai}}}}
"""


@contextmanager
def proxy_with(listening: socket.socket, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The proxy with this socket as its third file, and told so."""
    served = shlex.join([sys.executable, "-m", "mooltiproxy", "serve", "--config", str(folder / "config.yaml")])
    script = f"exec 3<&{listening.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=a exec {served}"
    environ = {**os.environ, "MOOLTIPROXY_KEY": KEY, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(["bash", "-c", script], pass_fds=[listening.fileno()], env=environ, cwd=folder) as process:
        try:
            yield process
        finally:
            process.kill()


def pinged(port: int) -> bytes:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/ping")
    body = connection.getresponse().read()
    connection.close()
    return body


@pytest.mark.parametrize("workers", [1, 2])
def test_whoever_connects_while_the_proxy_is_started_again_waits_and_is_answered(tmp_path: Path, workers: int) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG.format(workers=workers))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with proxy_with(listening, tmp_path) as process:
            assert pinged(port) == b"pong"
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        answers: list[bytes] = []
        waiting = threading.Thread(target=lambda: answers.append(pinged(port)))
        waiting.start()
        with proxy_with(listening, tmp_path):
            waiting.join(20)
        assert answers == [b"pong"]


def test_sockets_of_another_process_are_not_taken_and_nobody_is_told_of_them() -> None:
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b", "PATH": "/bin"}
    assert handed_over(environ) == []
    assert environ == {"PATH": "/bin"}
