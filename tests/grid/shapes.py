"""Shapes of JSON: what a strict server takes and nothing else.

A shape is a type, a literal, a function that says whether it takes a value, a list of one shape for the items, a tuple
of alternatives, or a dict of the fields, in which a name that ends in `?` may be absent. No other fields are allowed.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any

Test = Callable[[Any], bool]


class Refused(AssertionError):
    """A value that the real server, or the real client, would not take."""


def need(condition: bool, message: str) -> None:
    """Refuse unless the condition holds."""
    if not condition:
        raise Refused(message)


def check(value: Any, shape: Any, where: str = "body") -> None:
    """Raise Refused where a value is not of this shape."""
    if isinstance(shape, tuple):
        _check_any(value, shape, where)
    elif isinstance(shape, Mapping):
        _check_fields(value, shape, where)
    elif isinstance(shape, list):
        need(isinstance(value, list), f"{where}: a list is wanted, not {value!r}")
        for at, item in enumerate(value):
            check(item, shape[0], f"{where}[{at}]")
    else:
        need(_is(value, shape), f"{where}: {value!r} is not {getattr(shape, '__name__', repr(shape))}")


def _is(value: Any, shape: Any) -> bool:
    if shape is Any:
        return True
    if isinstance(shape, type):
        wanted = (int, float) if shape is float else shape
        return isinstance(value, wanted) and (shape is bool or not isinstance(value, bool))
    return bool(shape(value)) if callable(shape) else value == shape and type(value) is type(shape)


def _check_any(value: Any, shapes: tuple[Any, ...], where: str) -> None:
    refusals = []
    for shape in shapes:
        try:
            check(value, shape, where)
        except Refused as refused:
            refusals.append(str(refused))
        else:
            return
    raise Refused(" | ".join(refusals))


def _check_fields(value: Any, shape: Mapping[str, Any], where: str) -> None:
    need(isinstance(value, dict), f"{where}: an object is wanted, not {value!r}")
    known = {name.removesuffix("?"): below for name, below in shape.items()}
    for name in value:
        need(name in known, f"{where}: unknown field {name}")
        check(value[name], known[name], f"{where}.{name}")
    for name in shape:
        need(name.endswith("?") or name in value, f"{where}: {name} is missing")


def between(low: float, high: float, kind: type = float) -> Test:
    """A number within these bounds, both included."""

    def number(value: Any) -> bool:
        return _is(value, kind) and low <= value <= high

    return number


def at_least(low: int) -> Test:
    """An integer of at least this."""
    return between(low, 2**63 - 1, int)


def matching(pattern: str) -> Test:
    """A string that matches as a whole."""

    def text(value: Any) -> bool:
        return isinstance(value, str) and re.fullmatch(pattern, value) is not None

    return text


def filled(value: Any) -> bool:
    """A string, list or object that is not empty."""
    return bool(value)


def is_base64(value: Any) -> bool:
    """Standard base64, padded."""
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError):
        return False
    return True
