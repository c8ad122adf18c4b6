"""What holds for the configurations of all programs."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from mooltiproxy.config.load import load
from mooltiproxy.errors import ConfigError
from mooltiproxy.importers.draft import Note
from mooltiproxy.importers.reading import import_file
from mooltiproxy.importers.source import read_source
from tests.importers.importing import FILES, accepted, fates, imported, loaded, settings

ENVIRON = {"LLM_PROXY_API_TIMEOUT": "120", "LLM_PROXY_API_SERVER_WORKERS": "4", "LLM_PROXY_API_NEW": "canary-env"}
SOURCES = ("litellm.yaml", "llama_swap.yaml", "models-config.json", "tabby", "tabby/config/Mistral-Small.yml")


def keys(data: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every key of their configuration that holds no other keys, by the path to it; written apart from the product."""
    if isinstance(data, dict):
        return [found for name in data for found in keys(data[name], (*path, name))]
    if isinstance(data, list) and any(isinstance(item, dict) for item in data):
        return [found for at, item in enumerate(data) for found in keys(item, (*path, at))]
    return [path]


def says_something_of(note: Note, key: tuple[str | int, ...]) -> bool:
    is_above = note.path == key[: len(note.path)]
    is_item = note.path[: len(key)] == key
    return note.path == key or is_item or (is_above and not note.is_carried) or (is_above and "overrides" in note.text)


@pytest.mark.parametrize("source", SOURCES)
def test_every_key_of_theirs_is_kept_mapped_or_listed(source: str) -> None:
    result, _ = import_file(FILES / source, ENVIRON)
    every = keys(read_source(FILES / source).data)
    assert [key for key in every if not any(says_something_of(note, key) for note in result.notes)] == []


@pytest.mark.parametrize("source", SOURCES)
def test_what_comes_out_is_accepted_without_warnings(source: str, tmp_path: Path) -> None:
    assert accepted(tmp_path, FILES / source, ENVIRON).warnings == ()


@pytest.mark.parametrize("source", SOURCES)
def test_no_secret_comes_out(source: str) -> None:
    result, text = import_file(FILES / source, ENVIRON)
    assert "canary" not in text
    assert "canary" not in repr(result)


@pytest.mark.parametrize("source", SOURCES)
def test_all_that_must_be_set_is_said(source: str, tmp_path: Path) -> None:
    result, text = import_file(FILES / source, ENVIRON)
    file = tmp_path / "ours.yaml"
    file.write_text(text)
    for name in set(result.variables) - {"MOOLTIPROXY_KEY"}:
        with pytest.raises(ConfigError, match="not set"):
            load(file, settings(set(result.variables) - {name}))


@pytest.mark.parametrize("source", SOURCES)
def test_a_note_stands_where_its_key_is_written(source: str) -> None:
    for note in import_file(FILES / source, ENVIRON)[0].notes:
        if note.place.line and isinstance(note.path[-1], str):
            assert note.path[-1] in Path(note.place.file).read_text().splitlines()[note.place.line - 1]


@pytest.mark.parametrize("source", SOURCES)
def test_the_notes_stand_as_comments_behind_the_configuration(source: str) -> None:
    result, text = import_file(FILES / source, ENVIRON)
    assert all(f"# {note}\n" in text for note in result.notes)


def test_notes_tell_file_line_key_and_fate(tmp_path: Path) -> None:
    text = "model_list:\n- model_name: a\n  litellm_params:\n    model: gpt-4o\n    rpm: 5\n"
    result = imported(tmp_path, text)
    assert [str(note) for note in result.notes][-1] == (
        f"{tmp_path}/theirs.yaml:5: model_list.0.litellm_params.rpm: not carried: "
        "limits are not carried: see `limits` of keys and models, and `concurrent` of targets"
    )


