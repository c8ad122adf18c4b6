"""Reads and replaces the `model` of a JSON body without touching any other byte of it.

A body that passes through must keep its numbers, its spaces and the order of its keys; parsing and writing it
again would not.
"""

import re
from typing import Any

import orjson

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.bodies import loads_request

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\],:]', re.DOTALL)


def model_of(body: bytes) -> str | None:
    """The top-level `model` of a JSON object, None where there is none; raises BadRequest for what cannot be read."""
    value: Any = loads_request(body)
    model = value.get("model") if isinstance(value, dict) else None
    if model is not None and not isinstance(model, str):
        raise BadRequest("`model` must be a string", param="model")
    return model


def with_model(body: bytes, model: str) -> bytes:
    """The body, which `model_of` has read, with every top-level `model` replaced (a parser takes the last of two)."""
    pieces: list[bytes] = []
    copied = 0
    for start, end in _top_level_values(body, "model"):
        pieces += (body[copied:start], orjson.dumps(model))
        copied = end
    pieces.append(body[copied:])
    return b"".join(pieces)


def _top_level_values(body: bytes, key: str) -> list[tuple[int, int]]:
    """Where the string values of a top-level key stand."""
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
            expects_value = previous is not None and orjson.loads(previous.group()) == key
        elif depth == 1 and text.startswith(b'"') and expects_value:
            spans.append(token.span())
        if text != b":":
            expects_value = False
        previous = token if text.startswith(b'"') else None
    return spans
