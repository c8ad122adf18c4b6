"""Entries are taken out of files and put in, and nothing else of them changes."""

from pathlib import Path

import pytest

from mooltiproxy.config.edit import CannotEdit, lines_of, plain_data, with_entry, without, write

FILE = """\
# our proxy
system: {port: 8000}   # as ever

keys:                  # of clients
  # the first one
  alice:
    hash: "sha256:aa"  # hers
    targets: [one]

  # bob is in the other team
  bob: {envkey: BOB_KEY}   # his
  carol:
    envkey: CAROL_KEY
    # she asks for little
    models: |
      tiny
targets:
  default: one
"""


def test_an_entry_goes_with_its_lines_and_nothing_else() -> None:
    left = FILE.replace('  alice:\n    hash: "sha256:aa"  # hers\n    targets: [one]\n', "")
    assert without(FILE, ("keys", "alice")) == left
    assert without(FILE, ("keys", "bob")) == FILE.replace("  bob: {envkey: BOB_KEY}   # his\n", "")
    last = FILE[FILE.index("  carol:") : FILE.index("targets:\n")]
    assert without(FILE, ("keys", "carol")) == FILE.replace(last, "")


def test_the_lines_of_an_entry_are_known() -> None:
    assert lines_of(FILE, ("keys", "alice")) == (6, 8)
    assert lines_of(FILE, ("keys", "bob")) == (11, 11)
    assert lines_of(FILE, ("keys", "carol")) == (12, 16)
    assert lines_of(FILE, ("keys", "dave")) is None


def test_all_entries_can_go_one_after_the_other() -> None:
    text = FILE
    for name in ("bob", "carol", "alice"):
        text = without(text, ("keys", name))
    assert plain_data(text)["keys"] == ""
    assert [line for line in text.splitlines() if line.lstrip().startswith("#")] == [
        "# our proxy",
        "  # the first one",
        "  # bob is in the other team",
    ]


@pytest.mark.parametrize(
    ("before", "path", "after"),
    [
        ("keys: {a: {x: 1}, b: 2, c: 3}\n", ("keys", "a"), "keys: {b: 2, c: 3}\n"),
        ("keys: {a: {x: 1}, b: 2, c: 3}\n", ("keys", "b"), "keys: {a: {x: 1}, c: 3}\n"),
        ("keys: {a: {x: 1}, b: 2, c: 3}\n", ("keys", "c"), "keys: {a: {x: 1}, b: 2}\n"),
        ("keys: {a: 1}\n", ("keys", "a"), "keys: {}\n"),
        ("keys: {\n  a: 1,\n  b: 2,\n}\n", ("keys", "b"), "keys: {\n  a: 1,\n}\n"),
        ("api_key: one # first\nadmin_key: two\n", ("api_key",), "admin_key: two\n"),
        ("# keys\napi_key: one\n", ("api_key",), "# keys\n{}\n"),
        ("api_key:\n- one\n- two # 2\n", ("api_key", 1), "api_key:\n- one\n"),
        ("api_key: [one, two]\nb: 1", ("api_key", 0), "api_key: [two]\nb: 1"),
        ("a: 1\r\nkeys:\r\n  b: 2\r\n  c: 3\r\n", ("keys", "b"), "a: 1\r\nkeys:\r\n  c: 3\r\n"),
        ("\ufeffa: 1\nb: 2\n", ("a",), "b: 2\n"),
        ("keys:\n  a: 1\n  b: 2", ("keys", "b"), "keys:\n  a: 1\n"),
        ("keys:\n  a:\n  b: 2\n", ("keys", "a"), "keys:\n  b: 2\n"),
        ('keys:\n  "a": "x\n    y"\n  b: 2\n', ("keys", "a"), "keys:\n  b: 2\n"),
    ],
)
def test_every_way_of_writing_is_known(before: str, path: tuple[str | int, ...], after: str) -> None:
    assert without(before, path) == after


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("keys: {a: 1, # the first\n  b: 2}\n", "a comment beside it"),
        ("base: &all {a: 1, b: 2}\nkeys: *all\n", "other parts of it would change"),
        ("keys: {b: 1}\nkeys: {a: 1}\n", "not written there"),
        ("keys:\n  a: 1\n  b: 2\n  a: 3\n", "other parts of it would change"),
        ("keys: [a\n", "not valid YAML"),
        ("keys: a\n", "not written there"),
        ("", "not written there"),
        ("keys:\n  a: &x {y: 1}\n  b: *x\n", "not valid YAML"),
    ],
)
def test_what_is_not_safe_is_left_to_the_user(text: str, reason: str) -> None:
    with pytest.raises(CannotEdit, match=reason):
        without(text, ("keys", "a"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a: 1\n", "a: 1\n\nkeys:\n  new: {x: 1}\n"),
        ("a: 1", "a: 1\n\nkeys:\n  new: {x: 1}\n"),
        ("keys:\na: 1\n", "keys:\n  new: {x: 1}\na: 1\n"),
        ("keys: # none yet\na: 1\n", "keys: # none yet\n  new: {x: 1}\na: 1\n"),
        ("keys: {}\n", "keys: {new: {x: 1}}\n"),
        ("keys: {a: 1}\n", "keys: {a: 1, new: {x: 1}}\n"),
        ("keys:\n    a: 1 # a\n# end\nb: 1\n", "keys:\n    a: 1 # a\n    new: {x: 1}\n# end\nb: 1\n"),
        ("keys:\n  a:\n    b: 1", "keys:\n  a:\n    b: 1\n  new: {x: 1}\n"),
        ("keys:\r\n  a: 1\r\n", "keys:\r\n  a: 1\r\n  new: {x: 1}\r\n"),
    ],
)
def test_an_entry_is_put_behind_the_others(before: str, after: str) -> None:
    assert with_entry(before, "keys", "new", "{x: 1}") == after


@pytest.mark.parametrize("text", ["{a: 1}\n", "- a\n", "", "keys: text\n", "a: 1\n---\nb: 2\n"])
def test_where_no_entry_fits_none_is_put(text: str) -> None:
    with pytest.raises(CannotEdit):
        with_entry(text, "keys", "new", "{x: 1}")


def test_a_file_keeps_its_rights_and_a_link_its_target(tmp_path: Path) -> None:
    real, link = tmp_path / "real.yaml", tmp_path / "config.yaml"
    real.write_text("a: 1\n")
    real.chmod(0o640)
    link.symlink_to(real)
    write(link, "b: 2\n")
    assert link.is_symlink()
    assert real.read_text() == "b: 2\n"
    assert real.stat().st_mode & 0o777 == 0o640
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.yaml", "real.yaml"]
