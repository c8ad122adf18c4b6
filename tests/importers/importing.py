"""Importing a text as a file, and loading what comes out of it."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from mooltiproxy.config.load import load
from mooltiproxy.config.model import Config
from mooltiproxy.importers.draft import Imported
from mooltiproxy.importers.reading import import_file

FILES = Path(__file__).parent / "files"
NOTHING: Mapping[str, str] = {}


def imported(folder: Path, text: str, name: str = "theirs.yaml", environ: Mapping[str, str] = NOTHING) -> Imported:
    """What a file with this text becomes."""
    file = folder / name
    file.write_text(text)
    return import_file(file, environ)[0]


def accepted(folder: Path, path: Path, environ: Mapping[str, str] = NOTHING) -> Config:
    """Our configuration of their file."""
    return loaded(folder, *import_file(path, environ))


def loaded(folder: Path, result: Imported, text: str) -> Config:
    """Our configuration, as `mooltiproxy check` loads it where all that it names is set."""
    ours = folder / "ours.yaml"
    ours.write_text(text)
    return load(ours, settings(result.variables))


def settings(variables: Iterable[str]) -> dict[str, str]:
    """Values for the environment variables that a configuration of ours names."""
    own = {name: name.lower().replace("_", "-") for name in variables}  # no two keys may be the same
    return {name: f"http://{value}" if name.endswith("_BASE") else value for name, value in own.items()}


def fates(result: Imported) -> dict[str, str]:
    """What is said of each key of theirs."""
    return {".".join(map(str, note.path)): note.text for note in result.notes}
