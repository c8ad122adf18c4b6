"""What clients are told of the models behind the proxy: all of them, those in memory, and one."""

import asyncio
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl

import orjson
from aiohttp import web

from mooltiproxy.catalogue.facts import info_of
from mooltiproxy.catalogue.live import Live, Source, Told, sources
from mooltiproxy.config.model import Config, Model, Run
from mooltiproxy.engines.access import Access
from mooltiproxy.engines.owner import Shown
from mooltiproxy.engines.schedule import State
from mooltiproxy.errors import NotFound
from mooltiproxy.mapping.dialect import Endpoint
from mooltiproxy.mapping.listed import is_later_page, page, place_in
from mooltiproxy.mapping.model_names import known_as
from mooltiproxy.mapping.neutral import ModelInfo, ModelsAnswer, ModelsRequest
from mooltiproxy.routing import Route

IN_MEMORY = (State.READY, State.DRAINING)


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of a list, and what its target tells of it where that has the client's form already."""

    model: ModelInfo
    raw: Any = None


class Catalogue:
    """The models of one configuration. Lists have one page, with everything. `is_needed` is False where its only target
    can tell all that there is."""

    def __init__(self, config: Config, live: Live, engines: Access) -> None:
        self._config = config
        self._live = live
        self._engines = engines
        self.sources: Mapping[str, Source] = {source.target: source for source in sources(config)}
        self._named = {name: model for name, model in config.models.items() if not model.is_pattern}
        self.is_needed = len(config.targets) > 1 or bool(self._named) or _has_engines(config)

    def has(self, endpoint: Endpoint) -> bool:
        """Whether the proxy itself answers these requests."""
        return is_merged(self._config, endpoint)

    async def listed(
        self,
        endpoint: Endpoint,
        query: str,
        allowed: Collection[str] | None,
        may_name: Callable[[str], bool] | None = None,
    ) -> web.Response:
        """All models, or those in memory, of the targets that are `allowed`, None for all, as far as the client
        `may_name` them; each name once."""
        entries: dict[str, Entry] = {}
        if not is_later_page(dict(parse_qsl(query))):
            chosen = [one for one in self.sources.values() if allowed is None or one.target in allowed]
            every = self._running if endpoint.kind == "running" else self._all
            for entry in await every(endpoint, chosen, allowed):
                if may_name is None or may_name(entry.model.id):
                    entries.setdefault(entry.model.id, entry)
        kept = entries.values()
        return _response(page(endpoint, [one.model for one in kept], [one.raw for one in kept]))

    async def _all(self, endpoint: Endpoint, chosen: Sequence[Source], allowed: Collection[str] | None) -> list[Entry]:
        """The names of the file, then what targets list."""
        answers = await asyncio.gather(*(self._live.listed(source, endpoint) for source in chosen))
        told = {source.target: answer for source, answer in zip(chosen, answers, strict=True) if answer is not None}
        listed = {target: _entries(answer, endpoint) for target, answer in told.items()}
        named = [one for one in self._named.values() if allowed is None or one.target in allowed]
        ours = [self._of_file(model, listed.get(model.target, {})) for model in named]
        return [*ours, *(entry for entries in listed.values() for entry in entries.values())]

    def _of_file(self, model: Model, listed: Mapping[str, Entry]) -> Entry:
        """A model of the file, with what its target tells of it."""
        known = known_as(model.upstream_name, listed)
        live = listed[known] if known is not None else None
        raw = live.raw if live is not None and known == model.name else None
        return Entry(info_of(model, self._config.targets[model.target], live.model if live else None), raw)

    async def _running(
        self, endpoint: Endpoint, chosen: Sequence[Source], allowed: Collection[str] | None
    ) -> list[Entry]:
        """The models of the proxy's own servers that take requests, then what targets tell of theirs."""
        answers = await asyncio.gather(*(self._live.running(source) for source in chosen))
        told = [entry for answer in answers if answer is not None for entry in _entries(answer, endpoint).values()]
        shown = [one for one in await self._engines.states() if one.state in IN_MEMORY]
        ours = [entry for one in shown if allowed is None or one.target in allowed for entry in self._loaded(one)]
        return [*ours, *told]

    def _loaded(self, shown: Shown) -> Iterator[Entry]:
        """The models of a server, by the target's name where it has none in the file."""
        target = self._config.targets.get(shown.target)
        if target is None or target.run is None:
            return
        memory = shown.memory
        in_gpu = memory.get("gpu", 0)
        for name in shown.models or (shown.target,):
            info = info_of(self._named[name], target) if name in self._named else ModelInfo(name)
            size = memory.get("ram", 0) + in_gpu
            expires = _expires(shown, target.run)
            yield Entry(replace(info, size=size, vram=in_gpu, expires=expires, context=info.context or 0))

    async def one(self, endpoint: Endpoint, route: Route, name: str) -> web.Response | None:
        """What is known of the one model that a request asks about, `name` as the client calls it; None where the
        target itself is to be asked. No server is started for that. Raises NotFound for what nobody knows."""
        if endpoint.kind != "model" or route.entry.is_explicit:
            return None
        model, target = named(self._config, route), route.target
        if target.run is not None:
            if route.entry.translation is None and await self._is_in_memory(target.name, model):
                return None
            if model is None and self._config.names_at(target.name):
                raise NotFound(f"model '{name}' not found", code="model_not_found", param="model")
        if model is None or not is_told(self._config, endpoint, route):
            return None
        source = self.sources.get(target.name)
        told = await self._live.listed(source, endpoint) if source is not None else None
        return _one(endpoint, self._of_file(model, _entries(told, endpoint) if told else {}).model, name)

    async def _is_in_memory(self, target: str, model: Model | None) -> bool:
        """Whether a server of the target runs, and has this model where one is named."""
        own = [one for one in await self._engines.states() if one.target == target and one.state in IN_MEMORY]
        return any(model is None or model.name in one.models for one in own)


