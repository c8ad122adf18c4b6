"""The proxy's own endpoints, one file each."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from mooltiproxy.bans import Bans
from mooltiproxy.config.model import Config
from mooltiproxy.endpoints.bans import bans
from mooltiproxy.endpoints.health import live, ready
from mooltiproxy.endpoints.logs import logs
from mooltiproxy.endpoints.metrics import metrics
from mooltiproxy.endpoints.reload import Reload, reload
from mooltiproxy.endpoints.status import status
from mooltiproxy.endpoints.unload import unload
from mooltiproxy.endpoints.usage import usage
from mooltiproxy.engines.access import Access
from mooltiproxy.metrics import Metrics
from mooltiproxy.store import Store

Endpoint = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

OPEN: dict[str, Endpoint] = {
    "/ping": live,
    "/-/live": live,
    "/-/ready": ready,
}
"""Those that need no key."""


def endpoints(
    config: Config, counted: Metrics, engines: Access, again: Reload, known: Bans, store: Store
) -> dict[str, Endpoint]:
    """All of them, by path."""
    shown, stopped = status(config, engines), unload(config, engines)
    return {
        **OPEN,
        "/-/bans": bans(config, known),
        "/-/logs": logs(config, engines),
        "/-/metrics": metrics(counted, engines, store),
        "/-/reload": reload(again),
        "/-/status": shown,
        "/status": shown,
        "/-/unload": stopped,
        "/-/usage": usage(store),
        "/unload": stopped,
    }
