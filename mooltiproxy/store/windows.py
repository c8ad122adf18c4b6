"""Sliding windows: what a limit is, and how a counter of it moves. Pure; times are seconds of any one clock.

A counter has two fixed windows, the present one and the one before. What was counted in the one before weighs less the
further the present one has got, so that the sum slides. The first window begins with the first count, and as long as
there is none before it the count is exact.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

_DUST = 1e-9
"""What sums of fractions may miss, as a part of the limit."""


@dataclass(frozen=True, slots=True)
class Window:
    """A limit: at most `limit` of something within `seconds`. The same `name` is the same counter, everywhere."""

    name: str
    limit: float
    seconds: float


Wants = Sequence[tuple[Window, float]]
"""Windows, and how much is wanted of each: whole numbers or fractions, no name twice."""


class Level(NamedTuple):
    """How a window stands: what may still be taken, and after how many seconds nothing of it is used."""

    remaining: float
    reset: float


class Verdict(NamedTuple):
    """What became of `take`: the windows in the order in which they were asked for.

    `refused` is the first one that had too little, None where all was taken; after `retry_after` seconds, nothing else
    being taken, all of them would have enough. It is infinite for what is more than a limit, which will never fit.
    """

    levels: Sequence[Level]
    refused: Window | None = None
    retry_after: float = 0.0


class Counter:
    """The two windows of one name: when the present one began, what was counted in it, and in the one before."""

    __slots__ = ("before", "now", "start")

    def __init__(self, start: float, now: float = 0.0, before: float = 0.0) -> None:
        self.start = start
        self.now = now
        self.before = before

    def used(self, seconds: float, at: float) -> float:
        """What counts at this time; moves the windows there.

        A clock that was set back takes the windows with it: what was counted stays, and expires from there.
        """
        age = at - self.start
        if age >= seconds:
            if age < 2 * seconds and self.now:
                self.start += seconds
                self.before = self.now
            else:
                self.start = at
                self.before = 0.0
            self.now = 0.0
            age = at - self.start
        elif age < 0.0:
            self.start = at
            age = 0.0
        return self.now + self.before * (1.0 - age / seconds) if self.before else self.now

    def add(self, amount: float) -> None:
        """Count; what is given back comes off the present window first, then off the one before."""
        self.now += amount
        if self.now < 0.0:
            self.before = max(0.0, self.before + self.now)
            self.now = 0.0

    def level(self, window: Window, used: float, at: float) -> Level:
        """How the window stands at this time, to which `used` has moved it."""
        left = self.start + window.seconds - at
        reset = left + window.seconds if self.now else left if self.before else 0.0
        return Level(max(0.0, window.limit - used), reset)

    def taken(self, window: Window, amount: float, at: float) -> Verdict | None:
        """Take it at once where the windows need not be moved and there is enough; else None, and nothing is taken."""
        age = at - self.start
        if amount <= 0.0 or not 0.0 <= age < window.seconds:
            return None
        used = self.now + amount
        if self.before:
            used += self.before * (1.0 - age / window.seconds)
        if used > window.limit:
            return None
        self.now += amount
        return Verdict((Level(window.limit - used, 2.0 * window.seconds - age),))

    def wait(self, window: Window, amount: float, at: float) -> float:
        """Seconds until this much is there, at a time to which `used` has moved the windows."""
        room = window.limit - amount
        if room < 0.0:
            return math.inf
        left = self.start + window.seconds - at
        if self.now <= room:
            return max(0.0, left - window.seconds * (room - self.now) / self.before) if self.before else 0.0
        return left + window.seconds * (1.0 - room / self.now)


def fits(window: Window, used: float, amount: float) -> bool:
    """Whether so much may be taken beside what is used."""
    return used + amount <= window.limit + window.limit * _DUST


def verdict(wants: Wants, counters: Sequence[Counter], at: float) -> Verdict:
    """Take all or nothing of these windows, whose counters are in the same order."""
    refused: Window | None = None
    uses = []
    for (window, amount), counter in zip(wants, counters, strict=True):
        used = counter.used(window.seconds, at)
        uses.append(used)
        if refused is None and not fits(window, used, amount):
            refused = window
    levels = []
    wait = 0.0
    for (window, amount), counter, used in zip(wants, counters, uses, strict=True):
        if refused is None:
            counter.add(amount)
            used += amount
        elif not fits(window, used, amount):
            wait = max(wait, counter.wait(window, amount, at))
        levels.append(counter.level(window, used, at))
    return Verdict(levels, refused, wait)
