"""Drivers of engines with an API, as the owner of all engines makes them."""

import asyncio
from pathlib import Path
from typing import Any

from mooltiproxy.config.model import Run, Target
from mooltiproxy.engines.remote import DRIVERS, Remote
from mooltiproxy.upstream.request import Plan
from mooltiproxy.upstream.session import PooledSession


def driver(
    session: PooledSession, engine: str, url: str, model: str = "", key: str | None = None, **run: Any
) -> Remote:
    """One run of a model at a server."""
    plan = Plan.of(Target("target", url, key), None)
    return DRIVERS[engine](session, plan, Run((), Path(), engine=engine, **run), model)


async def started(made: Remote) -> Remote:
    """The same once it takes requests."""
    await made.start()
    await made.ready()
    return made


async def left_while_loading(made: Remote, loads: asyncio.Event) -> None:
    """Begin, and leave once the server loads."""
    await made.start()
    waiting = asyncio.ensure_future(made.ready())
    await loads.wait()
    waiting.cancel()
    await asyncio.wait([waiting])
