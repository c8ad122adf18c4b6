"""Reads the configuration: file or plain data in, a frozen `Config` out, or every mistake in one ConfigError."""

import copy
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voluptuous import Invalid

from mooltiproxy.config import old_spellings
from mooltiproxy.config.auto import Probe, find_out
from mooltiproxy.config.build import build
from mooltiproxy.config.document import Document, read_document
from mooltiproxy.config.keys import contradictory, doubtful, with_file_keys
from mooltiproxy.config.machine import impossible
from mooltiproxy.config.model import Config
from mooltiproxy.config.models_dir import add_models
from mooltiproxy.config.overrides import MASTER_KEY, override
from mooltiproxy.config.prompts import FOLDER, LANGUAGE, Library, read_library
from mooltiproxy.config.schema import Known, schema
from mooltiproxy.config.shapes import Where, attempted
from mooltiproxy.config.sources import sources
from mooltiproxy.config.templates import names_in
from mooltiproxy.config.validators import key
from mooltiproxy.discovery import Registry, discover
from mooltiproxy.errors import ConfigError, Problem


def load(
    file: Path,
    environ: Mapping[str, str] = os.environ,
    probe: Probe | None = None,
    folder: Path | None = None,
    text: str | None = None,
) -> Config:
    """The configuration of a YAML file; raises ConfigError with every problem, each with its line.

    `probe` asks the targets that say `speaks: auto`. The file is read as if it lay in `folder`, if one is given,
    and as if it held `text`.
    """
    document = read_document(file, environ, text)
    folder = (file.parent if folder is None else folder).absolute()
    return dataclasses.replace(_configured(document, folder, environ, probe), file=file)


def from_data(
    data: dict[str, Any], folder: Path, environ: Mapping[str, str] = os.environ, probe: Probe | None = None
) -> Config:
    """The configuration of plain data, as a file in `folder` would hold it; raises ConfigError.

    `${NAME}` is left as it stands: the data does not come from a file.
    """
    return _configured(Document(copy.deepcopy(data)), folder.absolute(), environ, probe)


def _configured(document: Document, folder: Path, environ: Mapping[str, str], probe: Probe | None) -> Config:
    if not isinstance(document.data, dict):
        raise ConfigError(*document.problems)
    registry = _discovered(document, folder)
    dialects = registry.dialects.values() if registry else ()
    renewed = [*old_spellings.renew(document), *find_out(document, probe, dialects, environ)]
    override(document, schema(Known()).paths(document.data), environ)
    add_models(document, folder)
    _check_master_key(document, environ)
    known = _known(document, registry, folder, environ)
    errors: list[Invalid] = []
    values = attempted(schema(known), document.data, errors)
    document.problems += _problems(document, errors)
    if document.problems or registry is None:
        raise ConfigError(*_in_order(document.problems))
    config = build(values, document, known, registry)
    found = [*impossible(config), *contradictory(config)]
    document.problems += [document.problem(path, message) for path, message in found]
    config = _with_file_keys(document, config)
    if document.problems:
        raise ConfigError(*_in_order(document.problems))
    warnings = _in_order([*renewed, *config.warnings, *doubtful(config.keys_file)])
    return dataclasses.replace(config, warnings=warnings, sources=sources(document.data, folder))


def _with_file_keys(document: Document, config: Config) -> Config:
    """The same with the keys of `keys_file`; what is wrong with it goes to the document's problems."""
    try:
        return with_file_keys(config)
    except ConfigError as error:
        document.problems += error.problems
        return config


def _in_order(problems: list[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(problems, key=lambda problem: (problem.file, problem.line)))


def _discovered(document: Document, folder: Path) -> Registry | None:
    """What the folders hold; None where a file in them is at fault, which is then among the problems."""
    try:
        return discover(folder)
    except ConfigError as error:
        document.problems += error.problems
        return None


def _check_master_key(document: Document, environ: Mapping[str, str]) -> None:
    try:
        key(environ.get(MASTER_KEY, ""))
    except Invalid as error:
        document.problems.append(Problem(error.msg, file=MASTER_KEY))


def _known(document: Document, registry: Registry | None, folder: Path, environ: Mapping[str, str]) -> Known:
    written = _entries(document.data, "targets").items()
    targets = [name for name, entry in written if name != "default" and not isinstance(entry, str)]
    templates = names_in(document.data.get("templates"))
    library = _library(document, folder)
    if registry is None:
        return Known(folder, environ, templates=templates, targets=targets, library=library)
    dialects = {name: dialect for name, dialect in registry.dialects.items() if not dialect.below_prefix}
    endpoints = {endpoint.label for dialect in dialects.values() for endpoint in dialect.endpoints}
    found = (registry.mappers, registry.prompters, dialects)
    return Known(folder, environ, *found, templates, targets, endpoints, library)


def _library(document: Document, folder: Path) -> Library | None:
    """The prompt library; None where a file in it is at fault, which is then among the problems."""
    said = _entries(document.data, "prompts")
    path, language = said.get("dir"), said.get("language")
    root = folder / (path if isinstance(path, str) and path else FOLDER)
    if path and not root.is_dir():
        message = "there is no such folder beside the configuration file"
        document.problems.append(document.problem(("prompts", "dir"), message))
        return None
    try:
        return read_library(root, language if isinstance(language, str) and language else LANGUAGE)
    except ConfigError as error:
        document.problems += error.problems
        return None


def _entries(data: dict[str, Any], section: str) -> dict[str, Any]:
    entries = data.get(section)
    return entries if isinstance(entries, dict) else {}


def _problems(document: Document, errors: list[Invalid]) -> list[Problem]:
    """The schema's errors with their places; a value that could not be read at all has its problem already."""
    found = []
    for error in errors:
        path: Where = tuple(part if isinstance(part, int) else str(part) for part in error.path)
        if path not in document.unreadable:
            found.append(document.problem(path, error.msg))
    return found
