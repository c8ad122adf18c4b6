"""What supervisor and worker say to each other: messages on a Unix socket, each a length and a JSON array.

`[what, number, ...]`: a message wants an answer where its number is not 0; `["=", number, result]` and
`["!", number, reason]` are answers.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine, Mapping
from itertools import count
from typing import Any, cast

import orjson

log = logging.getLogger("mooltiproxy.workers")

PROTOCOL = 1
"""Counts what is changed in the messages or their meaning: a worker that was started from newer files than its
supervisor must know."""
UNEXPECTED = "unexpected error while answering another process"
RESULT, FAILURE = "=", "!"
HEAD = 4
"""Bytes of the length, the most significant first."""
LARGEST = 64 * 1024 * 1024
"""Bytes of a message, and of those that wait to be read: room for every file of a configuration and every ban."""

Handler = Callable[..., Any]
"""Is called with what a message holds. Gives back the answer, or a coroutine of it, where one is wanted."""


class Refused(Exception):  # noqa: N818 - what the other side says, no fault
    """The other side cannot do what was asked; the message says why."""


class Gone(ConnectionError):
    """The other side has ended."""


class Link(asyncio.Protocol):
    """One end. Messages are handled in the order in which they were sent, each between two awaits; only what a
    coroutine answers comes later."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        """`handlers` by what a message is; to be made inside the running loop."""
        self._handlers = handlers
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._transport: asyncio.WriteTransport | None = None
        self._received = bytearray()
        self._may_write = asyncio.Event()
        self._may_write.set()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self, end: socket.socket) -> None:
        """Begin to talk."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=end)

    def tell(self, what: str, *words: Any) -> None:
        """Send a message that wants no answer; to nobody where the other side has ended."""
        self._send([what, 0, *words])

    async def ask(self, what: str, *words: Any) -> Any:
        """Send a message and return its answer; raises Refused and Gone."""
        if self.closed.done():
            raise Gone
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self._send([what, number, *words])
            return await answer
        finally:
            del self._asked[number]

    async def caught_up(self) -> None:
        """Returns when the other side reads as fast as we write."""
        await self._may_write.wait()

    def close(self) -> None:
        """Say no more."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is of no class of asyncio's

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        self._received += data
        begin = 0
        while len(self._received) >= begin + HEAD:
            size = int.from_bytes(self._received[begin : begin + HEAD])
            if size > LARGEST:
                log.error("a message of another process cannot be read")
                self.close()
                return
            end = begin + HEAD + size
            if len(self._received) < end:
                break
            message = orjson.loads(memoryview(self._received)[begin + HEAD : end])
            begin = end
            self._take(*message)
        del self._received[:begin]

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        self._may_write.set()
        self.closed.set_result(None)
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(Gone())
        for task in self._answering:
            task.cancel()

    def pause_writing(self) -> None:
        """Called by the event loop."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """Called by the event loop."""
        self._may_write.set()

    def _send(self, message: list[Any]) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size() > LARGEST:
            log.error("another process has stopped to read what it is told")
            self._transport.abort()
            return
        body = orjson.dumps(message)
        self._transport.write(len(body).to_bytes(HEAD) + body)

    def _take(self, what: str, number: int, *words: Any) -> None:
        if what in (RESULT, FAILURE):
            self._answered(what, number, words[0])
            return
        try:
            result = self._handlers[what](*words)
        except Exception as error:
            log.exception(UNEXPECTED)
            self._failed(number, error)
            return
        if isinstance(result, Coroutine):
            task = asyncio.ensure_future(self._answer(number, result))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        elif number:
            self._send([RESULT, number, result])

    async def _answer(self, number: int, result: Coroutine[Any, Any, Any]) -> None:
        try:
            self._send([RESULT, number, await result])
        except Refused as reason:
            self._send([FAILURE, number, str(reason)])
        except Exception as error:
            log.exception(UNEXPECTED)
            self._failed(number, error)

    def _failed(self, number: int, error: Exception) -> None:
        self._send([FAILURE, number, f"unexpected error: {type(error).__name__}"])

    def _answered(self, what: str, number: int, word: Any) -> None:
        answer = self._asked.get(number)
        if answer is not None and not answer.done():
            if what == RESULT:
                answer.set_result(word)
            else:
                answer.set_exception(Refused(word))
