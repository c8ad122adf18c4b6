"""status: /-/status and /status, what the targets are, and how the model servers are that the proxy has started."""

import math
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import orjson
from aiohttp import web

from mooltiproxy.config.model import Config, Target
from mooltiproxy.engines.access import Access
from mooltiproxy.engines.owner import Shown
from mooltiproxy.engines.schedule import RUNNING

NEVER = "never"


def status(config: Config, engines: Access) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """An endpoint that shows these."""

    async def endpoint(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=orjson.dumps(await told(config, engines)), content_type="application/json")

    return endpoint


async def told(config: Config, engines: Access) -> dict[str, Any]:
    """`model`, `until` and `until_str` are of the first server that runs, as TabbyAPI-Proxy tells them; `targets` has
    all, one with a server for each of its models once for each. Times are seconds since 1970; -1 is never."""
    states = await engines.states()
    targets = []
    for name, target in config.targets.items():
        own: list[Shown | None] = [one for one in states if one.target == name]
        targets += [_target(config, target, engine) for engine in own or [None]]
    running = next((one for one in targets if one["state"] in RUNNING), None)
    first = {
        "model": (running["models"] or [running["target"]])[0] if running else None,
        "until": running["until"] if running else None,
        "until_str": running["until_str"] if running else None,
    }
    return {**first, "targets": targets}


def _target(config: Config, target: Target, engine: Shown | None) -> dict[str, Any]:
    models = [model.name for model in config.models.values() if model.target == target.name]
    shown: dict[str, Any] = {"target": target.name, "speaks": target.speaks, "models": models, "state": None}
    if engine is None:
        return shown
    return shown | {
        "models": engine.models,
        "state": engine.state,
        "since": engine.since,
        "in_flight": engine.in_flight,
        "waiting": engine.waiting,
        "until": -1 if engine.until == math.inf else engine.until,
        "until_str": _in_words(engine.until),
        "pid": engine.pid,
        "memory": engine.memory,
        "group": target.run.group if target.run else "",
        "error": engine.error,
        "log": engine.log,
    }


def _in_words(until: float | None) -> str | None:
    if until is None:
        return None
    return NEVER if until == math.inf else datetime.fromtimestamp(until).astimezone().isoformat(" ", "seconds")
