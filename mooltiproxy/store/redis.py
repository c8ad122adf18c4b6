"""The store at a Redis or Valkey server: for several machines. A batch is one call of one script (batch.lua), so that
nobody ever sees half of it; times are the server's, and what has expired is gone by itself."""

import asyncio
import math
from collections.abc import Awaitable
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import orjson
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from mooltiproxy.store.addresses import Record
from mooltiproxy.store.backend import Answer, Batch, Changes, Seen, StoreDown
from mooltiproxy.store.records import Usage, Used
from mooltiproxy.store.usage import MOST_ROWS, OTHER
from mooltiproxy.store.windows import Level, Verdict, Wants

PREFIX = "mooltiproxy:1:"
"""Before the names of all keys; the number is the version of what they hold."""
SCRIPT = (Path(__file__).parent / "batch.lua").read_text(encoding="utf-8")
RECORDS_AT_ONCE = 1000
MOST_ADDRESSES = 20_000
MEASURES = 4
"""What is counted of usage: the numbers behind `Used.model`."""
DEFAULT_PORT = 6379


class RedisBackend:
    """A server by its URL: `redis://`, `rediss://` (TLS) or `unix://`, with a password and the number of a database."""

    def __init__(self, url: str) -> None:
        """Raises ValueError for what is no such URL."""
        self.name = without_secrets(url)
        self._client: Redis = Redis.from_url(url, retry=Retry(NoBackoff(), 0), health_check_interval=0)
        self._sha = ""
        self._sender = uuid4().hex

    async def open(self) -> None:
        """Reach the server and leave it the script; raises StoreDown."""
        await self._asked(self._client.connection_pool.disconnect())
        self._sha = await self._asked(self._client.script_load(SCRIPT))

    async def exchange(self, batch: Batch) -> Answer:
        """Carry out a batch; raises StoreDown."""
        names: dict[str, int] = {}
        body = orjson.dumps({**_written(batch, names), "sender": self._sender})
        arguments: tuple[str | bytes, ...] = (*[f"{PREFIX}window:{name}" for name in names], PREFIX, uuid4().hex, body)
        try:
            said: bytes = await self._asked(self._client.evalsha(self._sha, len(names), *arguments))
        except _NoScript:  # the server was restarted, or told to forget
            said = await self._asked(self._client.eval(SCRIPT, len(names), *arguments))
        verdicts, changes = orjson.loads(said)
        return Answer([_verdict(*one) for one in zip(batch.takes, verdicts, strict=True)], _changes(changes))

    async def usage(self, first: date, last: date) -> list[Usage]:
        """What was used on these days; raises StoreDown."""
        days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
        pipeline = self._client.pipeline(transaction=False)
        for day in days:
            pipeline.hgetall(f"{PREFIX}usage:{day.isoformat()}")
        found = await self._asked(pipeline.execute())
        return [Usage(day, used) for day, fields in zip(days, found, strict=True) for used in _used(fields)]

    async def close(self) -> None:
        """Let go of the server."""
        with suppress(RedisError, OSError):
            await self._client.aclose()

    async def _asked(self, asking: Awaitable[Any] | Any) -> Any:
        """What the server says; raises StoreDown, with the library's words but without a password."""
        try:
            return await asking
        except NoScriptError:
            raise _NoScript from None
        except (RedisError, OSError, asyncio.IncompleteReadError) as error:
            raise StoreDown(self._reason(error)) from None

    def _reason(self, error: Exception) -> str:
        words = " ".join(str(error).split())[:200]
        secret = self._client.connection_pool.connection_kwargs.get("password")
        words = words.replace(secret, "***") if secret else words
        return words or type(error).__name__


class _NoScript(Exception):
    """The server does not have the script."""


def without_secrets(url: str) -> str:
    """A URL without user, password and query, to be shown."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return f"unix://{parts.path}"
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host or 'localhost'}:{parts.port or DEFAULT_PORT}{parts.path}"


def _written(batch: Batch, names: dict[str, int]) -> dict[str, Any]:
    """A batch as the script reads it; fills in the names of its windows, and the index of each."""

    def index(name: str) -> int:
        return names.setdefault(name, len(names) + 1)

    return {
        "takes": [
            [(index(window.name), window.limit, window.seconds, amount) for window, amount in wants]
            for wants in batch.takes
        ],
        "adds": [(index(window.name), window.seconds, amount) for window, amount in batch.adds],
        "used": [_row(one) for one in batch.used],
        "notes": [(one.address, one.what, one.amount, one.seconds) for one in batch.notes],
        "parcel": batch.parcel,
        "since": batch.since and tuple(batch.since),
        "most_rows": MOST_ROWS,
        "most_records": RECORDS_AT_ONCE,
        "most_addresses": MOST_ADDRESSES,
    }


def _row(usage: Usage) -> tuple[str, str, str, int, int, int, float]:
    """A row of usage, with the fields of its model and of the others of its key."""
    used = usage.used
    field, other = (orjson.dumps([_plain(used.key), _plain(model)]).decode() for model in (used.model, OTHER))
    return usage.day.isoformat(), field, other, used.requests, used.tokens_in, used.tokens_out, used.cost


def _plain(name: str) -> str:
    """The same as text: what a path says may be none."""
    return name.encode("utf-8", "replace").decode()


def _verdict(wants: Wants, told: list[float]) -> Verdict:
    refused, wait, *rest = told
    levels = [Level(*pair) for pair in zip(rest[::2], rest[1::2], strict=True)]
    window = wants[int(refused) - 1][0] if refused else None
    return Verdict(levels, window, math.inf if wait < 0 else wait)


def _changes(told: Any) -> Changes | None:
    if not told:
        return None
    epoch, number, records, has_more = told
    return Changes(Seen(epoch, int(number)), [Record(*one) for one in records or ()], has_more)


def _used(fields: dict[bytes, bytes]) -> list[Used]:
    """The rows of a day, whose numbers are in fields of their own."""
    rows: dict[tuple[str, str], list[float]] = {}
    for field, value in fields.items():
        key, model = orjson.loads(field[:-1])
        rows.setdefault((key, model), [0.0] * MEASURES)[int(field[-1:]) - 1] = float(value)
    return [
        Used(key, model, int(requests), int(tokens_in), int(tokens_out), cost)
        for (key, model), (requests, tokens_in, tokens_out, cost) in rows.items()
    ]
