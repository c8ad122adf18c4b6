"""The proxy as a real process: `with running_proxy(folder, config) as process: ...`."""

import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KEY = "the-proxy-key"


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Running:
    """A proxy process, the lines of its log that nobody has looked at yet, and the port that it listens on."""

    process: subprocess.Popen[str]
    lines: "queue.Queue[str | None]"
    port: int = 0

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float) -> int:
        return self.process.wait(timeout)

    def line_with(self, wanted: str) -> str:
        """The next line of the log that holds this text; fails if it does not come."""
        seen = []
        while (line := self.lines.get(timeout=10)) is not None:
            if wanted in line:
                return line
            seen.append(line)
        raise AssertionError(f"the proxy ended without saying {wanted!r}: {''.join(seen)}")


@contextmanager
def running_proxy(
    folder: Path, config: str, *options: str, key: str | None = KEY, program: Sequence[str] = ("-m", "mooltiproxy")
) -> Iterator[Running]:
    """Start `mooltiproxy serve` on this configuration file and wait until it listens; killed at the end.

    Its log is read all the time: a full pipe would stop it. Its access log goes to `access.txt` in the folder.
    """
    file = folder / "config.yaml"
    file.write_text(config)
    command = [sys.executable, *program, "serve", "--config", str(file), *options]
    environ = {**os.environ, "MOOLTIPROXY_KEY": key or "", "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    with open(folder / "access.txt", "w") as access:
        process = subprocess.Popen(command, stdout=access, stderr=subprocess.PIPE, text=True, env=environ, cwd=folder)
    running = Running(process, queue.Queue())
    reader = threading.Thread(target=_read, args=(running,))
    reader.start()
    with process:
        try:
            running.port = int(running.line_with("listening on").rpartition(":")[2])
            yield running
        finally:
            process.kill()
            reader.join(5)


def _read(running: Running) -> None:
    assert running.process.stderr is not None
    for line in running.process.stderr:
        running.lines.put(line)
    running.lines.put(None)
