"""Configuration files for tests: text in, a Config or the problems out."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from mooltiproxy.config.load import load
from mooltiproxy.config.model import Config
from mooltiproxy.errors import ConfigError, Problem

TARGETS = """\
targets:
  default: one
  one: {url: "http://localhost:1", mapping: {/models: }}
"""
"""The smallest file, three lines long."""


def written(folder: Path, text: str) -> Path:
    file = folder / "config.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def loaded(folder: Path, text: str, **environ: str) -> Config:
    return load(written(folder, text), environ)


def pieces_of(config: Config, name: str) -> Mapping[str, str]:
    """The pieces of a template that has some."""
    template = config.templates[name]
    assert isinstance(template, Mapping)
    return template


def problems(folder: Path, text: str, **environ: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text, **environ)
    return caught.value.problems


def only_problem(folder: Path, text: str, **environ: str) -> Problem:
    found = problems(folder, text, **environ)
    assert len(found) == 1, "\n".join(map(str, found))
    return found[0]


def lines(found: tuple[Problem, ...]) -> list[tuple[int, str]]:
    return [(problem.line, ".".join(map(str, problem.path))) for problem in found]
