"""`mooltiproxy bans` and `mooltiproxy usage`, asked of the running proxy, as lines of a table; and its reload, for the
commands that change its file."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from mooltiproxy.running import CannotAsk, Proxy, asked

BANS, USAGE, RELOAD = "/-/bans", "/-/usage", "/-/reload"
Row = Mapping[str, Any]


def bans(proxy: Proxy) -> list[Row]:
    """Who is banned; raises CannotAsk, as the others do."""
    return _bans(asked(proxy, "bans are", "GET", BANS))


def add_ban(proxy: Proxy, address: str, seconds: float) -> list[Row]:
    """Ban an address, 0 seconds: until the ban is lifted; who is banned then."""
    return _bans(asked(proxy, "bans are", "POST", BANS, {"address": address, "seconds": seconds}))


def lift_ban(proxy: Proxy, address: str) -> list[Row]:
    """Lift a ban; who is banned then."""
    return _bans(asked(proxy, "bans are", "DELETE", f"{BANS}?{urlencode({'address': address})}"))


def usage(proxy: Proxy, days: Mapping[str, str]) -> list[Row]:
    """What was used; `days` are `day`, or `from` and `to`."""
    rows: list[Row] = asked(proxy, "usage is", "GET", f"{USAGE}?{urlencode(days)}")["usage"]
    return rows


def reload(proxy: Proxy) -> Sequence[str]:
    """Have it read its configuration anew; what has changed there. Raises CannotAsk, also where it has refused it."""
    told = asked(proxy, "what a reload changes is", "POST", RELOAD, expected=(200, 400))
    if not told.get("reloaded"):
        raise CannotAsk(f"{proxy.url} has not reloaded: {'; '.join(told.get('problems', ()))}")
    changes: Sequence[str] = told["changes"]
    return changes


def _bans(told: Any) -> list[Row]:
    rows: list[Row] = told["bans"]
    return rows


def bans_table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Rows of words, the first of them the head."""
    return [
        ("address", "ends in", "times"),
        *((row["address"], _time(row["seconds"]), str(row["times"])) for row in rows),
    ]


def usage_table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """The same; the last row is the sum."""
    counts = ("requests", "tokens_in", "tokens_out")
    whole = {name: sum(row[name] for row in rows) for name in (*counts, "cost")}
    lines = [
        (row["day"], row["key"], row["model"], *(str(row[name]) for name in counts), f"{row['cost']:.4f}")
        for row in rows
    ]
    last = ("all", "", "", *(str(whole[name]) for name in counts), f"{whole['cost']:.4f}")
    return [("day", "key", "model", "requests", "tokens in", "tokens out", "cost"), *lines, last]


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
