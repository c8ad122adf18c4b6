import os
import sys
from pathlib import Path

import pytest

from bench.processes import BenchError, Process, free_port, running


def upstream(port: int) -> list[str]:
    return [sys.executable, "-m", "bench.upstream", "--port", str(port)]


def some_core() -> int:
    return min(os.sched_getaffinity(0))


def test_a_child_is_measured_and_is_gone_after_an_error(tmp_path: Path) -> None:
    port = free_port()
    child: list[Process] = []
    started = running(upstream(port), port, tmp_path / "log", cpu=some_core(), env={})
    with pytest.raises(KeyboardInterrupt), started as process:
        child.append(process)
        assert process.rss() > 1_000_000
        assert process.cpu_seconds() >= 0
        raise KeyboardInterrupt
    with pytest.raises(ProcessLookupError):
        os.kill(child[0].pid, 0)


def test_a_child_that_ends_early_is_reported_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no luck')"]
    starting = running(command, free_port(), tmp_path / "log", cpu=some_core(), env={})
    with pytest.raises(BenchError, match="no luck"), starting:
        raise AssertionError("unreachable")
