"""Finds dialects, mappers and prompters: the built-in ones and the user's, by the same door.

The folders `mappers/` and `prompters/` are opened by path, the built-in ones as `mooltiproxy.mappers` and
`mooltiproxy.prompters`, the user's beside the configuration file as `mooltiproxy_user.*`. `sys.path` is not touched; files
may use relative imports among themselves. A user's name hides a built-in one; the same name twice among the user's files
is an error.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from mooltiproxy.errors import ConfigError, Problem
from mooltiproxy.mapping.dialect import Dialect

PACKAGE = Path(__file__).parent
FOLDERS = ("mappers", "prompters")
USER_PACKAGE = "mooltiproxy_user"


@dataclass(frozen=True, slots=True)
class Found:
    """A mapper or prompter function: where it is defined and the first line of its docstring."""

    name: str
    function: Callable[..., Any]
    file: Path
    doc: str
    builtin: bool


@dataclass(frozen=True, slots=True)
class Registry:
    """All that was found, by name."""

    mappers: dict[str, Found] = field(default_factory=dict)
    prompters: dict[str, Found] = field(default_factory=dict)
    dialects: dict[str, Dialect] = field(default_factory=dict)


def discover(folder: Path | None) -> Registry:
    """The registry of the built-in folders and of those in `folder`; raises ConfigError for a file that fails to load."""
    registry = Registry()
    builtin = {name: _builtin_folder(name) for name in FOLDERS}
    for name, path in builtin.items():
        _collect(registry, name, _open_folder(f"mooltiproxy.{name}", path), builtin=True)
    if not registry.mappers or not registry.prompters or not registry.dialects:
        raise ConfigError(Problem("no built-in mappers were found: the installation is incomplete, install it again"))
    _forget(USER_PACKAGE)
    for name in FOLDERS:
        path = folder / name if folder else None
        if path and path.is_dir() and path.resolve() != builtin[name].resolve():
            _collect(registry, name, _open_folder(f"{USER_PACKAGE}.{name}", path), builtin=False)
    return registry


def _builtin_folder(name: str) -> Path:
    inside = PACKAGE / name
    return inside if inside.exists() else PACKAGE.parent / name


def _open_folder(package: str, folder: Path) -> list[ModuleType]:
    parent, _, _ = package.rpartition(".")
    if parent not in sys.modules:
        _register(parent, [])
    if package not in sys.modules:
        _register(package, [str(folder)])
    return [_import(f"{package}.{info.name}", folder) for info in iter_modules([str(folder)])]


def _register(package: str, locations: list[str]) -> None:
    spec = ModuleSpec(package, None, is_package=True)
    spec.submodule_search_locations = locations
    sys.modules[package] = module_from_spec(spec)


def _forget(package: str) -> None:
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        del sys.modules[name]


def _import(name: str, folder: Path) -> ModuleType:
    try:
        return import_module(name)
    except Exception as error:  # a user's file may raise anything
        file = folder / f"{name.rpartition('.')[2]}.py"
        raise ConfigError(Problem(f"cannot be loaded: {type(error).__name__}: {error}", file=str(file))) from error


def _collect(registry: Registry, folder: str, modules: list[ModuleType], *, builtin: bool) -> None:
    for module in modules:
        dialect = getattr(module, "dialect", None)
        if isinstance(dialect, Dialect):
            registry.dialects[dialect.name] = dialect
            continue
        table = registry.mappers if folder == "mappers" else registry.prompters
        for found in _functions(module, builtin=builtin):
            known = table.get(found.name)
            if known and not known.builtin and not builtin:
                raise ConfigError(Problem(f"{found.name} is defined in {known.file} too", file=str(found.file)))
            table[found.name] = found


def _functions(module: ModuleType, *, builtin: bool) -> Iterator[Found]:
    file = Path(str(module.__file__))
    for name, value in vars(module).items():
        if name.startswith("_") or not inspect.isfunction(value) or value.__module__ != module.__name__:
            continue
        doc = (inspect.getdoc(value) or "").partition("\n")[0]
        yield Found(name, value, file, doc, builtin)
