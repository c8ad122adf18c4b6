"""The store of one process: answers at once, ends with the process. Bounded, whatever clients call themselves."""

import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, date, datetime

from mooltiproxy.store.addresses import Note
from mooltiproxy.store.protocol import Watcher
from mooltiproxy.store.records import Usage, Used
from mooltiproxy.store.usage import UsageTable
from mooltiproxy.store.windows import Counter, Verdict, Wants, Window, verdict

MOST_COUNTERS = 50_000
LOOKED_AT = 8
"""Counters that are looked at, for one that may go, where there are too many."""
WORTH_KEEPING = 0.5
"""The part of a limit from which on a counter is kept rather than another."""


class MemoryStore:
    """Windows and usage in this process; `clock` gives seconds that never step."""

    is_up = None

    def __init__(self, clock: Callable[[], float] = time.monotonic, most: int = MOST_COUNTERS) -> None:
        self._clock = clock
        self._most = most
        self._counters: OrderedDict[str, tuple[Counter, Window]] = OrderedDict()
        self._usage = UsageTable()

    def take_now(self, wants: Wants) -> Verdict:
        """Take all or nothing; always answers."""
        now = self._clock()
        if len(wants) == 1:  # nearly always, and nearly always there is enough
            window, amount = wants[0]
            known = self._counters.get(window.name)
            if known is not None and (taken := known[0].taken(window, amount, now)) is not None:
                return taken
        return verdict(wants, [self._counter(window, now) for window, _ in wants], now)

    async def take(self, wants: Wants) -> Verdict:
        """The same, for who awaits."""
        return self.take_now(wants)

    def add(self, amounts: Wants) -> None:
        """Count without asking."""
        now = self._clock()
        for window, amount in amounts:
            counter = self._counter(window, now)
            counter.used(window.seconds, now)
            counter.add(amount)

    def count(self, used: Used) -> None:
        """Add to today's usage."""
        self._usage.add(today(), used)

    async def usage(self, first: date, last: date, key: str | None = None) -> list[Usage]:
        """What was used on these days."""
        return self._usage.between(first, last, key)

    def note(self, note: Note) -> None:
        """Nobody shares it."""

    def watch(self, watcher: Watcher) -> None:
        """Nobody will tell anything."""

    async def start(self) -> None:
        """It needs nothing."""

    async def close(self) -> None:
        """It is gone with the process."""

    def __len__(self) -> int:
        """How many counters are kept."""
        return len(self._counters)

    def _counter(self, window: Window, now: float) -> Counter:
        known = self._counters.get(window.name)
        if known is not None:
            return known[0]
        self._make_room(now)
        counter = Counter(now)
        self._counters[window.name] = counter, window
        return counter

    def _make_room(self, now: float) -> None:
        """Forget what has expired among the longest kept; where there are too many, the first of them that counts
        little. Those that are kept go to the end of the queue."""
        full = len(self._counters) >= self._most
        for left in range(LOOKED_AT if full else 2, 0, -1):
            if not self._counters:
                return
            name, kept = self._counters.popitem(last=False)
            counter, window = kept
            if now - counter.start >= 2 * window.seconds:
                continue
            if full and (left == 1 or counter.used(window.seconds, now) < WORTH_KEEPING * window.limit):
                return
            self._counters[name] = kept


def today() -> date:
    """The day that usage counts for: that of UTC."""
    return datetime.now(UTC).date()
