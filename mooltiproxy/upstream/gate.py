"""What stands before a target whose server the proxy starts itself: its requests wait until it is there."""

import math
import re
from collections.abc import Sequence
from typing import Any, Protocol

import orjson
from aiohttp import web

from mooltiproxy.exchange import Exchange
from mooltiproxy.mapping.answers import MEDIA_TYPES
from mooltiproxy.mapping.bodies import dumps
from mooltiproxy.mapping.dialect import Dialect, Endpoint, Reply
from mooltiproxy.mapping.framing import framer
from mooltiproxy.mapping.neutral import ModelInfo, ModelsAnswer, ModelsRequest
from mooltiproxy.mapping.translate import Translated
from mooltiproxy.upstream.session import Origin

_UNITS = {"ns": 1e-9, "us": 1e-6, "\u00b5s": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|\u00b5s|ms|s|m|h)", re.ASCII)
_DURATION = re.compile(rf"([+-]?)((?:{_PART.pattern})+|\d+(?:\.\d*)?)", re.ASCII)
LONGEST = 32
"""Characters of a duration that is read."""


class Pass(Protocol):
    """One request's way through a gate."""

    @property
    def origin(self) -> Origin | None:
        """Where to send the request, None while it has to wait."""

    async def wait(self) -> Origin:
        """Where to send the request, as soon as the server is ready; raises NotRunning."""

    def leave(self) -> None:
        """The request is over, whichever way. To be called once for each pass."""


class Gate(Protocol):
    """The gate of one target; `model` is the entry of `models:` that is asked for, if any."""

    def ready(self, model: str | None) -> Origin | None:
        """Where the server is to be found; None where it takes no requests now."""

    def unload(self, model: str | None) -> None:
        """Stop the server once its requests are answered; raises NotFound."""

    def ask(self, model: str | None, keep_alive: float | None) -> Pass:
        """A request comes; `keep_alive` are the idle seconds for which it wants the server to stay, None where it does
        not say. Raises NotRunning, and NotFound for a model that has no server."""


def keep_alive_in(body: bytes | None) -> float | None:
    """The `keep_alive` at the top of a client's JSON, in seconds: `math.inf` for ever, None where there is none.

    Ollama's words (docs/api.md, 2026): a number of seconds, or a duration of Go's (`10m`); negative is for ever.
    """
    if not body or b'"keep_alive"' not in body:
        return None
    value = _json(body)
    said = value.get("keep_alive") if isinstance(value, dict) else None
    if isinstance(said, str):
        said = _duration(said)
    if isinstance(said, bool) or not isinstance(said, int | float):
        return None
    return math.inf if said < 0 else float(said)


def listing(dialect: Dialect, exchange: Exchange) -> Endpoint | None:
    """The endpoint of a request that only asks what there is: none for which a server would be started."""
    path = exchange.path.removeprefix(dialect.alias(""))
    found = (one for one in dialect.endpoints if path in one.paths and one.kind in ("models", "running"))
    return next(found, None) if exchange.request.method == "GET" else None


def listed(endpoint: Endpoint, names: Sequence[str]) -> web.Response:
    """The answer to such a request while the server does not run: these models, none of which is loaded."""
    models = [] if endpoint.kind == "running" else [ModelInfo(name) for name in names]
    return _response(dumps(endpoint.write_answer(ModelsAnswer(models), ModelsRequest())), MEDIA_TYPES["json"])


def replied(reply: Reply) -> web.Response:
    """What the proxy itself answers."""
    return _response(reply.body, reply.media_type)


def _response(body: bytes, media_type: str) -> web.Response:
    return web.Response(body=body, content_type=media_type.partition(";")[0])


def held(exchange: Exchange, body: bytes | None) -> Translated | None:
    """How a stream that passes untouched is kept awake before it begins, and ended where it does not; None where the
    client asks for none, or its API has no sign of life."""
    endpoint = exchange.route.entry.passing if exchange.route else None
    if endpoint is None or endpoint.framing != "sse" or not endpoint.keepalive or endpoint.stream_writer is None:
        return None
    asked = _json(body or b"")
    if not isinstance(asked, dict) or asked.get("stream") is not True:
        return None
    return Translated(
        body or b"",
        answer=lambda media_type, fields: None,
        streaming=True,
        media_type=MEDIA_TYPES["sse"],
        keepalive=endpoint.keepalive,
        fail=_failed,
    )


def _failed(event: Any) -> bytes:
    framed = framer("sse")
    return framed.write([event]) + framed.end()


def _json(body: bytes) -> Any:
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
