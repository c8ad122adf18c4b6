"""A valid file's values as the frozen `Config`: names resolved, the entries of `speaks` derived, secrets found."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mooltiproxy.config import run
from mooltiproxy.config.document import Document
from mooltiproxy.config.keys import built_key
from mooltiproxy.config.limits import built_concurrent, built_limits, built_price, idle_limits
from mooltiproxy.config.model import (
    PASSTHROUGH,
    Cerbere,
    Config,
    MappingEntry,
    Model,
    System,
    Target,
    Timeouts,
)
from mooltiproxy.config.overrides import MASTER_KEY
from mooltiproxy.config.pairs import FUNCTIONS, Place, pair
from mooltiproxy.config.prompts import Library
from mooltiproxy.config.schema import MIDDLEWARES, Known
from mooltiproxy.config.templates import CHAT_PROMPTER, PIECES_PROMPTER, TARGETS_OWN
from mooltiproxy.discovery import Registry
from mooltiproxy.errors import Problem
from mooltiproxy.mapping.chat_template import ChatTemplate, TargetTemplate, built_in
from mooltiproxy.mapping.dialect import STAND_INS, Dialect, Endpoint, Reply
from mooltiproxy.mapping.functions import Functions, FunctionTranslation, renderer
from mooltiproxy.mapping.listed import Listed
from mooltiproxy.mapping.prompt import PIECES, TEMPLATES, Pieces
from mooltiproxy.mapping.settings import Injection, PromptTexts, Settings
from mooltiproxy.mapping.translate import DialectTranslation, NoTranslation, Translation, endpoint_at

TEMPLATE = "HumanResponse"
NO_VALUES: Mapping[str, Any] = {}
_SETTINGS = ("defaults", "overrides", "max_tokens", "temperature", "system_time", "prefix", "suffix")
SHAPING = ("url", "endpoints", "mapping", "prompter", "template", "control_tokens", "keep_bos")
"""What is said of a target and cannot be told from its fields."""
NEED_A_MODEL = ("chat", "text", "embeddings", "count")

Values = Mapping[str, Any]
Step = tuple[str, Translation | None, Dialect]
"""One way of asking a target: the path, the translation, and whose path it is."""


def build(values: Values, document: Document, known: Known, registry: Registry) -> Config:
    """The configuration of a file's coerced values; its warnings are `warnings_of` the same."""
    assert known.folder is not None and known.environ is not None
    templates = {**TEMPLATES, **_own_templates(_section(values, "templates"))}
    targets = {name: own for name, own in values["targets"].items() if name != "default"}
    models = _section(values, "models")
    prefix = _section(values, "rest").get("prefix")
    registry = _placed(registry, prefix)
    return Config(
        targets={
            name: _Target(
                name, own, templates, registry, known, _unnamed(models, name), _listed(values, name), prefix
            ).built()
            for name, own in targets.items()
        },
        default_target=values["targets"]["default"],
        registry=registry,
        folder=known.folder,
        system=_system(_section(values, "system"), known.environ),
        cerbere=Cerbere(**_section(values, "cerbere")),
        keys=tuple(built_key(name, own, known.environ) for name, own in _section(values, "keys").items()),
        keys_file=known.folder / values["keys_file"] if "keys_file" in values else None,
        models={name: _model(name, own, known.library, document) for name, own in models.items()},
        limits=built_limits(_section(values, "limits"), ""),
        library=known.library or Library(),
        rest_prefix=prefix,
        templates=templates,
        middlewares=values.get("middlewares", MIDDLEWARES),
        warnings=tuple(warnings_of(values, document, known.environ)),
    )


def _placed(registry: Registry, prefix: str | None) -> Registry:
    """The dialects whose paths clients can reach: those below a prefix come first there, or are left out."""
    dialects = registry.dialects
    below = {name: one.below(prefix) for name, one in dialects.items() if one.below_prefix and prefix is not None}
    return replace(registry, dialects=below | {name: one for name, one in dialects.items() if not one.below_prefix})


def _own_templates(section: Values) -> dict[str, Pieces | ChatTemplate]:
    """Those of the file; pieces that it leaves out are empty."""
    templates: dict[str, Pieces | ChatTemplate] = {}
    for name, own in section.items():
        if isinstance(own, ChatTemplate):
            own.name = name
            templates[name] = own
        else:
            templates[name] = dict.fromkeys(PIECES, "") | own
    return templates


