"""What is known of an address that has shown wrong keys, and how it changes. Pure; seconds of any one clock."""

import math
from enum import StrEnum
from typing import NamedTuple

FOR_GOOD = 1e18
"""Seconds of a ban without end, and of a score that nothing is forgotten of: a number, since JSON knows no infinity."""
KEPT = 86400.0
"""Seconds after a ban (or its own length, if that is more) in which another one will be longer."""


class What(StrEnum):
    """What there is to say of an address."""

    STRIKE = "strike"
    """Its score grows by `amount`, of which half is forgotten in `seconds`."""
    BAN = "ban"
    """It is banned for `seconds`, for the `amount`th time; its score begins anew."""
    FORGIVE = "forgive"
    """Its score is none again."""
    LIFT = "lift"
    """Nothing is held against it any more."""


class Note(NamedTuple):
    """News of an address, to be told to everybody who shares a store."""

    address: str
    what: What
    amount: float = 0.0
    seconds: float = 0.0


class Known(NamedTuple):
    """What is held against an address: a score that was right `at` this time, and a ban `until` then, which began
    `length` seconds before; `times` it has been banned."""

    score: float = 0.0
    at: float = 0.0
    until: float = 0.0
    length: float = 0.0
    times: int = 0

    def left(self, now: float) -> float:
        """Seconds of the ban that are left, 0 where there is none. Never more than its length: a clock that was set
        back makes no ban longer than it once was."""
        return min(max(0.0, self.until - now), self.length)

    def is_stale(self, now: float) -> bool:
        """Whether nothing of it matters any more."""
        return now > max(self.until + max(KEPT, self.length), self.at + KEPT)


class Record(NamedTuple):
    """What a store knows of an address, for those whose clock is another: its score of `age` seconds ago, and the
    seconds that are left of its ban."""

    address: str
    score: float
    age: float
    left: float
    length: float
    times: int


def changed(known: Known, note: Note, now: float) -> Known:
    """What is known with the note."""
    match note.what:
        case What.STRIKE:
            return known._replace(score=decayed(known, now, note.seconds) + note.amount, at=now)
        case What.BAN:
            if known.left(now) >= note.seconds:
                return known
            times = max(known.times, int(note.amount))
            return Known(0.0, now, now + note.seconds, note.seconds, times)
        case What.FORGIVE:
            return known._replace(score=0.0, at=now)
        case What.LIFT:
            return Known(at=now)


def decayed(known: Known, now: float, half_life: float) -> float:
    """The score of this moment."""
    return known.score * math.pow(0.5, max(0.0, now - known.at) / half_life) if known.score else 0.0
