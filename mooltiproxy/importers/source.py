"""What another program's configuration says: a file, or a folder of files, as one Document with lines."""

import re
from itertools import islice
from pathlib import Path

from mooltiproxy.config.document import Document, Place, plain_document
from mooltiproxy.errors import ConfigError, Problem

MAX_FILES = 1_000
"""How much of a folder is looked at: far more than models have, far less than a home folder named by mistake."""

_SUFFIXES = (".yml", ".yaml")


def read_source(path: Path) -> Document:
    """A YAML or JSON file; of a folder its YAML files, each under its path in it. Raises ConfigError.

    Where a folder has one named config, as TabbyAPI-Proxy wants it, only that one is searched beside the files in it.
    """
    if not path.is_dir():
        return _read_file(path)
    document = Document({}, {(): Place(str(path))})
    for file in _files_of(path):
        _add(document, file.relative_to(path).as_posix(), _read_file(file))
    return document


def _files_of(folder: Path) -> list[Path]:
    inner = folder / "config"
    found = [*folder.glob("*"), *inner.rglob("*")] if inner.is_dir() else folder.rglob("*")
    files = sorted(file for file in islice(found, MAX_FILES) if file.suffix in _SUFFIXES and file.is_file())
    if not files:
        raise ConfigError(Problem("a folder without YAML files: name the right folder, or a file", file=str(folder)))
    return files


def _add(document: Document, name: str, file: Document) -> None:
    document.data[name] = file.data
    document.places |= {(name, *path): place for path, place in file.places.items()}


def _read_file(path: Path) -> Document:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(Problem(f"cannot be read: {error.strerror}", file=str(path))) from error
    except UnicodeDecodeError:
        raise ConfigError(Problem("not UTF-8: save the file with that encoding", file=str(path))) from None
    if text.lstrip().startswith("{"):  # JSON may be indented with tabs, YAML may not
        text = re.sub(r"^[ \t]+", lambda match: match[0].expandtabs(4), text, flags=re.MULTILINE)
    return plain_document(text, str(path))