def named(config: Config, route: Route) -> Model | None:
    """The model of a route, if the file names it."""
    model = config.models.get(route.model.name) if route.model is not None else None
    return None if model is None or model.is_pattern else model


def is_told(config: Config, endpoint: Endpoint, route: Route) -> bool:
    """Whether the proxy itself can tell of the model that a request asks about: one that the file names, unless the
    target has the client's API and needs not be started for it."""
    return (
        endpoint.kind == "model"
        and not route.entry.is_explicit
        and named(config, route) is not None
        and (route.target.run is not None or route.entry.translation is not None)
    )


def is_merged(config: Config, endpoint: Endpoint) -> bool:
    """Whether what clients get at an endpoint is a list of more than one target's models. A single target tells of its
    models itself; of those in memory only if its server is its own. Some APIs have no list but tell of one model."""
    if endpoint.kind == "running":
        return len(config.targets) > 1 or _has_engines(config)
    return endpoint.kind == "models" and len(config.targets) > 1 and is_list(endpoint)


def is_list(endpoint: Endpoint) -> bool:
    """Whether what clients get there has several models."""
    if endpoint.kind not in ("models", "running"):
        return False
    return place_in(endpoint.write_answer(ModelsAnswer([ModelInfo("any")]), ModelsRequest())) is not None


def _has_engines(config: Config) -> bool:
    return any(target.run is not None for target in config.targets.values())


def _entries(told: Told, endpoint: Endpoint) -> dict[str, Entry]:
    """The models that a target lists, by name."""
    raw = told.raw(endpoint)
    return {name: Entry(info, raw.get(name)) for name, info in told.models.items()}


def _expires(shown: Shown, run: Run) -> float | None:
    """When a server stops if nobody asks it, in Unix seconds, None for never. One that is busy stays after that for as
    long as the file says; one that gives way to another goes now."""
    if shown.state is State.DRAINING:
        return time.time()
    if shown.until is None:
        return None if run.unload_after is None else time.time() + run.unload_after
    return None if shown.until == math.inf else shown.until


def _one(endpoint: Endpoint, info: ModelInfo, name: str) -> web.Response:
    return _response(endpoint.write_answer(ModelsAnswer([replace(info, id=name)]), ModelsRequest(name)))


def _response(body: Any) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")
