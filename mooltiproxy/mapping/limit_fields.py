"""How limits are told in header fields: the one place that writes them, whether they are the proxy's own or a target's.

OpenAI's way is `x-ratelimit-reset-tokens` with a time to wait (`6m0s`; platform.openai.com/docs/guides/rate-limits),
Anthropic's is `anthropic-ratelimit-tokens-reset` with a moment (RFC 3339; docs.anthropic.com/en/api/rate-limits).
Clients of other APIs get OpenAI's, and the one field `RateLimit` of draft-ietf-httpapi-ratelimit-headers-10.
"""

import math
import time
from collections.abc import Collection
from functools import lru_cache
from typing import Literal

from mooltiproxy.mapping.dialect import LimitStyle

Fields = list[tuple[bytes, bytes]]
What = Literal["limit", "remaining", "reset"]
Of = Literal["requests", "tokens"]

LIMITED: tuple[Of, ...] = ("requests", "tokens")
"""What APIs have fields for."""
WHATS: tuple[What, ...] = ("limit", "remaining", "reset")
_NAMES = {
    **{("openai", of): [f"x-ratelimit-{what}-{of}".encode() for what in WHATS] for of in LIMITED},
    **{("anthropic", of): [f"anthropic-ratelimit-{of}-{what}".encode() for what in WHATS] for of in LIMITED},
}


def limit_fields(style: LimitStyle, of: Of, limit: int, remaining: int, reset: float) -> Fields:
    """A limit, what is left of it, and in how many seconds all of it will be there again."""
    first, remaining_name, reset_name = _prepared(style, of, limit)
    if style == "anthropic":
        return [first, (remaining_name, b"%d" % remaining), (reset_name, moment_in(reset).encode())]
    told = wait_of(reset).encode() if reset < 1.0 else _wait_of_whole(math.ceil(reset))
    fields = [first, (remaining_name, b"%d" % remaining), (reset_name, told)]
    if style == "general":
        fields.append((b"ratelimit", b'"%b";r=%d;t=%d' % (of.encode(), remaining, math.ceil(reset))))
    return fields


@lru_cache(maxsize=256)
def _prepared(style: LimitStyle, of: Of, limit: int) -> tuple[tuple[bytes, bytes], bytes, bytes]:
    """The field of the limit itself, and the names of the other two."""
    limit_name, remaining_name, reset_name = _NAMES["anthropic" if style == "anthropic" else "openai", of]
    return (limit_name, b"%d" % limit), remaining_name, reset_name


@lru_cache(maxsize=4096)
def _wait_of_whole(seconds: int) -> bytes:
    return wait_of(seconds).encode()


def field_name(style: LimitStyle, of: Of, what: What) -> bytes:
    """The name of one field."""
    return _NAMES["anthropic" if style == "anthropic" else "openai", of][WHATS.index(what)]


def names_of(kinds: Collection[Of]) -> frozenset[bytes]:
    """All names of fields, in every style, that tell of these."""
    return frozenset(name for (_, of), names in _NAMES.items() if of in kinds for name in names) | {b"ratelimit"}


def wait_of(seconds: float) -> str:
    """A time to wait as OpenAI writes it: `120ms`, `20s`, `6m0s`, `1h0m0s`."""
    if 0.0 < seconds < 1.0:
        return f"{math.ceil(seconds * 1000)}ms"
    whole = max(math.ceil(seconds), 0)
    if whole < 60:
        return f"{whole}s"
    minutes, left = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{left}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{left}s"


def moment_in(seconds: float) -> str:
    """The moment in so many seconds, as RFC 3339 writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
