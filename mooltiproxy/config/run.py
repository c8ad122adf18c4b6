"""`run:` of a target: how its server is started, or how one with an API for that is told to load a model."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from voluptuous import Invalid, Optional

from mooltiproxy.config.model import PORT, Run
from mooltiproxy.config.shapes import Checked, Entries, Section, SectionOr
from mooltiproxy.config.templates import TARGETS_OWN
from mooltiproxy.config.validators import (
    Word,
    command,
    field_name,
    flag,
    limit,
    one_of,
    piece,
    plain_name,
    resource,
    seconds,
    seconds_or_never,
    size,
    target_path,
    text,
    variable_name,
    whole_number,
    word,
)

ENGINES = ("llama.cpp", "ollama", "tabbyapi", "vllm")
"""Servers that load and unload models themselves when they are told."""
RAM = "ram"
"""The resource that a size alone means."""
_OF_A_PROCESS = ("cwd", "env", "ready", "stop", "log_lines")
"""What is said of a process, and means nothing for a server that runs already."""


@word({"type": "string", "minLength": 1})
def stop_by(value: Any) -> tuple[str, ...]:
    """A command's words; or `POST` and a path below the target's url."""
    words: tuple[str, ...] = command(value)
    if words[0] != "POST":
        return words
    if len(words) != 2:
        raise Invalid("expected a path behind POST, and nothing else")
    return words[0], str(target_path(words[1]))


@word(size.json)
def _main_memory(value: Any) -> dict[str, int]:
    return {RAM: size(value)}


sizes = SectionOr(Entries(resource, size), _main_memory)
"""Bytes by resource; a size alone is of main memory."""


def run(folder: Path | None, variable: Word) -> Section:
    """The section; `variable` is one of the environment, and `folder` that of the file."""
    return Section(
        {
            Optional("command", description="The command that starts it; no shell"): command,
            Optional("engine", description="Instead: what runs already, and is told to load models"): one_of(
                "engine", ENGINES
            ),
            Optional("cwd", description="Folder to start it in (that of the configuration file)"): Checked(
                text, lambda path: there_is(path, folder)
            ),
            Optional("env", description="Environment variables beside the proxy's own"): Entries(variable_name, piece),
            Optional("ready", description="Path that answers 200 once it takes requests (/health)"): target_path,
            Optional("ready_timeout", description="How long a start may take (60); 0: any time"): limit,
            Optional("stop", description="What ends it: a command, or POST /path (SIGTERM)"): stop_by,
            Optional("stop_timeout", description="Time to end after that, then SIGKILL (10)"): seconds,
            Optional("unload_after", description="Idle time after which it is stopped; -1: never (900)"): (
                seconds_or_never
            ),
            Optional("group", description="Of the servers of a group one runs at a time"): plain_name,
            Optional("swap", description="How it gives way to another: drain (its answers end first) or now"): one_of(
                "way", ("drain", "now")
            ),
            Optional("memory", description="What it takes of system.budget: a size, or ram, gpu, gpu0 ..."): sizes,
            Optional("pin", description="Stays until it is unloaded by hand (false)"): flag,
            Optional("preload", description="Is started with the proxy, and again when it crashes (false)"): flag,
            Optional("cancel_start", description="A start that nobody waits for is broken off (false)"): flag,
            Optional("max_waiting", description="Requests that may wait for it to start (512)"): whole_number(1),
            Optional("max_wait", description="How long each may wait (600)"): seconds,
            Optional("log_lines", description="Lines of its output that are kept (200)"): whole_number(1, 100_000),
            Optional("admin_envkey", description="Environment variable with TabbyAPI's admin key"): variable,
            Optional("load", description="More fields of the request that loads a model"): Entries(
                field_name, Word(lambda value: value, {})
            ),
        },
        check=_fitting,
    )


def there_is(path: str, folder: Path | None) -> str:
    """A folder that is there; raises Invalid."""
    if folder is not None and not (folder / path).is_dir():
        raise Invalid("there is no such folder")
    return path


def built(values: Mapping[str, Any], folder: Path, environ: Mapping[str, str]) -> Run:
    """The frozen section."""
    said = dict(values)
    envkey = said.get("admin_envkey")
    return Run(
        **{**said, "command": said.get("command", ()), "cwd": folder / said.get("cwd", "")},
        admin_key=environ[envkey] if envkey else None,
    )


def fitting_target(section: Mapping[str, Any]) -> Iterator[Invalid]:
    """A port is picked for a server that is started here; its template is named, for it is not always there to tell."""
    if "run" not in section:
        if PORT in str(section.get("url")):
            yield Invalid(f"{PORT} is for targets with `run:`, whose server the proxy starts", ["url"])
        return
    for path, one in [([], section), *((["mapping", name], entry) for name, entry in _entries_of(section))]:
        if one.get("template") == TARGETS_OWN:
            yield Invalid(
                "expected a template by name or file: the server of `run:` is not always there", [*path, "template"]
            )
    written = section["run"] if isinstance(section["run"], Mapping) else {}
    if PORT not in str(section.get("url")):
        return
    if "engine" in written:
        yield Invalid(f"expected the address of a server that runs: {PORT} is for `command`", ["url"])
    texts = (written.get("command"), *(written["env"].values() if isinstance(written.get("env"), Mapping) else ()))
    if "command" in written and not any(PORT in str(text) for text in texts):
        yield Invalid(f"expected {PORT} in `command` or `env`, so that the server listens where `url` says", ["run"])


def _fitting(section: Mapping[str, Any]) -> Iterator[Invalid]:
    if "engine" not in section:
        if "command" not in section:
            yield Invalid("expected the command that starts the server, it is missing")
        yield from _needless(section, ("admin_envkey", "load"), "is for `engine`, whose server runs already")
        return
    if "command" in section:
        yield Invalid("expected either `command` or `engine`, both are there", ["engine"])
    yield from _needless(section, _OF_A_PROCESS, "is for `command`: the server of `engine` is not started here")
    if section["engine"] == "tabbyapi" and "admin_envkey" not in section:
        yield Invalid("expected `admin_envkey`: TabbyAPI loads models for its admin key only")
    if section["engine"] != "tabbyapi":
        yield from _needless(section, ("admin_envkey",), "is for TabbyAPI")
    if section["engine"] == "vllm":
        yield from _needless(section, ("load",), "does nothing here: vLLM has the model that it was started with")
        if section.get("swap") == "now":
            yield Invalid("expected drain: vLLM must not be put to sleep while it answers", ["swap"])


def _needless(section: Mapping[str, Any], names: tuple[str, ...], why: str) -> Iterator[Invalid]:
    yield from (Invalid(why, [name]) for name in names if name in section)


def _entries_of(section: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The entries of `mapping:` that are sections."""
    mapping = section.get("mapping")
    for name, one in mapping.items() if isinstance(mapping, Mapping) else ():
        if isinstance(one, Mapping):
            yield name, one
