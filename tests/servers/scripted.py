"""An upstream of raw sockets that does exactly what a test's script says, well-behaved or not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Received:
    """One request as it arrived."""

    line: str
    fields: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for known, value in self.fields if known.lower() == name]

    def value(self, name: str) -> str | None:
        values = self.values(name)
        return values[0] if values else None


@dataclass
class Peer:
    """One connection to the upstream, as its script sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Returns when the proxy has closed this connection."""
        while await self.reader.read(65536):
            pass

    def abort(self) -> None:
        self.writer.transport.abort()

    async def request(self) -> Received | None:
        """The next request with its whole body; None when there is none."""
        try:
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        line, *rows = head.rstrip("\r\n").split("\r\n")
        fields = [(name, value.strip()) for name, _, value in (row.partition(":") for row in rows)]
        received = Received(line, fields, b"")
        if received.value("transfer-encoding") == "chunked":
            received.body = await self._chunks()
        else:
            received.body = await self.reader.readexactly(int(received.value("content-length") or 0))
        return received

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self.reader.readline(), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readline()
        await self.reader.readline()
        return body


Script = Callable[[Peer, Received], Awaitable[None]]


@dataclass
class Upstream:
    """What the upstream has seen."""

    url: str
    port: int
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    script_ended: asyncio.Event = field(default_factory=asyncio.Event)


def answer(body: bytes = b"{}", *fields: str, status: str = "200 OK", media_type: str = "application/json") -> bytes:
    """A whole answer."""
    rows = [f"HTTP/1.1 {status}", f"content-type: {media_type}", f"content-length: {len(body)}", *fields]
    return "\r\n".join(rows).encode("latin-1") + b"\r\n\r\n" + body


def answering(data: bytes) -> Script:
    """The script of an upstream that gives the same bytes to every request."""

    async def script(peer: Peer, received: Received) -> None:
        await peer.send(data)

    return script


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@asynccontextmanager
async def upstream(script: Script) -> AsyncIterator[Upstream]:
    """A running upstream; the script is called once for every request, on the same connection while it is open."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running.connections += 1
        peer = Peer(reader, writer)
        try:
            while (received := await peer.request()) is not None:
                running.requests.append(received)
                running.asked.set()
                await script(peer, received)
                running.script_ended.set()
                if writer.is_closing():
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            running.script_ended.set()
            writer.close()

    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    running = Upstream(f"http://127.0.0.1:{port}", port)
    try:
        yield running
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
