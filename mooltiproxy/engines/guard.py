"""Starts one server in a session of its own and ends it, with all that it has started, when standard input ends.

Run as a script of its own, without anything of ours: `guard.py GRACE COMMAND...`. Standard output goes to the server,
for both of its outputs; to standard error we write its process id, or `!` and why there is none. Our standard input
has its other end in the proxy: it ends when the proxy does, however that was killed. A line there says how many seconds
of grace there are between SIGTERM and SIGKILL instead of GRACE. The exit code is the server's, 128 and the signal's
number where one has ended it.
"""

import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

CANNOT_START = 127
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(arguments: Sequence[str]) -> int:
    """Start the server, wait for its end or for ours; the exit code."""
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *SIGNALS):
        signal.signal(number, lambda number, frame: None)
    try:
        server = _started(arguments[1:])
    except OSError as error:
        os.write(2, f"!{error.strerror}\n".encode())
        return CANNOT_START
    with suppress(OSError):  # whoever should read it may be gone already
        os.write(2, f"{server}\n".encode())
    return _watch(server, woken, float(arguments[0]))


def _started(command: Sequence[str]) -> int:
    """The server's process, leader of a session and a group of its own."""
    files = ((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_DUP2, 1, 2))
    ours = (signal.SIGPIPE, signal.SIGCHLD, *SIGNALS)  # handled or ignored here, as the server must not inherit
    return os.posix_spawnp(command[0], list(command), os.environ, file_actions=files, setsid=True, setsigdef=ours)


def _watch(server: int, woken: int, grace: float) -> int:
    """Wait for the server; ask it to end when our input ends, and make it once the grace is over."""
    deadline: float | None = None
    inputs = [0, woken]
    while True:
        code = _ended(server)
        if code is not None:
            _signal_group(server, signal.SIGKILL)  # what it has started and left behind
            return code
        left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        readable = select.select(inputs, [], [], left)[0]
        signals = _read(woken) if woken in readable else b""
        if 0 in readable:
            grace = _told(_read(0), grace)
        if (0 in readable or any(number in signals for number in SIGNALS)) and deadline is None:
            inputs.remove(0)
            deadline = time.monotonic() + grace
            _signal_group(server, signal.SIGTERM)
        elif not readable:
            _signal_group(server, signal.SIGKILL)
            deadline = None


def _ended(server: int) -> int | None:
    pid, status = os.waitpid(server, os.WNOHANG)
    if not pid:
        return None
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _read(file: int) -> bytes:
    with suppress(OSError):
        return os.read(file, 4096)
    return b""


def _told(line: bytes, otherwise: float) -> float:
    with suppress(ValueError):
        return float(line)
    return otherwise


def _signal_group(server: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(server, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
