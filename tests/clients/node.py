"""Clients of npm, driven by node: `results = uvloop.run(drive("openai.mjs", questions))`.

A script serves checks on its standard input and output (javascript/serve.mjs). All checks of a script run in one node
process, in front of one proxy with all the strict servers behind it.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import subprocess
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from tests.grid.conversation import Asked
from tests.servers.proxy import KEY, proxy
from tests.servers.scripted import upstream
from tests.servers.strict import SERVERS, strict

SCRIPTS = Path(__file__).parent / "javascript"
LOCK_FILE = SCRIPTS / "package-lock.json"
INSTALLED = SCRIPTS / "node_modules" / "installed-lock.json"
"""A copy of the lock file that the packages in that folder were installed from."""

MODELS = {"anthropic": "claude-sonnet-4-5"}
"""What a target is asked for: of Claude it is known what the real one refuses."""

CALLS = [["call_a", "get_weather", {"city": "Paris"}], ["call_b", "get_weather", {"city": "Rome"}]]
"""What the model calls, as id, name and arguments."""


class Question(NamedTuple):
    """A check of a client in front of a target."""

    client: str
    target: str
    check: str


@dataclass(frozen=True)
class Result:
    """What the client understood, or how it failed; and what the target heard meanwhile."""

    told: Any
    failure: str | None
    heard: tuple[Asked, ...]


class Results:
    """The results of a script's checks."""

    def __init__(self, results: Mapping[Question, Result]) -> None:
        self._results = results

    def of(self, client: str, target: str, check: str) -> tuple[Any, tuple[Asked, ...]]:
        """What a check told, and what the target heard; fails as the check failed."""
        result = self._results[Question(client, target, check)]
        assert result.failure is None, result.failure
        return result.told, result.heard


def pairs(speaks: Mapping[str, str | None]) -> list[tuple[str, str]]:
    """Clients and the targets of other APIs than theirs."""
    return [(client, target) for client, own in speaks.items() for target in SERVERS if target != own]


def check_usage(usage: Mapping[str, int | None], target: str) -> None:
    """Every count that the target tells, and the client has a place for, is what the target told."""
    tells = SERVERS[target].TELLS
    told = {"prompt": 12, "answer": 9, "total": 21, "cached": 4, "reasoning": 2}
    for name, count in usage.items():
        assert count == told[name] if name in (*tells, "total") else not count, name


def install() -> None:
    """Install the packages of the lock file, unless they are there. Skips where there is no node, but for CI."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("node and npm are not installed: .ci/run ought to have installed them")
        pytest.skip("node and npm are not installed (Debian: apt install nodejs npm)")
    with LOCK_FILE.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run of the tests may be at it
        wanted = lock.read()
        if not INSTALLED.exists() or INSTALLED.read_bytes() != wanted:
            command = ["npm", "ci", "--ignore-scripts", "--loglevel=error"]
            done = subprocess.run(command, cwd=SCRIPTS, capture_output=True, text=True, timeout=240)
            assert done.returncode == 0, f"npm ci failed:\n{done.stdout}{done.stderr}"
            INSTALLED.write_bytes(wanted)


async def drive(script: str, questions: Iterable[Question]) -> Results:
    """Ask a script these questions, one after the other."""
    heard: list[Asked] = []
    results = {}
    async with _served(heard) as url, _running(script) as process:
        for question in questions:
            heard.clear()
            where = {"url": f"{url}/{question.target}", "model": MODELS.get(question.target, "m1")}
            told = await _ask(process, {"client": question.client, "check": question.check, **where})
            results[question] = Result(told.get("told"), told.get("failure"), tuple(heard))
    return Results(results)


@contextlib.asynccontextmanager
async def _served(heard: list[Asked]) -> AsyncIterator[str]:
    """A proxy in front of all strict servers; the url before their names."""
    async with contextlib.AsyncExitStack() as stack:
        targets: dict[str, Any] = {"default": "openai"}
        for name, server in SERVERS.items():
            target = await stack.enter_async_context(upstream(strict(server, heard)))
            targets[name] = {"url": target.url, "speaks": name}
        running = await stack.enter_async_context(proxy({"targets": targets}))
        yield f"{running.url}/to"


@contextlib.asynccontextmanager
async def _running(script: str) -> AsyncIterator[Process]:
    environ = {**os.environ, "PROXY_KEY": KEY, "NO_PROXY": "*"}
    process = await asyncio.create_subprocess_exec(
        "node", script, cwd=SCRIPTS, env=environ, stdin=PIPE, stdout=PIPE, limit=2**20
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _ask(process: Process, question: Mapping[str, str]) -> Any:
    assert process.stdin and process.stdout
    process.stdin.write(orjson.dumps(question, option=orjson.OPT_APPEND_NEWLINE))
    async with asyncio.timeout(20):
        line = await process.stdout.readline()
    assert line, f"node ended at {question}"
    return orjson.loads(line)
