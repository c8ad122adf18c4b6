"""How llama-swap starts the server of a model, as `run:` of a target."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from mooltiproxy.config.shapes import Where
from mooltiproxy.importers.accounts import texts
from mooltiproxy.importers.draft import Data, Draft, Variable
from mooltiproxy.importers.foreign import items, section, text
from mooltiproxy.importers.llama_swap_macros import PORT, PROCESS, filled, has_unknown, in_our_spelling, variable_of
from mooltiproxy.importers.servers import is_secret, is_servers_key, joined, keys_replaced

_PROXY = f"http://localhost:{PORT}"
_PICKED = re.compile(r"[^/]*//[^/]*:\$\{PORT\}(/.*)?")
_RELATIVE = re.compile(r"\.{1,2}/.*|[^/=-][^/=]*/.*\.gguf")
_STARTS_NOTHING = ("sleep", "tail", "true")
"""Commands that people write where the server runs already."""
_AS_ALL = -1
"""The `ttl` of a model for which `globalTTL` counts."""
_READY_TIMEOUT, _LEAST_READY_TIMEOUT = 120, 15
_ANSWERED_BY_ALL = "/v1/models"


@dataclass(frozen=True, slots=True)
class _Setting:
    """A value of `run:`, and the key of theirs that it comes from."""

    theirs: Where
    ours: tuple[str, ...]
    value: Any
    remark: str = ""


class Server:
    """A model's server. `port` is the one that llama-swap would give it, None where it uses none; `words` are those of
    its command, none where it cannot be started here: `why_not` says why, "" where it starts nothing. `key` is the
    variable of the key that it wants, once `run` has been made.

    `macros` is what `${NAME}` stands for; `${PORT}` is not among them where the port is picked at each start.
    """

    def __init__(self, draft: Draft, name: str, port: int | None) -> None:
        self.name = name
        self.model = section(section(draft.document.data, "models"), name)
        self.key = ""
        self._draft = draft
        self._where: Where = ("models", name)
        self._file: Data = draft.document.data
        self.macros = macros_of(self._file, name)
        self.words, self.why_not = _cut(filled(_without_comments(self.model.get("cmd")), self.macros))
        self.has_address = port is not None or PORT not in filled(_proxy(self.model), self.macros)
        if port is not None and not self._is_port_picked():
            self.macros["PORT"] = str(port)
            self.words = [filled(word, self.macros) for word in self.words]

    @property
    def is_started(self) -> bool:
        """Whether it is to be started here."""
        return bool(self.words) and self.has_address

    @property
    def url(self) -> str:
        """Its address, as our file has it."""
        return in_our_spelling(self._draft, filled(_proxy(self.model), self.macros), f"the address of {self.name}")

    def run(self, group: str, place: Where) -> "Run":
        """Its `run:`; it is in this group of ours, because of a key of theirs at `place`, or of none."""
        settings = list(self._settings())
        if group:
            there = place or (*self._where, "cmd")
            remark = "" if place else "there, models of no group exclude each other"
            settings.append(_Setting(there, ("group",), group, remark))
        return Run(self._draft, settings)

    def _is_port_picked(self) -> bool:
        """Whether a free port will do: it is in the address and told to the server, and nowhere else."""
        told = [*self.words, *self._environment().values()]
        rest = [
            *texts(section(self.model, "filters")),
            *(text(self.model.get(key)) for key in ("useModelName", "checkEndpoint")),
        ]
        return (
            bool(self.words)
            and _PICKED.fullmatch(filled(_proxy(self.model), self.macros)) is not None
            and any(PORT in one for one in told)
            and not any(PORT in filled(one, self.macros) for one in rest)
        )

    def _settings(self) -> Iterator[_Setting]:
        cmd: Where = (*self._where, "cmd")
        words = keys_replaced(self.words, self._without_key)
        remark = "paths count from `cwd`, which is the folder of this file" if any(map(_is_relative, words)) else ""
        yield _Setting(cmd, ("command",), self._ours(joined(words)), remark)
        yield from self._environment_settings()
        yield from self._stop()
        yield from self._ready()
        yield from self._times()

    def _environment(self) -> dict[str, str]:
        """Its own variables."""
        lines = (filled(str(line), self.macros) for line in items(self.model.get("env")))
        return {name: value for name, is_one, value in (line.partition("=") for line in lines) if is_one}

    def _environment_settings(self) -> Iterator[_Setting]:
        for position, line in enumerate(items(self.model.get("env"))):
            name, is_one, value = filled(str(line), self.macros).partition("=")
            there: Where = (*self._where, "env", position)
            if not is_one:
                self._draft.drop(there, "expected NAME=value")
            elif is_secret(name) and value:
                kept = Variable(self._without_key(name, value))
                yield _Setting(there, ("env", name), self._ours(kept), "set the variable")
            else:
                yield _Setting(there, ("env", name), self._ours(value))

    def _stop(self) -> Iterator[_Setting]:
        written = filled(_without_comments(self.model.get("cmdStop")), self.macros)
        there: Where = (*self._where, "cmdStop")
        words, why = _cut(written.replace(PROCESS, ""))
        if PROCESS in written:
            self._draft.drop(there, "`stop` is not told the server's process: SIGTERM goes to all of its group")
        elif why:
            self._draft.drop(there, why)
        elif words:
            yield _Setting(there, ("stop",), self._ours(joined(keys_replaced(words, self._without_key))))

    def _ready(self) -> Iterator[_Setting]:
        path, there = filled(text(self.model.get("checkEndpoint")), self.macros), (*self._where, "checkEndpoint")
        if path == "none":
            remark = "a server is ready once a path answers 200: name another where it does not have this one"
            yield _Setting(there, ("ready",), _ANSWERED_BY_ALL, remark)
        elif path:
            yield _Setting(there, ("ready",), path if path.startswith("/") else f"/{path}")

    def _times(self) -> Iterator[_Setting]:
        wait = _given(self._file.get("healthCheckTimeout"), _READY_TIMEOUT)
        wait = max(wait, _LEAST_READY_TIMEOUT) if isinstance(wait, int) else wait
        yield _Setting(self._place("healthCheckTimeout"), ("ready_timeout",), wait)
        idle = _given(self.model.get("ttl"), _AS_ALL)
        idle = _given(self._file.get("globalTTL"), 0) if idle == _AS_ALL else idle
        yield _Setting(self._place("ttl", "globalTTL"), ("unload_after",), -1 if idle == 0 else idle)
        grace = self.model.get("unloadTimeout") or self._file.get("unloadTimeout")
        if grace:
            yield _Setting(self._place("unloadTimeout"), ("stop_timeout",), grace)

    def _place(self, own: str, common: str = "") -> Where:
        """The key that says something of the model: its own, that of all, or its command for what goes without."""
        if own in self.model:
            return (*self._where, own)
        return (common or own,) if (common or own) in self._file else (*self._where, "cmd")

    def _without_key(self, called: str, value: str) -> str:
        """A reference to the variable that a key in a command or an environment is moved to."""
        stem = self.name if is_servers_key(called) else called.strip("-")
        variable = variable_of(value) or self._draft.secret(value, stem, f"`{called}` of {self.name}")
        if is_servers_key(called):
            self.key = variable
        return f"${{env.{variable}}}"

    def _ours(self, value: str) -> str:
        return in_our_spelling(self._draft, value, f"the server of {self.name}")


class Run:
    """A section `run:` of ours."""

    def __init__(self, draft: Draft, settings: list[_Setting]) -> None:
        self._draft = draft
        self._settings = settings

    @property
    def data(self) -> Data:
        """The section."""
        result: Data = {}
        for one in self._settings:
            below = result
            for part in one.ours[:-1]:
                below = below.setdefault(part, {})
            below[one.ours[-1]] = one.value
        return result

    def put(self, target: str) -> None:
        """Say of a target that it has this section, and where each value comes from."""
        for one in self._settings:
            self._draft.put(one.theirs, ("targets", target, "run", *one.ours), one.value, one.remark)


def macros_of(file: Data, name: str) -> Data:
    """What `${NAME}` stands for in a model's settings, but for its port."""
    model = section(section(file, "models"), name)
    return {**section(file, "macros"), **section(model, "macros"), "MODEL_ID": name}


def uses_port(file: Data, name: str) -> bool:
    """Whether llama-swap counts a port for this model."""
    model = section(section(file, "models"), name)
    return any(PORT in filled(text(model.get(key)), macros_of(file, name)) for key in ("cmd", "proxy"))


def _proxy(model: Data) -> str:
    return text(model.get("proxy")) or _PROXY


def _without_comments(command: object) -> str:
    """A command of several lines as one."""
    lines = (line.strip() for line in text(command).splitlines())
    return " ".join(line.removesuffix("\\") for line in lines if not line.startswith("#"))


def _cut(command: str) -> tuple[list[str], str]:
    """A command's words; none, and why, where there are none that can be started."""
    if has_unknown(command):
        return [], "it names a macro that is not there"
    try:
        words = shlex.split(command)
    except ValueError:
        return [], "its quotes are not all closed"
    return ([], "") if words and PurePath(words[0]).name in _STARTS_NOTHING else (words, "")


def _given(value: Any, otherwise: int) -> Any:
    return otherwise if value is None else value


def _is_relative(word: str) -> bool:
    return _RELATIVE.fullmatch(word.rpartition("=")[2]) is not None
