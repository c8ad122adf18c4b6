"""bearer_auth: no request without the key. Nothing else counts: not Host, path spelling, method or address."""

from collections.abc import Awaitable, Callable, Collection
from urllib.parse import unquote_to_bytes

from aiohttp import web

from mooltiproxy.bans import Bans
from mooltiproxy.config.model import Config, Key
from mooltiproxy.errors import Unauthorized
from mooltiproxy.exchange import EXCHANGE, Exchange
from mooltiproxy.keys import MASTER, digest
from mooltiproxy.routing import Router

KEY_FIELDS = (b"x-api-key", b"x-goog-api-key")
HOW = "send it as `Authorization: Bearer KEY` (or x-api-key, x-goog-api-key)"


def bearer_auth(
    config: Config, bans: Bans, router: Router, own_open_paths: Collection[str]
) -> Callable[..., Awaitable[web.StreamResponse]]:
    """A middleware that lets a request through with the master key or one of `keys:`, and to the proxy's own open
    endpoints without."""
    master = Key(MASTER, digest(config.system.masterkey.encode()), is_admin=True)
    # Looked up by digest: the time that takes says nothing about a key, and does not grow with their number.
    known = {key.digest: key for key in (*reversed(config.keys), master)}
    open_paths = frozenset(path for path in own_open_paths if not router.maps(path))

    async def middleware(
        request: web.BaseRequest, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        exchange = request[EXCHANGE]
        if exchange.path in open_paths:
            return await handler(request)
        offered = credentials(exchange)
        if not offered:
            raise Unauthorized(f"a key is needed: {HOW}")
        # An empty key is no key, whatever the master key may be.
        found = [known.get(digest(key)) for key in offered if key]
        exchange.key = next(filter(None, found), None)
        if exchange.key is None:
            if exchange.may_be_banned and bans.wrong_key(exchange.address):
                raise Unauthorized("the key is wrong, and this address is banned now")
            raise Unauthorized(f"the key is wrong: {HOW}")
        bans.right_key(exchange.address)
        return await handler(request)

    return middleware


def credentials(exchange: Exchange) -> list[bytes]:
    """The keys that a request offers, at most one of each kind; takes `key=` out of the query.

    A header that is given twice offers nothing: which of the two would count is exactly what an attacker plays with.
    """
    found: dict[bytes, list[bytes]] = {}
    for name, value in exchange.request.raw_headers:
        lower = name.lower()
        if lower == b"authorization":
            scheme, _, key = value.partition(b" ")
            found.setdefault(lower, []).append(key.strip() if scheme.lower() == b"bearer" else b"")
        elif lower in KEY_FIELDS:
            found.setdefault(lower, []).append(value)
    if "key=" in exchange.query:
        found[b"query"] = take_key_from_query(exchange)
    return [values[0] if len(values) == 1 else b"" for values in found.values()]


def take_key_from_query(exchange: Exchange) -> list[bytes]:
    """The values of `key=` in the query, which is left without them."""
    fields = exchange.query.split("&")
    exchange.query = "&".join(field for field in fields if not field.startswith("key="))
    return [unquote_to_bytes(field[4:]) for field in fields if field.startswith("key=")]
