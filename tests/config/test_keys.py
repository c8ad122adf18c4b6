"""`keys:` of the file."""

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
