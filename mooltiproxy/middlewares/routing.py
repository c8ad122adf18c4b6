"""routing: chooses target and mapping entry by prefix, header or model; `mooltiproxy.routing` decides."""

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from mooltiproxy.catalogue.answers import Catalogue
from mooltiproxy.config.model import Key
from mooltiproxy.errors import BadRequest, EndpointMissing, Forbidden
from mooltiproxy.exchange import EXCHANGE, Exchange
from mooltiproxy.mapping.json_edit import model_of
from mooltiproxy.routing import Route, Router, asking, split_target

PLAIN = ("", "identity")
READING = ("GET", "HEAD")


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
            if exchange.key is not None and not exchange.key.is_admin:
                raise Forbidden("this path of the proxy is for its master key, and for keys with `admin`")
            return await endpoint(request)
        target = named_target(exchange)
        reply = router.reply(exchange.path, target) if request.method in READING else None
        if reply is not None:
            return web.Response(body=reply.body, content_type=reply.media_type)
        exchange.path = router.told_apart(exchange.path, request.headers)
        asks = catalogue.is_needed and target is None
        about = router.about_models(exchange.path, request.method) if asks else None
        allowed = exchange.key.targets if exchange.key is not None else None
        if about is not None and catalogue.has(about):
            return await catalogue.listed(about, exchange.query, allowed)
        model = await asked_model(exchange, router) if router.wants_model and target is None else None
        route = exchange.route = router.route(exchange.path, target, model, allowed)
        check_right(exchange.key, route)
        known = await catalogue.one(about, route, model) if about is not None and model else None
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


def check_right(key: Key | None, route: Route) -> None:
    """Raises Forbidden where the key is for other targets."""
    if key is not None and key.targets is not None and route.target.name not in key.targets:
        raise Forbidden(f"this key may not ask target {route.target.name}", code="permission_denied")


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
    request = exchange.request
    if not request.can_read_body or not is_json(request) or request.headers.get("Content-Encoding", "") not in PLAIN:
        return None
    return model_of(await exchange.body(), router.model_fields(exchange.path))


def is_json(request: web.BaseRequest) -> bool:
    """Whether the parsed media type is JSON, whatever its parameters."""
    media_type = request.content_type
    return media_type == "application/json" or media_type.endswith("+json")
