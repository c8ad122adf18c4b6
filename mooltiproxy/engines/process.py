"""One model server as a child process: its guard, its log, and the file by which a later proxy finds what is left."""

import asyncio
import math
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mooltiproxy.engines.leftovers import Record
from mooltiproxy.errors import MooltiError

GUARD = Path(__file__).parent / "guard.py"
LINES = 200
"""Lines of a server's output that are kept."""
LINE = 500
"""Characters of one of them."""
LAST_WORDS = 10
"""Lines that a message about its end quotes."""
TOO_LONG = 1.0
"""Seconds beyond the grace after which the guard itself is killed."""


class CannotStart(MooltiError):
    """There is no process: the command is not to be found, for instance."""


class Log:
    """The last lines of a server's output. Whatever it writes is taken at once, so that it never waits for us."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=LINES)
        self._rest = b""

    def add(self, data: bytes) -> None:
        """Take some output; of a line without end the first part counts."""
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._lines.append(_shown(line))
        self._rest = rest[: LINE * 4]

    def tail(self, lines: int, secrets: Sequence[str] = ()) -> list[str]:
        """The last lines, each secret in them masked."""
        found = [*self._lines, *([_shown(self._rest)] if self._rest else [])][-lines:]
        for secret in filter(None, secrets):
            found = [line.replace(secret, "***") for line in found]
        return found


def _shown(line: bytes) -> str:
    text = line.rstrip(b"\r").decode("utf-8", "replace")[:LINE]
    return "".join(char if char.isprintable() or char == "\t" else "\ufffd" for char in text)


class Process:
    """A running server; made by `start`. `ended` is its exit code once it has ended."""

    def __init__(self, guard: asyncio.subprocess.Process, log: Log) -> None:
        self.pid = 0
        self._guard = guard
        self._log = log
        self._record: Record | None = None
        self._stopping = False
        self.ended = asyncio.ensure_future(self._gone())

    @classmethod
    async def start(
        cls, command: Sequence[str], cwd: Path, env: Mapping[str, str], grace: float, log: Log
    ) -> "Process":
        """Start it; raises CannotStart. Not to be cancelled: what has been started would be nobody's."""
        guarded = [sys.executable, "-I", "-S", str(GUARD), str(grace), *command]
        pipe = asyncio.subprocess.PIPE
        try:
            guard = await asyncio.create_subprocess_exec(
                *guarded, cwd=cwd, env=dict(env), stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
            )
        except (OSError, ValueError) as error:
            raise CannotStart(f"it cannot be started: {getattr(error, 'strerror', None) or error}") from error
        process = cls(guard, log)
        assert guard.stderr is not None
        told = (await guard.stderr.readline()).decode("utf-8", "replace").strip()
        if not told.isdigit():
            await process.ended
            reason = told.removeprefix("!") or "its guard has ended"
            raise CannotStart(f"`{command[0]}` cannot be started: {reason}")
        process.pid = int(told)
        process._record = Record.write(process.pid)
        return process

    async def stop(self, grace: float) -> None:
        """Ask it to end, make it end after `grace` seconds, and return when it and all of its group are gone."""
        if not self._stopping:
            self._stopping = True
            stdin = self._guard.stdin
            assert stdin is not None
            with suppress(ConnectionError, RuntimeError):
                stdin.write(f"{min(grace, 1e6)}\n".encode())
                stdin.close()
        limit = None if math.isinf(grace) else grace + TOO_LONG
        try:
            await asyncio.wait_for(asyncio.shield(self.ended), limit)
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._guard.kill()
            await self.ended

    async def _gone(self) -> int:
        assert self._guard.stdout is not None
        reading = asyncio.ensure_future(self._read(self._guard.stdout))
        code = await self._guard.wait()
        if code < 0 and self.pid:  # somebody has killed the guard
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        with suppress(TimeoutError):  # what has left the group, too, may still hold the other end
            await asyncio.wait_for(reading, TOO_LONG)
        if self._record is not None:
            self._record.remove()
        return code

    async def _read(self, output: asyncio.StreamReader) -> None:
        while data := await output.read(65536):
            self._log.add(data)
