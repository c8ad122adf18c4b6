"""Child processes that never outlive us, however and whenever we are interrupted."""

import atexit
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from mooltiproxy.errors import MooltiError

GRACE = 5.0
"""Seconds that a process has to end by itself after SIGTERM."""
POLL = 0.02
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interrupts:
    """Makes the first SIGINT, SIGTERM or SIGHUP a KeyboardInterrupt that can be held back; later ones do nothing."""

    def __init__(self) -> None:
        self._held = False
        self._pending = False
        self._raised = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals inside the block; one that is ignored (nohup) stays ignored."""
        before = {number: signal.getsignal(number) for number in SIGNALS}
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, self._arrive)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside the block nothing is interrupted; what arrived meanwhile is raised at its end."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._pending:
            self._raise()

    def _arrive(self, number: int, frame: FrameType | None) -> None:
        if self._held:
            self._pending = True
        else:
            self._raise()

    def _raise(self) -> None:
        if not self._raised:
            self._raised = True
            raise KeyboardInterrupt


class Child:
    """A running process whose output goes to a file."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.process = process
        self._log = log

    @property
    def output(self) -> str:
        """All that it has printed until now, standard error included."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def _last_words(self) -> str:
        return self.output.strip()[-2000:]

    def check(self) -> None:
        """Raise MooltiError if it has ended."""
        code = self.process.poll()
        if code is not None:
            raise MooltiError(f"the {self.name} ended with exit code {code}:\n{self._last_words}")

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Return once `ready`; raises MooltiError if it ends before, or takes longer than `seconds`."""
        deadline = time.monotonic() + seconds
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise MooltiError(f"the {self.name} did not answer within {seconds:g} s:\n{self._last_words}")
            time.sleep(POLL)


class Children:
    """Starts processes; the end of the `with` block ends all of them."""

    def __init__(self, folder: Path, interrupts: Interrupts) -> None:
        self._folder = folder
        self._interrupts = interrupts
        self._all: list[Child] = []
        atexit.register(self._end)  # for an interrupt that falls on the first instruction of __exit__

    def start(self, name: str, command: Sequence[str], environ: Mapping[str, str]) -> Child:
        """Start a process in a session of its own, so that Ctrl-C in the terminal reaches only us."""
        log = self._folder / f"{name}.log"
        with self._interrupts.held(), log.open("wb") as out:  # held: a child is never started and not recorded
            process = subprocess.Popen(
                command,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=os.name == "posix",
            )
            self._all.append(Child(name, process, log))
        return self._all[-1]

    def check(self) -> None:
        """Raise MooltiError if one of them has ended."""
        for child in self._all:
            child.check()

    def __enter__(self) -> "Children":
        return self

    def __exit__(self, *error: object) -> None:
        with self._interrupts.held():
            self._end()

    def _end(self) -> None:
        for child in self._all:
            child.process.terminate()
        deadline = time.monotonic() + GRACE
        for child in self._all:
            _wait_or_kill(child.process, deadline)


def _wait_or_kill(process: subprocess.Popen[bytes], deadline: float) -> None:
    try:
        process.wait(max(deadline - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
