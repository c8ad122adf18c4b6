"""What a reload would change, told from two configurations; nothing is sent, started or written.

A line is a sign, a kind, a name, and what there is to say: `~ target local  url, mapping./chat`. Settings are named as
in the file, values never: some are secrets. What decides at a reload decides here: `servers.made_of` which servers go
on, `System.needs_restart` what has to wait.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from mooltiproxy.config.auto import AUTO
from mooltiproxy.config.model import Config, Model, Target
from mooltiproxy.config.servers import made_of, wanted
from mooltiproxy.mapping.chat_template import ChatTemplate
from mooltiproxy.mapping.settings import Settings

COMES, GOES, CHANGES, STAYS, WAITS = "+", "-", "~", "=", "!"
NOTHING = "nothing would change"

_IN_FILE = {
    "tls": "ssl",
    "timeouts": "timeout",
    "preserve_method": "preserveMethod",
    "upstream_name": "name",
    "digest": "key",
    "is_admin": "admin",
}
"""Fields that the file calls by another name."""
_DERIVED = ("name", "mapping", "replies", "written")
"""Fields of a target that follow from what the file says of it."""
_UNWRITTEN: Mapping[str, Any] = {"mapping": {}, "control_tokens": "break", "keep_bos": False}
_KIND_WIDTH = 11

Line = tuple[str, str, str, str]
"""Sign, kind, name, and what there is to say."""


def plan(before: Config, after: Config) -> list[str]:
    """The lines to print for a reload that puts `after` in the place of `before`: one that says so if none is due."""
    lines = list(_lines(before, after))
    if all(sign == STAYS for sign, *_ in lines):
        return [NOTHING]
    width = max(len(name) for _, _, name, _ in lines)
    return [f"{sign} {kind:{_KIND_WIDTH}} {name:{width}}  {what}".rstrip() for sign, kind, name, what in lines]


def _lines(before: Config, after: Config) -> Iterator[Line]:
    yield from _system(before, after)
    yield from _section("cerbere", before.cerbere, after.cerbere)
    yield from _section("limits", before.limits, after.limits)
    yield from _section("rest", {"prefix": before.rest_prefix}, {"prefix": after.rest_prefix})
    yield from _middlewares(before.middlewares, after.middlewares)
    yield from _section("targets", {"default": before.default_target}, {"default": after.default_target})
    yield from _entries("target", _targets(before), _targets(after))
    yield from _servers(before, after)
    yield from _entries("model", _models(before), _models(after), depth=1)
    yield from _keys(before, after)
    yield from _entries("template", before.templates, after.templates)
    yield from _section("prompts", {"language": before.library.language}, {"language": after.library.language})
    yield from _entries("prompt", before.library.texts, after.library.texts)


def _system(before: Config, after: Config) -> Iterator[Line]:
    waiting = {_IN_FILE.get(name, name) for name in before.system.needs_restart(after.system)}
    for name in _differences(before.system, after.system):
        if name.partition(".")[0] in waiting:
            yield WAITS, "system", name, "changes only with a restart"
        else:
            yield CHANGES, "system", name, ""


def _section(kind: str, before: object, after: object) -> Iterator[Line]:
    """The lines of a section whose keys are no names of the user's."""
    for name in _differences(before, after):
        yield CHANGES, kind, name, ""


def _middlewares(before: Sequence[str], after: Sequence[str]) -> Iterator[Line]:
    yield from ((GOES, "middleware", name, "") for name in before if name not in after)
    yield from ((COMES, "middleware", name, "") for name in after if name not in before)
    if [name for name in before if name in after] != [name for name in after if name in before]:
        yield CHANGES, "middlewares", "order", ""


def _entries(kind: str, before: Mapping[str, object], after: Mapping[str, object], depth: int = 2) -> Iterator[Line]:
    """The lines of a section that has names of the user's."""
    yield from ((GOES, kind, name, "") for name in before if name not in after)
    yield from ((COMES, kind, name, "") for name in after if name not in before)
    for name in before:
        if name in after and (changed := list(_differences(before[name], after[name], depth))):
            yield CHANGES, kind, name, ", ".join(filter(None, changed))


def _servers(before: Config, after: Config) -> Iterator[Line]:
    old, new = ({server.name: server for server in wanted(config)} for config in (before, after))
    yield from ((GOES, "server", name, "is stopped if it runs") for name in old if name not in new)
    yield from ((COMES, "server", name, "will start when it is asked") for name in new if name not in old)
    for name in old:
        if name in new and made_of(old[name]) == made_of(new[name]):
            yield STAYS, "server", name, "goes on"
        elif name in new:
            yield CHANGES, "server", name, "is started anew if it runs"


def _keys(before: Config, after: Config) -> Iterator[Line]:
    old, new = ({key.name: key for key in (*config.keys, *config.file_keys)} for config in (before, after))
    names = {key.digest: name for name, key in new.items() if key.digest is not None}
    for sign, kind, name, what in _entries("key", old, new):
        if sign == GOES:
            digest = old[name].digest
            renamed = names.get(digest) if digest is not None else None
            what = f"is called {renamed} now" if renamed else "revoked"
        yield sign, kind, name, what


def _targets(config: Config) -> dict[str, dict[str, Any]]:
    """What the file says of the targets; those that nobody has asked what they speak have a warning at that key."""
    unasked = {problem.path for problem in config.warnings}
    targets = {name: _target(target) for name, target in config.targets.items()}
    for name, target in targets.items():
        if ("targets", name, "speaks") in unasked:
            target["speaks"] = AUTO
    return targets


def _target(target: Target) -> dict[str, Any]:
    """What the file says of a target, by its keys there."""
    settings = {name: value for name, value in _parts_of(target).items() if name not in _DERIVED}
    settings["tls"] = settings.pop(_IN_FILE["tls"])  # that is the listener's
    return {**settings, "losses": {"default": "warn", **target.losses}, **_UNWRITTEN, **target.written}


def _models(config: Config) -> dict[str, dict[str, Any]]:
    return {name: _model(model) for name, model in config.models.items()}


def _model(model: Model) -> dict[str, Any]:
    """What the file says of a model, by its keys there."""
    own = _parts_of(model)
    del own["settings"], own["told"]
    return own | _parts_of(model.settings or Settings())


def _differences(before: object, after: object, depth: int = 2) -> Iterator[str]:
    """The names of what differs, `mapping./chat` for what is `depth` levels down, "" where there are no names."""
    old, new = _parts(before), _parts(after)
    if not depth or old is None or new is None:
        if _comparable(before) != _comparable(after):
            yield ""
        return
    for name in dict.fromkeys([*old, *new]):
        for below in _differences(old.get(name), new.get(name), depth - 1):
            yield f"{name}.{below}" if below else name


def _parts(value: object) -> dict[str, Any] | None:
    """A section's values by their names in the file; None for what is no section."""
    if isinstance(value, Mapping):
        return dict(value)
    return _parts_of(value) if is_dataclass(value) else None


def _parts_of(value: Any) -> dict[str, Any]:
    return {_IN_FILE.get(one.name, one.name): getattr(value, one.name) for one in fields(value) if one.compare}


def _comparable(value: object) -> object:
    """The same for a value that is equal only to itself: chat templates are compiled anew at each load."""
    if isinstance(value, ChatTemplate):
        return value.source, value.format, value.tokens, value.variables, value.facts
    if isinstance(value, Mapping):
        return {name: _comparable(one) for name, one in value.items()}
    return value