def test_text_of_theirs_is_never_a_variable_or_a_comment_of_ours(tmp_path: Path) -> None:
    model = {"model_name": "odd\nname: 1", "litellm_params": {"model": "openai/${HOME}", "stop": ["${X}", "# no", "1"]}}
    plain = {"model_name": "plain", "litellm_params": {"model": "openai/${HOME}", "stop": ["${X}", "# no", "1"]}}
    file = tmp_path / "theirs.json"
    file.write_bytes(orjson.dumps({"model_list": [model, plain]}))
    config = accepted(tmp_path, file)
    assert list(config.models) == ["plain"]
    assert config.models["plain"].upstream_name == "${HOME}"


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("a.yaml", "", "none of the programs"),
        ("a.yaml", "- 1\n", "none of the programs"),
        ("a.yaml", "services: {web: {image: x}}\n", "none of the programs that are known here: LiteLLM"),
        ("a.yaml", "targets: {default: a, a: {url: 'http://h'}}\n", "mooltiproxy already"),
        ("a.yaml", "model_list: [\n", "a.yaml:2: not valid YAML"),
        ("a.yaml", "model_list:\n\t- a\n", "a.yaml:2: a tab"),
        ("a.yaml", "model_list: []\nmodel_list: []\n", "a.yaml:2: model_list: this key is there twice"),
        ("a.yaml", "model_list: []\n", "nothing is left that could be a target"),
        ("a.json", '{"active_models": {"x": 5}}', "nothing is left that could be a target"),
    ],
)
def test_what_cannot_be_imported_is_refused_with_the_reason(tmp_path: Path, name: str, text: str, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        imported(tmp_path, text, name)
    assert part in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        import_file(tmp_path / "none.yaml", {})


def test_a_folder_without_yaml_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a folder without YAML files"):
        import_file(tmp_path, {})


def test_what_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "theirs.yaml"
    file.write_bytes(b"model_list: \xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        import_file(file, {})


@pytest.mark.parametrize("value", [None, 5, [{"a": [1]}]])
@pytest.mark.parametrize("source", ["litellm.yaml", "llama_swap.yaml", "models-config.json"])
def test_a_value_of_another_kind_is_listed_and_what_comes_out_is_accepted(
    tmp_path: Path, source: str, value: Any
) -> None:
    data = read_source(FILES / source).data
    file = tmp_path / "odd.json"
    for path in dict.fromkeys(key[:length] for key in keys(data)[::16] for length in range(1, len(key) + 1)):
        file.write_bytes(orjson.dumps(changed(data, path, value)))
        try:
            ours = import_file(file, {})
        except ConfigError as error:
            assert "nothing is left" in str(error) or "none of the programs" in str(error)
        else:
            loaded(tmp_path, *ours)


def changed(data: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """The data with another value in one place."""
    if not path:
        return value
    copy: Any = dict(data) if isinstance(data, dict) else list(data)
    copy[path[0]] = changed(data[path[0]], path[1:], value)
    return copy


def test_the_same_key_of_theirs_is_one_variable_of_ours(tmp_path: Path) -> None:
    models = "".join(
        f"- {{model_name: {name}, litellm_params: {{model: openai/{name}, api_key: {key}}}}}\n"
        for name, key in (("a", "first"), ("b", "second"), ("c", "first"), ("d", "os.environ/OPENAI_KEY"))
    )
    result = imported(tmp_path, f"model_list:\n{models}")
    used = [result.data["targets"][result.data["models"][name]["target"]]["envkey"] for name in "abcd"]
    assert used[0] == used[2]
    assert len(set(used)) == 3
    assert used[3] == "OPENAI_KEY"


def test_a_key_that_nobody_knows_is_listed(tmp_path: Path) -> None:
    result = imported(tmp_path, "model_list: [{model_name: a, litellm_params: {model: gpt-4o}}]\nbrand_new: {x: 1}\n")
    assert fates(result)["brand_new.x"] == "not carried: mooltiproxy has nothing like it"
