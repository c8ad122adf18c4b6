"""Reads and sets top-level fields of a JSON body without touching any other byte of it.

A body that passes through must keep its numbers, its spaces and the order of its keys; parsing and writing it
again would not.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

import orjson

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.bodies import loads_request

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\],:]', re.DOTALL)
_SPACE = b" \t\r\n"

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


def keys_of(body: bytes) -> list[str]:
    """The top-level keys of an object, which `model_of` has read, each as often as it is there."""
    return [key for key, _ in _members(body)]


def with_model(body: bytes, model: str, fields: Collection[str] = FIELDS) -> bytes:
    """The body, which `model_of` has read, with every top-level field of these names replaced."""
    return with_fields(body, dict.fromkeys(fields, model), adds=False)


def with_fields(body: bytes, fields: Mapping[str, Any], *, adds: bool = True) -> bytes:
    """The body, a JSON object that has been read, with these top-level fields set; None takes a field away.

    A field that is there twice is set in both places: a parser takes the last of two. Without `adds` those that are
    not there stay away.
    """
    members = _members(body)
    kept = [(key, written) for key, written in members if key not in fields or fields[key] is not None]
    pieces = [_replaced(written, fields[key]) if key in fields else written for key, written in kept]
    there = {key for key, _ in members}
    added = [(key, value) for key, value in fields.items() if adds and key not in there and value is not None]
    pieces += [orjson.dumps(key) + b":" + orjson.dumps(value) for key, value in added]
    start, end = body.index(b"{") + 1, body.rindex(b"}")
    return body[:start] + b",".join(pieces) + body[end:]


def _replaced(member: bytes, value: Any) -> bytes:
    """A member `"key": value` with another value, and the spaces around it kept."""
    token = _TOKEN.search(member)
    assert token is not None  # the key
    start = member.index(b":", token.end()) + 1
    old = member[start:]
    left = len(old) - len(old.lstrip(_SPACE))
    right = len(old.rstrip(_SPACE))
    return member[: start + left] + orjson.dumps(value) + old[right:]


def _members(body: bytes) -> list[tuple[str, bytes]]:
    """The top-level members of an object, each with its key and as it stands between the commas."""
    members: list[tuple[str, bytes]] = []
    depth, start = 0, 0
    key: str | None = None
    for token in _TOKEN.finditer(body):
        text = token.group()
        if depth == 1 and text in (b",", b"}"):
            if key is not None:
                members.append((key, body[start : token.start()]))
            start, key = token.end(), None
        elif depth == 1 and key is None and text.startswith(b'"'):
            key = orjson.loads(text)
        if text in (b"{", b"["):
            depth += 1
            start = token.end() if depth == 1 else start
        elif text in (b"}", b"]"):
            depth -= 1
    return members
