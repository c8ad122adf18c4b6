"""Which servers a configuration wants: one for each target with `run:`, or one for each of its models."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from mooltiproxy.config.model import CONFIG, MODEL, Config, Model, Run, Target

EACH_MODEL = frozenset({"llama.cpp", "ollama", "tabbyapi"})
"""Engines that are told which model to load."""
ONE_AT_A_TIME = frozenset({"tabbyapi"})
"""Engines that have room for one model, whatever the file says."""
SHAPING = ("command", "cwd", "env", "ready", "ready_timeout", "group", "engine", "admin_key", "load")
"""What of `run:` a running server cannot take up."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One server, or one model of a server that loads models itself. `models` are the names under `models:` that it
    serves; `values` is what stands for words like `MODEL`; `memory` are bytes by resource; `withheld` are variables
    of the environment that are not its to know."""

    name: str
    target: Target
    run: Run
    models: tuple[str, ...]
    values: Mapping[str, str] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)
    withheld: frozenset[str] = frozenset()

    @property
    def group(self) -> str:
        """Those that have the same one exclude each other; "" is none."""
        own = f"/{self.target.name}" if self.run.engine in ONE_AT_A_TIME else ""  # no group of the file's is called so
        return self.run.group or own


def wanted(config: Config) -> Iterator[Wanted]:
    """The servers, each with a name of its own."""
    models_at: defaultdict[str, list[Model]] = defaultdict(list)
    for model in config.models.values():
        if not model.is_pattern:
            models_at[model.target].append(model)
    for name, target in config.targets.items():
        if target.run is not None:
            models = models_at[name]
            words = _told_apart(target.run)
            withheld = key_variables(config) - {target.envkey}
            if words:
                servers = _for_each(target, target.run, models, words)
            else:
                names = tuple(one.name for one in models)
                servers = iter([Wanted(name, target, target.run, names, memory=target.run.memory)])
            yield from (replace(one, withheld=withheld) for one in servers)


def key_variables(config: Config) -> frozenset[str]:
    """The variables of the environment that hold keys of clients, targets and engines."""
    targets = config.targets.values()
    of_targets = [name for one in targets for name in (one.envkey, one.run.admin_envkey if one.run else None)]
    return frozenset(name for name in (*(one.envkey for one in config.keys), *of_targets) if name)


def made_of(server: Wanted) -> object:
    """What a run of a server is made of: where this is another after a reload, the server is started anew."""
    return server.target.url, server.target.key, server.values, [getattr(server.run, name) for name in SHAPING]


def is_in(word: str, run: Run) -> bool:
    """Whether a command, what ends it, or its environment has this word."""
    return any(word in text for text in (*run.command, *run.stop, *run.env.values()))


def _told_apart(run: Run) -> list[str]:
    """The words by which the servers of a target's models differ; none where one server has them all."""
    if run.engine is not None:
        return [MODEL] if run.engine in EACH_MODEL else []
    return [word for word in (MODEL, CONFIG) if is_in(word, run)]


def _for_each(target: Target, run: Run, models: list[Model], words: list[str]) -> Iterator[Wanted]:
    """The servers of a target's models; models for which nothing differs share one."""
    alike: dict[tuple[str, ...], list[Model]] = {}
    for model in models:
        values = {MODEL: model.upstream_name, CONFIG: str(model.file or "")}
        found = tuple(values[word] for word in words)
        if all(found):
            alike.setdefault(found, []).append(model)
    for found, sharing in alike.items():
        name, names = f"{target.name}:{sharing[0].name}", tuple(model.name for model in sharing)
        memory = next((model.memory for model in sharing if model.memory is not None), run.memory)
        yield Wanted(name, target, run, names, dict(zip(words, found, strict=True)), memory)
