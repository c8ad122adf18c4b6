"""What targets tell about their limits, in the header fields that the clients of another API read.

OpenAI's way is `x-ratelimit-reset-tokens` with a time to wait (`6m0s`; platform.openai.com/docs/guides/rate-limits),
Anthropic's is `anthropic-ratelimit-tokens-reset` with a moment (RFC 3339; docs.anthropic.com/en/api/rate-limits). Other
servers and clients that know of limits at all know OpenAI's.
"""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from mooltiproxy.mapping.dialect import LimitStyle
from mooltiproxy.upstream.headers import Fields

_OPENAI = re.compile(rb"x-ratelimit-(?P<what>limit|remaining|reset)-(?P<of>requests|tokens)")
_ANTHROPIC = re.compile(rb"anthropic-ratelimit-(?P<of>requests|tokens)-(?P<what>limit|remaining|reset)")
_DURATION = re.compile(
    r"(?:(?P<hours>\d+)h)?(?:(?P<minutes>\d+)m(?!s))?(?:(?P<seconds>\d+\.?\d*)s)?(?:(?P<milliseconds>\d+\.?\d*)ms)?"
)


def limits_for(style: LimitStyle, fields: Fields) -> Fields:
    """The limits that a target's fields tell, as clients of this style read them; none that they have no word for."""
    return [written for name, value in fields for written in _limit(style, name.lower(), value)]


def _limit(style: LimitStyle, name: bytes, value: bytes) -> Iterator[tuple[bytes, bytes]]:
    own, others = (_OPENAI, _ANTHROPIC) if style == "openai" else (_ANTHROPIC, _OPENAI)
    if own.fullmatch(name):
        yield name, value
    foreign = others.fullmatch(name)
    if foreign is None:
        return
    what, of = foreign["what"], foreign["of"]
    if what == b"reset":
        moment = _wait(value.decode("latin-1")) if style == "openai" else _moment(value.decode("latin-1"))
        if moment is None:
            return
        value = moment.encode()
    yield (b"x-ratelimit-%b-%b" % (what, of) if style == "openai" else b"anthropic-ratelimit-%b-%b" % (of, what)), value


def _moment(wait: str) -> str | None:
    """When a wait like `1h2m3s` or `120ms` that begins now will be over; None for what is none."""
    found = _DURATION.fullmatch(wait.strip())
    if found is None or not any(found.groups()):
        return None
    lasts = timedelta(**{unit: float(number) for unit, number in found.groupdict(default="0").items()})
    return (datetime.now(UTC) + lasts).strftime("%Y-%m-%dT%H:%M:%SZ")


def _wait(moment: str) -> str | None:
    """How long it is until a moment, `6m0s`; None for what is none."""
    try:
        left = datetime.fromisoformat(moment.strip()) - datetime.now(UTC)
    except (ValueError, TypeError):
        return None
    minutes, seconds = divmod(max(math.ceil(left.total_seconds()), 0), 60)
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def retry_after(fields: Mapping[str, str]) -> int | None:
    """The seconds to wait that a target's fields tell, by lower-case name; None where they tell none, or a date."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1)):
        try:
            return math.ceil(float(fields.get(name, "")) * unit)
        except (ValueError, OverflowError):
            continue
    return None
