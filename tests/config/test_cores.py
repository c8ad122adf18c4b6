"""How many cores `auto` stands for."""

import os
from pathlib import Path

import pytest

from mooltiproxy.config import cores


@pytest.mark.parametrize(
    ("quota", "found"), [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8), ("", 8)]
)
def test_a_containers_quota_counts_where_it_is_less_than_the_cores(
    quota: str, found: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    monkeypatch.setattr(cores, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert cores.usable_cores() == found
