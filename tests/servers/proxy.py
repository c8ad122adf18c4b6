"""The proxy on a free port, in the test's own event loop."""

import asyncio
import dataclasses
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from mooltiproxy.config.load import from_data
from mooltiproxy.server import Server

KEY = "the-proxy-key"
BEARER = {"Authorization": f"Bearer {KEY}"}


@dataclass
class Proxy:
    """A running proxy and a client for it."""

    url: str
    server: Server
    client: aiohttp.ClientSession

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    async def raw(self, data: bytes, *, then_close: bool = False) -> bytes:
        """What the proxy answers to these bytes, until it closes or has been silent for a moment."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            if then_close:
                writer.write_eof()
            return await _all(reader)
        finally:
            writer.close()


async def _all(reader: asyncio.StreamReader) -> bytes:
    received = b""
    try:
        while part := await asyncio.wait_for(reader.read(65536), 0.15 if received else 2.0):
            received += part
    except (TimeoutError, ConnectionError):
        pass
    return received


@asynccontextmanager
async def proxy(data: dict[str, Any], folder: Path | None = None, **environ: str) -> AsyncIterator[Proxy]:
    """The proxy with this configuration; its client sends the right key unless told otherwise."""
    config = from_data(data, folder or Path(tempfile.gettempdir()), {"MOOLTIPROXY_KEY": KEY, **environ})
    server = Server(dataclasses.replace(config, system=dataclasses.replace(config.system, port=0)))
    await server.start()
    url = server.urls[0]
    async with aiohttp.ClientSession(base_url=url, headers=BEARER, auto_decompress=False) as client:
        try:
            yield Proxy(url, server, client)
        finally:
            await server.drain()


def head(line: str, *rows: str, key: str | None = KEY) -> bytes:
    """A request's head as raw bytes, with the right key unless told otherwise."""
    fields = ["host: x", *([f"authorization: Bearer {key}"] if key else []), *rows]
    return "\r\n".join([f"{line} HTTP/1.1", *fields]).encode("latin-1") + b"\r\n\r\n"


def passing(url: str, *paths: str, **target: Any) -> dict[str, Any]:
    """A configuration with one target that passes these paths through untouched."""
    mapping = dict.fromkeys(paths or ("/chat/completions",))
    return {"targets": {"default": "one", "one": {"url": url, "mapping": mapping, **target}}}
