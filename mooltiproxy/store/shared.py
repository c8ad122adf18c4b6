"""A store that several processes share, seen from one of them: requests of one turn of the event loop go together, and
where it is down, this process goes on alone.

One task asks the backend, one batch after the other: what comes while one is under way makes up the next. So nothing
waits for a timer, and the busier the proxy is, the cheaper is each request.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date

from mooltiproxy.errors import StoreUnavailable
from mooltiproxy.store.addresses import Note
from mooltiproxy.store.backend import Answer, Backend, Batch, Changes, Seen, StoreDown
from mooltiproxy.store.memory import MemoryStore, today
from mooltiproxy.store.protocol import Watcher
from mooltiproxy.store.records import Usage, Used
from mooltiproxy.store.usage import UsageTable
from mooltiproxy.store.windows import Verdict, Wants

log = logging.getLogger("mooltiproxy.store")

PATIENCE, GRACE = 0.2, 0.05
"""Seconds that a request waits for the store; the second part begins when the first has been seen to be over. Where it
was this process that was busy, the answer is there by then."""
SYNC = 1.0
"""Seconds between two looks at what others have learned, in which usage is written, too."""
OPENING = 2.0
"""Seconds that opening may take."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
"""Seconds between two attempts to open a store that is down."""
SAYING = 60.0
"""Seconds between two lines of the log about it."""
MOST_NOTES = 20_000
"""News of addresses that are kept for a store that is down."""
NOTES_AT_ONCE = 1_000


@dataclass(slots=True)
class _Pending:
    """A batch that is being made up, and who waits for it; None is said to who has waited too long."""

    batch: Batch = field(default_factory=Batch)
    waiting: "list[asyncio.Future[Verdict | None]]" = field(default_factory=list)
    patience: asyncio.TimerHandle | None = None

    def answer(self, verdicts: Sequence[Verdict]) -> None:
        """Tell those who still wait."""
        for future, verdict in zip(self.waiting, verdicts, strict=True):
            if not future.done():
                future.set_result(verdict)
        self.end()

    def end(self) -> None:
        """Whoever still waits has to do without."""
        if self.patience is not None:
            self.patience.cancel()
        for future in self.waiting:
            if not future.done():
                future.set_result(None)


