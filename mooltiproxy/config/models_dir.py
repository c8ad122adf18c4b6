"""`models_dir:`: TabbyAPI-Proxy's files, a model each, as if they were written under `models:`.

Its form is that of emzaedu/TabbyAPI-Proxy in 2025: a TabbyAPI configuration with a section `template` of its own.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mooltiproxy.config.document import Document, Place, plain_document
from mooltiproxy.config.shapes import Where
from mooltiproxy.errors import ConfigError, Problem

SUFFIXES = (".yml", ".yaml")
OWN = ("system", "system_time")
SHOWN = ("model", "draft_model", "template")
"""What of a file is told to those who ask how its model is."""
_PER_REQUEST = ("stream", "stream_options", "echo", "suffix", "best_of")
"""Fields of a template that are for a client to say: they are passed over."""


def add_models(document: Document, folder: Path) -> None:
    """Put the files' models into the document, each value with its own file and line, but for names that are under
    `models:` already; what is wrong goes to the document's problems."""
    said = document.data.get("models_dir")
    path = said.get("dir") if isinstance(said, dict) else said
    if not isinstance(path, str) or not path:
        return  # the schema says so
    root = folder / path
    if not root.is_dir():
        where: Where = ("models_dir", "dir") if isinstance(said, dict) else ("models_dir",)
        document.problems.append(document.problem(where, "there is no such folder beside the configuration file"))
        return
    models = document.data.setdefault("models", {})
    target = _target(document.data, said)
    for file in sorted(one for one in root.rglob("*") if one.suffix in SUFFIXES and one.is_file()):
        name = file.relative_to(root).with_suffix("").as_posix()
        if isinstance(models, dict) and name not in models:
            model = _read(document, file, name)
            if model is not None:
                models[name] = {"target": target, **model}


def _target(data: dict[str, Any], said: Any) -> Any:
    named = said.get("target") if isinstance(said, dict) else None
    targets = data.get("targets")
    return named or (targets.get("default") if isinstance(targets, dict) else None)


def _read(document: Document, file: Path, name: str) -> dict[str, Any] | None:
    """The entry that a file stands for, its places added to the document's; None where it cannot be one."""
    try:
        read = plain_document(file.read_text("utf-8-sig"), str(file))
    except OSError as error:
        document.problems.append(Problem(f"cannot be read: {error.strerror}", file=str(file)))
        return None
    except UnicodeDecodeError:
        document.problems.append(Problem("not UTF-8: save the file with that encoding", file=str(file)))
        return None
    except ConfigError as error:
        document.problems += error.problems
        return None
    document.places[("models", name)] = Place(str(file), 1)
    served = _section(read.data, "model").get("model_name")
    if not isinstance(served, str) or not served:
        at = ("model",) if "model" in _mapping(read.data) else ()
        document.problems.append(read.problem(at, "expected `model:` with `model_name:`, the name that TabbyAPI knows"))
        return None
    document.files[name] = {section: _section(read.data, section) for section in SHOWN}
    entry: dict[str, Any] = {"name": served, "defaults": {}}
    for old, new in _moves(read.data):
        value = read.data
        for part in old:
            value = value[part]
        (entry["defaults"] if new[0] == "defaults" else entry)[new[-1]] = value
        moved: Where = ("models", name, *new)
        document.places |= {
            (*moved, *place[len(old) :]): where for place, where in read.places.items() if place[: len(old)] == old
        }
    return entry


def _moves(data: Any) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """What a file says, and where that stands in an entry of `models:`; of two sections the later one counts."""
    for key in _section(data, "sampling"):
        if key != "override_preset":  # TabbyAPI itself reads its presets
            yield ("sampling", key), ("defaults", key)
    for key in _section(data, "template"):
        if key in OWN:
            yield ("template", key), (key,)
        elif key not in _PER_REQUEST:
            yield ("template", key), ("defaults", key)


def _section(data: Any, name: str) -> dict[str, Any]:
    return _mapping(_mapping(data).get(name))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
