"""Child processes on chosen cores, ended by their pid on every exit, and what the kernel says of them (Linux)."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 20.0
END_SECONDS = 3.0
LOG_SHOWN = 800
TICKS = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """A measure cannot be taken; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Process:
    """A running child that answered its first /ping `startup` seconds after it was spawned."""

    pid: int
    startup: float

    def cpu_seconds(self) -> float:
        """User and kernel time so far (proc(5), /proc/PID/stat, fields 14 and 15)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss(self) -> int:
        """Resident memory in bytes (proc(5), /proc/PID/statm, second field)."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str],
    port: int,
    log: Path,
    *,
    cpu: int | None,
    env: dict[str, str],
    is_ready: Callable[[int], bool] | None = None,
) -> Iterator[Process]:
    """Run `command` on one core, or where it likes, its output in `log`, from its first 200 at /ping, or from when
    `is_ready` holds for its port, until the block is left.

    Raises BenchError with the end of its log if it ends or stays silent.
    """
    with log.open("wb") as output:
        started = time.perf_counter()
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **env},
            stdout=output,
            stderr=output,
            # The child's, before it can start a thread.
            preexec_fn=None if cpu is None else partial(os.sched_setaffinity, 0, {cpu}),
        )
    try:
        _wait_until_ready(child, is_ready or pings, port, started, log)
        yield Process(child.pid, time.perf_counter() - started)
    finally:
        _end(child)


def _wait_until_ready(
    child: subprocess.Popen[bytes], is_ready: Callable[[int], bool], port: int, started: float, log: Path
) -> None:
    while not is_ready(port):
        if child.poll() is not None:
            raise BenchError(f"ended with {child.returncode} before it was ready:\n{_end_of(log)}")
        if time.perf_counter() - started > READY_SECONDS:
            raise BenchError(f"not ready in {READY_SECONDS:.0f} s:\n{_end_of(log)}")
        time.sleep(0.001)


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-LOG_SHOWN:]


def listens(port: int) -> bool:
    """Whether anybody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def pings(port: int) -> bool:
    """Whether /ping is answered with 200 there."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"GET /ping HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")
            return connection.recv(4096).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
