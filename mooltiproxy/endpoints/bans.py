"""bans: /-/bans, which addresses are banned: GET lists them, POST bans one, DELETE lifts a ban."""

import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import orjson
from aiohttp import web

from mooltiproxy.bans import Bans
from mooltiproxy.config.model import Config
from mooltiproxy.errors import BadRequest, MethodNotAllowed, NotFound
from mooltiproxy.exchange import EXCHANGE

WHAT = "`address` is an address, such as 192.0.2.1 or 2001:db8::1"
LONGEST = 10 * 365 * 86400.0


def bans(config: Config, known: Bans) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """An endpoint that answers with all bans there are afterwards: `{"bans": [{"address", "seconds", "times"}]}`, the
    seconds that are left, null for a ban that lasts until it is lifted. A POST has `{"address", "seconds"}`, seconds
    0 or none for such a ban; a DELETE has `?address=`."""

    async def endpoint(request: web.BaseRequest) -> web.StreamResponse:
        exchange = request[EXCHANGE]
        if request.method == "POST":
            address, seconds = asked(await exchange.body())
            if any(address in network for network in config.cerbere.whitelist):
                raise BadRequest("this address is on the whitelist: it is never banned", param="address")
            known.add(str(address), seconds)
        elif request.method == "DELETE":
            if not known.lift(named(exchange.query)):
                raise NotFound("this address is not banned", param="address")
        elif request.method != "GET":
            raise MethodNotAllowed("bans take a GET, a POST or a DELETE")
        return web.Response(body=orjson.dumps({"bans": listed(known)}), content_type="application/json")

    return endpoint


def listed(known: Bans) -> list[dict[str, Any]]:
    """All bans, as they are told."""
    return [
        {"address": ban.address, "seconds": None if ban.is_for_good else round(ban.seconds, 3), "times": ban.times}
        for ban in known.listed()
    ]


def asked(body: bytes) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, float]:
    """The address that is to be banned, and for how long; raises BadRequest."""
    try:
        fields = orjson.loads(body)
    except ValueError:
        raise BadRequest('expected JSON, such as {"address": "192.0.2.1", "seconds": 3600}') from None
    if not isinstance(fields, dict):
        raise BadRequest('expected an object, such as {"address": "192.0.2.1", "seconds": 3600}')
    seconds = 0 if fields.get("seconds") is None else fields["seconds"]
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= LONGEST:
        raise BadRequest("`seconds` is a number, 0 for a ban that lasts until it is lifted", param="seconds")
    return parsed(fields.get("address")), float(seconds)


def named(query: str) -> str:
    """The address, or the network as it is listed, of `?address=`; raises BadRequest."""
    name = parse_qs(query).get("address", [""])[-1]
    address, slash, _ = name.partition("/")
    return name if slash and parsed(address) else str(parsed(name))


def parsed(text: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address, one of IPv4 within IPv6 as what it is; raises BadRequest."""
    try:
        address = ipaddress.ip_address(text if isinstance(text, str) else "")
    except ValueError:
        raise BadRequest(WHAT, param="address") from None
    return getattr(address, "ipv4_mapped", None) or address
