"""routing: chooses target and mapping entry by prefix, header or model; `mooltiproxy.routing` decides."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress

from aiohttp import web

from mooltiproxy.catalogue.answers import Catalogue, is_list
from mooltiproxy.errors import BadRequest, EndpointMissing, Forbidden
from mooltiproxy.exchange import EXCHANGE, Exchange
from mooltiproxy.mapping.dialect import Endpoint
from mooltiproxy.mapping.json_edit import model_of
from mooltiproxy.middlewares.rights import DENIED, check_endpoint, check_model, check_target, hides_json, is_plain_json
from mooltiproxy.routing import Router, asking, split_target

READING = ("GET", "HEAD")
NOT_TOLD = "this key is for some models only, and which one a path of the target's own asks for cannot be told"
FOR_ALL_KEYS = frozenset({"/-/usage"})
"""Paths of the proxy that tell each key of itself."""


def routing(
    router: Router,
    catalogue: Catalogue,
    endpoints: Mapping[str, Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]],
) -> Callable[..., Awaitable[web.StreamResponse]]:
    """A middleware that writes `exchange.route`, or answers what is the proxy's own: endpoints that no target maps, the
    replies that go before a target of another API, and what models there are where that is more than one target's."""
    own = {path: endpoint for path, endpoint in endpoints.items() if not router.maps(path)}

    async def middleware(
        request: web.BaseRequest, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        exchange = request[EXCHANGE]
        endpoint = own.get(exchange.path)
        if endpoint is not None:
            if exchange.key is not None and not exchange.key.is_admin and exchange.path not in FOR_ALL_KEYS:
                raise Forbidden("this path of the proxy is for its master key, and for keys with `admin`")
            return await endpoint(request)
        target = named_target(exchange)
        reply = router.reply(exchange.path, target) if request.method in READING else None
        if reply is not None:
            return web.Response(body=reply.body, content_type=reply.media_type)
        exchange.path = router.told_apart(exchange.path, request.headers)
        key = exchange.key
        limited = key if key is not None and key.models is not None else None
        asks = limited is not None or catalogue.is_needed and target is None
        about = router.about_models(exchange.path, request.method, target) if asks else None
        if about is not None and (catalogue.has(about) or limited is not None and is_list(about)):
            return await listed(catalogue, exchange, about, target)
        allowed = key.targets if key is not None else None
        wants_model = limited is not None or router.wants_model and target is None
        model = await asked_model(exchange, router) if wants_model else None
        route = exchange.route = router.route(exchange.path, target, model, allowed)
        check_target(key, route.target.name)
        check_endpoint(key, route.entry.endpoint, request.method)
        if limited is not None:
            if router.passes_through(exchange.path):
                raise Forbidden(NOT_TOLD, code=DENIED)
            await check_model(limited, exchange, route, model, router.model_fields(exchange.path))
        known = await catalogue.one(about, route, model) if about is not None and target is None and model else None
        if known is not None:
            return known
        if route.model is not None and route.is_renamed and route.path_model is None:
            exchange.replace_body(asking(await exchange.body(), route.model, router.model_fields(exchange.path)))
        told = len(exchange.headers)
        while True:
            try:
                return await handler(request)
            except EndpointMissing:
                elsewhere = exchange.translated.elsewhere if exchange.translated else None
                route = exchange.route = router.learn_missing(route, elsewhere)
                exchange.translated, exchange.dropped, exchange.error = None, (), ""
                del exchange.headers[told:]

    return middleware


async def listed(
    catalogue: Catalogue, exchange: Exchange, endpoint: Endpoint, target: str | None
) -> web.StreamResponse:
    """The list of models that a client asks for, of this target if it names one; raises Forbidden. A key that is for
    some models only sees no other in it."""
    key = exchange.key
    check_endpoint(key, endpoint, endpoint.method)
    allowed: Collection[str] | None = key.targets if key is not None else None
    if target is not None:
        check_target(key, target)
        allowed = (target,)
    may_name = key.may_name if key is not None and key.models is not None else None
    return await catalogue.listed(endpoint, exchange.query, allowed, may_name)


def named_target(exchange: Exchange) -> str | None:
    """The target that the path prefix or the header names, the prefix first; takes the prefix off the path."""
    name, exchange.path = split_target(exchange.path)
    if name is not None:
        return name
    named = exchange.request.headers.getall("target", ())
    if len(named) > 1:
        raise BadRequest("the target header is given more than once", param="target")
    return named[0].strip() if named else None


async def asked_model(exchange: Exchange, router: Router) -> str | None:
    """The model in the path, or the one that the body names, where it is JSON; "" for an object that names none."""
    in_path = router.model_in(exchange.path)
    if in_path is not None:
        return in_path
    if not exchange.request.can_read_body:
        return None
    fields = router.model_fields(exchange.path)
    if is_plain_json(exchange.request):
        return model_of(await exchange.body(), fields)
    if not hides_json(exchange.request):
        return None
    with suppress(BadRequest):  # no JSON after all
        return model_of(await exchange.body(), fields)
    return None
