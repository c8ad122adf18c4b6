"""usage: GET /-/usage, what keys have used of which models, by day."""

from collections.abc import Awaitable, Callable
from datetime import date
from urllib.parse import parse_qs

import orjson
from aiohttp import web

from mooltiproxy.errors import BadRequest, MethodNotAllowed
from mooltiproxy.exchange import EXCHANGE
from mooltiproxy.store import Store
from mooltiproxy.store.memory import today

MOST_DAYS = 400


def usage(store: Store) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """An endpoint that answers `{"usage": [{"day", "key", "model", "requests", "tokens_in", "tokens_out", "cost"}]}`.

    The days are that of `?day=`, or those of `?from=` and `?to=`, of UTC; today by default. A key that is no admin's
    sees its own."""

    async def endpoint(request: web.BaseRequest) -> web.StreamResponse:
        exchange = request[EXCHANGE]
        if request.method != "GET":
            raise MethodNotAllowed("usage is read with a GET")
        first, last = days(exchange.query)
        own = None if exchange.key is None or exchange.key.is_admin else exchange.key.name
        rows = [{"day": row.day, **row.used._asdict()} for row in await store.usage(first, last, own)]
        return web.Response(body=orjson.dumps({"usage": rows}), content_type="application/json")

    return endpoint


def days(query: str) -> tuple[date, date]:
    """The first and the last day that a query asks for; raises BadRequest."""
    fields = {name: values[-1] for name, values in parse_qs(query).items()}
    if "day" in fields:
        fields |= {"from": fields["day"], "to": fields["day"]}
    last = day(fields, "to") or today()
    first = day(fields, "from") or last
    if not 0 <= (last - first).days < MOST_DAYS:
        raise BadRequest(f"expected `from` before `to`, and {MOST_DAYS} days at most", param="from")
    return first, last


def day(fields: dict[str, str], name: str) -> date | None:
    """One of the days, if it is there; raises BadRequest."""
    if name not in fields:
        return None
    try:
        return date.fromisoformat(fields[name])
    except ValueError:
        raise BadRequest("expected a day, such as 2026-01-31", param=name) from None
