"""A proxy with limits before one scripted target, and short ways to ask it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

import aiohttp
import orjson

from mooltiproxy.keys import hash_of
from mooltiproxy.mapping.framing import encode_sse
from mooltiproxy.store import Used
from tests.servers.openai_chat import openai_chat
from tests.servers.proxy import KEY, Proxy, proxy
from tests.servers.scripted import STREAM_HEAD, Peer, Received, Script, Upstream, chunk, upstream

ALICE, BOB = "the-key-of-alice", "the-key-of-bob"
SAID = [{"role": "user", "content": "Tell me about the sea."}]


@dataclass
class Limited:
    """The proxy and its target."""

    proxy: Proxy
    target: Upstream

    async def chat(
        self, path: str = "/v1/chat/completions", key: str = ALICE, **more: Any
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, fields by lower-case name, and body of the answer to a chat."""
        body = {"model": "m1", "messages": SAID, "max_tokens": 10, **more}
        headers = {"Authorization": f"Bearer {key}"}
        async with self.proxy.client.post(path, json=body, headers=headers) as response:
            fields = {name.lower(): value for name, value in response.headers.items()}
            return response.status, fields, await response.read()

    async def used(self) -> list[Used]:
        """What is counted of today."""
        store = self.proxy.server._counts.store
        return [row.used for row in await store.usage(date.min, date.max)]


@asynccontextmanager
async def limited(
    limits: Mapping[str, Any] | None = None,
    script: Script = openai_chat,
    alice: Mapping[str, Any] | None = None,
    speaks: str = "openai",
    target: Mapping[str, Any] | None = None,
    **more: Any,
) -> AsyncIterator[Limited]:
    """A proxy with these limits; alice and bob have keys."""
    own = {"hash": hash_of(ALICE), **({"limits": alice} if alice else {})}
    async with upstream(script) as up:
        config = {
            "targets": {"default": "one", "one": {"url": up.url, "speaks": speaks, **(target or {})}},
            "keys": {"alice": own, "bob": {"hash": hash_of(BOB)}},
            **({"limits": limits} if limits else {}),
            **more,
        }
        async with proxy(config) as running:
            yield Limited(running, up)


@asynccontextmanager
async def at_once(one: Limited) -> AsyncIterator[None]:
    """The same with a client that has no limit of connections."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(one.proxy.url, connector=connector) as one.proxy.client:
        yield


def model(**said: Any) -> dict[str, Any]:
    """`models:` with m1 at the target."""
    return {"m1": {"target": "one", **said}}


def streaming(events: Sequence[Any], *, ends: bool = True) -> Script:
    """The script of a target that streams these events; it breaks off, unless it ends."""

    async def script(peer: Peer, received: Received) -> None:
        framed = b"".join(chunk(encode_sse(event)) for event in events)
        await peer.send(STREAM_HEAD + framed + (b"0\r\n\r\n" if ends else b""))
        if not ends:
            peer.abort()

    return script


def events_of(body: bytes) -> list[Any]:
    """The data of a stream's events."""
    lines = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: ")]
    return [line.decode() if line == b"[DONE]" else orjson.loads(line) for line in lines]


MASTER = KEY
