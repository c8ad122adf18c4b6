"""Starts one server in a session of its own and ends it, with all that it has started, when standard input ends.

Run as a script of its own, without anything of ours: `guard.py COMMAND...`. Our standard input has its other end in the
proxy: it ends when the proxy does, however that was killed. Its first line, which we wait for, is JSON: the seconds of
grace between asking the server to end and SIGKILL, or an object with what `Orders` takes: keys come this way, since
others can see arguments. A second line is the grace that counts instead, and ends the server as the end of the input
does; later ones can only shorten that.

What the server has started goes with it, also what has left its session: on Linux such processes become our children.

Standard output goes to the server, for both of its outputs, and to the command; to standard error we write the server's
process id, or `!` and why there is none. The exit code is the server's, 128 and the signal's number where one has ended
it. Where it cannot be asked, or answers that it will not, it gets SIGTERM.
"""

import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

CANNOT_START = 127
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PROXY = 0
"""Our standard input."""
LONGEST = float("inf")
SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2)."""
SWEEP = 1.0
"""Seconds for which we see to the end of what is left."""


def main(command: Sequence[str]) -> int:
    """Start the server, wait for its end or for ours; the exit code."""
    woken = _woken_by_signals()
    with open(PROXY, "rb", buffering=0, closefd=False) as proxy:
        line = proxy.readline()
    if not line.endswith(b"\n"):
        return CANNOT_START  # the proxy is gone already
    orders = _orders(line)
    _adopt_orphans()
    try:
        server = _spawned(command, 1)
    except OSError as error:
        os.write(2, f"!{error.strerror}\n".encode())
        return CANNOT_START
    with suppress(OSError):  # whoever should read it may be gone already
        os.write(2, f"{server}\n".encode())
    return Guard(server, orders).watch(woken)


class Orders:
    """How the server is to be ended: by a `command`, by a request with `method`, `url` and header `fields`, or else by
    SIGTERM, with `grace` seconds before SIGKILL."""

    def __init__(
        self,
        grace: float,
        command: Sequence[str] = (),
        method: str = "",
        url: str = "",
        fields: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.grace = grace
        self.command = command
        self.method = method
        self.url = url
        self.fields = dict(fields)


class Guard:
    """Watches over one server. `asking` is the process that asks it to end; it may go on when the server has ended."""

    def __init__(self, server: int, orders: Orders) -> None:
        self._server = server
        self._orders = orders
        self._code: int | None = None
        self._asking = 0
        self._deadline: float | None = None
        self._is_ending = False

    def watch(self, woken: int) -> int:
        """Wait for the server, end it when our input ends or a signal says so; its exit code. `woken` can be read
        when a signal has come."""
        inputs = [woken, PROXY]
        while True:
            left = None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)
            readable = select.select(inputs, [], [], left)[0]
            signals = _read(woken) if woken in readable else b""
            line = _read(PROXY) if PROXY in readable else None
            if line == b"":
                inputs.remove(PROXY)
            if not readable:
                self._kill()
            elif self._is_ending:
                self._hurry(_grace(line or b"", LONGEST))
            elif line is not None or any(number in signals for number in SIGNALS):
                self._end(_grace(line or b"", self._orders.grace), None if line == b"" else 1)
            self._reap()
            if self._code is not None and not self._asking:
                _sweep()
                return self._code

    def _end(self, grace: float, output: int | None) -> None:
        """Ask the server to end; what that says goes to `output`, None where nobody reads it any more."""
        self._is_ending = True
        self._deadline = time.monotonic() + grace
        try:
            if self._orders.command:
                self._asking = _spawned(self._orders.command, output)
            elif self._orders.url:
                self._asking = _forked(self._orders, output)
        except OSError as error:
            _say(output, f"its stop command cannot be started: {error.strerror}")
        if not self._asking:
            _signal_group(self._server, signal.SIGTERM)

    def _hurry(self, grace: float) -> None:
        """End it within these seconds, if it is to take longer now."""
        if self._deadline is not None:
            self._deadline = min(self._deadline, time.monotonic() + grace)

    def _reap(self) -> None:
        """See what has ended."""
        ended = dict(_ended())
        if self._server in ended:
            self._code = ended[self._server]
            _signal_group(self._server, signal.SIGKILL)  # what it has started and left behind
        if self._asking not in ended:
            return
        refused, self._asking = ended[self._asking], 0
        if refused and self._code is None:
            _signal_group(self._server, signal.SIGTERM)

    def _kill(self) -> None:
        """The grace is over."""
        self._deadline = None
        if self._code is None:
            _signal_group(self._server, signal.SIGKILL)
        if self._asking:
            _signal_group(self._asking, signal.SIGKILL)


def _woken_by_signals() -> int:
    """What can be read when a child has ended, or one of `SIGNALS` has come: their numbers."""
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *SIGNALS):
        signal.signal(number, lambda number, frame: None)
    return woken


def _orders(line: bytes) -> Orders:
    with suppress(ValueError):
        return Orders(float(line))
    import json  # noqa: TID251  # none but the standard library's is here, and most servers do not need it

    return Orders(**json.loads(line))


def _spawned(command: Sequence[str], output: int | None) -> int:
    """A new process, leader of a session and a group of its own; raises OSError."""
    out = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0) if output is None else (os.POSIX_SPAWN_DUP2, output, 1)
    files = ((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), out, (os.POSIX_SPAWN_DUP2, 1, 2))
    ours = (signal.SIGPIPE, signal.SIGCHLD, *SIGNALS)  # handled or ignored here, as it must not inherit
    return os.posix_spawnp(command[0], list(command), os.environ, file_actions=files, setsid=True, setsigdef=ours)


def _forked(orders: Orders, output: int | None) -> int:
    """A process, in a group of its own, that sends the request and ends with 0 where the answer is good."""
    pid = os.fork()
    if pid:
        os.setpgid(pid, pid)
        return pid
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        code = 0 if _sent(orders, output) else 1
    finally:
        os._exit(code)


def _sent(orders: Orders, output: int | None) -> bool:
    from http.client import HTTPConnection, HTTPException, HTTPSConnection
    from urllib.parse import urlsplit

    url = urlsplit(orders.url)
    kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
    try:
        connection = kind(url.hostname or "", url.port, timeout=orders.grace or None)
        connection.request(orders.method, url._replace(scheme="", netloc="").geturl(), headers=orders.fields)
        status = connection.getresponse().status
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__  # others may quote a key
        _say(output, f"its stop request could not be sent: {reason}")
        return False
    if not 200 <= status < 300:
        _say(output, f"its stop request was answered with {status}")
    return 200 <= status < 300


def _say(output: int | None, text: str) -> None:
    if output is not None:
        with suppress(OSError):
            os.write(output, f"{text}\n".encode())


def _ended() -> Iterator[tuple[int, int]]:
    """The children that have ended, with their exit codes."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            code = os.waitstatus_to_exitcode(ended[1])
            yield ended[0], code if code >= 0 else 128 - code


def _adopt_orphans() -> None:
    """Become the parent of those below us whose own parent ends; Linux only."""
    if sys.platform == "linux":
        with suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)


def _sweep() -> None:
    """End what is left below us, and its children, who become ours."""
    until = time.monotonic() + SWEEP
    while (left := list(_children())) and time.monotonic() < until:
        for child in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
        dict(_ended())


def _children() -> Iterator[int]:
    """Our children that have not ended, as far as /proc tells."""
    ours = str(os.getpid()).encode()
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdigit():
            with suppress(OSError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
                state, parent = file.read().rpartition(b")")[2].split()[:2]
                if parent == ours and state != b"Z":
                    yield int(name)


def _read(file: int) -> bytes:
    with suppress(OSError):
        return os.read(file, 4096)
    return b""


def _grace(lines: bytes, otherwise: float) -> float:
    with suppress(ValueError):
        return min(float(line) for line in lines.split())
    return otherwise


def _signal_group(leader: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
