"""Finds dialects, mappers and prompters: the built-in ones and the user's, by the same door.

The folders `mappers/` and `prompters/` are opened by path, the built-in ones as `mooltiproxy.mappers` and
`mooltiproxy.prompters`, the user's beside the configuration file as `mooltiproxy_user.*`. `sys.path` is not touched;
files may use relative imports among themselves. A user's name hides a built-in one; the same name twice among the
user's files is an error.
"""

import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module, invalidate_caches
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
    """The registry of the built-in folders and of those in `folder`, read anew at each call.

    Raises ConfigError for a file of the user's that fails to load, and for a name that two of them define.
    """
    registry = Registry()
    builtin = {name: _builtin_folder(name) for name in FOLDERS}
    for name, path in builtin.items():
        _collect(registry, name, _open_folder(f"mooltiproxy.{name}", path), builtin=True)
    if not registry.mappers or not registry.prompters or not registry.dialects:
        raise ConfigError(Problem("no built-in mappers were found: the installation is incomplete, install it again"))
    _forget(USER_PACKAGE)
    for name in FOLDERS:
        user = folder / name if folder else None
        if user and user.is_dir() and user.resolve() != builtin[name].resolve():
            _collect(registry, name, _open_folder(f"{USER_PACKAGE}.{name}", user), builtin=False)
    _put_first(registry.dialects, "openai")
    return registry


def _put_first(dialects: dict[str, Dialect], name: str) -> None:
    """Of dialects that share a client path (`GET /v1/models`) the first counts: that with the most clients."""
    if name in dialects:
        rest = {other: dialects.pop(other) for other in list(dialects) if other != name}
        dialects.update(rest)


def _builtin_folder(name: str) -> Path:
    inside = PACKAGE / name
    return inside if inside.exists() else PACKAGE.parent / name


def _open_folder(package: str, folder: Path) -> list[ModuleType]:
    parent, _, _ = package.rpartition(".")
    if parent not in sys.modules:
        _register(parent, [])
    if package not in sys.modules:
        _register(package, [str(folder)])
    invalidate_caches()
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
    except (Exception, SystemExit) as error:
        raise ConfigError(_problem(error, name, folder)) from error


def _problem(error: BaseException, name: str, folder: Path) -> Problem:
    """What is wrong with a user's file, and the line of it where it went wrong."""
    base = folder / name.rpartition(".")[2]
    file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    message = f"cannot be loaded: {type(error).__name__}: {error}"
    if isinstance(error, SyntaxError) and error.filename:
        return Problem(f"cannot be loaded: {error.msg}", file=error.filename, line=error.lineno or 0)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return Problem(message, file=str(file), line=(lines[-1] or 0) if lines else 0)


def _collect(registry: Registry, folder: str, modules: list[ModuleType], *, builtin: bool) -> None:
    table = registry.mappers if folder == "mappers" else registry.prompters
    dialects: dict[str, ModuleType] = {}
    for module in modules:
        dialect = getattr(module, "dialect", None)
        if isinstance(dialect, Dialect):
            if dialect.name in dialects:
                raise _twice(f"the dialect {dialect.name}", str(dialects[dialect.name].__file__), str(module.__file__))
            dialects[dialect.name] = module
            registry.dialects[dialect.name] = dialect
            continue
        for found in _functions(module, builtin=builtin):
            known = table.get(found.name)
            if known and known.builtin == builtin:
                raise _twice(found.name, str(known.file), str(found.file))
            table[found.name] = found


def _twice(what: str, first: str, second: str) -> ConfigError:
    return ConfigError(Problem(f"{what} is defined in {first} too: rename one of them", file=second))


def _functions(module: ModuleType, *, builtin: bool) -> Iterator[Found]:
    file = Path(str(module.__file__))
    for name, value in vars(module).items():
        if name.startswith("_") or not inspect.isfunction(value) or value.__module__ != module.__name__:
            continue
        doc = (inspect.getdoc(value) or "").partition("\n")[0]
        yield Found(name, value, file, doc, builtin)
