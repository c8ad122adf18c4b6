"""cors: answers OPTIONS itself, and lets the origins of `system.cors` read the answers (fetch.spec.whatwg.org, 3.2)."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from mooltiproxy.exchange import EXCHANGE

METHODS = b"GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"
EXPOSED = b"x-request-id, x-mooltiproxy-dropped, retry-after"
PREFLIGHT_AGE = b"600"


def cors(origins: tuple[str, ...]) -> Callable[..., Awaitable[web.StreamResponse]]:
    """A middleware for the origins that may call from a browser; `*` is every origin."""
    everyone = "*" in origins
    allowed = frozenset(origins)

    async def middleware(
        request: web.BaseRequest, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        if origin is None:
            return web.Response(status=204) if request.method == "OPTIONS" else await handler(request)
        fields = request[EXCHANGE].headers
        if not everyone:
            fields.append((b"vary", b"origin"))
        if everyone or origin in allowed:
            fields.append((b"access-control-allow-origin", b"*" if everyone else origin.encode()))
            fields.append((b"access-control-expose-headers", EXPOSED))
            if request.method == "OPTIONS":
                asked = request.headers.get("Access-Control-Request-Headers", "*")
                fields.append((b"access-control-allow-methods", METHODS))
                fields.append((b"access-control-allow-headers", asked.encode("utf-8", "surrogateescape")))
                fields.append((b"access-control-max-age", PREFLIGHT_AGE))
        return web.Response(status=204) if request.method == "OPTIONS" else await handler(request)

    return middleware
