"""llama-swap's config.yaml: models with the command that starts each server, groups, macros, hooks, peers.

Keys as its config.example.yaml and config-schema.json have them (github.com/mostlygeek/llama-swap). `${NAME}` in a
value is a macro, `${PORT}` a port that it counts up from startPort, `${env.NAME}` an environment variable.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mooltiproxy.config.shapes import Where
from mooltiproxy.importers.accounts import Pattern
from mooltiproxy.importers.draft import Data, Draft, Imported, Variable
from mooltiproxy.importers.foreign import items, section, text
from mooltiproxy.importers.servers import is_variable_name, wrong_url

_MACRO = re.compile(r"\$\{([^}]*)\}")
_ENVIRON = "env."
_PROXY = "http://localhost:${PORT}"
_FIRST_PORT = 5800
_MAX_LENGTH = 10_000
"""Of a text with its macros filled in, which may name each other."""

_RUN = "start the server yourself, or say under `run` of the target how"
_LISTING = "models are listed as their servers list them"
_LIMITS = "there are no limits by model"
_TIMEOUTS = "`system.timeout` holds for all targets: set it there"
_STRIP = "fields are set, not taken out: give a value under `overrides` of the model"

REASONS: dict[Pattern, str] = {
    **{
        ("models", "*", name): _RUN
        for name in ("cmd", "cmdStop", "env", "ttl", "checkEndpoint", "unloadTimeout", "sendLoadingState")
    },
    **{("models", "*", name): _LISTING for name in ("name", "description", "metadata", "unlisted", "capabilities")},
    ("models", "*", "concurrencyLimit"): _LIMITS,
    ("models", "*", "timeouts"): _TIMEOUTS,
    ("models", "*", "filters", "stripParams"): _STRIP,
    ("peers", "*", "filters", "stripParams"): _STRIP,
    ("peers", "*", "timeouts"): _TIMEOUTS,
    **{
        (name,): _RUN
        for name in (
            "healthCheckTimeout",
            "globalTTL",
            "unloadTimeout",
            "groups",
            "matrix",
            "hooks",
            "sendLoadingState",
        )
    },
    ("includeAliasesInList",): _LISTING,
    ("profiles",): "models have one server each: rename them in the file and reload",
    ("logLevel",): "`mooltiproxy serve --verbose` logs more",
    ("logToStdout",): "servers write their own logs",
    ("logTimeFormat",): "the access log has a format of its own",
    ("metricsMaxInMemory",): "/-/metrics counts and keeps no requests",
    ("captureBuffer",): "requests are not kept; `system.debug` logs bodies",
    ("performance",): "the machine is not watched",
    ("ui",): "there is no page to look at",
    ("store",): "requests are not kept",
    ("upstream",): "/to/TARGET/... leads to a target",
}


def recognise(data: Any) -> bool:
    """Whether this is a config.yaml of llama-swap."""
    if not isinstance(data, dict):
        return False
    models = section(data, "models").values()
    return any(isinstance(model, dict) and "cmd" in model for model in models) or bool(section(data, "peers"))


def convert(draft: Draft, environ: Mapping[str, str]) -> Imported:
    """Each model's server becomes a target, each model, alias and peer's model a model."""
    _Config(draft).convert()
    return draft.finish(REASONS)


class _Config:
    """The file, with what its macros stand for."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._data: Data = draft.document.data
        self._ports = self._count_ports()

    def convert(self) -> None:
        """Fill in the draft."""
        for name in section(self._data, "models"):
            self._model(name)
        for name in section(self._data, "peers"):
            self._peer(name)
        self._keys()
        for name in section(self._data, "macros"):
            self._draft.say(("macros", name), "filled in where it is used")
        if "startPort" in self._data:
            self._draft.say(("startPort",), "mapped to the ports in the urls of the targets")

    def _count_ports(self) -> dict[str, int]:
        """The port of each model that uses `${PORT}`: they are counted up in the order of the names."""
        first = self._data.get("startPort")
        start = first if isinstance(first, int) else _FIRST_PORT
        using = [name for name in sorted(section(self._data, "models")) if self._uses_port(name)]
        return {name: start + number for number, name in enumerate(using)}

    def _uses_port(self, name: str) -> bool:
        model = section(section(self._data, "models"), name)
        macros = self._macros(name)
        return any("${PORT}" in _filled(text(model.get(key)), macros) for key in ("cmd", "proxy"))

    def _macros(self, name: str) -> Data:
        """What `${NAME}` stands for in a model's settings, but for its port."""
        model = section(section(self._data, "models"), name)
        return {**section(self._data, "macros"), **section(model, "macros"), "MODEL_ID": name}

    def _model(self, name: str) -> None:
        draft, path = self._draft, ("models", name)
        model = section(section(self._data, "models"), name)
        macros = self._macros(name)
        if name in self._ports:
            macros["PORT"] = str(self._ports[name])
        url = self._variables(_filled(text(model.get("proxy")) or _PROXY, macros), f"the address of {name}")
        why = "its server has no address: neither proxy nor ${PORT} in cmd" if "${PORT}" in url else wrong_url(url)
        if why:
            draft.drop(path, why)
            return
        target = draft.target(name, {"url": url, "speaks": "openai"})
        self._tell_server(path, target, self._ports.get(name))
        upstream = _filled(text(model.get("useModelName")), macros)
        entry = {"target": target, **({"name": upstream} if upstream else {})}
        draft.put(path, ("models", name), entry, is_all=False)
        self._put_filters(path, model, macros)
        self._put_aliases(path, model)

    def _tell_server(self, path: Where, target: str, port: int | None) -> None:
        model = section(section(self._data, "models"), str(path[-1]))
        where = f"; the target expects it on port {port}, which llama-swap would give it" if port else ""
        if "cmd" in model:
            self._draft.drop((*path, "cmd"), f"{_RUN}{where}")
        if "proxy" in model:
            self._draft.tell((*path, "proxy"), ("targets", target, "url"))
        if "useModelName" in model:
            self._draft.tell((*path, "useModelName"), ("models", str(path[-1]), "name"))
        for macro in section(model, "macros"):
            self._draft.say((*path, "macros", macro), "filled in where it is used")

    def _put_filters(self, path: Where, model: Data, macros: Data) -> None:
        """What is set in requests: for the model, and for names of it with settings of their own, models as well."""
        own, filters = str(path[-1]), section(model, "filters")
        variants = {written: _filled(written, macros) for written in section(filters, "setParamsByID")}
        for written, name in variants.items():
            if name != own:
                entry = dict(self._draft.data["models"][own])
                self._draft.put((*path, "filters", "setParamsByID", written), ("models", name), entry, is_all=False)
        for name in dict.fromkeys((own, *variants.values())):
            self._set((*path, "filters", "setParams"), name, filters.get("setParams"), macros)
        for written, name in variants.items():
            there: Where = (*path, "filters", "setParamsByID", written)
            self._set(there, name, section(filters, "setParamsByID")[written], macros)

    def _set(self, there: Where, model: str, fields: Any, macros: Data) -> None:
        for field, value in fields.items() if isinstance(fields, dict) else ():
            self._draft.put((*there, field), ("models", model, "overrides", field), _filled_in(value, macros))

    def _put_aliases(self, path: Where, model: Data) -> None:
        for position, alias in enumerate(items(model.get("aliases"))):
            there: Where = (*path, "aliases", position)
            if isinstance(alias, dict):
                for key in ("name", "unlisted"):
                    if key in alias:
                        self._draft.drop((*there, key), _LISTING)
                there, alias = (*there, "id"), alias.get("id")
            name = text(alias)
            if not name or self._draft.has_model(name):
                self._draft.drop(there, "there is a model of this name")
            else:
                self._draft.copy_model(there, name, str(path[-1]))

    def _peer(self, name: str) -> None:
        draft, path = self._draft, ("peers", name)
        peer = section(section(self._data, "peers"), name)
        macros = section(self._data, "macros")
        url = self._variables(_filled(text(peer.get("proxy")), macros), f"the address of {name}")
        why = wrong_url(url)
        if why:
            draft.drop(path, f"proxy cannot be a target's url: {why}")
            return
        key = _filled(text(peer.get("apiKey")), macros)
        variable = self._key_variable(key, name, f"the key of {name}")
        target = draft.target(name, {"url": url, **({"envkey": variable} if variable else {}), "speaks": "openai"})
        draft.tell((*path, "proxy"), ("targets", target, "url"))
        if key:
            draft.tell((*path, "apiKey"), ("targets", target, "envkey"), "set the variable")
        self._put_peers_models(path, peer, target, macros)

    def _put_peers_models(self, path: Where, peer: Data, target: str, macros: Data) -> None:
        for position, model in enumerate(map(text, items(peer.get("models")))):
            there: Where = (*path, "models", position)
            if not model or self._draft.has_model(model):
                self._draft.drop(there, "there is a model of this name")
                continue
            self._draft.put(there, ("models", model), {"target": target})
            self._set((*path, "filters", "setParams"), model, section(peer, "filters").get("setParams"), macros)

    def _keys(self) -> None:
        self._draft.need("MOOLTIPROXY_KEY", "the master key, a new one")
        macros = section(self._data, "macros")
        for position, written in enumerate(items(self._data.get("apiKeys"))):
            name = f"key-{position + 1}"
            key = _filled(text(written), macros)
            variable = self._key_variable(key, "llama-swap", f"key {position + 1} of clients")
            self._draft.put(("apiKeys", position), ("keys", name), {"envkey": variable}, "set the variable")

    def _key_variable(self, key: str, stem: str, what: str) -> str:
        """The variable that a key is in, or one of ours for a key that is written down; "" for no key."""
        match = _MACRO.fullmatch(key)
        if match and match[1].startswith(_ENVIRON) and is_variable_name(match[1].removeprefix(_ENVIRON)):
            return self._draft.need(match[1].removeprefix(_ENVIRON), what)
        return self._draft.secret(key, stem, what) if key else ""

    def _variables(self, value: str, what: str) -> str:
        """A text with its environment variables in our spelling."""
        names = [name for name in _names_in(value) if is_variable_name(name)]
        for name in names:
            value = value.replace(f"${{{_ENVIRON}{name}}}", f"${{{self._draft.need(name, what)}}}")
        return Variable(value) if names else value


def _names_in(value: str) -> Iterator[str]:
    """The environment variables that a text names."""
    for match in _MACRO.finditer(value):
        if match[1].startswith(_ENVIRON):
            yield match[1].removeprefix(_ENVIRON)


def _filled(value: str, macros: Data) -> str:
    """A text with its macros filled in, those in macros as well; what is no macro stays."""
    for _ in range(len(macros) + 1):
        filled = _MACRO.sub(lambda match: str(macros.get(match[1], match[0])), value)
        if filled == value or len(filled) > _MAX_LENGTH:
            break
        value = filled
    return value


def _filled_in(value: Any, macros: Data) -> Any:
    """A value with the macros in its texts filled in; a text that is one macro becomes that one's value."""
    if isinstance(value, dict):
        return {name: _filled_in(below, macros) for name, below in value.items()}
    if isinstance(value, list):
        return [_filled_in(item, macros) for item in value]
    match = _MACRO.fullmatch(value) if isinstance(value, str) else None
    if match and not isinstance(macros.get(match[1], ""), str):
        return macros[match[1]]
    return _filled(value, macros) if isinstance(value, str) else value
