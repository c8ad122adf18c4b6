"""What a model server has said: its last lines, those of its earlier runs included, and new ones as they come."""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Iterable
from datetime import datetime

LINES = 200
"""Lines of a server's output that are kept, unless the configuration says otherwise."""
LINE = 500
"""Characters of one of them."""
UNFINISHED = 8192
"""Bytes that are kept of a line whose end has not come."""
WAITING = 1000
"""Lines that wait for who follows; when there are more, the oldest are lost."""
SHORTEST_SECRET = 8
"""Characters of a line of a secret of several from which on it is masked."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Log:
    """The last lines of a server's output. Whatever it writes is taken at once, so that it never waits for us, and
    secrets are masked before it is kept."""

    def __init__(self, lines: int = LINES, secrets: Iterable[str] = ()) -> None:
        self._lines: deque[str] = deque(maxlen=lines)
        self._secrets = tuple(_parts(secrets))
        self._of_run = 0
        self._rest = b""
        self._followers: set[Follower] = set()
        self._closed = False

    def configure(self, lines: int, secrets: Iterable[str]) -> None:
        """From now on keep so many lines, and mask these, in what was kept before as well."""
        self._secrets = tuple(_parts(secrets))
        self._lines = deque((self._masked(line) for line in self._lines), maxlen=lines)

    def begin(self) -> None:
        """A new run of the server begins: what is said of its end is to be of this run."""
        if self._rest:
            self._keep(self._rest)
        self._rest = b""
        now = datetime.now().astimezone().isoformat(" ", "seconds")
        self._append(f"--- started at {now} ---")
        self._of_run = 0

    def add(self, data: bytes) -> None:
        """Take some output; of a long line the first part counts, and of one that is written over (a progress bar) what
        was written last."""
        *lines, rest = (self._rest + data).split(b"\n")
        wanted = max(self._lines.maxlen or 0, WAITING)
        for follower in self._followers:
            follower.lose(len(lines) - wanted)
        for line in lines[-wanted:]:
            self._keep(line)
        self._rest = rest if len(rest) <= UNFINISHED else _last_written(rest)[:UNFINISHED]

    def tail(self, lines: int) -> list[str]:
        """The last lines, at most so many, of the run that was begun last."""
        return self.history(min(lines, self._of_run + bool(self._rest)))

    def history(self, lines: int) -> list[str]:
        """The last lines, at most so many, of all runs."""
        found = [*self._lines, *([self._shown(self._rest)] if self._rest else [])]
        return found[-lines:] if lines else []

    def follow(self) -> "Follower":
        """The lines that come from now on; to be closed by who asks."""
        follower = Follower(self._followers)
        if self._closed:
            follower.end()
        return follower

    def close(self) -> None:
        """Nobody is to follow any longer."""
        self._closed = True
        for follower in list(self._followers):
            follower.end()

    def _keep(self, line: bytes) -> None:
        self._append(self._shown(line))
        self._of_run += 1

    def _append(self, line: str) -> None:
        self._lines.append(line)
        for follower in self._followers:
            follower.put(line)

    def _shown(self, line: bytes) -> str:
        text = self._masked(_COLOURS.sub("", _last_written(line).rstrip(b"\r").decode("utf-8", "replace")))
        cut = text if len(text) <= LINE else f"{text[: LINE - 1]}\u2026"
        if cut.isprintable():
            return cut
        return "".join(char if char.isprintable() or char == "\t" else "\ufffd" for char in cut)

    def _masked(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


class Follower(AsyncIterator[list[str]]):
    """The lines of a log as they come, each time all that wait. Who is too slow is told how many were lost."""

    def __init__(self, all_of_log: "set[Follower]") -> None:
        self._all = all_of_log
        self._lines: deque[str] = deque()
        self._lost = 0
        self._news = asyncio.Event()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        all_of_log.add(self)

    def put(self, line: str) -> None:
        """A line has come."""
        if len(self._lines) >= WAITING:
            self._lines.popleft()
            self._lost += 1
        self._lines.append(line)
        self._news.set()

    def lose(self, lines: int) -> None:
        """So many have come that nobody could see, if any."""
        self._lost += max(lines, 0)

    def end(self) -> None:
        """No more lines are to come; those that wait are still told."""
        self._all.discard(self)
        self._news.set()
        if not self.ended.done():
            self.ended.set_result(None)

    async def __anext__(self) -> list[str]:
        while not (self._lines or self.ended.done()):
            self._news.clear()
            await self._news.wait()
        if not self._lines:
            raise StopAsyncIteration
        lines = list(self._lines)
        if self._lost:
            lines.insert(0, f"--- {self._lost} lines were lost here: they came faster than they were read ---")
        self._lines.clear()
        self._lost = 0
        return lines


def _last_written(line: bytes) -> bytes:
    """What a terminal shows of a line in which the cursor goes back to its begin."""
    return line[line.rstrip(b"\r").rfind(b"\r") + 1 :]


def _parts(secrets: Iterable[str]) -> list[str]:
    """What to look for in a line, the longest first: one may hold another."""
    found: set[str] = set()
    for secret in secrets:
        lines = secret.splitlines()
        found.update(lines if len(lines) == 1 else (line for line in lines if len(line) >= SHORTEST_SECRET))
    return sorted(filter(None, found), key=len, reverse=True)
