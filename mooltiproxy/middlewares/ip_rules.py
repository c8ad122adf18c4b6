"""ip_rules: who may not even knock. Blacklisted and banned addresses get 403, and the connection is closed, before
anything of the body is read."""

import ipaddress
from collections.abc import Awaitable, Callable, Collection

from aiohttp import web

from mooltiproxy.bans import Bans
from mooltiproxy.config.model import Config, Network
from mooltiproxy.errors import Forbidden, NotFound, Unauthorized
from mooltiproxy.exchange import EXCHANGE, Exchange
from mooltiproxy.routing import Router, split_target

HARMLESS = frozenset({"/", "/favicon.ico", "/robots.txt"})
"""Unknown paths that every browser and every search engine asks for."""


def ip_rules(
    config: Config, bans: Bans, router: Router, own: Collection[str]
) -> Callable[..., Awaitable[web.StreamResponse]]:
    """A middleware for `cerbere:`. It also finds the client's address behind trusted proxies, and counts who asks for
    paths that are none, without a right key; `own` are the proxy's own paths."""
    cerbere = config.cerbere
    matches_rules = bool(cerbere.blacklist or cerbere.whitelist)

    async def middleware(
        request: web.BaseRequest, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        exchange = request[EXCHANGE]
        if cerbere.trusted_proxies:
            forwarded = request.headers.getall("X-Forwarded-For", [])
            exchange.address = client_address(exchange.address, forwarded, cerbere.trusted_proxies)
        if matches_rules and contains(cerbere.blacklist, exchange.address):
            raise closing(exchange, Forbidden("this address is not welcome here"))
        exchange.may_be_banned = not (matches_rules and contains(cerbere.whitelist, exchange.address))
        if exchange.may_be_banned and bans.is_banned(exchange.address):
            raise closing(exchange, Forbidden("this address is banned after too many wrong keys"))
        path = exchange.path
        try:
            return await handler(request)
        except (Unauthorized, NotFound):
            if exchange.key is None and exchange.may_be_banned and path not in HARMLESS:
                if path not in own and not is_known(router, config.targets, path):
                    bans.probe(exchange.address, path)
            raise

    return middleware


def closing(exchange: Exchange, error: Forbidden) -> Forbidden:
    """A refusal behind which the connection ends, without reading what else there is."""
    exchange.closes = True
    return error


def is_known(router: Router, targets: Collection[str], path: str) -> bool:
    """Whether any target has this path."""
    named, rest = split_target(path)
    return any(_has(router, target, rest) for target in (targets if named is None else (named,)))


def _has(router: Router, target: str, path: str) -> bool:
    try:
        return router.reply(path, target) is not None or bool(router.route(path, target, None))
    except NotFound:
        return False


def contains(networks: tuple[Network, ...], address: str) -> bool:
    """Whether an address is in one of the networks; something that is no address (a socket path) is in none."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)


def client_address(peer: str, forwarded: list[str], trusted: tuple[Network, ...]) -> str:
    """The client's address: the peer's, or, where a trusted proxy speaks, the last in X-Forwarded-For that is not one.

    Read from the right, since only what a trusted proxy appended is worth anything; it stops at what is no address.
    """
    hops = [hop.strip() for value in forwarded for hop in value.split(",")]
    while hops and contains(trusted, peer):
        hop = normal_address(hops.pop())
        if hop is None:
            break
        peer = hop
    return peer


def normal_address(text: str) -> str | None:
    """An address in its one spelling, `::ffff:1.2.3.4` as `1.2.3.4`, port and zone cut off; None for anything else."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
