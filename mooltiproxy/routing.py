"""Where a request goes: its facts and the configuration in, a `Route` out. Pure."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import unquote

from mooltiproxy.config.model import PASSTHROUGH, Config, MappingEntry, Model, Target
from mooltiproxy.errors import NotFound
from mooltiproxy.mapping.dialect import Dialect, Reply
from mooltiproxy.mapping.json_edit import with_fields, with_model
from mooltiproxy.mapping.model_names import MODEL_NAME

TO = "/to/"
MAX_NAME = 256
"""Letters of a model's name that patterns are tried on."""
_ANYTHING = "(.*)"


@dataclass(frozen=True, slots=True)
class Route:
    """The decision: which target, which of its mapping entries, and the model whose name must change, if any.

    `path_model` is the model named in the client's path, for entries with `{model}`; `missing` are the paths that the
    target turned out not to have.
    """

    target: Target
    entry: MappingEntry
    model: Model | None = None
    path_model: str | None = None
    missing: Collection[str] = ()

    @property
    def alias(self) -> str | None:
        """The name by which the client asks for the model, where its target knows another."""
        model = self.model
        return model.name if model and model.name not in ("", model.upstream_name) else None


def config_of(route: Route) -> Mapping[str, Any]:
    """What a dialect's writer must know of the target of a request that passes."""
    model = route.model.upstream_name if route.model else route.path_model
    return {"url": route.target.url, "path": route.entry.path, "model": model}


def split_target(path: str) -> tuple[str | None, str]:
    """`/to/<target>/<rest>` as (target, `/<rest>`), any other path as (None, path)."""
    if not path.startswith(TO):
        return None, path
    name, slash, rest = path[len(TO) :].partition("/")
    return name, slash + rest or "/"


class Router:
    """The configuration's routes, compiled: each lookup is a dictionary's."""

    def __init__(self, config: Config) -> None:
        self._targets = config.targets
        self._default = config.default_target
        self._models = config.models
        self._name_patterns = _name_patterns(config.models)
        self._entries = {name: _with_versioned_paths(target.mapping) for name, target in config.targets.items()}
        self._patterns = {name: _compiled(target.mapping.items()) for name, target in config.targets.items()}
        self._dialect_patterns = _dialect_patterns(config.registry.dialects)
        self._dialects = _named_dialects(config.targets) | _dialect_paths(config.registry.dialects)
        self._fallback_dialect = config.registry.dialects["openai"]
        self._signs = [(one.sign, one) for one in config.registry.dialects.values() if one.sign]
        self._shared = tuple({path.partition("{model}")[0] for path, _ in _shared_paths(config.registry.dialects)})
        self._passthrough = None if config.rest_prefix is None else config.rest_prefix + PASSTHROUGH
        self.wants_model = bool(config.models)
        self._missing: dict[str, set[str]] = {name: set() for name in config.targets}  # learned till a reload

    def dialect_of(self, path: str) -> Dialect:
        """The dialect that clients of this path speak, OpenAI's where no dialect claims it."""
        path = split_target(path)[1]
        known = self._dialects.get(path)
        if known is None:
            found = _first_match(self._dialect_patterns, path)
            known = found[0] if found else self._fallback_dialect
        return known

    def told_apart(self, path: str, headers: Mapping[str, str]) -> str:
        """A path that several dialects have, as the one of the dialect whose clients send such headers."""
        if not path.startswith(self._shared):
            return path
        for sign, dialect in self._signs:
            if sign in headers and self.dialect_of(path) is not dialect:
                alias = dialect.alias(path)
                if alias in self._dialects or _first_match(self._dialect_patterns, alias):
                    return alias
        return path

    def model_in(self, path: str) -> str | None:
        """The model that a path of some dialect names (`/v1beta/models/NAME:generateContent`)."""
        if path in self._dialects:
            return None
        found = _first_match(self._dialect_patterns, path)
        return found[1] if found else None

    def model_fields(self, path: str) -> Sequence[str]:
        """What the bodies of a path's dialect call the model."""
        return self.dialect_of(path).model_fields

    def maps(self, path: str) -> bool:
        """Whether the file has an entry for this client path: that wins over an endpoint of the proxy itself."""
        return any(path in entries and entries[path].is_explicit for entries in self._entries.values())

    def route(self, path: str, target: str | None, model: str | None) -> Route:
        """The route for a client path.

        `target` is what the client named by prefix or header, `model` its body's model, looked up where it named none:
        "" is a body that names none, for which the entry `*` counts.
        Raises NotFound for an unknown target and for a path that the target does not map.
        """
        known = self._model(model) if target is None and model is not None else None
        name = target if target is not None else known.target if known else self._default
        entries = self._entries.get(name)
        if entries is None:
            raise NotFound("there is no such target: see `targets:` in the proxy's configuration", param="target")
        entry, path_model = entries.get(path) or self._passed_through(entries, path), None
        if entry is None:
            found = _first_match(self._patterns[name], path)
            if found is None:
                keys = "`endpoints:` and `mapping:`" if self._targets[name].speaks else "`mapping:`"
                raise NotFound(f"target {name} does not map this path: see its {keys} in the proxy's configuration")
            entry, path_model = found
        missing = self._missing[name]
        return Route(self._targets[name], _there(entry, missing), known, path_model, missing)

    def _passed_through(self, entries: Mapping[str, MappingEntry], path: str) -> MappingEntry | None:
        """The entry of a path behind that of `rest:` for everything of the target's own; raises NotFound for dots."""
        if self._passthrough is None or not path.startswith(f"{self._passthrough}/"):
            return None
        own = path.removeprefix(self._passthrough)
        if any(piece in (".", "..") for piece in unquote(own).replace("\\", "/").split("/")):
            raise NotFound("a path with /./ or /../ is not passed through")
        entry = entries[self._passthrough]
        return replace(entry, path=entry.path.rstrip("/") + own)

    def _model(self, name: str) -> Model | None:
        """The entry of `models:` for this name: its own, or that of the pattern that says most of it."""
        known = self._models.get(name)
        if known is not None and not known.is_pattern:
            return known
        for pattern, model in self._name_patterns if len(name) <= MAX_NAME else ():
            found = pattern.fullmatch(name)
            if found:
                there = model.upstream_name
                there = "" if not name and "*" in there else there.replace("*", found[1])
                return replace(model, name=name, upstream_name=there)
        return None

    def reply(self, path: str, target: str | None) -> Reply | None:
        """What a client gets from the proxy itself where it asks this path of this target, or of the default one."""
        known = self._targets.get(self._default if target is None else target)
        return known.replies.get(path) if known else None

    def learn_missing(self, route: Route, path: str | None) -> Route:
        """Remember that the target does not have a path, this entry's if None; the route that goes another way."""
        assert route.entry.fallback is not None
        missing = self._missing[route.target.name]
        missing.add(path or route.entry.path)
        return replace(route, entry=_there(route.entry.fallback, missing))


