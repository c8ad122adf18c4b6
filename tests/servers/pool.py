"""The processes of a proxy with workers, seen from outside: who they are, and which of them has which connection."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

from tests.servers.proxy_process import KEY, Running

HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
ESTABLISHED = "01"


def eventually(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Returns once this is so; fails if it is not within that time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def workers(running: Running) -> list[int]:
    """The workers' process ids."""
    return [pid for pid in children(running.process.pid) if b"--worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def children(pid: int) -> list[int]:
    """The process ids of those that a process has started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_there(pid: int) -> bool:
    """Whether this process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def worker_of(connection: HTTPConnection, pids: list[int]) -> int:
    """Which of these processes has the other end of a connection, once one of them has accepted it."""
    assert isinstance(connection.sock, socket.socket)
    ours, theirs = connection.sock.getsockname()[1], connection.sock.getpeername()[1]
    inode = next(
        fields[9]
        for fields in map(str.split, Path("/proc/net/tcp").read_text().splitlines()[1:])
        if _port(fields[1]) == theirs and _port(fields[2]) == ours and fields[3] == ESTABLISHED
    )
    return next(pid for pid in pids if f"socket:[{inode}]" in _open_files(pid))


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


def _open_files(pid: int) -> set[str]:
    found = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(os.readlink(file))
        except OSError:
            continue
    return found


def connected(port: int, source: str = "127.0.0.1") -> HTTPConnection:
    """A connection from this address that has got an answer already."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20, source_address=(source, 0))
    assert got(connection, "/ping") == (200, b"pong")
    return connection


def got(connection: HTTPConnection, path: str, key: str = KEY) -> tuple[int, bytes]:
    """The status and body of a GET."""
    connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
    response = connection.getresponse()
    return response.status, response.read()


@contextmanager
def spread(
    port: int, pids: list[int], each: int = 1, source: str = "127.0.0.1"
) -> Iterator[list[list[HTTPConnection]]]:
    """Connections to each of these workers, so many, from one address; closed at the end."""
    found: dict[int, list[HTTPConnection]] = {pid: [] for pid in pids}
    with ExitStack() as opened:
        for _ in range(200):
            connection = opened.enter_context(closing(connected(port, source)))
            of_worker = found[worker_of(connection, pids)]
            if len(of_worker) < each:
                of_worker.append(connection)
            else:
                connection.close()
            if all(len(of_worker) == each for of_worker in found.values()):
                break
        yield list(found.values())
