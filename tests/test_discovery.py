from pathlib import Path

import pytest

from mooltiproxy.discovery import discover
from mooltiproxy.errors import ConfigError

SEED = {
    "identity",
    "textReqOpenAItoTGI",
    "textAnsTGItoOpenAI",
    "chatReqOpenAItoTGI",
    "chatAnsTGItoOpenAI",
    "chatStreamTGItoOpenAI",
    "textStreamTGItoOpenAI",
}
DIALECT = """
from dataclasses import replace
from mooltiproxy.mappers.tgi import dialect as ours
dialect = replace(ours, name="mine", doc="Mine")
"""


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def refused(folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        discover(folder)
    return str(caught.value)


def test_the_built_in_functions_and_dialects_are_found() -> None:
    registry = discover(None)
    assert registry.mappers.keys() == SEED
    assert {"fromTemplate", "llama2_chat"} <= registry.prompters.keys()
    assert {"openai", "tgi"} <= registry.dialects.keys()
    assert all(found.builtin and found.doc for found in registry.mappers.values())


def test_openais_dialect_comes_first_where_paths_are_shared() -> None:
    assert next(iter(discover(None).dialects)) == "openai"


def test_a_users_files_are_found_and_may_import_each_other(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "mappers/helper.py": "def shout(text):\n    return text.upper()\n",
            "mappers/mine.py": (
                "from .helper import shout\n\ndef mine(ip, cfg={}):\n"
                '    """Shout it.\n\n    More."""\n    return shout(ip)\n'
            ),
            "prompters/mine.py": "def ask(messages, cfg={}):\n    return 'x', []\n",
        },
    )
    registry = discover(tmp_path)
    mine = registry.mappers["mine"]
    assert mine.function("hi") == "HI"
    assert (mine.doc, mine.builtin, mine.file) == ("Shout it.", False, tmp_path / "mappers" / "mine.py")
    assert registry.mappers["shout"].file == tmp_path / "mappers" / "helper.py"
    assert "ask" in registry.prompters
    assert SEED <= registry.mappers.keys()


def test_a_users_name_hides_ours(tmp_path: Path) -> None:
    write(tmp_path, {"mappers/mine.py": "def identity(ip, cfg={}):\n    return 'mine'\n"})
    assert discover(tmp_path).mappers["identity"].function(1) == "mine"
    assert discover(None).mappers["identity"].function(1) == 1


def test_a_users_file_named_as_ours_replaces_only_its_names(tmp_path: Path) -> None:
    write(tmp_path, {"mappers/seed.py": "def identity(ip, cfg={}):\n    return 'mine'\n"})
    registry = discover(tmp_path)
    assert not registry.mappers["identity"].builtin
    assert registry.mappers["textReqOpenAItoTGI"].builtin


def test_the_same_name_in_two_files_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, {f"mappers/{name}.py": "def mine(ip, cfg={}):\n    return ip\n" for name in ("one", "two")})
    assert "mine is defined in" in refused(tmp_path)


def test_the_same_dialect_in_two_files_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, {"mappers/one.py": DIALECT, "mappers/two.py": DIALECT})
    assert "the dialect mine is defined in" in refused(tmp_path)


def test_a_users_dialect_is_found(tmp_path: Path) -> None:
    write(tmp_path, {"mappers/one.py": DIALECT})
    assert discover(tmp_path).dialects["mine"].doc == "Mine"


def test_a_file_of_bad_syntax_is_named_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, {"mappers/mine.py": "x = 1\ndef mine(:\n"})
    assert refused(tmp_path).startswith(f"{tmp_path}/mappers/mine.py:2: cannot be loaded")


@pytest.mark.parametrize("line", ["import no_such_module", "raise ValueError('x')", "raise SystemExit(3)"])
def test_a_file_that_fails_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    write(tmp_path, {"mappers/mine.py": f"x = 1\n\n{line}\n"})
    assert refused(tmp_path).startswith(f"{tmp_path}/mappers/mine.py:3: cannot be loaded")


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    write(tmp_path, {"mappers/mine.py": "def mine(ip, cfg={}):\n    return 1\n"})
    assert discover(tmp_path).mappers["mine"].function(0) == 1
    write(tmp_path, {"mappers/mine.py": "def mine(ip, cfg={}):\n    return 23\n"})
    write(tmp_path, {"mappers/more.py": "def more(ip):\n    ...\n"})
    registry = discover(tmp_path)
    assert registry.mappers["mine"].function(0) == 23
    assert "more" in registry.mappers


def test_private_and_imported_names_are_not_mappers(tmp_path: Path) -> None:
    text = "from json import dumps\n\ndef _hidden(ip):\n    ...\n\nclass Mine:\n    ...\n\nvalue = 1\n"
    write(tmp_path, {"mappers/mine.py": text})
    assert discover(tmp_path).mappers.keys() == SEED


def test_a_folder_without_mappers_is_fine(tmp_path: Path) -> None:
    assert discover(tmp_path).mappers.keys() == SEED
