from pathlib import Path

import pytest

from mooltiproxy.config.document import plain_document
from mooltiproxy.config.load import load
from mooltiproxy.errors import ConfigError
from tests.config.writing import TARGETS, lines, loaded, only_problem, pieces_of, problems


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none.yaml: cannot be read: No such file.*: `mooltiproxy config new`"):
        load(tmp_path / "none.yaml", {})


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, {})


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing but this\n", "---\n"])
def test_an_empty_file_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    message = only_problem(tmp_path, text).message
    assert "empty" in message or "expected sections" in message


@pytest.mark.parametrize("text", ["- a\n- b\n", "just text\n", "5\n"])
def test_only_sections_may_be_at_the_top(tmp_path: Path, text: str) -> None:
    problem = only_problem(tmp_path, text)
    assert (problem.line, problem.message.partition(" (")[0]) == (1, "expected sections")


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("system:\n\tport: 1\n", 2, "tab"),
        ("system:\n  port: 1\n\thost: x\n", 3, "tab"),
        ("system: {port: 1\ncerbere: 2\n", 2, "not valid YAML"),
        ("system:\n  cors: [a\n", 3, "not valid YAML"),
        ("system:\n  host: 'a\n", 3, "not valid YAML"),
        ("a: 1\n---\nb: 1\n", 2, "second document"),
        ("a: 1\nb: \x07\n", 2, "control character"),
        ("system: {port: ${PORT}}\n", 1, "must be quoted"),
    ],
)
def test_what_is_not_yaml_is_named_with_its_line(tmp_path: Path, text: str, line: int, part: str) -> None:
    problem = only_problem(tmp_path, text)
    assert problem.line == line
    assert part in problem.message
    assert "\n" not in str(problem)


def test_a_file_that_is_not_utf8_is_refused_with_the_line(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(b"system:\n  host: caf\xe9\n")
    with pytest.raises(ConfigError, match=r"config.yaml:2: not UTF-8"):
        load(file, {})


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    text = "\ufeff" + TARGETS.replace("\n", "\r\n") + "sytem: 1\r\n"
    assert lines(problems(tmp_path, text)) == [(4, "sytem")]


def test_a_key_that_is_there_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    problem = only_problem(tmp_path, TARGETS + "system:\n  port: 1\n  host: x\n  port: 2\n")
    assert (problem.line, problem.message) == (7, "this key is there twice, first in line 5")


def test_keys_are_text_whatever_they_look_like(tmp_path: Path) -> None:
    targets = "on: {url: http://a, speaks: tgi}, 1: {url: http://b, speaks: tgi}, ~: {url: http://c, speaks: tgi}"
    assert lines(problems(tmp_path, f"targets: {{default: '1', {targets}}}")) == [(1, "targets.~")]


def test_a_key_that_is_no_text_is_refused(tmp_path: Path) -> None:
    assert only_problem(tmp_path, TARGETS + "? [a, b]\n: 1\n").line == 4


def test_anchors_aliases_and_merge_keys_work(tmp_path: Path) -> None:
    text = """\
targets:
  default: a
  a: &shared
    url: http://a
    mapping: {/models: &path /info, /chat: *path}
  b:
    <<: *shared
    url: http://b
"""
    config = loaded(tmp_path, text)
    assert config.targets["b"].url == "http://b"
    assert config.targets["b"].mapping["/chat"].path == "/info"


def test_a_list_of_merged_sections_gives_the_first_ones_keys(tmp_path: Path) -> None:
    text = (
        TARGETS
        + """\
  two: &two {url: http://two, mapping: {/a: }}
  three: &three {url: http://three, preserveMethod: true}
  four: {<<: [*two, *three]}
"""
    )
    text = text.replace("preserveMethod: true}", "preserveMethod: true, speaks: tgi}")
    config = loaded(tmp_path, text)
    assert (config.targets["four"].url, config.targets["four"].preserve_method) == ("http://two", True)


def test_a_mistake_behind_an_alias_is_shown_where_it_was_written(tmp_path: Path) -> None:
    text = TARGETS + "  two: &two\n    url: ftp://x\n    speaks: tgi\n  three: *two\n"
    assert lines(problems(tmp_path, text)) == [(5, "targets.two.url"), (5, "targets.three.url")]


def test_a_merge_of_something_else_is_refused(tmp_path: Path) -> None:
    assert only_problem(tmp_path, TARGETS + "system:\n  <<: 5\n").line == 5


def test_a_thousand_million_laughs_are_refused_at_once(tmp_path: Path) -> None:
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    laughs += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    assert "too many values" in only_problem(tmp_path, laughs + TARGETS).message


@pytest.mark.parametrize("text", ["a: &a [*a]\n", "a: &a {b: *a}\n", "a: &a\n  <<: *a\n"])
def test_an_alias_to_itself_is_refused(tmp_path: Path, text: str) -> None:
    assert "refer to themselves" in only_problem(tmp_path, text).message


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000, "- " * 5000])
def test_a_file_that_is_nested_without_end_is_refused(tmp_path: Path, text: str) -> None:
    assert only_problem(tmp_path, text).line >= 1