def asking(body: bytes, model: Model, fields: Sequence[str]) -> bytes:
    """The body, asking for the model by the name that its target knows; one that named none gets it."""
    if model.name:
        return with_model(body, model.upstream_name, fields)
    return with_fields(body, {fields[0]: model.upstream_name}) if model.upstream_name else body


def _name_patterns(models: Mapping[str, Model]) -> list[tuple[re.Pattern[str], Model]]:
    """The names with a `*`, the longest first."""
    wild = sorted((model for model in models.values() if model.is_pattern), key=lambda model: -len(model.name))
    return [(re.compile(_ANYTHING.join(map(re.escape, model.name.split("*"))), re.DOTALL), model) for model in wild]


def _there(entry: MappingEntry, missing: Collection[str]) -> MappingEntry:
    """The first entry of a chain of fallbacks whose path is not known to be missing; its last where all are."""
    while entry.fallback is not None and entry.path in missing:
        entry = entry.fallback
    return entry


def _with_versioned_paths(mapping: Mapping[str, MappingEntry]) -> dict[str, MappingEntry]:
    """The entries, also under `/v1`: clients whose base URL ends in /v1 meet mappings written without it."""
    return {f"/v1{path}": entry for path, entry in mapping.items()} | dict(mapping)


T = TypeVar("T")
Patterns = list[tuple[re.Pattern[str], T]]


def _pattern(path: str) -> re.Pattern[str]:
    """A path with `{model}` as a pattern."""
    before, _, after = path.partition("{model}")
    return re.compile(f"{re.escape(before)}({MODEL_NAME}){re.escape(after)}")


def _compiled(paths: Iterable[tuple[str, T]]) -> Patterns[T]:
    """The paths with `{model}` as patterns. What follows the name may belong to a name, too (`{model}:countTokens`
    beside `{model}` alone): the longest ending is looked for first."""
    with_model = [(path, value) for path, value in paths if "{model}" in path]
    with_model.sort(key=lambda known: len(known[0].partition("{model}")[2]), reverse=True)
    return [(_pattern(path), value) for path, value in with_model]


def _dialect_patterns(dialects: Mapping[str, Dialect]) -> Patterns[Dialect]:
    known = dialects.values()
    paths = ((path, one) for one in known for endpoint in one.endpoints for path in endpoint.paths)
    aliases = ((one.alias(path), one) for path, one in _shared_paths(dialects))
    return _compiled([*paths, *aliases])


def _shared_paths(dialects: Mapping[str, Dialect]) -> list[tuple[str, Dialect]]:
    """The paths of dialects with a sign that an earlier dialect has as well."""
    owners = _owners(dialects)
    return [
        (path, one)
        for one in dialects.values()
        for endpoint in one.endpoints
        for path in endpoint.paths
        if one.sign and owners[path] is not one
    ]


def _owners(dialects: Mapping[str, Dialect]) -> dict[str, Dialect]:
    """Whose endpoint a path is: the first dialect's that has it."""
    table: dict[str, Dialect] = {}
    for dialect in dialects.values():
        for path in (path for endpoint in dialect.endpoints for path in endpoint.paths):
            table.setdefault(path, dialect)
    return table


def _first_match(patterns: Patterns[T], path: str) -> tuple[T, str] | None:
    path = unquote(path)  # clients escape the slashes of a model's name
    for pattern, value in patterns:
        match = pattern.fullmatch(path)
        if match:
            return value, match[1]
    return None


def _named_dialects(targets: Mapping[str, Target]) -> dict[str, Dialect]:
    """The dialects of clients by paths of the user's own making."""
    entries = [entry for target in targets.values() for entry in target.mapping.values()]
    return {entry.client_path: entry.client for entry in entries if entry.client is not None}


def _dialect_paths(dialects: Mapping[str, Dialect]) -> dict[str, Dialect]:
    """By path; a path that one dialect has an endpoint for and another one only passes is the first one's."""
    table = _owners(dialects)
    table |= {one.alias(path): one for path, one in _shared_paths(dialects)}
    for dialect in dialects.values():
        for path in (*dialect.other_paths, *dialect.unserved):
            table.setdefault(path, dialect)
    return table