def _section(values: Values, name: str) -> dict[str, Any]:
    return dict(values.get(name, {}))


def _file_of(model: str, document: Document) -> Path | None:
    """A model's own file, where it is not written in the configuration's."""
    place, whole = document.places.get(("models", model)), document.places.get(())
    return Path(place.file) if place and (whole is None or place.file != whole.file) else None


def _model(name: str, values: Values, library: Library | None, document: Document) -> Model:
    system = PromptTexts({"": values["system"]}) if "system" in values else None
    if "prompt" in values and library is not None:
        system = library.named(values["prompt"])
    kept = {key: values[key] for key in _SETTINGS if key in values}
    inject = tuple(Injection(one["role"], one["content"], one.get("at")) for one in values.get("inject", ()))
    settings = Settings(**kept, system=system, inject=inject)
    put = None if settings == Settings() else settings
    return Model(
        name,
        values["target"],
        values.get("name", name),
        put,
        _file_of(name, document),
        values.get("memory"),
        document.files.get(name, {}),
        built_limits(values.get("limits", {}), name),
        built_price(values.get("price")),
    )


def _listed(values: Values, target: str) -> list[str]:
    """The names under `models:` that lists of this target's models have, too."""
    return [name for name, own in _section(values, "models").items() if "*" not in name and own["target"] == target]


def _unnamed(models: Values, target: str) -> str | None:
    """What a target is asked for where a client names no model: the first under `models:` that it has."""
    named = (own.get("name", name) for name, own in models.items() if own["target"] == target)
    return next((name for name in named if "*" not in name), None)


def _system(values: dict[str, Any], environ: Mapping[str, str]) -> System:
    if "timeout" in values:
        values["timeouts"] = _timeouts(values.pop("timeout"))
    if "ssl" in values:
        values["tls"] = values.pop("ssl")
    if environ.get(MASTER_KEY, "").strip():
        values["masterkey"] = environ[MASTER_KEY]
    return System(**values)


def _timeouts(value: dict[str, float | None] | float | None) -> Timeouts:
    if isinstance(value, dict):
        return Timeouts(**value)
    return Timeouts(connect=value, first_byte=value, idle=value)


def warnings_of(values: Values, document: Document, environ: Mapping[str, str]) -> Iterator[Problem]:
    """What works but should not stay: keys in the file, a chain that asks for none, entries that do nothing."""
    if _section(values, "system").get("masterkey") and not environ.get(MASTER_KEY, "").strip():
        yield document.problem(
            ("system", "masterkey"), f"a key in the file is for testing only: set {MASTER_KEY} in the environment"
        )
    if "bearer_auth" not in values.get("middlewares", MIDDLEWARES):
        message = "without `bearer_auth` everyone who reaches the port may use every target, and the proxy's own paths"
        yield document.problem(("middlewares",), message)
    for path, message in idle_limits(values, values.get("middlewares", MIDDLEWARES)):
        yield document.problem(path, message)
    for name, target in values["targets"].items():
        if name != "default":
            yield from _target_warnings(("targets", name), target, document)


def _target_warnings(path: tuple[str, str], target: Values, document: Document) -> Iterator[Problem]:
    tls = target.get("tls")
    if tls is not None and not tls.verify:
        message = "whoever answers at its address gets its key and all requests: name its authority by `ca` instead"
        yield document.problem((*path, "tls", "verify"), message)
    if target.get("key"):
        remedy = "it wins over envkey, remove it" if "envkey" in target else "better name a variable by envkey"
        yield document.problem((*path, "key"), f"a key in the file is easily given away: {remedy}")
    for client_path, entry in target.get("mapping", {}).items():
        idle = [name for name in ("prompter", "template", "control_tokens", "keep_bos") if name in entry]
        if idle and not any(name in entry for name in (*FUNCTIONS, "to")):
            yield document.problem(
                (*path, "mapping", client_path, idle[0]), "does nothing here: the entry has none of in, out, stream, to"
            )


