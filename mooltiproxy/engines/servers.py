"""Which servers a configuration wants: one for each target with `run:`, or one for each of its models."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from mooltiproxy.config.model import CONFIG, MODEL, Config, Model, Run, Target


@dataclass(frozen=True, slots=True)
class Wanted:
    """One server. `models` are the names under `models:` that it serves; `values` is what stands for words like
    `MODEL` in its command and environment."""

    name: str
    target: Target
    run: Run
    models: tuple[str, ...]
    values: Mapping[str, str] = field(default_factory=dict)


def wanted(config: Config) -> Iterator[Wanted]:
    """The servers, each with a name of its own."""
    for name, target in config.targets.items():
        if target.run is not None:
            models = [one for one in config.models.values() if one.target == name and not one.is_pattern]
            words = [word for word in (MODEL, CONFIG) if is_in(word, target.run)]
            if words:
                yield from _for_each(target, target.run, models, words)
            else:
                yield Wanted(name, target, target.run, tuple(one.name for one in models))


def made_of(server: Wanted) -> object:
    """What a run of a server is made of: where this is another after a reload, the server is started anew."""
    run = replace(server.run, unload_after=None, max_wait=0.0, max_waiting=1, stop_timeout=0.0)
    return server.target.url, server.target.key, run, server.values


def is_in(word: str, run: Run) -> bool:
    """Whether a command or its environment has this word."""
    return any(word in text for text in (*run.command, *run.env.values()))


def _for_each(target: Target, run: Run, models: list[Model], words: list[str]) -> Iterator[Wanted]:
    """The servers of a target's models; models for which nothing differs share one."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for model in models:
        values = {MODEL: model.upstream_name, CONFIG: str(model.file or "")}
        found = tuple(values[word] for word in words)
        if all(found):
            alike.setdefault(found, []).append(model.name)
    for found, names in alike.items():
        yield Wanted(f"{target.name}:{names[0]}", target, run, tuple(names), dict(zip(words, found, strict=True)))
