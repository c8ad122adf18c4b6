"""`keys:` of the file."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mooltiproxy.keys import digest, hash_of
from tests.config.writing import TARGETS, loaded, only_problem


def test_a_key_is_known_by_its_hash_or_from_the_environment(tmp_path: Path) -> None:
    entries = f'keys:\n  alice: {{hash: "{hash_of("a")}", targets: [one]}}\n  bob: {{envkey: BOB}}\n'
    alice, bob = loaded(tmp_path, TARGETS + entries, BOB="b").keys
    assert (alice.name, alice.digest, alice.targets) == ("alice", digest(b"a"), frozenset({"one"}))
    assert (bob.name, bob.digest, bob.targets) == ("bob", digest(b"b"), None)
    assert "b'" not in repr(alice)


def test_no_key_has_the_name_of_the_master_key(tmp_path: Path) -> None:
    problem = only_problem(tmp_path, f"{TARGETS}keys:\n  master: {{envkey: BOB}}\n", BOB="b")
    assert "expected another name" in problem.message


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{}", "expected either `hash`"),
        ('{hash: "sha256:' + "0" * 64 + '", envkey: BOB}', "expected either `hash`"),
        ("{hash: secret}", "expected sha256: and 64 hexadecimal digits"),
        ("{envkey: NONE}", "this environment variable is not set"),
        ("{envkey: BOB, targets: [two]}", "there is no such target"),
        ("{envkey: BOB, losses: {sampling: maybe}}", "there is no such policy"),
    ],
)
def test_a_mistake_is_told_and_no_secret_with_it(tmp_path: Path, entry: str, message: str) -> None:
    problem = only_problem(tmp_path, f"{TARGETS}keys:\n  alice: {entry}\n", BOB="b")
    assert message in problem.message
    assert "secret" not in str(problem)


RIGHTS = """\
keys:
  alice:
    envkey: BOB
    models: ["llama-*", tiny]
    endpoints: chat
    expires: 2027-12-31
"""


def test_a_key_has_models_endpoints_and_a_last_day(tmp_path: Path) -> None:
    (alice,) = loaded(tmp_path, TARGETS + RIGHTS, BOB="b").keys
    assert (alice.models, alice.endpoints) == (("llama-*", "tiny"), frozenset({"chat"}))
    assert alice.expires == datetime(2028, 1, 1, tzinfo=UTC).timestamp()


def test_a_moment_of_expiry_has_its_zone(tmp_path: Path) -> None:
    (alice,) = loaded(
        tmp_path, f"{TARGETS}keys: {{a: {{envkey: B, expires: 2027-12-31T18:00:00+01:00}}}}\n", B="b"
    ).keys
    assert alice.expires == datetime(2027, 12, 31, 17, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("right", "message"),
    [
        ("endpoints: [chats]", "there is no such endpoint: did you mean `chat`?"),
        ("models: ['a*b*']", "one `*` at most"),
        ("expires: soon", "expected a day"),
        ("expires: 2027-12-31T18:00:00", "the zone is missing"),
        ("expires: 2027-13-31", "expected a day"),
        ("certificate: alice", "expected a certificate's name"),
        ("certificate: CN=alice", "no client is asked for a certificate"),
    ],
)
def test_a_right_that_cannot_be_meant_is_told(tmp_path: Path, right: str, message: str) -> None:
    assert message in only_problem(tmp_path, f"{TARGETS}keys: {{alice: {{envkey: B, {right}}}}}\n", B="b").message


def test_two_entries_are_not_the_same_key(tmp_path: Path) -> None:
    problem = only_problem(tmp_path, f"{TARGETS}keys: {{alice: {{envkey: B}}, bob: {{envkey: B}}}}\n", B="b")
    assert (problem.path, problem.message) == (("keys", "bob"), "this key is the same as that of alice")


# `keys_file`.


def with_file(folder: Path, keys: str, more: str = "") -> str:
    file = folder / "api_tokens.yml"
    file.write_text(keys)
    file.chmod(0o600)
    return f"{TARGETS}keys_file: api_tokens.yml\n{more}"


def test_tabbys_file_is_read_as_it_is(tmp_path: Path) -> None:
    text = with_file(tmp_path, "api_key: 0123456789012345\nadmin_key: [1e5, 'true']\n")
    config = loaded(tmp_path, text)
    assert [(key.name, key.digest, key.is_admin) for key in config.file_keys] == [
        ("api_key", digest(b"0123456789012345"), False),
        ("admin_key-1", digest(b"1e5"), True),
        ("admin_key-2", digest(b"true"), True),
    ]
    assert config.warnings == ()


def test_a_file_may_have_names_with_keys_and_none_at_all(tmp_path: Path) -> None:
    keys = loaded(tmp_path, with_file(tmp_path, "# ours\nalice: a-key\nbob:\n")).file_keys
    assert [(key.name, key.is_admin) for key in keys] == [("alice", False)]
    assert loaded(tmp_path, with_file(tmp_path, "{}")).file_keys == ()


def test_a_key_that_is_an_admins_too_is_an_admins(tmp_path: Path) -> None:
    (key,) = loaded(tmp_path, with_file(tmp_path, "admin_key: same\napi_key: same\n")).file_keys
    assert key.is_admin


def test_keys_that_everybody_can_read_are_warned_about(tmp_path: Path) -> None:
    text = with_file(tmp_path, "api_key: a-key\n")
    (tmp_path / "api_tokens.yml").chmod(0o644)
    (warning,) = loaded(tmp_path, text).warnings
    assert "chmod 600" in warning.message


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("", "expected `api_key:`"),
        ("- secret\n", "expected `api_key:`"),
        ("api_key: [secret\n", "not valid YAML"),
        ("api_key: {secret: secret}\n", "expected a key as text"),
        ("api_key: ''\n", "this one is empty"),
        ("master: secret\n", "expected another name"),
        ("a b: secret\n", "expected a name of letters"),
        ("api_key: ' secret'\n", "expected a key of printable ASCII"),
        (f"api_key: '{hash_of('secret')}'\n", "expected a key, not its hash"),
        ("alice: secret\n", "is under `keys:` of the configuration as well"),
        ("other: secret-of-alice\n", "is under `keys:` of the configuration as well"),
    ],
)
def test_a_file_that_is_wrong_is_told_and_no_secret_with_it(tmp_path: Path, keys: str, message: str) -> None:
    entry = f'keys: {{alice: {{hash: "{hash_of("secret-of-alice")}"}}}}\n'
    problem = only_problem(tmp_path, with_file(tmp_path, keys, entry))
    assert message in problem.message
    assert problem.file.endswith("api_tokens.yml")
    assert "secret" not in str(problem)


@pytest.mark.skipif(sys.platform == "win32", reason="it has no pipes with names")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "it is no file" in only_problem(tmp_path, f"{TARGETS}keys_file: pipe\n").message


def test_a_file_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    assert "cannot be read" in only_problem(tmp_path, f"{TARGETS}keys_file: none.yml\n").message
