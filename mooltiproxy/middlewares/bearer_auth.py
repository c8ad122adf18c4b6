"""bearer_auth: no request without a key. Nothing else counts: not Host, path spelling, method or address."""

from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from urllib.parse import unquote, unquote_to_bytes

from aiohttp import web

from mooltiproxy.bans import Bans
from mooltiproxy.config.model import Key
from mooltiproxy.errors import Unauthorized
from mooltiproxy.exchange import EXCHANGE, Exchange
from mooltiproxy.keyring import Keyring, has_expired
from mooltiproxy.routing import Router

KEY_FIELDS = (b"x-api-key", b"x-goog-api-key")
HOW = "send it as `Authorization: Bearer KEY` (or x-api-key, x-goog-api-key)"


def bearer_auth(
    keyring: Keyring, bans: Bans, router: Router, own_open_paths: Collection[str]
) -> Callable[..., Awaitable[web.StreamResponse]]:
    """A middleware that lets a request through with the master key or one of the keyring's, and to the proxy's own open
    endpoints without. A client's certificate may be a key; one that is sent with the request goes before it."""
    open_paths = frozenset(path for path in own_open_paths if not router.maps(path))

    async def middleware(
        request: web.BaseRequest, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        exchange = request[EXCHANGE]
        if exchange.path in open_paths:
            return await handler(request)
        offered = credentials(exchange)
        if offered:
            found = [known for key in offered if (known := keyring.find(key)) is not None]
        else:
            found = of_certificate(keyring, request)
            if not found:
                raise Unauthorized(f"a key is needed: {HOW}")
        if not found:
            if exchange.may_be_banned and bans.wrong_key(exchange.address):
                raise Unauthorized("the key is wrong, and this address is banned now")
            raise Unauthorized(f"the key is wrong: {HOW}")
        exchange.key = next((key for key in found if key.expires is None or not has_expired(key)), None)
        if exchange.key is None:
            raise expired(found[0])
        bans.right_key(exchange.address)
        return await handler(request)

    return middleware


def of_certificate(keyring: Keyring, request: web.BaseRequest) -> list[Key]:
    """Whose certificate the client has shown, if any key is a certificate's: at most one."""
    if not keyring.has_certificates or request.transport is None:
        return []
    key = keyring.of_certificate(request.transport.get_extra_info("peercert"))
    return [] if key is None else [key]


def expired(key: Key) -> Unauthorized:
    """The refusal of a key that was one: its sender is no guesser."""
    moment = datetime.fromtimestamp(key.expires or 0, UTC)
    return Unauthorized(f"this key has expired ({moment:%Y-%m-%dT%H:%M:%SZ}): ask for a new one")


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
    if "key=" in exchange.query or "%" in exchange.query:
        in_query = take_key_from_query(exchange)
        if in_query:
            found[b"query"] = in_query
    return [values[0] if len(values) == 1 else b"" for values in found.values()]


def take_key_from_query(exchange: Exchange) -> list[bytes]:
    """The values of `key=` in the query, which is left without them, however the name is written: a target would read
    it all the same."""
    exchange.query, keys = key_apart(exchange.query)
    return keys


def key_apart(query: str) -> tuple[str, list[bytes]]:
    """A query without `key=`, and the values of that."""
    fields = [(unquote(field.partition("=")[0]), field) for field in query.split("&")]
    rest = "&".join(field for name, field in fields if name != "key")
    return rest, [unquote_to_bytes(field.partition("=")[2]) for name, field in fields if name == "key"]
