"""What the tests with node need: packages that are pinned, from any registry, and a reason where there is no node."""

from pathlib import Path

import pytest

from tests.clients.node import LOCK_FILE, install


def test_the_lock_file_names_no_registry() -> None:
    assert '"resolved"' not in LOCK_FILE.read_text()


def test_tests_are_skipped_where_there_is_no_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt install nodejs npm"):
        install()


def test_tests_fail_where_there_ought_to_be_a_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=".ci/run"):
        install()
