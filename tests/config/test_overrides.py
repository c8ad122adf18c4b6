from pathlib import Path

import pytest

from mooltiproxy.config.load import from_data
from tests.config.writing import TARGETS, loaded, only_problem, problems


def test_a_variable_overrides_a_key_of_the_file(tmp_path: Path) -> None:
    assert loaded(tmp_path, TARGETS + "system: {port: 1}", MOOLTIPROXY_SYSTEM_PORT="9000").system.port == 9000


def test_a_variable_adds_a_key_and_its_section(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        TARGETS,
        MOOLTIPROXY_SYSTEM_TIMEOUT_FIRST_BYTE="5m",
        MOOLTIPROXY_SYSTEM_MAX_BODY="1MiB",
        MOOLTIPROXY_CERBERE_WHITELIST="[127.0.0.1, '::1']",
    )
    assert (config.system.timeouts.first_byte, config.system.max_body) == (300.0, 1048576)
    assert [str(one) for one in config.cerbere.whitelist] == ["127.0.0.1/32", "::1/128"]


def test_the_key_of_a_target_can_be_overridden(tmp_path: Path) -> None:
    text = "targets: {default: my-target, my-target: {url: http://a, speaks: tgi}}"
    config = loaded(tmp_path, text, MOOLTIPROXY_TARGETS_MY_TARGET_URL="http://b")
    assert config.targets["my-target"].url == "http://b"


def test_an_override_also_reaches_plain_data() -> None:
    data = {"targets": {"default": "one", "one": {"url": "http://a", "mapping": {"/x": None}}}}
    assert from_data(data, Path("/"), {"MOOLTIPROXY_SYSTEM_PORT": "9000"}).system.port == 9000
    assert "system" not in data


def test_an_empty_variable_overrides_nothing(tmp_path: Path) -> None:
    assert loaded(tmp_path, TARGETS + "system: {port: 1}", MOOLTIPROXY_SYSTEM_PORT="").system.port == 1


def test_a_bad_value_is_shown_with_its_variable(tmp_path: Path) -> None:
    problem = only_problem(tmp_path, TARGETS, MOOLTIPROXY_SYSTEM_PORT="sk-SECRET")
    assert str(problem) == "MOOLTIPROXY_SYSTEM_PORT: system.port: expected a whole number from 0 to 65535"


def test_a_good_value_takes_the_place_of_a_bad_one_in_the_file(tmp_path: Path) -> None:
    assert loaded(tmp_path, TARGETS + "system: {port: bad}", MOOLTIPROXY_SYSTEM_PORT="1").system.port == 1


@pytest.mark.parametrize(
    ("name", "meant"),
    [("MOOLTIPROXY_SYSTEM_PROT", "MOOLTIPROXY_SYSTEM_PORT"), ("MOOLTIPROXY_CERBERE_BANN", "MOOLTIPROXY_CERBERE_BAN")],
)
def test_an_unknown_variable_of_our_sections_gets_a_suggestion(tmp_path: Path, name: str, meant: str) -> None:
    problem = only_problem(tmp_path, TARGETS, **{name: "sk-SECRET"})
    assert str(problem) == f"{name}: no key has this variable: did you mean `{meant}`?"


def test_other_variables_are_left_alone(tmp_path: Path) -> None:
    others = {"MOOLTIPROXY_PORT": "tcp://10.0.0.1:80", "MOOLTIPROXY_SERVICE_HOST": "x", "MOOLTIPROXY_CONFIG": "x"}
    assert loaded(tmp_path, TARGETS, **others).system.port == 8000


def test_a_part_of_what_the_file_sets_as_a_whole_cannot_be_overridden(tmp_path: Path) -> None:
    found = problems(tmp_path, TARGETS + "system: {timeout: 30}", MOOLTIPROXY_SYSTEM_TIMEOUT_IDLE="5")
    assert "set it as a whole" in found[0].message


def test_the_master_key_variable_is_no_override(tmp_path: Path) -> None:
    config = loaded(tmp_path, TARGETS + "system: {masterkey: from-the-file}", MOOLTIPROXY_KEY="from-the-environment")
    assert (config.system.masterkey, config.warnings) == ("from-the-environment", ())
