"""What targets list: asked side by side and with little patience. What each has told last is kept.

Routing looks at what is kept and never asks. It is filled when a configuration is taken up, by every list that a client
asks for, and from time to time, as long as more than one target has a list.
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mooltiproxy.config.build import path_at
from mooltiproxy.config.model import Config, Target, Timeouts
from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping.dialect import Dialect, Endpoint, Kind
from mooltiproxy.mapping.listed import place_in
from mooltiproxy.mapping.neutral import ModelInfo, ModelsAnswer, ModelsRequest
from mooltiproxy.upstream.fetch import get
from mooltiproxy.upstream.session import Origin, PooledSession

log = logging.getLogger("mooltiproxy.catalogue")

PATIENCE = 2.0
"""Seconds that a target gets for its list."""
EVERY = 60.0
"""Seconds between two rounds of questions that no client has asked for."""
MAX_LIST = 8 * 1024 * 1024
_TIMEOUTS = Timeouts(connect=PATIENCE, first_byte=PATIENCE, idle=PATIENCE, total=PATIENCE)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a target tells of its models, below its url, and in the form of which endpoint."""

    dialect: Dialect
    endpoint: Endpoint
    path: str


@dataclass(frozen=True, slots=True)
class Source:
    """A target that has a list: the places of all its models, and of those in memory."""

    target: str
    url: str
    key: str | None = field(repr=False)
    lists: tuple[Place, ...]
    running: tuple[Place, ...]
    origin: Origin

    def place_for(self, endpoint: Endpoint) -> Place:
        """Where to ask for a client of this endpoint: there where the answer has its form, if the target has that."""
        return next((place for place in self.lists if place.endpoint == endpoint), self.lists[0])


@dataclass(frozen=True, slots=True)
class Told:
    """What a target has told: its models by name, and the body that says so, in the form of `endpoint`."""

    endpoint: Endpoint
    body: Any
    models: Mapping[str, ModelInfo]

    def raw(self, endpoint: Endpoint) -> Mapping[str, Any]:
        """The list's own entries by the models' names, if it has the form of this endpoint."""
        if endpoint != self.endpoint or not isinstance(self.body, dict):
            return {}
        shape = endpoint.write_answer(ModelsAnswer([ModelInfo("any")]), ModelsRequest())
        place = place_in(shape) or ""
        entries = self.body.get(place)
        read = endpoint.read_answer
        named = ((read({place: [entry]}, ModelsRequest()), entry) for entry in entries or ())
        return {model.id: entry for answer, entry in named for model in answer.models}


def sources(config: Config) -> Iterator[Source]:
    """The targets that can be asked for their models, the default one first; none whose server would have to be
    started."""
    first = config.targets[config.default_target]
    for target in (first, *(one for one in config.targets.values() if one is not first)):
        lists = tuple(_places(target, config.registry.dialects, "models"))
        if lists and target.run is None:
            running = tuple(_places(target, config.registry.dialects, "running"))
            yield Source(target.name, target.url, target.key, lists, running, Origin.of_target(target))


def _places(target: Target, dialects: Mapping[str, Dialect], kind: Kind) -> Iterator[Place]:
    """The target's own endpoints of this kind, as far as `endpoints:` has them."""
    named = target.written.get("endpoints")
    for dialect in (dialects[name] for name in target.speaks):
        for endpoint in dialect.endpoints:
            if endpoint.kind == kind and (named is None or endpoint.label in named):
                path = endpoint.write_request(ModelsRequest(), {}).path
                yield Place(dialect, endpoint, path or path_at(dialect, endpoint))


class Live:
    """What the targets of the configuration in force list; outlives reloads. `names` has the names of those that have
    told. To be made inside the running loop."""

    def __init__(self, session: PooledSession) -> None:
        self._session = session
        self._sources: dict[str, Source] = {}
        self._told: dict[str, Told] = {}
        self._asking: dict[tuple[str, str, str], asyncio.Task[Told | None]] = {}
        self._rounds: asyncio.Task[None] | None = None
        self.names: dict[str, frozenset[str]] = {}

    def configure(self, found: Iterable[Source]) -> None:
        """Take up the targets of a configuration; what others have told is forgotten."""
        before, self._sources = self._sources, {source.target: source for source in found}
        for name in [name for name in self._told if self._sources.get(name) != before.get(name)]:
            del self._told[name], self.names[name]
        if self._rounds is not None:
            self._rounds.cancel()
        self._rounds = asyncio.create_task(self._ask_round_by_round()) if len(self._sources) > 1 else None

    async def close(self) -> None:
        """Ask no more."""
        tasks = [task for task in (self._rounds, *self._asking.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def listed(self, source: Source, endpoint: Endpoint) -> Told | None:
        """What the target lists now for clients of this endpoint; where it does not answer, what it listed last. None
        where it has never told."""
        told = await self._shared(source, source.place_for(endpoint))
        return told or self._told.get(source.target)

    async def running(self, source: Source) -> Told | None:
        """What the target has in memory; None where it does not tell."""
        return await self._shared(source, source.running[0]) if source.running else None

    async def _shared(self, source: Source, place: Place) -> Told | None:
        """The answer to a question; those who come while it is being asked get the same."""
        asked = (source.target, source.url, place.path)
        task = self._asking.get(asked)
        if task is None:
            task = self._asking[asked] = asyncio.create_task(self._ask(source, place))
            task.add_done_callback(lambda _: self._asking.pop(asked))
        return await asyncio.shield(task)

    async def _ask(self, source: Source, place: Place) -> Told | None:
        """Ask, and keep what is told of all models."""
        try:
            async with asyncio.timeout(PATIENCE):
                told = await self._answer(source, place)
        except Exception as error:  # noqa: BLE001 - a dialect of the user's may raise anything
            log.debug("target %s does not list its models: %s: %s", source.target, type(error).__name__, error)
            return None
        if place in source.lists and self._sources.get(source.target) == source:
            self._told[source.target] = told
            self.names[source.target] = frozenset(told.models)
        return told

    async def _answer(self, source: Source, place: Place) -> Told:
        """What a target tells at a place; raises UpstreamError."""
        origin, dialect = source.origin, place.dialect
        key = {dialect.key_field: dialect.key_prefix + source.key} if source.key else {}
        fields = {**dialect.fixed_fields, **key}
        whole = await get(self._session, origin, origin.base + place.path, _TIMEOUTS, MAX_LIST, fields=fields)
        if whole.status != 200:
            raise UpstreamBroken(f"it answers {whole.status}")
        body = whole.json()
        answer: ModelsAnswer = place.endpoint.read_answer(body, ModelsRequest())
        return Told(place.endpoint, body, {model.id: model for model in answer.models})

    async def _ask_round_by_round(self) -> None:
        while True:
            await asyncio.gather(*(self._shared(source, source.lists[0]) for source in self._sources.values()))
            await asyncio.sleep(EVERY)
