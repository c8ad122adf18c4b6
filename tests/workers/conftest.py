"""A proxy with two workers for all tests that end none of its processes, and what most proxies are before here."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from mooltiproxy.keys import hash_of
from tests.servers.engines import processes, toy_target
from tests.servers.pool import eventually, workers
from tests.servers.proxy_process import Running, running_proxy
from tests.servers.small import small_target
from tests.servers.toy import Toy, running_toy
from tests.workers.targets import GONE, configuration


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
    """Targets: `toy`, `gone`, where nobody is, `a`, a toy on demand, `one` and `other`, of which one runs, `broken`.

    Its file is watched."""
    folder = tmp_path_factory.mktemp("together")
    on_demand = {
        "a": toy_target("--delay", "0.02", log=folder / "toy.jsonl"),
        "one": small_target(folder, group="g"),
        "other": small_target(folder, group="g"),
        "broken": small_target(folder, command="false ${port}"),
    }
    (folder / "keys.yml").write_text("admin_key: of-the-file\n")
    (folder / "keys.yml").chmod(0o600)
    limited = {"hash": hash_of("of-the-limited"), "limits": {"requests": "3/1h"}}
    more: dict[str, Any] = {"cerbere": {"max_tries": 3}, "keys_file": "keys.yml", "keys": {"limited": limited}}
    config = configuration(toy, targets={"gone": GONE, **on_demand}, system={"watch": True}, **more)
    with running_proxy(folder, yaml.safe_dump(config)) as running:
        yield Together(running, folder, workers(running))
    eventually(lambda: not list(processes(str(folder))))
