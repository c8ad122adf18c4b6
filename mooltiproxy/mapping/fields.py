"""Strict reading of optional JSON fields: wrong types become a BadRequest that names the field, null counts as
absent."""

import math
from collections.abc import Iterator
from typing import Any, Self

from mooltiproxy.errors import BadRequest

MAX_TEXTS = 256
"""Strings of one field: each stop string costs time at every piece of an answer."""


class Fields:
    """One JSON object of a client's body, read field by field; `leftovers` are the fields that nobody asked for.

    `path` is where the object lies in the body (`messages[2]`), for the `param` of errors. Every method raises
    BadRequest for a value of the wrong type or outside its bounds, and gives None (or an empty tuple) for an absent
    one.
    """

    __slots__ = ("_body", "_read", "path")

    def __init__(self, body: Any, path: str = "") -> None:
        if not isinstance(body, dict):
            raise BadRequest(f"{path or 'the body'} must be a JSON object", param=path or None)
        self.path = path
        self._body = body
        self._read: set[str] = set()

    def where(self, name: str) -> str:
        """The field's full name from the top of the body."""
        return f"{self.path}.{name}" if self.path else name

    def wrong(self, name: str, expected: str) -> BadRequest:
        """The error to raise for a field that is not what was expected."""
        return BadRequest(f"{self.where(name)}: expected {expected}", param=self.where(name))

    def any(self, name: str) -> Any:
        """The value whatever its type."""
        value = self._body.get(name)
        if value is not None:
            self._read.add(name)
        return value

    def first(self, *names: str) -> str:
        """The first of these names that has a value (the last if none has): for fields with several spellings."""
        found = [name for name in names if self._body.get(name) is not None]
        if not found:
            return names[-1]
        self._read.update(found)
        return found[0]

    def text(self, name: str) -> str | None:
        """A string."""
        value = self._body.get(name)  # not by `any`: this is the hottest method of a long conversation
        if value is None:
            return None
        self._read.add(name)
        if isinstance(value, str):
            return value
        raise self.wrong(name, "a string")

    def required_text(self, name: str) -> str:
        """A string that must be there."""
        value = self.text(name)
        if value is None:
            raise self.wrong(name, "a string, it is missing")
        return value

    def flag(self, name: str) -> bool | None:
        """True or false."""
        value = self.any(name)
        if value is None or isinstance(value, bool):
            return value
        raise self.wrong(name, "true or false")

    def number(self, name: str, low: float | None = None, high: float | None = None) -> float | None:
        """A number within the bounds, both inclusive."""
        value = self.any(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.wrong(name, "a number")
        self._check_bounds(name, value, low, high)
        return value

    def integer(self, name: str, low: int | None = None, high: int | None = None) -> int | None:
        """An integer within the bounds, both inclusive; `256.0` is one, `true` is not."""
        value = self.number(name, low, high)
        if value is None:
            return None
        if value != int(value) or abs(value) >= 2**63:
            raise self.wrong(name, "an integer of at most 64 bits")
        return int(value)

    def _check_bounds(self, name: str, value: float, low: float | None, high: float | None) -> None:
        if low is not None and value < low:
            raise self.wrong(name, f"at least {low}, got {value}")
        if high is not None and value > high:
            raise self.wrong(name, f"at most {high}, got {value}")

    def texts(self, name: str) -> tuple[str, ...]:
        """A string or a list of strings; empty strings are left out."""
        value = self.any(name)
        values = [value] if isinstance(value, str) else value or []
        if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
            raise self.wrong(name, "a string or a list of strings")
        if len(values) > MAX_TEXTS:
            raise self.wrong(name, f"at most {MAX_TEXTS} strings")
        return tuple(one for one in values if one)

    def items(self, name: str) -> list[Any] | None:
        """A list."""
        value = self.any(name)
        if value is None or isinstance(value, list):
            return value
        raise self.wrong(name, "a list")

    def object(self, name: str) -> Self | None:
        """A JSON object, to be read in its turn."""
        value = self.any(name)
        if value is None:
            return None
        return type(self)(value, self.where(name))

    def required_object(self, name: str) -> Self:
        """A JSON object that must be there."""
        return type(self)(self.any(name), self.where(name))

    def inner(self, value: Any, name: str, position: int) -> Self:
        """An element of the list of this name, to be read in its turn."""
        return type(self)(value, f"{self.where(name)}[{position}]")

    def objects(self, name: str) -> Iterator[Self]:
        """The JSON objects of a list."""
        items = None if self._body.get(name) is None else self.items(name)
        if not items:
            return iter(())
        where = self.where(name)
        return (type(self)(item, f"{where}[{position}]") for position, item in enumerate(items))

    def plain(self, name: str) -> dict[str, Any] | None:
        """A JSON object as it is, for values that are handed on unread."""
        value = self.any(name)
        if value is None or isinstance(value, dict):
            return value
        raise self.wrong(name, "a JSON object")

    def leftovers(self) -> dict[str, Any]:
        """The fields with a value that nobody asked for, by their full names."""
        if len(self._read) == len(self._body):
            return {}
        return {
            self.where(name): value
            for name, value in self._body.items()
            if name not in self._read and value is not None and value != [] and value != {}
        }
