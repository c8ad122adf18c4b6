"""status: /-/status and /status, what the targets are, and how the model servers are that the proxy has started."""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from aiohttp import web

from mooltiproxy.catalogue.facts import parameters_of, source_of
from mooltiproxy.config.model import Config, Model, Target
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
    """What is not in `targets` is of the first server that runs, in TabbyAPI-Proxy's words; `targets` has all, one with
    a server for each of its models once for each. Times are seconds since 1970; -1 is never."""
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
        **_in_tabbys_words(config, running),
    }
    return {**first, "targets": targets}


def _in_tabbys_words(config: Config, running: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the model that runs was loaded with (its file's sections), what its requests get, and where it is; of models
    without a file of their own only the last two are known."""
    if running is None:
        return dict.fromkeys(("model_params", "draft_model_params", "model_template", "current_source"))
    model = _first_model(config, running["models"])
    told = model.told if model is not None else {}
    return {
        "model_params": told.get("model", {}),
        "draft_model_params": told.get("draft_model", {}),
        "model_template": told.get("template") or running["parameters"],
        "current_source": running["source"],
    }


def _first_model(config: Config, names: Sequence[str]) -> Model | None:
    return next((config.models[name] for name in names if name in config.models), None)


def _target(config: Config, target: Target, engine: Shown | None) -> dict[str, Any]:
    models = engine.models if engine else [one.name for one in config.models.values() if one.target == target.name]
    first = _first_model(config, models)
    shown: dict[str, Any] = {
        "target": target.name,
        "speaks": target.speaks,
        "models": models,
        "parameters": parameters_of(first) if first else {},
        "source": source_of(first, target),
        "state": None,
    }
    if engine is None:
        return shown
    return shown | {
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
