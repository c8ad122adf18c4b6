"""Two words of the oldest files: `prompts:` for `templates:`, and `prompt` for `prompter` in a mapping entry."""

from typing import Any

from mooltiproxy.config.document import Document
from mooltiproxy.config.shapes import Where
from mooltiproxy.errors import Problem

_PROMPTERS = {"llama2": "llama2_chat"}


def renew(document: Document) -> list[Problem]:
    """Put the new words into the document; the warnings that name them."""
    renamed = [path for path in _old_paths(document.data) if path not in document.unreadable]
    warnings = [document.problem(path, f"this is called `{_new_path(path)[-1]}` now: rename it") for path in renamed]
    for path in renamed:
        _rename(document.data, path)
    document.places = {_moved(path, renamed): place for path, place in document.places.items()}
    document.unreadable = {_moved(path, renamed) for path in document.unreadable}
    return warnings


def _old_paths(data: Any) -> list[Where]:
    """The old words, the deepest first, where the new one is not there."""
    paths: list[Where] = []
    for target, entry, keys in _entries(data):
        if "prompt" in keys and "prompter" not in keys:
            paths.append(("targets", target, "mapping", entry, "prompt"))
    prompts = data.get("prompts")
    pieces = prompts.values() if isinstance(prompts, dict) else ()
    if pieces and "templates" not in data and all(isinstance(one, dict) for one in pieces):
        paths.append(("prompts",))
    return paths


def _entries(data: Any) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (name, path, entry)
        for name, target in _pairs(data.get("targets"))
        if isinstance(target, dict)
        for path, entry in _pairs(target.get("mapping"))
        if isinstance(entry, dict)
    ]


def _pairs(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _new_path(path: Where) -> Where:
    return ("templates",) if path == ("prompts",) else (*path[:-1], "prompter")


def _moved(path: Where, renamed: list[Where]) -> Where:
    for old in renamed:
        if path[: len(old)] == old:
            return (*_new_path(old), *path[len(old) :])
    return path


def _rename(data: Any, path: Where) -> None:
    for part in path[:-1]:
        data = data[part]
    old, new = path[-1], _new_path(path)[-1]
    value = data.pop(old)
    data[new] = _PROMPTERS.get(value, value) if isinstance(value, str) else value
