"""What runs one engine once, from its start to its end: a process of ours, or a model that another server loads."""

import asyncio
from collections.abc import Mapping
from typing import Protocol

from mooltiproxy.errors import MooltiError
from mooltiproxy.upstream.session import Origin


class CannotStart(MooltiError):
    """There is nothing that could take requests; the message says why."""


class Driver(Protocol):
    """One run of one engine. `origin` is where its requests go, from `start` on. `ended` is done once the engine has
    ended by itself; its result says how, in words. `pid` is the process's, 0 where there is none of ours."""

    origin: Origin | None
    pid: int
    ended: asyncio.Future[str]

    async def is_loaded(self) -> bool | None:
        """Whether the engine runs already, before `start`; None where that cannot be told."""

    async def start(self) -> None:
        """Begin, within moments; raises CannotStart. Never cancelled: what has begun must not be lost."""

    async def ready(self) -> None:
        """Return once it takes requests; raises CannotStart. May be cancelled; `stop` follows."""

    async def stop(self, grace: float) -> None:
        """End it, by force after `grace` seconds; nothing of it is left when this returns. Never raises."""

    async def memory(self) -> Mapping[str, int]:
        """Bytes that it uses, by resource (`ram`, `gpu`, `gpu0`), as far as that can be told."""