class SharedStore:
    """The `Store` of a backend; to be made inside the running loop."""

    def __init__(self, backend: Backend, *, fails_open: bool) -> None:
        self.is_up = False
        self._backend = backend
        self._fails_open = fails_open
        self._alone = MemoryStore()
        self._loop = asyncio.get_running_loop()
        self._pending = _Pending()
        self._wanted = asyncio.Event()
        self._unsent = UsageTable()
        self._notes: deque[Note] = deque(maxlen=MOST_NOTES)
        self._parcels = 0
        self._unsure: Batch | None = None
        self._seen: Seen = Seen()
        self._is_sync_due = True
        self._next_sync = 0.0
        self._watcher: Watcher | None = None
        self._said = _Said()
        self._task: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()

    # What the rest of the proxy asks.

    def take_now(self, wants: Wants) -> Verdict | None:
        """None, but where the store is down and this process counts alone."""
        return None if self.is_up or not self._fails_open else self._alone.take_now(wants)

    async def take(self, wants: Wants) -> Verdict:
        """Ask with the next batch; raises StoreUnavailable."""
        verdict = await self._ask(wants) if self.is_up else None
        if verdict is not None:
            return verdict
        if not self._fails_open:
            raise StoreUnavailable("what limits are counted in does not answer: try again in a moment")
        return self._alone.take_now(wants)

    def add(self, amounts: Wants) -> None:
        """Count with the next batch; what happens while the store is down counts in this process alone."""
        if self.is_up:
            self._pending.batch.adds += amounts
            self._wanted.set()
        else:
            self._alone.add(amounts)

    def count(self, used: Used) -> None:
        """Add to today's usage, which the store learns within a second, or once it is back."""
        self._unsent.add(today(), used)

    async def usage(self, first: date, last: date, key: str | None = None) -> list[Usage]:
        """What was used on these days; raises StoreUnavailable."""
        if not self.is_up:
            raise StoreUnavailable("what usage is counted in does not answer: try again in a moment")
        try:
            async with asyncio.timeout(OPENING):
                rows = await self._backend.usage(first, last)
        except (StoreDown, TimeoutError):
            raise StoreUnavailable("usage could not be read: try again in a moment") from None
        whole = UsageTable(most_rows=1_000_000, most_days=len(rows) + 1)
        for day, used in (*rows, *self._unsent.between(first, last)):
            whole.add(day, used)
        return whole.between(first, last, key)

    def note(self, note: Note) -> None:
        """Tell the others of an address."""
        self._notes.append(note)
        self._wanted.set()

    def watch(self, watcher: Watcher) -> None:
        """Have somebody learn what others tell, from the first on."""
        self._watcher = watcher
        self._seen = Seen()

    async def start(self) -> None:
        """Open it and learn what is known, or begin without it: returns after two seconds at most."""
        self._task = asyncio.create_task(self._run())
        with suppress(TimeoutError):
            async with asyncio.timeout(OPENING):
                await self._tried.wait()

    async def close(self) -> None:
        """Write what is not written yet, if the store takes it at once, and let go of it."""
        if self._task is None:
            return
        task, self._task = self._task, None
        task.cancel()
        await asyncio.wait([task])
        if self.is_up:
            with suppress(StoreDown):
                if self._unsure is not None:
                    await self._exchange()
                self._is_sync_due = True
                await self._exchange()
        self.is_up = False
        self._pending.end()
        await self._backend.close()

    # How it is done.

    def _ask(self, wants: Wants) -> "asyncio.Future[Verdict | None]":
        pending = self._pending
        if pending.patience is None:
            pending.patience = self._loop.call_later(PATIENCE, self._last_moment, pending)
        future: asyncio.Future[Verdict | None] = self._loop.create_future()
        pending.batch.takes.append(wants)
        pending.waiting.append(future)
        self._wanted.set()
        return future

    def _last_moment(self, pending: _Pending) -> None:
        pending.patience = self._loop.call_later(GRACE, pending.end)

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                await self._open()
                pause = FIRST_PAUSE
                while True:
                    await self._wait()
                    await self._exchange()
            except StoreDown as error:
                self._is_down(str(error))
            except Exception as error:  # noqa: BLE001 - the log shows it, with its place
                self._is_down(type(error).__name__, error)
            self._tried.set()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _open(self) -> None:
        """Open the backend, and learn all that it knows of addresses before anybody asks it."""
        try:
            async with asyncio.timeout(OPENING):
                await self._backend.open()
        except TimeoutError:
            raise StoreDown(f"it could not be opened within {OPENING:g} s") from None
        while self._is_sync_due:
            await self._exchange()
        self.is_up = True
        self._said.back(self._backend.name)
        self._tried.set()

    async def _wait(self) -> None:
        """Return when there is something to do, after a second at the latest."""
        if not self._wanted.is_set():
            due = self._loop.call_later(SYNC, self._sync)
            await self._wanted.wait()
            due.cancel()
        self._wanted.clear()
        if self._loop.time() >= self._next_sync:
            self._is_sync_due = True

    def _sync(self) -> None:
        self._is_sync_due = True
        self._wanted.set()

    async def _exchange(self) -> None:
        """Have the backend carry out what is pending; raises StoreDown. What it may have missed is sent again then."""
        pending, self._pending = self._pending, _Pending()
        batch = pending.batch
        self._fill(batch)
        try:
            answer = await self._answered(batch)
        except BaseException:
            pending.end()
            self._unsure = batch if batch.parcel else None
            self._is_sync_due = True
            raise
        self._unsure = None
        pending.answer(answer.verdicts)
        self._learn(answer)

    async def _answered(self, batch: Batch) -> Answer:
        try:
            async with asyncio.timeout(None) as limit:
                patience = self._loop.call_later(PATIENCE, lambda: limit.reschedule(self._loop.time() + GRACE))
                try:
                    return await self._backend.exchange(batch)
                finally:
                    patience.cancel()
        except TimeoutError:
            raise StoreDown(f"it has not answered within {PATIENCE + GRACE:g} s") from None

    def _fill(self, batch: Batch) -> None:
        """Put in what is sent beside requests: news of addresses at once, usage once a second; first what may not
        have arrived, as it was."""
        is_due, self._is_sync_due = self._is_sync_due, False
        if is_due:
            self._next_sync = self._loop.time() + SYNC
        if self._unsure is not None:
            batch.used, batch.notes, batch.parcel = self._unsure.used, self._unsure.notes, self._unsure.parcel
        else:
            while self._notes and len(batch.notes) < NOTES_AT_ONCE:
                batch.notes.append(self._notes.popleft())
            batch.used = self._unsent.taken() if is_due else []
            if batch.notes or batch.used:
                self._parcels += 1
                batch.parcel = self._parcels
        if is_due or batch.notes:
            batch.since = self._seen

    def _learn(self, answer: Answer) -> None:
        if answer.changes is None:
            return
        changes: Changes = answer.changes
        if self._watcher is not None:
            if changes.seen.epoch != self._seen.epoch:  # a new store, or one that has lost everything
                self._notes.extend(self._watcher.all_bans())
            ahead = {note.address for note in self._notes}  # of these we know more than the store did
            self._watcher.learn([record for record in changes.records if record.address not in ahead])
        self._seen = changes.seen
        if changes.has_more or self._notes:
            self._sync()

    def _is_down(self, reason: str, unexpected: Exception | None = None) -> None:
        self.is_up = False
        self._said.down(self._backend.name, reason, unexpected, fails_open=self._fails_open)
        pending, self._pending = self._pending, _Pending()
        pending.end()
        self._alone.add(pending.batch.adds)


class _Said:
    """What the log has been told of the store: not more than a line a minute, and how it is in the end."""

    def __init__(self) -> None:
        self._up = True
        self._next = 0.0

    def down(self, name: str, reason: str, unexpected: Exception | None, *, fails_open: bool) -> None:
        """It is down; where that is a fault of ours, the log shows where."""
        if time.monotonic() < self._next:
            return
        meanwhile = "limits count in this process alone" if fails_open else "what has limits is refused"
        message = "the store %s is down: %s; until it is back %s"
        log.warning(message, name, reason, meanwhile, exc_info=unexpected)
        self._said(up=False)

    def back(self, name: str) -> None:
        """It is up."""
        if self._up:
            return
        log.warning("the store %s is back", name)
        self._said(up=True)

    def _said(self, *, up: bool) -> None:
        self._up = up
        self._next = time.monotonic() + SAYING
