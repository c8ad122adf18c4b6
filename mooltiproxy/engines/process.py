"""One model server as a child process: its guard, and the file by which a later proxy finds what is left."""

import asyncio
import math
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from mooltiproxy.engines.driver import CannotStart
from mooltiproxy.engines.leftovers import Record
from mooltiproxy.engines.logs import Log

GUARD = Path(__file__).parent / "guard.py"
TOO_LONG = 1.0
"""Seconds beyond the grace after which the guard itself is killed."""
LONGEST_GRACE = 1e6
"""Seconds that stand for any time."""


@dataclass(frozen=True, slots=True)
class StopRequest:
    """A request that asks a server to end; header `fields` may hold its key."""

    url: str
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)
    method: str = "POST"


Stop = Sequence[str] | StopRequest
"""How a server is asked to end: the words of a command, a request, or, where there are no words, SIGTERM."""


class Process:
    """A running server; made by `start`. `ended` is its exit code once it has ended."""

    def __init__(self, guard: asyncio.subprocess.Process, log: Log) -> None:
        self.pid = 0
        self._guard = guard
        self._log = log
        self._record: Record | None = None
        self.ended = asyncio.ensure_future(self._gone())

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        cwd: Path,
        env: Mapping[str, str],
        grace: float,
        log: Log,
        stop: Stop = (),
    ) -> "Process":
        """Start it; raises CannotStart. Not to be cancelled: what has been started would be nobody's. `grace` are the
        seconds between `stop` and SIGKILL where the proxy itself is killed."""
        guarded = [sys.executable, "-I", "-S", str(GUARD), *command]
        pipe = asyncio.subprocess.PIPE
        try:
            guard = await asyncio.create_subprocess_exec(
                *guarded, cwd=cwd, env=dict(env), stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
            )
        except (OSError, ValueError) as error:
            raise CannotStart(f"it cannot be started: {_reason(error, cwd)}") from error
        process = cls(guard, log)
        assert guard.stdin is not None and guard.stderr is not None
        with suppress(ConnectionError, RuntimeError):  # it has ended already, and says why
            guard.stdin.write(_orders(grace, stop))
        told = (await guard.stderr.readline()).decode("utf-8", "replace").strip()
        if not told.isdigit():
            await process.ended
            reason = told.removeprefix("!") or "its guard has ended"
            raise CannotStart(f"`{command[0]}` cannot be started: {reason}")
        process.pid = int(told)
        process._record = Record.write(process.pid)
        return process

    async def stop(self, grace: float) -> None:
        """Ask it to end, make it end after `grace` seconds, and return when it and all of its group are gone. A second
        call can only shorten that."""
        assert self._guard.stdin is not None
        with suppress(ConnectionError, RuntimeError):
            self._guard.stdin.write(_orders(grace))
        limit = None if math.isinf(grace) else grace + TOO_LONG
        try:
            await asyncio.wait_for(asyncio.shield(self.ended), limit)
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._guard.kill()
            await self.ended

    async def _gone(self) -> int:
        assert self._guard.stdin is not None and self._guard.stdout is not None
        reading = asyncio.ensure_future(self._read(self._guard.stdout))
        code = await self._guard.wait()
        self._guard.stdin.close()
        if code < 0 and self.pid:  # somebody has killed the guard
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        await asyncio.wait([reading], timeout=TOO_LONG)  # what has left the group, too, may still hold the other end
        reading.cancel()
        if self._record is not None:
            self._record.remove()
        return code

    async def _read(self, output: asyncio.StreamReader) -> None:
        while data := await output.read(65536):
            self._log.add(data)


def _reason(error: Exception, cwd: Path) -> str:
    if not cwd.is_dir():
        return f"there is no folder {cwd}"
    return getattr(error, "strerror", None) or str(error)


def _orders(grace: float, stop: Stop = ()) -> bytes:
    """A line for the guard."""
    seconds = min(grace, LONGEST_GRACE)
    if isinstance(stop, StopRequest):
        fields = list(stop.fields.items())
        return orjson.dumps({"grace": seconds, "method": stop.method, "url": stop.url, "fields": fields}) + b"\n"
    return orjson.dumps({"grace": seconds, "command": list(stop)} if stop else seconds) + b"\n"
