from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from mooltiproxy import middlewares
from mooltiproxy.certs import write_pair
from mooltiproxy.config.load import load
from mooltiproxy.config.schema import MIDDLEWARES, json_schema
from mooltiproxy.errors import ConfigError
from tests.config.test_load import SEED

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "config.template.yaml"
TARGETS: dict[str, Any] = {"default": "one", "one": {"url": "http://a", "mapping": {"/x": None}}}


def accepts(data: Any) -> bool:
    return bool(Draft202012Validator(json_schema()).is_valid(data))


def described_keys(json: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a JSON Schema's objects, with its own schema."""
    if isinstance(json, dict):
        for name, below in json.get("properties", {}).items():
            yield f"{path}{name}", below
            yield from described_keys(below, f"{path}{name}.")
        yield from described_keys(json.get("additionalProperties"), f"{path}NAME.")
        yield from described_keys(json.get("items"), path)
        for option in json.get("anyOf", ()):
            yield from described_keys(option, path)


def uncommented() -> str:
    """The template with its examples; of two forms of one key the example's stays."""
    text = TEMPLATE.read_text().replace("#:", "")
    return "\n".join(line for line in text.split("\n") if not line.startswith("  ssl: false"))


def test_the_json_schema_is_one() -> None:
    Draft202012Validator.check_schema(json_schema())


def test_every_key_has_a_description() -> None:
    keys = dict(described_keys(json_schema()))
    assert len(keys) > 40
    assert [name for name, json in keys.items() if not json.get("description")] == []


def test_the_json_schema_accepts_the_template_and_a_seed_file() -> None:
    for text in (TEMPLATE.read_text(), uncommented(), SEED):
        Draft202012Validator(json_schema()).validate(yaml.safe_load(text))


def test_the_template_loads_without_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(TEMPLATE.read_bytes())
    assert load(file, {"MOOLTIPROXY_KEY": "x"}).warnings == ()


def test_the_templates_examples_load_too(tmp_path: Path) -> None:
    for folder in ("certificates", "config", "prompts", "models/qwen3"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "models/qwen3/chat_template.jinja").write_text("{{ messages[0].content }}")
    write_pair(tmp_path / "certificates")
    (tmp_path / "api_tokens.yml").write_text("{}")
    (tmp_path / "api_tokens.yml").chmod(0o600)
    file = tmp_path / "config.yaml"
    file.write_text(uncommented())
    config = load(file, {"MOOLTIPROXY_KEY": "x", "OPENAI_API_KEY": "y", "BOB_KEY": "z", "TABBY_ADMIN_KEY": "t"})
    assert config.targets.keys() == {"local", "tgi", "own", "tabby", "openai", "elsewhere"}
    assert config.system.tls is not None and config.system.tls.client_ca is not None


def test_the_template_has_every_key(tmp_path: Path) -> None:
    data = yaml.safe_load(uncommented())
    written = set(_names(data))
    assert {name.rpartition(".")[2] for name, _ in described_keys(json_schema())} <= written


def _names(data: Any) -> Iterator[str]:
    if isinstance(data, dict):
        yield from data
        for below in data.values():
            yield from _names(below)


UNKNOWN: list[dict[str, Any]] = [
    {"targets": TARGETS, "sytem": {}},
    {"targets": TARGETS, "limits": {"request": "1/1m"}},
    {"targets": TARGETS, "system": {"prot": 1}},
    {"targets": TARGETS, "system": {"timeout": {"conect": 1}}},
    {"targets": TARGETS, "system": {"ssl": {"cert": "a", "key": "b", "ca": "c"}}},
    {"targets": TARGETS, "cerbere": {"bann": 1}},
    {"targets": {**TARGETS, "two": {"url": "http://a", "mapping": {"/x": None}, "envKey": "A"}}},
    {"targets": {**TARGETS, "two": {"url": "http://a", "mapping": {"/x": {"prompteer": "x"}}}}},
    {"targets": {**TARGETS, "a b": {"url": "http://a", "mapping": {"/x": None}}}},
    {"targets": {**TARGETS, "two": {"url": "http://a", "mapping": {"/x?y": None}}}},
    {"targets": TARGETS, "models": {"m": {"target": "one", "alias": "x"}}},
    {"targets": TARGETS, "templates": {"T": {"usr": "x"}}},
    {"targets": {"one": TARGETS["one"]}},
    {"system": {"port": 8000}},
]


@pytest.mark.parametrize("data", UNKNOWN)
def test_the_json_schema_refuses_the_keys_that_the_loader_refuses(tmp_path: Path, data: dict[str, Any]) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError):
        load(file, {})
    assert not accepts(data)


@pytest.mark.parametrize(
    ("key", "value", "valid"),
    [
        ("port", 8000, True),
        ("port", "${PORT}", True),
        ("port", 80000, False),
        ("port", "http", False),
        ("port", True, False),
        ("timeout", "5m", True),
        ("timeout", {"idle": 5}, True),
        ("timeout", "soon", False),
        ("max_body", "64MiB", True),
        ("max_body", "huge", False),
        ("ssl", True, True),
        ("ssl", "certificates", False),
        ("cors", ["*"], True),
        ("host", None, True),
        ("host", 5, False),
    ],
)
def test_the_json_schema_knows_the_words(key: str, value: Any, valid: bool) -> None:
    assert accepts({"targets": TARGETS, "system": {key: value}}) is valid


def test_the_names_of_the_middlewares_are_those_of_the_chain() -> None:
    assert tuple(middlewares.MIDDLEWARES) == MIDDLEWARES
