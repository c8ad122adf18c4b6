"""security_headers: headers that keep a browser from reading more into an answer than it is."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from mooltiproxy.exchange import EXCHANGE

FIELDS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)


def security_headers() -> Callable[..., Awaitable[web.StreamResponse]]:
    """A middleware that adds the same fields to every answer."""

    async def middleware(
        request: web.BaseRequest, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        request[EXCHANGE].headers.extend(FIELDS)
        return await handler(request)

    return middleware
