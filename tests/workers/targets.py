"""What the tests of workers have in common: their configuration, their streams, and changes of the file."""

import os
import queue
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import orjson
import yaml

from tests.servers.pool import HEADERS, got
from tests.servers.proxy_process import Running, running_proxy
from tests.servers.toy import Toy

GONE = {"url": "http://127.0.0.1:9", "mapping": {"/gone": None}}
"""A target where nobody is."""
WHOLE = b'"generated_text":"'
"""In the last event of a stream that was not cut."""


def of_toy(toy: Toy) -> dict[str, Any]:
    """The toy as a target whose paths pass untouched."""
    return {"url": toy.url, "mapping": {"/generate_stream": None, "/info": None}}


def configuration(toy: Toy, **more: Any) -> dict[str, Any]:
    """A proxy of two workers before the toy."""
    system = {"port": 0, "workers": 2, "drain": 5, **more.pop("system", {})}
    targets = {"default": "toy", "toy": of_toy(toy), **more.pop("targets", {})}
    return {"targets": targets, "system": system, **more}


def stream(connection: HTTPConnection, tokens: int = 30, target: str = "toy", **more: Any) -> HTTPResponse:
    """An answer of so many tokens, of which the head has come."""
    body = {"inputs": "The tea", "parameters": {"max_new_tokens": tokens, "do_sample": False}, **more}
    connection.request("POST", "/generate_stream", orjson.dumps(body), {**HEADERS, "target": target})
    return connection.getresponse()


def status(connection: HTTPConnection, target: str) -> dict[str, Any]:
    """What the proxy tells of a target's server."""
    _, body = got(connection, "/-/status")
    return next(one for one in orjson.loads(body)["targets"] if one["target"] == target)


def faults(connection: HTTPConnection) -> float:
    """How many answers of targets are counted as faulty."""
    lines = got(connection, "/-/metrics")[1].decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("mooltiproxy_upstream_faults_total"))


def replaced(file: Path, config: dict[str, Any]) -> None:
    """Write another configuration, at once."""
    new = file.with_suffix(".new")
    new.write_text(yaml.safe_dump(config))
    os.replace(new, file)


class Lent:
    """A proxy that tests use one after the other, with a module `own.py`: each leaves it as it was, or ended. To be
    closed."""

    def __init__(
        self, folder: Path, config: dict[str, Any], own: str, program: Sequence[str] = ("-m", "mooltiproxy")
    ) -> None:
        self.folder = folder
        self.config = config
        self._own = own
        self._program = program
        self._opened = ExitStack()
        self._running: Running | None = None

    @contextmanager
    def running(self) -> Iterator[Running]:
        """The proxy; ends it where the test fails."""
        if self._running is None or self._running.process.poll() is not None:
            self.close()
            (self.folder / "own.py").write_text(self._own)
            made = running_proxy(self.folder, yaml.safe_dump(self.config), program=self._program)
            self._running = self._opened.enter_context(made)
        try:
            while True:  # what was logged for other tests
                self._running.lines.get_nowait()
        except queue.Empty:
            pass
        try:
            yield self._running
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End it."""
        self._opened.close()
        self._running = None
