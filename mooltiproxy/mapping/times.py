"""Moments in JSON: RFC 3339 on one side, Unix seconds in the neutral form."""

from datetime import UTC, datetime
from typing import Any


def unix_seconds(text: Any) -> int | None:
    """The Unix seconds of an RFC 3339 time; None for what is none."""
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except (TypeError, ValueError):
        return None


def rfc3339(seconds: int | None) -> str:
    """A moment as APIs write it; where it is unknown they themselves say 1970."""
    return datetime.fromtimestamp(seconds or 0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