@pytest.mark.parametrize("value", ["!!python/object/apply:os.system [id]", "!mine x", "!!binary eA=="])
def test_tags_are_refused(tmp_path: Path, value: str) -> None:
    problem = only_problem(tmp_path, TARGETS + f"system:\n  host: {value}\n")
    assert (problem.line, problem.path) == (5, ("system", "host"))


def test_a_number_of_base_60_is_text(tmp_path: Path) -> None:
    assert lines(problems(tmp_path, TARGETS + "system: {port: 1:30}\n")) == [(4, "system.port")]
    assert str(loaded(tmp_path, TARGETS + "cerbere: {blacklist: [1:2:3:4:5:6:7:8]}").cerbere.blacklist[0]) == (
        "1:2:3:4:5:6:7:8/128"
    )


def test_a_variable_is_filled_in_and_read_as_yaml(tmp_path: Path) -> None:
    text = TARGETS + "system: \n  port: ${PORT}\n  debug: ${DEBUG}\n  cors: ${CORS}\n  host: ${A}.${B}\n"
    system = loaded(tmp_path, text, PORT="9000", DEBUG="yes", CORS="['http://a', 'http://b']", A="1.2", B="3.4").system
    assert (system.port, system.debug, system.host) == (9000, True, "1.2.3.4")
    assert system.cors == ("http://a", "http://b")


def test_in_quotes_a_variable_is_text_and_a_number_is_still_understood(tmp_path: Path) -> None:
    text = TARGETS + 'models: {m: {target: one, name: "${NAME}"}}\nsystem: {port: "${PORT}"}\n'
    config = loaded(tmp_path, text, NAME="123", PORT="9000")
    assert (config.models["m"].upstream_name, config.system.port) == ("123", 9000)


def test_a_default_stands_in_for_a_variable_that_is_unset_or_empty(tmp_path: Path) -> None:
    text = TARGETS + "system: \n  port: ${PORT:-9000}\n  host: ${HOST:-::1}\n  drain: ${DRAIN:-}\n"
    system = loaded(tmp_path, text, HOST="").system
    assert (system.port, system.host, system.drain) == (9000, "::1", 30.0)


def test_a_variable_that_is_not_set_is_an_error_at_its_line(tmp_path: Path) -> None:
    problem = only_problem(tmp_path, TARGETS + "system:\n  port: ${PORT}\n")
    assert (problem.line, problem.path) == (5, ("system", "port"))
    assert "${PORT} is not set" in problem.message


@pytest.mark.parametrize("value", ["${", "${}", "${A", "${1A}", "${A-b}", "${A:b}", "x${A B}"])
def test_a_malformed_variable_is_refused(tmp_path: Path, value: str) -> None:
    problem = only_problem(tmp_path, TARGETS + f"system:\n  host: '{value}'\n", A="x")
    assert (problem.line, "expected ${NAME}" in problem.message) == (5, True)


def test_two_dollars_write_one(tmp_path: Path) -> None:
    config = loaded(tmp_path, TARGETS + 'templates: {T: {user: "$${NAME} costs $5 {x}"}}')
    assert pieces_of(config, "T")["user"] == "${NAME} costs $5 {x}"


def test_text_from_a_variable_stays_text_whatever_it_looks_like(tmp_path: Path) -> None:
    text = TARGETS + "templates: {T: {user: '', start: x}}\n"
    text = text.replace("{T: {user: '', start: x}}", "\n  T:\n    user: ${A}\n    start: ${B}\n    system: ${C}\n")
    pieces = pieces_of(loaded(tmp_path, text, A="User: be kind # really", B="*x", C="[not closed"), "T")
    assert (pieces["user"], pieces["start"], pieces["system"]) == ("User: be kind # really", "*x", "[not closed")


def test_what_a_variable_holds_is_not_filled_in_again(tmp_path: Path) -> None:
    text = TARGETS + "templates:\n  T:\n    user: ${A}\n"
    assert pieces_of(loaded(tmp_path, text, A="${B}", B="x"), "T")["user"] == "${B}"


def test_another_programs_file_is_read_as_it_stands() -> None:
    document = plain_document("cmd: serve --port ${PORT}\nkey: ${env.KEY}\nn: [1, true]\n", "theirs.yaml")
    assert document.data == {"cmd": "serve --port ${PORT}", "key": "${env.KEY}", "n": [1, True]}
    assert document.places[("n", 1)].line == 3


def test_another_programs_file_must_be_right_as_well() -> None:
    with pytest.raises(ConfigError, match="theirs.yaml:2: a: this key is there twice, first in line 1"):
        plain_document("a: 1\na: 2\n", "theirs.yaml")
