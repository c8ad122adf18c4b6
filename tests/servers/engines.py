"""Targets with `run:` whose server is the toy, each started by the proxy; what they have done is in their logs."""

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).parents[2]
BODY = {"inputs": "The tea", "parameters": {"max_new_tokens": 5, "do_sample": False}}


def toy_command(*options: str, log: Path | None = None) -> str:
    """The command that starts the toy on the port that was picked."""
    logged = ("--log", str(log)) if log else ()
    return shlex.join([sys.executable, "-m", "mooltiproxy.demo", "--port", "${port}", *logged, *options])


def toy_target(*options: str, log: Path | None = None, **run: Any) -> dict[str, Any]:
    """A target whose server is the toy with these options."""
    command = toy_command(*options, log=log)
    return {
        "url": "http://127.0.0.1:${port}",
        "speaks": "tgi",
        "template": "chatml",
        "run": {"command": command, "cwd": str(ROOT), **run},
    }


def engines(**targets: dict[str, Any]) -> dict[str, Any]:
    """A configuration of these targets; the first is the default, and each is a model as well."""
    models = {name: {"target": name} for name in targets}
    return {"targets": {"default": next(iter(targets)), **targets}, "models": models, "system": {"timeout": 20}}


def processes(marker: str) -> Iterator[int]:
    """Those whose command line holds this text, zombies left out."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                if marker.encode() in (folder / "cmdline").read_bytes():
                    yield int(folder.name)
            except OSError:
                continue


def asked(log: Path) -> int:
    """How many generations a toy was asked for."""
    lines = log.read_text().splitlines() if log.exists() else []
    return sum(orjson.loads(line)["event"] == "started" for line in lines)
