"""Servers that load and unload models by an API, each as strict as the real one, with sockets and without models."""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from tests.servers.scripted import Peer, Received, Upstream, answer, upstream

HANGS, DROPS = b"hangs", b"drops"
"""Troubles instead of an answer: nothing comes, and the connection is lost."""
GARBAGE = answer(b"<html>garbage</html>", media_type="text/html")
FAILS = answer(b'{"error": "it is out of order"}', status="500 Internal Server Error")


class Refused(Exception):
    """An answer that is an error: its status line's end, and its body."""

    def __init__(self, status: str, body: Any) -> None:
        super().__init__(status)
        self.status, self.body = status, body


class StrictEngine:
    """What all of them do. `asked` are requests as `POST /path` with their bodies; `troubles` are what the next
    requests to a path get instead of an answer."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.troubles: defaultdict[str, deque[bytes]] = defaultdict(deque)
        self.may_load = asyncio.Event()
        self.may_load.set()
        self.loads = asyncio.Event()
        self._heard = asyncio.Event()

    def count(self, line: str) -> int:
        """How often this has been asked."""
        return [asked for asked, _ in self.asked].count(line)

    def body(self, line: str) -> Any:
        """The body of the last such request."""
        return next(body for asked, body in reversed(self.asked) if asked == line)

    async def heard(self, line: str, times: int) -> None:
        """Return once this has been asked that often."""
        while self.count(line) < times:
            self._heard.clear()
            await self._heard.wait()

    async def script(self, peer: Peer, received: Received) -> None:
        """For `scripted.upstream`."""
        method, path, _ = received.line.split()
        line = f"{method} {path}"
        self.asked.append((line, orjson.loads(received.body) if received.body else None))
        self._heard.set()
        if self.troubles[line]:
            await _trouble(peer, self.troubles[line].popleft())
            return
        try:
            await peer.send(await self.answer(line, received))
        except Refused as refused:
            is_text = isinstance(refused.body, str)
            data = refused.body.encode() if is_text else orjson.dumps(refused.body)
            await peer.send(
                answer(data, status=refused.status, media_type="text/plain" if is_text else "application/json")
            )

    async def answer(self, line: str, received: Received) -> bytes:
        """The whole answer; raises Refused."""
        raise NotImplementedError

    async def load_takes(self) -> None:
        """The time that a load takes."""
        self.loads.set()
        await self.may_load.wait()


@asynccontextmanager
async def running(engine: StrictEngine) -> AsyncIterator[Upstream]:
    """The server on a free port."""
    async with upstream(engine.script) as up:
        yield up
        engine.may_load.set()


def chat(model: str) -> bytes:
    """A whole chat completion of OpenAI's."""
    message = {"role": "assistant", "content": f"I am {model}"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
    return answer(
        orjson.dumps(
            {"id": "c1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage}
        )
    )


async def _trouble(peer: Peer, trouble: bytes) -> None:
    if trouble == HANGS:
        await peer.gone()
    elif trouble == DROPS:
        peer.abort()
    else:
        await peer.send(trouble)
