"""rate_limit: how much each client may use.

Requests, and how many at a time, are counted here, before anything of the body is read. What takes the route or the
body to know (the model's limits, tokens and money) is counted by `limits/ledger.py`, which this puts directly before
the forwarder.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping

from aiohttp import web

from mooltiproxy.config.model import Config
from mooltiproxy.exchange import EXCHANGE, Exchange
from mooltiproxy.limits.ledger import Counts, Handler, Ledger
from mooltiproxy.limits.rules import RuleBook, Rules
from mooltiproxy.mapping.dialect import Dialect
from mooltiproxy.routing import Router
from mooltiproxy.store import Verdict


def rate_limit(
    book: RuleBook,
    counts: Counts,
    router: Router,
    dialects: Mapping[str, Dialect],
    own_open_paths: Collection[str],
) -> Callable[[web.BaseRequest, Handler], Awaitable[web.StreamResponse]]:
    """A middleware that counts requests and refuses what is too many; the proxy's own open endpoints do not count."""
    open_paths = frozenset(path for path in own_open_paths if not router.maps(path))
    store, slots, teller = counts.store, counts.slots, counts.teller
    dialect_of, rules_of = router.dialect_of, book.of_client
    styles = {path: dialect_of(path).limit_style for path in _paths(dialects)}

    async def counted(
        request: web.BaseRequest, handler: Handler, exchange: Exchange, rules: Rules, verdict: Verdict | None
    ) -> web.StreamResponse:
        """Count a request for which more than one limit is to be looked at, or waited for, or told."""
        places = rules.places
        if places and (full := slots.take(places)) is not None:
            raise teller.crowded(full)
        try:
            if rules.wants:
                verdict = verdict or store.take_now(rules.wants) or await store.take(rules.wants)
                teller.tell(exchange, dialect_of, tuple(zip(rules.requests, verdict.levels, strict=True)))
                if verdict.refused is not None:
                    raise teller.refusal(exchange, rules.requests, verdict)
            return await handler(request)
        finally:
            if places:
                slots.leave(places)

    # No coroutine: in the common case, one limit of requests that has enough, nothing is to be awaited here.
    def middleware(request: web.BaseRequest, handler: Handler) -> Awaitable[web.StreamResponse]:
        exchange = request[EXCHANGE]
        path = exchange.path
        if path in open_paths:
            return handler(request)
        rules = rules_of(exchange.key, exchange.address)
        only = rules.only
        verdict = store.take_now(rules.wants) if only is not None else None
        if only is None or verdict is None or verdict.refused is not None:
            return counted(request, handler, exchange, rules, verdict)
        teller.tell_only(exchange, styles.get(path) or dialect_of(path).limit_style, only, verdict.levels[0])
        return handler(request)

    return middleware


def _paths(dialects: Mapping[str, Dialect]) -> set[str]:
    """The paths of endpoints that are always the same."""
    return {path for one in dialects.values() for endpoint in one.endpoints for path in endpoint.paths}


def metered(config: Config, book: RuleBook, counts: Counts, router: Router, forward: Handler) -> Handler:
    """The forwarder behind the second step, where the configuration has anything for it to count."""
    if "rate_limit" not in config.middlewares or not (book.has_models or book.counts_usage):
        return forward
    return Ledger(book, counts, config.registry.dialects, router.dialect_of, forward).handle
