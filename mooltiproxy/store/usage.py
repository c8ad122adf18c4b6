"""Usage by day, key and model in memory: bounded, since clients may name any model."""

from datetime import date

from mooltiproxy.store.records import Usage, Used

MOST_ROWS = 2_000
"""Rows of one day, in every store; of what comes then only the key is kept, and in memory, of keys, too, once there are
twice as many."""
MOST_DAYS = 62
LONGEST_NAME = 200
"""Letters of a model's name that are kept."""
OTHER = "(other)"
MOST = 10**15
"""Where sums end, whatever targets claim: what every store can count."""


class UsageTable:
    """Sums of what was used."""

    def __init__(self, most_rows: int = MOST_ROWS, most_days: int = MOST_DAYS) -> None:
        self._most = most_rows
        self._most_days = most_days
        self._days: dict[date, dict[tuple[str, str], Used]] = {}

    def add(self, day: date, used: Used) -> None:
        """Add to the sums of a day; the oldest day is forgotten where there are too many."""
        rows = self._days.get(day)
        if rows is None:
            rows = self._days[day] = {}
            if len(self._days) > self._most_days:
                del self._days[min(self._days)]
        name = self._name(rows, used)
        known = rows.get(name)
        rows[name] = plus(known or Used(*name), used)

    def _name(self, rows: dict[tuple[str, str], Used], used: Used) -> tuple[str, str]:
        name = used.key, used.model[:LONGEST_NAME]
        if name in rows or len(rows) < self._most:
            return name
        name = used.key, OTHER
        return name if name in rows or len(rows) < 2 * self._most else (OTHER, OTHER)

    def between(self, first: date, last: date, key: str | None = None) -> list[Usage]:
        """The sums of these days, both included, of one key or of all, in order."""
        days = sorted(day for day in self._days if first <= day <= last)
        rows = [Usage(day, used) for day in days for _, used in sorted(self._days[day].items())]
        return rows if key is None else [row for row in rows if row.used.key == key]

    def taken(self) -> list[Usage]:
        """All of it, which is forgotten here."""
        rows = self.between(date.min, date.max)
        self._days.clear()
        return rows


def plus(one: Used, other: Used) -> Used:
    """The sum, under the first one's names."""
    return Used(
        one.key,
        one.model,
        min(one.requests + other.requests, MOST),
        min(one.tokens_in + other.tokens_in, MOST),
        min(one.tokens_out + other.tokens_out, MOST),
        one.cost + other.cost,
    )
