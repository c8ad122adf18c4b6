"""health: /ping and /-/live say that the process answers, /-/ready that it takes requests."""

from aiohttp import web


async def live(request: web.BaseRequest) -> web.StreamResponse:
    """200 `pong` as long as the process answers at all."""
    return web.Response(text="pong")


async def ready(request: web.BaseRequest) -> web.StreamResponse:
    """200 `ready`. While the proxy drains, its listener is closed and nobody gets this far."""
    return web.Response(text="ready")
