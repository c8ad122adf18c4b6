"""The files beside the configuration's own that it is made of."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mooltiproxy.config.prompts import FOLDER
from mooltiproxy.discovery import FOLDERS


def sources(data: dict[str, Any], folder: Path) -> tuple[Path, ...]:
    """What a file's data names or implies, there or not, as paths: templates, prompts, a folder of models, the user's
    functions. Not its keys and certificates, which are watched in any case."""
    return tuple(dict.fromkeys(folder / name for name in _named(data, folder)))


def _named(data: dict[str, Any], folder: Path) -> Iterator[str]:
    yield from FOLDERS
    yield from (f"{one.partition(':')[0]}.py" for one in _texts(data.get("middlewares")) if ":" in one)
    models = data.get("models_dir")
    yield from _texts(models.get("dir") if isinstance(models, dict) else models)
    yield from _texts(_section(data, "prompts").get("dir") or FOLDER)
    for template in _section(data, "templates").values():
        yield from _texts(_section({"": template}, "").get("file"))
    for target in _section(data, "targets").values():
        own = _section({"": target}, "")
        entries = _section(own, "mapping").values()
        for one in (own, *(entry for entry in entries if isinstance(entry, dict))):
            yield from (name for name in _texts(one.get("template")) if (folder / name).exists())


def _section(data: dict[str, Any], name: str) -> dict[str, Any]:
    section = data.get(name)
    return section if isinstance(section, dict) else {}


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, str) and one and "\0" not in one]