class _Target:
    """Builds one target."""

    def __init__(
        self,
        name: str,
        values: Values,
        templates: Mapping[str, Pieces | ChatTemplate],
        registry: Registry,
        known: Known,
        model: str | None,
        listed: Sequence[str],
        rest_prefix: str | None,
    ) -> None:
        self._name = name
        self._model = model
        self._rest_prefix = rest_prefix
        self._values = values
        self._templates = templates
        self._listed = listed
        self._own_template = TargetTemplate(name)
        self._registry = registry
        assert known.folder is not None and known.environ is not None
        self._folder, self._environ = known.folder, known.environ
        speaks = dict.fromkeys(values.get("speaks", ()))
        self._dialects = [registry.dialects[name] for name in speaks]
        self._main_dialect = self._dialects[0] if self._dialects else None
        named = {entry["to"] for entry in values.get("mapping", {}).values() if "to" in entry}
        self._url, self._base = split_base(
            values["url"], [*self._dialects, *(registry.dialects[name] for name in sorted(named))]
        )

    def built(self) -> Target:
        """The frozen target; explicit entries win over derived ones, also over those with /v1 before the same path."""
        mapping = {path: self._explicit(path, entry) for path, entry in self._values.get("mapping", {}).items()}
        taken = {f"/v1{path}" for path in mapping}
        for client_path, entry in self._derived():
            if client_path not in taken:
                mapping.setdefault(client_path, entry)
        if self._rest_prefix is not None:
            through = self._rest_prefix + PASSTHROUGH
            mapping.setdefault(through, MappingEntry(through, self._base or "/", None, self._main_dialect))
        envkey = self._values.get("envkey")
        return Target(
            name=self._name,
            url=self._url,
            key=self._values.get("key") or (self._environ[envkey] if envkey else None),
            envkey=envkey,
            preserve_method=self._values.get("preserveMethod", False),
            speaks=tuple(dialect.name for dialect in self._dialects),
            losses=self._values.get("losses", {}),
            **({"keepalive": self._values["keepalive"]} if "keepalive" in self._values else {}),
            mapping=mapping,
            replies=self._replies() if self._dialects else {},
            run=run.built(self._values["run"], self._folder, self._environ) if "run" in self._values else None,
            tls=self._values.get("tls"),
            concurrent=built_concurrent(self._values.get("concurrent")),
            written={name: self._values[name] for name in SHAPING if name in self._values},
        )

    def _replies(self) -> dict[str, Reply]:
        """What clients get from the proxy itself: all but what the file maps or a dialect of the target passes on."""
        taken = {*self._values.get("mapping", {}), *(path for one in self._dialects for path in one.other_paths)}
        found = [reply for dialect in self._registry.dialects.values() for reply in dialect.replies.items()]
        return {path: reply for path, reply in found if path not in taken}

    def _explicit(self, client_path: str, values: Values) -> MappingEntry:
        """An entry of the file: its path is below the url as it was written."""
        if "to" in values:
            return self._pair(client_path, values)
        path = self._base + values.get("path", client_path)
        functions = any(name in values for name in FUNCTIONS)
        translation = self._function_translation(client_path, path, values) if functions else None
        known = None if functions else endpoint_at(self._registry.dialects, path)
        known = known or endpoint_at(self._registry.dialects, client_path)
        known = known or endpoint_at(self._registry.dialects, f"/v1{client_path}")
        passing = known[1] if known and known[1].form else None
        endpoint = known[1] if known else translation.client if translation else None
        return MappingEntry(
            client_path, path, translation, self._main_dialect, is_explicit=True, passing=passing, endpoint=endpoint
        )

    def _pair(self, client_path: str, values: Values) -> MappingEntry:
        """An entry that names two dialects."""
        client, target = pair(self._registry.dialects, client_path, values)
        path = self._base + values["path"] if "path" in values else path_at(*target)
        translation = None if client == target else self._translation(client, target, values)
        passing = client[1] if translation is None and client[1].form else None
        return MappingEntry(
            client_path,
            path,
            translation,
            target[0],
            is_explicit=True,
            client=client[0],
            passing=passing,
            endpoint=client[1],
        )

    def _function_translation(self, client_path: str, path: str, values: Values) -> FunctionTranslation:
        registry = self._registry
        config = self._config(path, values)
        mappers = {name: registry.mappers[values[name]].function for name in FUNCTIONS if name in values}
        dialects = registry.dialects
        client = endpoint_at(dialects, client_path) or endpoint_at(dialects, f"/v1{client_path}")
        functions = Functions(
            entry=config,
            request=mappers.get("in"),
            answer=mappers.get("out"),
            stream=mappers.get("stream"),
            prompter=registry.prompters[config["prompter"]].function,
            description=", ".join(f"{name} {values[name]}" for name in FUNCTIONS if name in values),
        )
        return FunctionTranslation(functions, client[1] if client else None)

    def _config(self, path: str, values: Values) -> dict[str, Any]:
        """What mappers and prompters see as `cfg`: the entry with its template's pieces, the target's as defaults."""
        prompter = values.get("prompter") or self._values.get("prompter")
        named = values.get("template") or self._values.get("template")
        if not named and prompter in (None, PIECES_PROMPTER):
            named = TEMPLATE
        template = self._template(named) if named else None
        is_chat = isinstance(template, ChatTemplate | TargetTemplate)
        functions = {name: values[name] for name in FUNCTIONS if name in values}
        config: dict[str, Any] = {"url": self._url, "path": path, **functions}
        config["prompter"] = prompter or (CHAT_PROMPTER if is_chat else PIECES_PROMPTER)
        if template is not None:
            config |= {"template": template, "template_name": named.name if isinstance(named, ChatTemplate) else named}
        for name in ("control_tokens", "keep_bos"):
            if (said := values.get(name, self._values.get(name))) is not None:
                config[name] = said
        return config

    def _renders(self, values: Values) -> bool:
        """Whether the file says how a conversation becomes a prompt, for targets that can do without."""
        return any(name in one for one in (values, self._values) for name in ("prompter", "template"))

    def _template(self, named: str | ChatTemplate) -> dict[str, str] | ChatTemplate | TargetTemplate:
        """The template that a file names, or that it has read already."""
        if isinstance(named, ChatTemplate):
            return named
        if named == TARGETS_OWN and named not in self._templates:
            return self._own_template
        template = self._templates[named] if named in self._templates else built_in(named)
        return template if isinstance(template, ChatTemplate) else dict(template)

    def _derived(self) -> Iterator[tuple[str, MappingEntry]]:
        """The entries of `speaks`: of one client path's several entries the first counts."""
        for dialect in self._dialects:
            for endpoint in filter(self._has, dialect.endpoints):
                yield from self._entries(dialect, endpoint)
            yield from self._passed(dialect)
        if self._dialects:
            for dialect in self._registry.dialects.values():
                for endpoint in dialect.endpoints:
                    yield from self._entries(dialect, endpoint)

    def _has(self, endpoint: Endpoint) -> bool:
        """Whether the target has this endpoint, as far as the file says."""
        named = self._values.get("endpoints")
        return named is None or endpoint.label in named

    def _entries(self, dialect: Dialect, endpoint: Endpoint) -> Iterator[tuple[str, MappingEntry]]:
        """The entries of an endpoint's paths: where to ask first, and where once the target says that it is missing."""
        steps = [self._step((dialect, endpoint), place) for place in self._places(dialect, endpoint)]
        if "endpoints" in self._values:  # nothing is learned where the file says it
            del steps[1:]
        if endpoint.kind == "count":
            steps.append(self._no_count([path for path, _, _ in steps]))
        if endpoint.kind == "chat" and not steps and any(self._texts()):
            steps.append(self._no_chat())
        for client_path in endpoint.paths:
            for known in self._known_as(dialect, endpoint, client_path):
                entry = None
                for step in reversed(steps):
                    passing = endpoint if step[1] is None and endpoint.form else None
                    entry = MappingEntry(known, *step, entry, passing=passing, endpoint=endpoint)
                if entry is not None:
                    yield known, entry

    def _step(self, client: tuple[Dialect, Endpoint], place: tuple[Dialect, Endpoint]) -> Step:
        translation: Translation | None = None if place == client else self._translation(client, place)
        if client[1].kind == "models" and self._listed:
            translation = Listed(client[1], path_at(*place), translation, self._listed)
        return path_at(*place), translation, place[0]

    def _no_count(self, paths: Sequence[str]) -> Step:
        """Tokens are not counted in any other way: to ask for an answer would cost money."""
        reason = f"it does not have {', '.join(paths)}" if paths else "its API has nothing for that"
        return "", NoTranslation(f"target {self._name} cannot count tokens: {reason}"), self._dialects[0]

    def _texts(self) -> Iterator[Endpoint]:
        """The endpoints for prompts that the target has."""
        return (one for dialect in self._dialects for one in filter(self._has, dialect.endpoints) if one.kind == "text")

    def _no_chat(self) -> Step:
        """A prompt that is rendered in the wrong way gives bad answers without an error: the file must say how."""
        message = (
            f"target {self._name} takes prompts only: name the chat template of its model by `template:` in the file"
        )
        return "", NoTranslation(message), self._dialects[0]

    def _passed(self, dialect: Dialect) -> Iterator[tuple[str, MappingEntry]]:
        """The paths that are not ours to translate, unless another dialect can where the target has nothing there."""
        foreign = [one for one in self._registry.dialects.values() if one not in self._dialects]
        endpoints = [(one, endpoint) for one in foreign for endpoint in one.endpoints]
        met = [pair for pair in endpoints if not dialect.other_paths.isdisjoint(pair[1].paths)]
        fallbacks = {} if "endpoints" in self._values else dict(entry for pair in met for entry in self._entries(*pair))
        for client_path in sorted(dialect.other_paths):
            # Paths of the server itself (/health) are at its root: they are listed without the base only.
            versioned = dialect.base + client_path
            path = versioned if versioned in dialect.other_paths else client_path
            endpoint = next((one for _, one in met if client_path in one.paths), None)
            yield (
                client_path,
                MappingEntry(client_path, path, None, dialect, fallbacks.get(client_path), endpoint=endpoint),
            )

    def _known_as(self, dialect: Dialect, endpoint: Endpoint, client_path: str) -> list[str]:
        """How routing names a path: several dialects list models at the same place, and the first owns it."""
        owner = endpoint_at(self._registry.dialects, client_path)
        if endpoint.kind not in ("models", "model") or owner is None or owner[0] is dialect:
            return [client_path]
        return [dialect.alias(client_path)] if dialect.sign else []

    def _translation(
        self, client: Place, target: Place, values: Values = NO_VALUES, *, instead: bool = False
    ) -> DialectTranslation:
        """The translation of a pair; one between text endpoints has one to the target's chat endpoint `instead`."""
        (dialect, endpoint), (target_dialect, target_endpoint) = client, target
        path = path_at(target_dialect, target_endpoint)
        config = self._config(path, values)
        config["render"] = renderer(self._registry.prompters[config["prompter"]].function, config)
        config["renders_chats"] = self._renders(values)
        chats = [one for one in filter(self._has, target_dialect.endpoints) if one.kind == "chat"]
        is_text = endpoint.kind == target_endpoint.kind == "text"
        return DialectTranslation(
            endpoint,
            target_endpoint,
            config,
            f"{dialect.name} {endpoint.label} to {target_dialect.name} {target_endpoint.label}",
            path=path if instead else None,
            chat=self._translation(client, (target_dialect, chats[0]), values, instead=True)
            if is_text and chats
            else None,
            model=self._model if endpoint.kind in NEED_A_MODEL else None,
        )

    def _places(self, dialect: Dialect, endpoint: Endpoint) -> Iterator[tuple[Dialect, Endpoint]]:
        """What the target may be asked for a client's endpoint, the best first: itself, others of its kind, those that
        stand in for it. Endpoints that are asked at one path, or write the same request, are one."""
        own = dialect in self._dialects and self._has(endpoint)
        paths, writers = set(), set()
        if own:
            paths.add(path_at(dialect, endpoint))
            yield dialect, endpoint
        for kind in (endpoint.kind, *STAND_INS.get(endpoint.kind, ())):
            if endpoint.kind == "chat" and kind == "text" and not self._renders(NO_VALUES):
                continue
            for other in self._dialects:
                for candidate in filter(self._has, other.endpoints):
                    path, writer = path_at(other, candidate), candidate.write_request
                    if candidate.kind == kind and path not in paths and writer not in writers:
                        paths.add(path)
                        writers.add(writer)
                        yield other, candidate


def path_at(dialect: Dialect, endpoint: Endpoint) -> str:
    """Where a target is asked for an endpoint, below its root."""
    return endpoint.target_path or below_base(dialect, endpoint.paths[0])


def below_base(dialect: Dialect, path: str) -> str:
    """A dialect's path below the root of a server, behind the base of its API."""
    return path if path.startswith(f"{dialect.base}/") else dialect.base + path


def split_base(url: str, dialects: list[Dialect]) -> tuple[str, str]:
    """The url of a server's root, and the base of a dialect's API that it ended in ("" if in none)."""
    for base in sorted({dialect.base for dialect in dialects if dialect.base}, key=len, reverse=True):
        if url.endswith(base):
            return url.removesuffix(base), base
    return url, ""
