"""unload: POST /-/unload, GET or POST /unload, stops model servers that the proxy has started, once they are idle."""

from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

import orjson
from aiohttp import web

from mooltiproxy.config.model import Config
from mooltiproxy.engines.owner import Engines
from mooltiproxy.errors import MethodNotAllowed, NotFound
from mooltiproxy.exchange import EXCHANGE


def unload(config: Config, engines: Engines) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """An endpoint that stops the server of `?target=` or `?model=`, all where neither is named; `unloaded` in its
    answer names those that ran. It answers when they have ended."""

    async def endpoint(request: web.BaseRequest) -> web.StreamResponse:
        exchange = request[EXCHANGE]
        if request.method != "POST" and (request.method != "GET" or exchange.path.startswith("/-/")):
            raise MethodNotAllowed("unloading takes a POST")
        unloaded = await engines.unload(_named(config, exchange.query))
        return web.Response(body=orjson.dumps({"unloaded": unloaded}), content_type="application/json")

    return endpoint


def _named(config: Config, query: str) -> list[str] | None:
    """The targets that a query names, None where it names none; raises NotFound."""
    fields = parse_qs(query)
    targets = fields.get("target", [])
    for name in fields.get("model", []):
        if name not in config.models:
            raise NotFound("there is no such model: see `models:` in the proxy's configuration", param="model")
        targets.append(config.models[name].target)
    if any(name not in config.targets for name in targets):
        raise NotFound("there is no such target: see `targets:` in the proxy's configuration", param="target")
    return targets or None
