"""unload: POST /-/unload, GET or POST /unload, stops model servers that the proxy has started, once they are idle."""

from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

import orjson
from aiohttp import web

from mooltiproxy.config.model import Config
from mooltiproxy.engines.access import Access
from mooltiproxy.errors import MethodNotAllowed, NotFound
from mooltiproxy.exchange import EXCHANGE


def unload(config: Config, engines: Access) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """An endpoint that stops the servers of `?target=` or `?model=`, all where neither is named; `unloaded` in its
    answer names those that ran. It answers when they have ended."""

    async def endpoint(request: web.BaseRequest) -> web.StreamResponse:
        exchange = request[EXCHANGE]
        if request.method != "POST" and (request.method != "GET" or exchange.path.startswith("/-/")):
            raise MethodNotAllowed("unloading takes a POST")
        unloaded = await engines.unload(await _named(config, engines, exchange.query))
        return web.Response(body=orjson.dumps({"unloaded": unloaded}), content_type="application/json")

    return endpoint


async def _named(config: Config, engines: Access, query: str) -> list[str] | None:
    """The servers of the targets and models that a query names, None where it names none; raises NotFound."""
    fields = parse_qs(query)
    targets, models = set(fields.get("target", ())), set(fields.get("model", ()))
    if models - config.models.keys():
        raise NotFound("there is no such model: see `models:` in the proxy's configuration", param="model")
    if targets - config.targets.keys():
        raise NotFound("there is no such target: see `targets:` in the proxy's configuration", param="target")
    if not (targets or models):
        return None
    return [one.name for one in await engines.states() if one.target in targets or not models.isdisjoint(one.models)]
