"""The load: wrk for requests per second, a small raw client of ours for streams and for latency at a fixed rate."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import httptools
import orjson

from bench.gateways import CLIENT_KEY
from bench.processes import BenchError

SCRIPT = Path(__file__).with_name("chat.lua")
PATH = "/v1/chat/completions"
MESSAGES_PATH = "/v1/messages"
PATIENCE = 30.0
"""Seconds beyond its planned time that a load may take before it counts as hung."""


@dataclass(frozen=True, slots=True)
class Chat:
    """One chat request: its headers as lines, its body, the path it goes to."""

    headers: tuple[str, ...]
    body: bytes
    path: str = PATH

    def raw(self) -> bytes:
        """The request as bytes of HTTP/1.1."""
        head = [f"POST {self.path} HTTP/1.1", "host: bench", *self.headers, f"content-length: {len(self.body)}", "", ""]
        return "\r\n".join(head).encode() + self.body


def chat(*, stream: bool = False, target: str | None = None, size: int = 1000) -> Chat:
    """A chat request with a body of about `size` bytes; `target` goes into the header that the proxy routes by."""
    question = "Hello Bob. " * (size // 11 - 15)
    messages = [{"role": "system", "content": "You are Bob."}, {"role": "user", "content": question}]
    body = {"model": "bench", "messages": messages, "temperature": 0.7, "max_tokens": 256, "stream": stream}
    return Chat(_headers(target), orjson.dumps(body))


def chat_stream(*, target: str | None = None) -> Chat:
    """A chat request of about 1 kB for a stream."""
    return chat(stream=True, target=target)


def message_stream(*, target: str | None = None) -> Chat:
    """A request of Anthropic's API for a stream, of about 1 kB."""
    messages = [{"role": "user", "content": "Hello Bob. " * 75}]
    body = {"model": "bench", "system": "You are Bob.", "messages": messages, "max_tokens": 256, "stream": True}
    return Chat((*_headers(target), "anthropic-version: 2023-06-01"), orjson.dumps(body), MESSAGES_PATH)


def _headers(target: str | None) -> tuple[str, ...]:
    headers = (f"authorization: Bearer {CLIENT_KEY}", "content-type: application/json", "accept: */*")
    return (*headers, f"target: {target}") if target else headers


@dataclass(frozen=True, slots=True)
class Count:
    """What a load got done: whole answers or stream events, in how many seconds."""

    done: int
    seconds: float


def wrk(port: int, request: Chat, folder: Path, *, connections: int, seconds: float) -> Count:
    """Ask as fast as answers come; raises BenchError if a single request failed."""
    body = folder / "body.json"
    body.write_bytes(request.body)
    url = f"http://127.0.0.1:{port}{request.path}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "-s", str(SCRIPT), url]
    command += ["--", str(body), *request.headers]
    ended = subprocess.run(command, capture_output=True, timeout=seconds + PATIENCE, check=False)
    if ended.returncode:
        raise BenchError(f"wrk failed: {ended.stderr.decode(errors='replace')[-500:]}")
    seen = orjson.loads(ended.stdout.splitlines()[-1])
    if seen["errors"] or not seen["requests"]:
        raise BenchError(f"{seen['errors']} of {seen['requests']} requests failed")
    return Count(seen["requests"], seen["seconds"])


class Client(asyncio.Protocol):
    """One kept connection that asks one thing at a time; counts the events of streamed answers."""

    def __init__(self) -> None:
        self._answered: asyncio.Future[None] | None = None
        self._began: asyncio.Future[None] | None = None
        self._tail = b""
        self.events = self.all_events = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpResponseParser(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the loop."""
        open_ones = (future for future in (self._began, self._answered) if future and not future.done())
        waiting = next(open_ones, None)
        if waiting:
            waiting.set_exception(BenchError("the connection was lost before the answer was whole"))

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Called by the parser: an event's mark may be cut in two."""
        body = self._tail + body
        seen = body.count(b"data:")
        self.events += seen
        self.all_events += seen
        self._tail = body[-4:]
        if self._began and not self._began.done():
            self._began.set_result(None)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        for waiting in (self._began, self._answered):
            if waiting and not waiting.done():
                waiting.set_result(None)

    async def ask(self, request: bytes) -> float:
        """The seconds from the request to the end of its answer; `events` is then the number of its events."""
        started = time.perf_counter()
        await self.begin(request)
        assert self._answered
        await self._answered
        if self._parser.get_status_code() != 200:
            raise BenchError(f"answered with {self._parser.get_status_code()}")
        return time.perf_counter() - started

    async def begin(self, request: bytes) -> None:
        """Ask, and wait for the first part of the answer's body only."""
        loop = asyncio.get_running_loop()
        self.events, self._tail = 0, b""
        self._began, self._answered = loop.create_future(), loop.create_future()
        self._transport.write(request)
        await self._began

    def close(self) -> None:
        """Leave, whatever is under way."""
        self._began = self._answered = None
        self._transport.abort()


async def connect(port: int) -> Client:
    """One open connection."""
    _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", port)
    return client


@asynccontextmanager
async def connected(ports: Iterable[int]) -> AsyncIterator[list[Client]]:
    """A connection to each port; those, and what is added to the list, are closed on leaving."""
    clients: list[Client] = []
    try:
        for port in ports:
            clients.append(await connect(port))
        yield clients
    finally:
        for client in clients:
            client.close()


async def streams(port: int, request: Chat, *, connections: int, events: int, seconds: float) -> Count:
    """The events read in this time from streams of `events` tokens, one after the other on each connection."""
    raw = request.raw()

    async def reader(client: Client) -> None:
        while True:
            await client.ask(raw)
            if client.events < events:
                raise BenchError(f"a stream of {events} tokens came with {client.events} events")

    async with connected([port] * connections) as clients:
        started = time.perf_counter()
        reading = [asyncio.create_task(reader(client)) for client in clients]
        ended, _ = await asyncio.wait(reading, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        count = Count(sum(client.all_events for client in clients), time.perf_counter() - started)
        for task in reading:
            task.cancel()
        for task in ended:
            task.result()
        return count


async def at_fixed_rate(ports: Sequence[int], request: Chat, *, rate: float, seconds: float) -> list[list[float]]:
    """The seconds that each answer took, asked `rate` times a second at each port, in turns."""
    loop, raw, step = asyncio.get_running_loop(), request.raw(), 1 / (rate * len(ports))
    took: list[list[float]] = [[] for _ in ports]

    async def ask(turn: int) -> None:
        if idle[turn]:
            client = idle[turn].pop()
        else:
            clients.append(client := await connect(ports[turn]))
        took[turn].append(await client.ask(raw))
        idle[turn].append(client)

    async with asyncio.timeout(seconds + PATIENCE), connected(ports) as clients, asyncio.TaskGroup() as asking:
        idle = [[client] for client in clients]
        started = loop.time()
        for number in range(round(seconds / step)):
            await asyncio.sleep(started + number * step - loop.time())
            asking.create_task(ask(number % len(ports)))
    return took
