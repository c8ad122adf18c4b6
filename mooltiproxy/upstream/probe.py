"""Asks a live server which dialect it speaks, for `serve --target URL` without a configuration file."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson

from mooltiproxy.config.model import Timeouts
from mooltiproxy.errors import UpstreamBroken, UpstreamError
from mooltiproxy.upstream.connection import Headers
from mooltiproxy.upstream.session import Origin, PooledSession

TIMEOUTS = Timeouts(connect=5.0, first_byte=5.0, idle=5.0, total=10.0)
MAX_BODY = 4 * 1024 * 1024


@dataclass(slots=True)
class Whole:
    """A receiver that gathers one answer."""

    done: "asyncio.Future[None]"
    status: int = 0
    data: bytearray = field(default_factory=bytearray)

    def head(self, status: int, headers: Headers) -> None:
        """Keep the status."""
        self.status = status

    def body(self, data: bytes) -> None:
        """Keep the bytes, up to a limit."""
        if len(self.data) < MAX_BODY:
            self.data += data

    def end(self) -> None:
        """The answer is complete."""
        if not self.done.done():
            self.done.set_result(None)

    def failed(self, error: UpstreamError) -> None:
        """The answer is not to be had."""
        if not self.done.done():
            self.done.set_exception(error)

    def flush(self) -> None:
        """Nothing is written anywhere."""

    def json(self) -> Any:
        """The body as JSON, None where it is none."""
        try:
            return orjson.loads(self.data)
        except orjson.JSONDecodeError:
            return None


async def probe(url: str) -> str:
    """The name of the dialect that the server at `url` speaks: `tgi` or `openai`.

    Raises UpstreamUnreachable where nothing listens, UpstreamBroken where the server speaks neither.
    """
    session = PooledSession()
    try:
        origin = Origin.of(url)
        info = await _get(session, origin, f"{origin.base}/info")
        if isinstance(info.json(), dict) and "model_id" in info.json():
            return "tgi"
        base = origin.base if origin.base.endswith("/v1") else f"{origin.base}/v1"
        models = await _get(session, origin, f"{base}/models")
        listed = models.json()
        if models.status in (401, 403) or isinstance(listed, dict) and isinstance(listed.get("data"), list):
            return "openai"
    finally:
        await session.close()
    raise UpstreamBroken(
        "the server answers neither as TGI (/info) nor as an OpenAI API (/v1/models): use a config.yaml"
    )


async def _get(session: PooledSession, origin: Origin, path: str) -> Whole:
    connection = await session.acquire(origin, TIMEOUTS.connect)
    whole = Whole(asyncio.get_running_loop().create_future())
    head = f"GET {path} HTTP/1.1\r\nhost: {origin.authority}\r\naccept: application/json\r\n\r\n"
    connection.send(head.encode(), whole, TIMEOUTS)
    await whole.done
    return whole
