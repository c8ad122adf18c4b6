"""Where a request goes: its facts, the configuration and what targets are known to list in, a `Route` out. Pure."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import unquote

from mooltiproxy.config.model import ABOUT_MODELS, PASSTHROUGH, Config, MappingEntry, Model, Target
from mooltiproxy.errors import NotFound
from mooltiproxy.mapping.dialect import Dialect, Endpoint, Reply
from mooltiproxy.mapping.json_edit import with_fields, with_model
from mooltiproxy.mapping.model_names import LATEST, MODEL_NAME, known_as

TO = "/to/"
MAX_NAME = 256
"""Letters of a model's name that patterns are tried on."""
_ANYTHING = "(.*)"
Live = Mapping[str, Collection[str]]
"""The models that targets have last listed, by the target's name; one that has told nothing yet is not there."""
_NOTHING_KNOWN: Live = {}


@dataclass(frozen=True, slots=True)
class Route:
    """The decision: which target, which of its mapping entries, and the model whose name must change, if any.

    `path_model` is the model named in the client's path, for entries with `{model}`; `asked` is the client's own name
    for `model`; `missing` are the paths that the target turned out not to have.
    """

    target: Target
    entry: MappingEntry
    model: Model | None = None
    path_model: str | None = None
    missing: Collection[str] = ()
    asked: str = ""

    @property
    def alias(self) -> str | None:
        """The name by which the client asks for the model, where its target knows another."""
        return self.asked if self.asked and self.is_renamed else None

    @property
    def is_renamed(self) -> bool:
        """Whether the target must be asked for another name than the client's."""
        return self.model is not None and self.model.upstream_name != self.asked


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
    """The configuration's routes, compiled: each lookup is a dictionary's. `live` may change all the time."""

    def __init__(self, config: Config, live: Live = _NOTHING_KNOWN) -> None:
        self._live = live
        others = [name for name in config.targets if name != config.default_target]
        self._in_order = [config.default_target, *others]
        self._others = [name for name in others if config.targets[name].run is None]
        self._tagged = _tagged(config)
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
        self._about_models = _about_models(config.registry.dialects)
        self._about_one = _compiled(self._about_models.items())
        self._passthrough = None if config.rest_prefix is None else config.rest_prefix + PASSTHROUGH
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

    @property
    def wants_model(self) -> bool:
        """Whether the model that a request asks for decides where it goes."""
        return bool(self._models) or bool(self._others) and any(name in self._live for name in self._others)

    def about_models(self, path: str, method: str, target: str | None = None) -> Endpoint | None:
        """The endpoint of a request that only asks what models there are, as some dialect's clients do; None for those
        that an entry of the file maps for the target, or for the default one."""
        endpoint = self._about_models.get(path)
        if endpoint is None and method == "GET" and path not in self._dialects:
            found = _first_match(self._about_one, path)
            endpoint = found[0] if found else None
        if endpoint is None or endpoint.method != method:
            return None
        entries = self._entries.get(self._default if target is None else target)
        entry = entries.get(path) if entries is not None else None
        return None if entries is None or entry is not None and entry.is_explicit else endpoint

    def maps(self, path: str) -> bool:
        """Whether the file has an entry for this client path: that wins over an endpoint of the proxy itself."""
        return any(path in entries and entries[path].is_explicit for entries in self._entries.values())

    def route(self, path: str, target: str | None, model: str | None, allowed: Collection[str] | None = None) -> Route:
        """The route for a client path.

        `target` is what the client named by prefix or header, `model` its body's model, looked up where it named none:
        "" is a body that names none, for which the entry `*` counts. Of the targets that list a model which the file
        does not name, only those `allowed` are looked at, None for all.
        Raises NotFound for an unknown target and for a path that the target does not map.
        """
        known = self._model(model, allowed) if target is None and model is not None else None
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
        asked = model if known is not None and model is not None else ""
        return Route(self._targets[name], _there(entry, missing), known, path_model, missing, asked)

    def passes_through(self, path: str) -> bool:
        """Whether a path is one behind that of `rest:` for everything of the target's own."""
        return self._passthrough is not None and path.startswith(f"{self._passthrough}/")

    def _passed_through(self, entries: Mapping[str, MappingEntry], path: str) -> MappingEntry | None:
        """The entry of a path behind that of `rest:` for everything of the target's own; raises NotFound for dots."""
        if self._passthrough is None or not self.passes_through(path):
            return None
        own = path.removeprefix(self._passthrough)
        if any(piece in (".", "..") for piece in unquote(own).replace("\\", "/").split("/")):
            raise NotFound("a path with /./ or /../ is not passed through")
        entry = entries[self._passthrough]
        return replace(entry, path=entry.path.rstrip("/") + own)

    def _model(self, name: str, allowed: Collection[str] | None) -> Model | None:
        """What is meant by a name: an entry of `models:` that is called so; an entry for the name without its tag, or a
        pattern, whichever says more of it; else what targets list. None is what the default target is asked for."""
        known = self._models.get(name)
        if known is not None and not known.is_pattern:
            return known
        pattern, other_tag = self._by_pattern(name), self._by_other_tag(name)
        if other_tag is not None and (pattern is None or _letters(pattern[0]) <= len(other_tag.name)):
            return self._listed(name, allowed, exactly=True) or other_tag
        return pattern[1] if pattern else self._listed(name, allowed)

    def _by_other_tag(self, name: str) -> Model | None:
        """The entry of `models:` that the name stands for without its tag, or with the usual one. Where tags tell a
        target's models apart, only the usual one may be left out."""
        known = known_as(name, self._models)
        model = self._models[known] if known is not None else None
        if model is None or model.is_pattern:
            return None
        is_usual = name + LATEST == model.name or name == model.name + LATEST
        return model if is_usual or model.target not in self._tagged else None

    def _listed(self, name: str, allowed: Collection[str] | None, *, exactly: bool = False) -> Model | None:
        """A model that the file does not name, at the first target that is known to list it, the default one first;
        None where that one has not told yet what it lists."""
        targets = [one for one in self._in_order if allowed is None or one in allowed] if self._others and name else []
        if self._default in targets and self._default not in self._live and self._targets[self._default].run is None:
            return None
        lists = [(target, self._live[target]) for target in targets if target in self._live]
        for target, names in lists:
            if name in names:
                return Model(name, target, name)
        for target, names in lists if not exactly else ():
            spelling = known_as(name, names)
            if spelling is not None:
                return Model(name, target, spelling)
        return None

    def _by_pattern(self, name: str) -> tuple[str, Model] | None:
        """The pattern that says most of this name, and its entry with what stands in the place of `*` filled in."""
        for pattern, model in self._name_patterns if len(name) <= MAX_NAME else ():
            found = pattern.fullmatch(name)
            if found:
                there = model.upstream_name
                there = "" if not name and "*" in there else there.replace("*", found[1])
                return model.name, replace(model, name=name, upstream_name=there)
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


def _letters(pattern: str) -> int:
    return len(pattern.replace("*", ""))


def _tagged(config: Config) -> frozenset[str]:
    """The targets that tell models apart by their tags, for one of their APIs or for what they are."""
    tagged = {name for name, one in config.registry.dialects.items() if one.has_tags}
    told = {name: {*one.speaks, one.run.engine if one.run else None} for name, one in config.targets.items()}
    return frozenset(name for name, words in told.items() if not tagged.isdisjoint(words))


def _about_models(dialects: Mapping[str, Dialect]) -> dict[str, Endpoint]:
    """The endpoints that tell what models there are, by the paths under which routing knows them."""
    owners = _owners(dialects)
    found: dict[str, Endpoint] = {}
    for dialect in dialects.values():
        for endpoint in (one for one in dialect.endpoints if one.kind in ABOUT_MODELS):
            for path in endpoint.paths:
                if owners[path] is dialect:
                    found[path] = endpoint
                elif dialect.sign:
                    found[dialect.alias(path)] = endpoint
    return found


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
