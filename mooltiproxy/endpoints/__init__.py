"""The proxy's own endpoints, one file each."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from mooltiproxy.endpoints.health import live, ready
from mooltiproxy.endpoints.metrics import metrics
from mooltiproxy.metrics import Metrics

Endpoint = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

OPEN: dict[str, Endpoint] = {
    "/ping": live,
    "/-/live": live,
    "/-/ready": ready,
}
"""Those that need no key."""


def endpoints(counted: Metrics) -> dict[str, Endpoint]:
    """All of them, by path."""
    return {**OPEN, "/-/metrics": metrics(counted)}
