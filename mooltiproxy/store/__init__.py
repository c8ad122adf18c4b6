"""Where limits, usage and bans are counted: in this process, in a file, or at a server that several machines share.

`protocol.py` is all that the rest of the proxy knows of it.
"""

from pathlib import Path

from mooltiproxy.errors import ConfigError, Problem
from mooltiproxy.store.backend import Backend
from mooltiproxy.store.memory import MemoryStore
from mooltiproxy.store.protocol import Store
from mooltiproxy.store.records import Usage, Used
from mooltiproxy.store.shared import SharedStore
from mooltiproxy.store.windows import Level, Verdict, Wants, Window

__all__ = [
    "MEMORY",
    "SQLITE",
    "Level",
    "MemoryStore",
    "Store",
    "Usage",
    "Used",
    "Verdict",
    "Wants",
    "Window",
    "make_store",
]

MEMORY = "memory"
SQLITE = "sqlite:"
NO_REDIS = "a store at redis:// needs the package `redis`: pip install 'mooltiproxy[redis]'"


def make_store(where: str, *, fails_open: bool = True) -> Store:
    """The store that `system.store` names: `memory`, `sqlite:FILE`, or a URL of Redis; to be made inside the running
    loop. Raises ConfigError."""
    if where == MEMORY:
        return MemoryStore()
    return SharedStore(_backend(where), fails_open=fails_open)


def _backend(where: str) -> Backend:
    if where.startswith(SQLITE):
        from mooltiproxy.store.sqlite import SQLiteBackend

        return SQLiteBackend(Path(where.removeprefix(SQLITE)))
    try:
        from mooltiproxy.store.redis import RedisBackend
    except ImportError:
        raise ConfigError(Problem(NO_REDIS, ("system", "store"))) from None
    try:
        return RedisBackend(where)
    except ValueError:
        raise ConfigError(
            Problem("this is no URL of Redis: its query says what is not known", ("system", "store"))
        ) from None
