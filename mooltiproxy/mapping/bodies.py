"""JSON bodies in and out, with the bounds that keep a hostile one from becoming a fault of ours."""

from collections.abc import Iterable
from typing import Any

import orjson

from mooltiproxy.errors import BadRequest, InternalError
from mooltiproxy.mapping.framing import encode_sse

MAX_DEPTH = 128
"""Levels of a body that is to be translated: what reads and writes it on both sides has bounds of its own."""


def dumps(body: Any) -> bytes:
    """A mapped body as JSON; raises InternalError where a function returned what JSON cannot say."""
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        raise InternalError("a mapper of the proxy returned what JSON cannot say") from error


def dumps_event(body: Any) -> bytes:
    """A mapped body as one server-sent event; raises InternalError as `dumps` does."""
    return encode_sse(dumps(body).decode())


def loads_request(data: bytes) -> Any:
    """A client's JSON body; raises BadRequest that says where it breaks off, or that it is nested too deeply."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise BadRequest(f"the body is not valid JSON: {error.msg} at {where}") from error
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise BadRequest(f"the body is nested deeper than {MAX_DEPTH} levels")
    return value


def _deeper_than(value: Any, depth: int) -> bool:
    """Whether a JSON value is nested deeper than this."""
    level = [value]
    for _ in range(depth):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _children(outer)]
        if not level:
            return False
    return True


def _children(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value
