"""The imported configuration as a YAML file of ours, with where it comes from and what was left behind as comments."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mooltiproxy.config.document import Place
from mooltiproxy.importers.draft import Imported, Variable


def written(imported: Imported, source: Path, program: str) -> str:
    """The file's text: a head that says what to do first, the sections, and the fate of every key of theirs."""
    lines = [*_head(imported, source, program), *_sections(imported), "", *_fates(imported)]
    return "\n".join(lines) + "\n"


def _head(imported: Imported, source: Path, program: str) -> Iterator[str]:
    yield f"# Made from {_one_line(str(source))}, a configuration of {program}, by `mooltiproxy import`."
    yield "# What became of each of its keys stands at the end. A model that is not listed goes to the default target."
    yield "#"
    yield "# To be set in the environment:"
    width = max(map(len, imported.variables), default=0)
    for name, what in imported.variables.items():
        yield f"#   {name.ljust(width)}  {_one_line(what)}"
    yield ""


def _sections(imported: Imported) -> Iterator[str]:
    for section, entries in imported.data.items():
        yield f"{section}:"
        for name, value in entries.items():
            places = imported.sources.get((section, name), ()) if isinstance(value, dict) else ()
            if places:
                yield f"  # from {_spelled(places)}"
            yield from (f"  {line}" for line in _dumped({name: value}))


def _spelled(places: tuple[Place, ...]) -> str:
    files: dict[str, list[str]] = {}
    for place in places:
        files.setdefault(place.file, []).extend([str(place.line)] if place.line else [])
    return "; ".join(f"{_one_line(file)}{':' if lines else ''}{','.join(lines)}" for file, lines in files.items())


def _dumped(data: Any) -> list[str]:
    text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9)
    return text.rstrip("\n").split("\n")


class _Dumper(yaml.SafeDumper):
    """Writes text so that our reader takes `${` in it for what it is, and variables as they are."""

    def ignore_aliases(self, data: Any) -> bool:
        """What is there twice is written twice."""
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text and all(line.isprintable() for line in text.split("\n")) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text.replace("${", "$${"), style)


def _represent_variable(dumper: yaml.SafeDumper, text: Variable) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text))


def _represent_nothing(dumper: yaml.SafeDumper, nothing: None) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:null", "")


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(Variable, _represent_variable)
_Dumper.add_representer(type(None), _represent_nothing)


def _fates(imported: Imported) -> Iterator[str]:
    yield "# What became of each key:"
    yield from (f"# {_one_line(str(note))}" for note in imported.notes)


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
