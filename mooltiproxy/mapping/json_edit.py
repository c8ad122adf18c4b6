"""Reads and replaces the model that a JSON body names without touching any other byte of it.

A body that passes through must keep its numbers, its spaces and the order of its keys; parsing and writing it
again would not.
"""

import re
from collections.abc import Collection
from typing import Any

import orjson

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.bodies import loads_request

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\],:]', re.DOTALL)


FIELDS = ("model",)
"""What most APIs call the model."""


def model_of(body: bytes, fields: Collection[str] = FIELDS) -> str | None:
    """The first top-level field of these names in a JSON object, "" where it has none, None for what is no object;
    raises BadRequest for what cannot be read."""
    value: Any = loads_request(body)
    if not isinstance(value, dict):
        return None
    field, model = next(((name, value[name]) for name in fields if value.get(name) is not None), ("model", ""))
    if not isinstance(model, str):
        raise BadRequest(f"`{field}` must be a string", param=field)
    return model


def with_model(body: bytes, model: str, fields: Collection[str] = FIELDS) -> bytes:
    """The body, which `model_of` has read, with every top-level field of these names replaced (a parser takes the last
    of two)."""
    pieces: list[bytes] = []
    copied = 0
    for start, end in _top_level_values(body, fields):
        pieces += (body[copied:start], orjson.dumps(model))
        copied = end
    pieces.append(body[copied:])
    return b"".join(pieces)


def _top_level_values(body: bytes, keys: Collection[str]) -> list[tuple[int, int]]:
    """Where the string values of these top-level keys stand."""
    spans: list[tuple[int, int]] = []
    depth = 0
    previous: re.Match[bytes] | None = None
    expects_value = False
    for token in _TOKEN.finditer(body):
        text = token.group()
        if text in (b"{", b"["):
            depth += 1
        elif text in (b"}", b"]"):
            depth -= 1
        elif depth == 1 and text == b":":
            expects_value = previous is not None and orjson.loads(previous.group()) in keys
        elif depth == 1 and text.startswith(b'"') and expects_value:
            spans.append(token.span())
        if text != b":":
            expects_value = False
        previous = token if text.startswith(b'"') else None
    return spans
