"""The toy TGI server as a real process, for tests: `with running_toy("--delay", "0.05") as toy: ... toy.url ...`."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Toy:
    """A running toy server: its address, its process and the events that it has logged."""

    url: str
    port: int
    process: subprocess.Popen[str]
    log: Path

    def events(self, event: str = "") -> list[dict[str, Any]]:
        """The events logged until now (`request`, `started`, `finished`, ...), or those of one name."""
        whole_lines = self.log.read_text().rpartition("\n")[0].split("\n") if self.log.exists() else []
        events = [orjson.loads(line) for line in whole_lines if line]
        return [found for found in events if event in ("", found["event"])]

    def wait_for(self, event: str, count: int = 1, timeout: float = 5.0) -> dict[str, Any]:
        """The `count`th event of this name; fails if it is not logged within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while len(found := self.events(event)) < count:
            if time.monotonic() > deadline:
                raise AssertionError(f"no {event} number {count} within {timeout} s: {self.events()}")
            time.sleep(0.005)
        return found[count - 1]

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The generation requests that it got: dicts with `method`, `path`, `headers`, `body`."""
        return [request for request in self.events("request") if request["method"] == "POST"]


@contextmanager
def running_toy(*options: str) -> Iterator[Toy]:
    """Start the toy server on a free port with these options; it is killed at the end."""
    with TemporaryDirectory() as folder:
        log = Path(folder) / "toy.jsonl"
        command = [sys.executable, "-m", "mooltiproxy.demo", "--log", str(log), *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            try:
                assert process.stdout
                url = process.stdout.readline().strip().removeprefix("listening on ")
                assert url, f"the toy server did not start: {command}"
                yield Toy(url, int(url.rpartition(":")[2]), process, log)
            finally:
                process.kill()
