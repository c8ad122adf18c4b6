"""What targets tell about their limits, in the header fields that the clients of another API read (see
`mapping/limit_fields.py`)."""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import cast

from mooltiproxy.mapping.dialect import LimitStyle
from mooltiproxy.mapping.limit_fields import Of, What, field_name, moment_in, wait_of
from mooltiproxy.upstream.headers import Fields

_OPENAI = re.compile(rb"x-ratelimit-(?P<what>limit|remaining|reset)-(?P<of>requests|tokens)")
_ANTHROPIC = re.compile(rb"anthropic-ratelimit-(?P<of>requests|tokens)-(?P<what>limit|remaining|reset)")
_DURATION = re.compile(
    r"(?:(?P<hours>\d+)h)?(?:(?P<minutes>\d+)m(?!s))?(?:(?P<seconds>\d+\.?\d*)s)?(?:(?P<milliseconds>\d+\.?\d*)ms)?"
)
_UNITS = {"hours": 3600.0, "minutes": 60.0, "seconds": 1.0, "milliseconds": 0.001}


def limits_for(style: LimitStyle, fields: Fields) -> Fields:
    """The limits that a target's fields tell, as clients of this style read them; none that they have no word for."""
    return [written for name, value in fields for written in _limit(style, name.lower(), value)]


def _limit(style: LimitStyle, name: bytes, value: bytes) -> Iterator[tuple[bytes, bytes]]:
    own, others = (_ANTHROPIC, _OPENAI) if style == "anthropic" else (_OPENAI, _ANTHROPIC)
    if own.fullmatch(name):
        yield name, value
    foreign = others.fullmatch(name)
    if foreign is None:
        return
    what, of = cast(What, foreign["what"].decode()), cast(Of, foreign["of"].decode())
    if what == "reset":
        told = value.decode("latin-1").strip()
        seconds = _seconds_of(told) if style == "anthropic" else _seconds_until(told)
        if seconds is None:
            return
        value = (moment_in(seconds) if style == "anthropic" else wait_of(math.ceil(seconds))).encode()
    yield field_name(style, of, what), value


def _seconds_of(wait: str) -> float | None:
    """How long a wait like `1h2m3s` or `120ms` is; None for what is none."""
    found = _DURATION.fullmatch(wait)
    if found is None or not any(found.groups()):
        return None
    return sum(float(number) * _UNITS[unit] for unit, number in found.groupdict(default="0").items())


def _seconds_until(moment: str) -> float | None:
    """How long it is until a moment; None for what is none."""
    try:
        return (datetime.fromisoformat(moment) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return None


def retry_after(fields: Mapping[str, str]) -> int | None:
    """The seconds to wait that a target's fields tell, by lower-case name; None where they tell none, or a date."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1)):
        try:
            return math.ceil(float(fields.get(name, "")) * unit)
        except (ValueError, OverflowError):
            continue
    return None
