"""`mooltiproxy key`: new keys, lists of them, and keys that are taken back."""

import os
from http.client import HTTPConnection
from pathlib import Path

import pytest
import yaml

from mooltiproxy.cli import main
from mooltiproxy.keys import hash_of
from tests.servers.proxy_process import KEY, free_port, running_proxy

ALICE = hash_of("the-key-of-alice")
FILE = f"""\
targets:
  default: one
  one: {{url: "http://127.0.0.1:1", mapping: {{/info: }}}}
keys_file: tokens.yml
keys:
  # of the first team
  alice: {{hash: "{ALICE}", targets: [one], models: ["llama-*", tiny], endpoints: chat, admin: true}}
  bob:   # for a while
    envkey: BOB_KEY
    expires: 2099-12-31
"""
TOKENS = "api_key: [the-first, the-second]  # two\nadmin_key: the-third\n"


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("MOOLTIPROXY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BOB_KEY", "the-key-of-bob")
    (tmp_path / "config.yaml").write_text(FILE)
    (tmp_path / "tokens.yml").write_text(TOKENS)
    (tmp_path / "tokens.yml").chmod(0o600)
    return tmp_path


def test_a_list_says_what_each_key_may_and_where_it_is_and_shows_none(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["key", "list"]) == 0
    shown = capsys.readouterr().out
    cut = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in shown.splitlines()]
    rows = {row[0]: row for row in cut}
    may = "targets one; models llama-*, tiny; endpoints chat; admin"
    assert rows["alice"] == ["alice", ALICE[7:15], may, "never", "config.yaml:7"]
    assert rows["bob"][2:] == ["everything", "2100-01-01 00:00Z", "config.yaml:8-10"]
    assert rows["api_key-2"][2:] == ["everything", "never", f"{in_folder}/tokens.yml:1"]
    assert rows["admin_key"][2:] == ["everything; admin", "never", f"{in_folder}/tokens.yml:2"]
    assert "the-" not in shown
    assert ALICE[7:] not in shown


def test_a_list_says_which_keys_are_over(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (in_folder / "config.yaml").write_text(FILE.replace("2099-12-31", "2020-01-01T00:00:00Z"))
    assert main(["key", "list"]) == 0
    assert "2020-01-01 00:00Z (over)  config.yaml:8-10" in capsys.readouterr().out


def test_revoking_takes_the_entry_out_and_nothing_else(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "revoke", "alice"]) == 0
    left = "".join(line for line in FILE.splitlines(keepends=True) if not line.startswith("  alice"))
    assert (in_folder / "config.yaml").read_text() == left
    told = capsys.readouterr()
    assert told.out == "took alice out of config.yaml\n"
    assert "send its process SIGHUP" in told.err


def test_a_key_of_the_other_file_is_taken_out_of_that(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "revoke", "api_key-1"]) == 0
    assert (in_folder / "tokens.yml").read_text() == TOKENS.replace("the-first, ", "")
    assert (in_folder / "config.yaml").read_text() == FILE
    assert "within three seconds" in capsys.readouterr().out
    assert main(["key", "revoke", "admin_key"]) == 0
    assert (in_folder / "tokens.yml").read_text() == "api_key: [the-second]  # two\n"


def test_what_cannot_be_taken_out_safely_is_named_by_its_lines(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "base: &all\n  alice: {envkey: BOB_KEY}\nkeys: *all\n"
    (in_folder / "config.yaml").write_text(text)
    assert main(["key", "revoke", "alice"]) == 1
    assert capsys.readouterr().err.startswith("config.yaml:2: take this out by hand")
    assert (in_folder / "config.yaml").read_text() == text


def test_a_file_that_a_variable_names_is_found(
    in_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRETS", str(in_folder / "secrets"))
    (in_folder / "secrets").mkdir()
    (in_folder / "tokens.yml").rename(in_folder / "secrets" / "tokens")
    (in_folder / "config.yaml").write_text(FILE.replace("tokens.yml", "${SECRETS}/tokens"))
    assert main(["key", "list"]) == 0
    assert f"{in_folder}/secrets/tokens:2" in capsys.readouterr().out
    assert main(["key", "revoke", "admin_key"]) == 0
    assert "admin_key" not in (in_folder / "secrets" / "tokens").read_text()
    monkeypatch.delenv("SECRETS")
    assert main(["key", "revoke", "api_key-1"]) == 1
    assert "cannot be read" in capsys.readouterr().err
    assert main(["key", "new", "carol", "--write"]) == 0


def test_nobodys_key_is_not_revoked(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("dave", "api_key", "api_key-3", "api_key-0", "hash"):
        assert main(["key", "revoke", name]) == 1
        assert "there is no such key" in capsys.readouterr().err
    assert (in_folder / "config.yaml").read_text() == FILE


def test_a_new_key_is_written_behind_the_others(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "new", "carol", "--write"]) == 0
    text, shown = (in_folder / "config.yaml").read_text(), capsys.readouterr().out
    key = next(line.strip() for line in shown.splitlines() if line.startswith("    "))
    assert text == f'{FILE}  carol: {{hash: "{hash_of(key)}"}}\n'
    assert key not in text
    assert shown.count(key) == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [("alice", "key revoke alice"), ("api_key-1", "key revoke"), ("master", "another name"), ("a b", "a name")],
)
def test_a_name_that_is_taken_or_none_gets_no_key(
    in_folder: Path, capsys: pytest.CaptureFixture[str], name: str, reason: str
) -> None:
    assert main(["key", "new", name, "--write"]) == 1
    told = capsys.readouterr()
    assert reason in told.err
    assert told.out == ""
    assert (in_folder / "config.yaml").read_text() == FILE


@pytest.mark.parametrize("name", ["master", "a b"])
def test_no_entry_is_shown_that_no_file_may_have(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["key", "new", name]) == 1
    told = capsys.readouterr()
    assert "expected a" in told.err
    assert told.out == ""


def test_a_running_proxy_is_told(
    in_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("MOOLTIPROXY_KEY", KEY)
    with running_proxy(in_folder, f"system: {{port: {port}, drain: 0}}\n{FILE}"):
        assert main(["key", "new", "carol", "--write"]) == 0
        shown, wrong = capsys.readouterr()
        assert wrong == ""
        key = next(line.strip() for line in shown.splitlines() if line.startswith("    mool"))
        assert shown.endswith(f"the proxy at http://127.0.0.1:{port} has reloaded:\n  + key         carol\n")
        assert asked(port, key) == 502
        assert main(["key", "revoke", "carol"]) == 0
        assert "- key         carol  revoked" in capsys.readouterr().out
        assert asked(port, key) == 401
        monkeypatch.setenv("MOOLTIPROXY_KEY", "another")
        assert main(["key", "new", "dora", "--write"]) == 0
        assert "does not take the key: set MOOLTIPROXY_KEY" in capsys.readouterr().err
        monkeypatch.setenv("MOOLTIPROXY_KEY", KEY)
        file = in_folder / "config.yaml"
        file.write_text(file.read_text() + "nonsense: 1\n")
        assert main(["key", "revoke", "alice"]) == 1  # it still takes the key
        assert "nonsense" in capsys.readouterr().err
        assert "alice" not in yaml.safe_load(file.read_text())["keys"]


def asked(port: int, key: str) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/info", headers={"Authorization": f"Bearer {key}"})
    status = connection.getresponse().status
    connection.close()
    return status
