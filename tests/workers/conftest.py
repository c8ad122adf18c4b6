"""A proxy with two workers for all tests that end none of its processes, and what most proxies are before here."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.servers.engines import engines, processes, toy_target
from tests.servers.pool import eventually, workers
from tests.servers.proxy_process import Running, running_proxy
from tests.servers.toy import Toy, running_toy
from tests.workers.targets import of_toy


@dataclass(frozen=True)
class Together:
    """A running proxy, its folder, and its two workers."""

    running: Running
    folder: Path
    pids: list[int]

    def servers(self) -> list[int]:
        """The model servers that run, without their guards."""
        found = processes(f"{self.folder}/toy")
        return [pid for pid in found if b"guard.py" not in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.fixture(scope="session")
def toy() -> Iterator[Toy]:
    with running_toy("--delay", "0.02") as running:
        yield running


@pytest.fixture(scope="session")
def together(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Together]:
    """Targets: `toy`, `gone`, where nobody is, `a` and `b`, of which one runs at a time, and `broken`."""
    folder = tmp_path_factory.mktemp("together")
    on_demand = {name: toy_target("--delay", "0.02", log=folder / f"toy-{name}.jsonl", group="one") for name in "ab"}
    broken = toy_target("--crash-loading", "--load-time", "0.1", log=folder / "toy-broken.jsonl")
    gone = {"url": "http://127.0.0.1:9", "mapping": {"/gone": None}}
    config = engines(toy=of_toy(toy), gone=gone, broken=broken, **on_demand)
    del config["models"]["toy"], config["models"]["gone"]
    system = {"port": 0, "workers": 2, "drain": 5, "timeout": 20}
    with running_proxy(folder, yaml.safe_dump({**config, "system": system, "cerbere": {"max_tries": 3}})) as running:
        yield Together(running, folder, workers(running))
    eventually(lambda: not list(processes(str(folder))))
