"""Whether every key of a foreign configuration is accounted for: its leaves, and the reasons that patterns give."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from mooltiproxy.config.shapes import Where

Pattern = tuple[str, ...]
"""A path of theirs, `*` for any one part."""


def leaves(data: Any, path: Where = ()) -> Iterator[Where]:
    """The paths of all that has nothing below it; a list counts as one value, unless there are keys in it."""
    if isinstance(data, dict) and data:
        for name, below in data.items():
            yield from leaves(below, (*path, name))
    elif isinstance(data, list) and any(isinstance(item, dict | list) for item in data):
        for position, item in enumerate(data):
            yield from leaves(item, (*path, position))
    elif path:
        yield path


def reason_for(path: Where, reasons: Mapping[Pattern, str]) -> tuple[Where, str] | None:
    """The part of a path that the longest pattern fits, and what that one says."""
    for length in range(len(path), 0, -1):
        for pattern, reason in reasons.items():
            if _fits(path[:length], pattern):
                return path[:length], reason
    return None


def _fits(path: Where, pattern: Pattern) -> bool:
    return len(path) == len(pattern) and all(
        wanted in ("*", str(part)) for part, wanted in zip(path, pattern, strict=True)
    )


def is_told(path: Where, exactly: Collection[Where], with_all: Collection[Where]) -> bool:
    """Whether something was said of a path itself, of an item of it, or of what it is in with all below that."""
    above = (path[:length] for length in range(1, len(path) + 1))
    return path in exactly or (*path, 0) in exactly or any(part in with_all for part in above)


def texts(data: Any) -> Iterator[str]:
    """All texts that are values."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict | list):
        for below in data.values() if isinstance(data, dict) else data:
            yield from texts(below)
