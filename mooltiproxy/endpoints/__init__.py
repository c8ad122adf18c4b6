"""The proxy's own endpoints, one file each; those here need no key."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from mooltiproxy.endpoints.health import live, ready

ENDPOINTS: dict[str, Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]] = {
    "/ping": live,
    "/-/live": live,
    "/-/ready": ready,
}
