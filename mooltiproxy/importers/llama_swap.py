"""llama-swap's config.yaml: models with the command that starts each server, groups, macros, hooks, peers.

Keys as its config.example.yaml and config-schema.json have them (github.com/mostlygeek/llama-swap). `${NAME}` in a
value is a macro, `${PORT}` a port that it counts up from startPort, `${env.NAME}` an environment variable.
"""

from collections.abc import Mapping
from typing import Any

from mooltiproxy.config.shapes import Where
from mooltiproxy.importers.accounts import Pattern
from mooltiproxy.importers.draft import Data, Draft, Imported
from mooltiproxy.importers.foreign import items, section, text
from mooltiproxy.importers.llama_swap_groups import Groups
from mooltiproxy.importers.llama_swap_macros import filled, filled_in, in_our_spelling, variable_of
from mooltiproxy.importers.llama_swap_servers import Server, uses_port
from mooltiproxy.importers.servers import wrong_url

_FIRST_PORT = 5800
_PRELOAD: Where = ("hooks", "on_startup", "preload")

_NOT_STARTED = "no server is started here that it could apply to"
_SIGNS = "while a server starts, streams get signs of life of their API, and no words"
_LISTING = "models are listed as their servers list them"
_LIMITS = "limits are not carried: see `limits` of models, and `concurrent` of targets"
_TIMEOUTS = "`system.timeout` holds for all targets: set it there"
_STRIP = "fields are set, not taken out: give a value under `overrides` of the model"

REASONS: dict[Pattern, str] = {
    **{("models", "*", name): _NOT_STARTED for name in ("cmdStop", "env", "ttl", "checkEndpoint", "unloadTimeout")},
    ("models", "*", "sendLoadingState"): _SIGNS,
    **{("models", "*", name): _LISTING for name in ("name", "description", "metadata", "unlisted", "capabilities")},
    ("models", "*", "concurrencyLimit"): _LIMITS,
    ("models", "*", "timeouts"): _TIMEOUTS,
    ("models", "*", "filters", "stripParams"): _STRIP,
    ("peers", "*", "filters", "stripParams"): _STRIP,
    ("peers", "*", "timeouts"): _TIMEOUTS,
    **{(name,): _NOT_STARTED for name in ("healthCheckTimeout", "globalTTL", "unloadTimeout")},
    ("matrix",): "there are no sets: say what may run together by `group`, or by `memory` and `system.budget`",
    ("sendLoadingState",): _SIGNS,
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
    """Each model's server becomes a target with `run:`, each model, alias and peer's model a model."""
    _Config(draft).convert()
    return draft.finish(REASONS)


class _Config:
    """The file, with the servers that its models have."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._data: Data = draft.document.data
        ports = self._ports()
        self._servers = {name: Server(draft, name, ports.get(name)) for name in section(self._data, "models")}
        self._groups = Groups(self._data, [name for name, server in self._servers.items() if server.is_started])

    def convert(self) -> None:
        """Fill in the draft."""
        for server in self._servers.values():
            self._model(server)
        for name in section(self._data, "peers"):
            self._peer(name)
        self._keys()
        self._preload()
        for theirs, what, is_carried in self._groups.fates():
            (self._draft.say if is_carried else self._draft.drop)(theirs, what)
        for name in section(self._data, "macros"):
            self._draft.say(("macros", name), "filled in where it is used")
        if "startPort" in self._data:
            self._draft.say(
                ("startPort",), "servers get a free port at each start; urls that need a number have theirs"
            )

    def _ports(self) -> dict[str, int]:
        """The port of each model that uses `${PORT}`: they are counted up in the order of the names."""
        first = self._data.get("startPort")
        start = first if isinstance(first, int) else _FIRST_PORT
        using = [name for name in sorted(section(self._data, "models")) if uses_port(self._data, name)]
        return {name: start + number for number, name in enumerate(using)}

    def _model(self, server: Server) -> None:
        draft, name, path = self._draft, server.name, ("models", server.name)
        no_address = "its server has no address: neither proxy nor ${PORT} in cmd"
        why = wrong_url(server.url) if server.has_address else no_address
        if why:
            draft.drop(path, why)
            return
        run = server.run(self._groups.ours(name), self._groups.place(name)) if server.is_started else None
        key = {"envkey": server.key} if server.key else {}
        target = draft.target(
            name, {"url": server.url, **key, "speaks": "openai", **({"run": run.data} if run else {})}
        )
        if run:
            run.put(target)
        elif server.why_not:
            draft.drop((*path, "cmd"), server.why_not)
        else:
            draft.say((*path, "cmd"), "it starts nothing: the server at its proxy runs already")
        self._tell_server(path, target)
        upstream = filled(text(server.model.get("useModelName")), server.macros)
        entry = {"target": target, **({"name": upstream} if upstream else {})}
        draft.put(path, ("models", name), entry, is_all=False)
        self._put_filters(path, server.model, server.macros)
        self._put_aliases(path, server.model)

    def _tell_server(self, path: Where, target: str) -> None:
        model = section(section(self._data, "models"), str(path[-1]))
        if "proxy" in model:
            self._draft.tell((*path, "proxy"), ("targets", target, "url"))
        if "useModelName" in model:
            self._draft.tell((*path, "useModelName"), ("models", str(path[-1]), "name"))
        for macro in section(model, "macros"):
            self._draft.say((*path, "macros", macro), "filled in where it is used")

    def _preload(self) -> None:
        """Of the models that are loaded at the start, those that are still there in the end."""
        names = [text(name) for name in items(section(section(self._data, "hooks"), "on_startup").get("preload"))]
        last = {self._groups.ours(name) or ("alone", name): name for name in names if self._is_started(name)}
        for position, name in enumerate(names):
            there: Where = (*_PRELOAD, position)
            if not self._is_started(name):
                self._draft.drop(there, _NOT_STARTED)
            elif name not in last.values():
                self._draft.drop(there, "one that is loaded later takes its place")
            else:
                target = self._draft.data["models"][name]["target"]
                self._draft.put(there, ("targets", target, "run", "preload"), True)

    def _is_started(self, name: str) -> bool:
        return name in self._servers and self._servers[name].is_started and name in self._draft.data.get("models", {})

    def _put_filters(self, path: Where, model: Data, macros: Data) -> None:
        """What is set in requests: for the model, and for names of it with settings of their own, models as well."""
        own, filters = str(path[-1]), section(model, "filters")
        variants = {written: filled(written, macros) for written in section(filters, "setParamsByID")}
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
            self._draft.put((*there, field), ("models", model, "overrides", field), filled_in(value, macros))

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
        url = in_our_spelling(self._draft, filled(text(peer.get("proxy")), macros), f"the address of {name}")
        why = wrong_url(url)
        if why:
            draft.drop(path, f"proxy cannot be a target's url: {why}")
            return
        key = filled(text(peer.get("apiKey")), macros)
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
            key = filled(text(written), macros)
            variable = self._key_variable(key, "llama-swap", f"key {position + 1} of clients")
            self._draft.put(("apiKeys", position), ("keys", name), {"envkey": variable}, "set the variable")

    def _key_variable(self, key: str, stem: str, what: str) -> str:
        """The variable that a key is in, or one of ours for a key that is written down; "" for no key."""
        variable = variable_of(key)
        if variable:
            return self._draft.need(variable, what)
        return self._draft.secret(key, stem, what) if key else ""
