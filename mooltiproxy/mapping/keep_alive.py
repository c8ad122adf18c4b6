"""How long a client wants an on-demand server to stay, in seconds."""

import math
import re
from typing import Any

import orjson

from mooltiproxy.errors import BadRequest

_UNITS = {"ns": 1e-9, "us": 1e-6, "\u00b5s": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|\u00b5s|ms|s|m|h)", re.ASCII)
_DURATION = re.compile(rf"([+-]?)((?:{_PART.pattern})+|\d+(?:\.\d*)?)", re.ASCII)
LONGEST = 32
"""Characters of a duration that is read."""
CENTURY = 100 * 365.25 * 86400
"""Seconds; longer is for ever, since dates end."""


def keep_alive_in(body: bytes | None) -> float | None:
    """The `keep_alive` in a client's JSON, in seconds: `math.inf` for ever, None where there is none.

    Ollama's words (docs/api.md, 2026): a number of seconds, or a duration of Go's (`10m`), at the top of the request or
    among its `options`; negative is for ever. A number as text counts as well. Raises BadRequest for anything else.
    """
    if not body or b'"keep_alive"' not in body:
        return None
    value = _read(body)
    if not isinstance(value, dict):
        return None
    options = value.get("options")
    said = value.get("keep_alive")
    if said is None and isinstance(options, dict):
        said = options.get("keep_alive")
    return None if said is None else _seconds(said)


def _seconds(said: Any) -> float:
    number = _duration(said) if isinstance(said, str) else said
    if isinstance(number, bool) or not isinstance(number, int | float):
        message = "keep_alive: expected a number of seconds or a duration such as 10m; 0 unloads, -1 keeps for ever"
        raise BadRequest(message, param="keep_alive")
    return float(number) if 0 <= number <= CENTURY else math.inf


def _read(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _duration(text: str) -> float | None:
    found = _DURATION.fullmatch(text) if len(text) <= LONGEST else None
    if found is None:
        return None
    parts = _PART.findall(found[2])
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts) if parts else float(found[2])
    return -seconds if found[1] == "-" else seconds
