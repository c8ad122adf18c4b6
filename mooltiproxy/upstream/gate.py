"""What stands before a target whose server the proxy starts itself, or that takes so many requests at a time: the
others wait."""

from collections.abc import Iterable, Sequence
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


class Pass(Protocol):
    """One request's way through a gate."""

    @property
    def origin(self) -> Origin | None:
        """Where to send the request, None while it has to wait."""

    async def wait(self) -> Origin:
        """Where to send the request, as soon as it may be; raises NotRunning, Crowded."""

    def leave(self) -> None:
        """The request is over, whichever way. To be called once for each pass."""


class Gate(Protocol):
    """The gate of one target; `model` is the entry of `models:` that is asked for, if any."""

    def ready(self, model: str | None) -> Origin | None:
        """Where the server is to be found; None where it takes no requests now."""

    def unload(self, model: str | None) -> None:
        """Stop the server once its requests are answered; raises NotFound."""

    def ask(self, model: str | None, keep_alive: float | None, who: str) -> Pass:
        """A request comes; `keep_alive` are the idle seconds for which it wants the server to stay, None where it does
        not say; `who` asks. Raises NotRunning, Crowded, and NotFound for a model that has no server."""


def listings(dialects: Iterable[Dialect]) -> dict[tuple[str, str], Endpoint]:
    """The endpoints, by method and path, of requests that only ask what there is: they are no use of a server."""
    found: dict[tuple[str, str], Endpoint] = {}
    for dialect in dialects:
        for endpoint in dialect.endpoints:
            for path in endpoint.paths if endpoint.kind in ("models", "running", "model") else ():
                found.setdefault((endpoint.method, path), endpoint)
                found[endpoint.method, dialect.alias(path)] = endpoint
    return found


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
