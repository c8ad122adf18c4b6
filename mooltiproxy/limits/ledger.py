"""The second step of limits, behind routing and mapping: the model's limits, and tokens and money of key and model.

What a request may take is taken from all windows at once before it is sent, and put right when its last byte is out,
when it has failed, or when its client has left. This stands directly before the forwarder, so that nothing but the
answer lies between the two.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from mooltiproxy.config.model import Price
from mooltiproxy.errors import EndpointMissing
from mooltiproxy.exchange import EXCHANGE, Exchange
from mooltiproxy.keys import MASTER
from mooltiproxy.limits.estimate import ATTACHMENT, Estimate, answer_tokens, prompt_tokens
from mooltiproxy.limits.meter import Meter
from mooltiproxy.limits.rules import Place, Rule, RuleBook
from mooltiproxy.limits.slots import Slots
from mooltiproxy.limits.telling import Teller
from mooltiproxy.mapping.dialect import Dialect, Kind
from mooltiproxy.mapping.forms import put_at, value_at
from mooltiproxy.mapping.json_edit import with_fields
from mooltiproxy.store import Store, Used, Window

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

FREE: frozenset[Kind] = frozenset({"count", "models", "model", "running", "health"})
"""Endpoints that take no tokens."""
ANSWERED: frozenset[Kind] = frozenset({"chat", "text"})
"""Those whose answers take tokens, too."""
NOTHING = Estimate()
_JSON = ("application/json", "application/x-www-form-urlencoded", "application/octet-stream")


@dataclass(frozen=True, slots=True)
class Counts:
    """What limits are counted with, and told by: all that outlives a reload."""

    store: Store
    slots: Slots
    teller: Teller


@dataclass(slots=True)
class _Reservation:
    """What one request has taken: of each window how much, by what it counts."""

    exchange: Exchange
    model: str
    price: Price
    estimate: Estimate
    meter: Meter | None
    taken: list[tuple[Rule, float]]
    places: Sequence[Place]
    original: bytes | None = None


class Ledger:
    """The step before the forwarder, for one configuration."""

    def __init__(
        self,
        book: RuleBook,
        counts: Counts,
        dialects: Mapping[str, Dialect],
        dialect_of: Callable[[str], Dialect],
        forward: Handler,
    ) -> None:
        self._book = book
        self._store = counts.store
        self._slots = counts.slots
        self._teller = counts.teller
        self._dialects = tuple(dialects.values())
        self._dialect_of = dialect_of
        self._forward = forward

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Admit, forward, settle; raises RateLimited, StoreUnavailable."""
        exchange = request[EXCHANGE]
        reservation = await self._admitted(exchange)
        is_asked_otherwise = False
        try:
            return await self._forward(request)
        except EndpointMissing:  # nothing came of it: what asks in another way is admitted anew
            is_asked_otherwise = True
            if reservation.original is not None:
                exchange.replace_body(reservation.original)
            raise
        finally:
            exchange.meter = None
            self._slots.leave(reservation.places)
            if is_asked_otherwise:
                self._store.add([(rule.window, -amount) for rule, amount in reservation.taken if amount])
            else:
                self._settle(reservation)

    async def _admitted(self, exchange: Exchange) -> _Reservation:
        route = exchange.route
        model = route.model if route is not None else None
        client = self._book.of_client(exchange.key, exchange.address)
        of_model = self._book.of_model(model, exchange.key, exchange.address)
        is_metered = self._book.counts_usage and _takes_tokens(exchange)
        body = await _body_of(exchange) if is_metered else None
        name = model.name if model is not None else _named_model(exchange, body)
        price = (model.price if model is not None else None) or Price()
        rules = [*of_model.requests, *of_model.amounts, *client.amounts]
        estimate = self._estimate(exchange, body, rules) if is_metered else NOTHING
        amounts = _amounts(estimate, price)
        taken = [(rule, amounts[rule.of]) for rule in rules]
        places = of_model.places
        if places and (full := self._slots.take(places)) is not None:
            raise self._teller.crowded(full)
        try:
            await self._take(exchange, taken)
        except BaseException:
            self._slots.leave(places)
            raise
        reservation = _Reservation(exchange, name, price, estimate, None, taken, places)
        if is_metered:
            self._put_meter(exchange, reservation, body)
        return reservation

    async def _take(self, exchange: Exchange, taken: Sequence[tuple[Rule, float]]) -> None:
        if not taken:
            return
        wants: list[tuple[Window, float]] = [(rule.window, amount) for rule, amount in taken]
        verdict = self._store.take_now(wants) or await self._store.take(wants)
        rules = [rule for rule, _ in taken]
        self._teller.tell(exchange, self._dialect_of, list(zip(rules, verdict.levels, strict=True)))
        if verdict.refused is not None:
            raise self._teller.refusal(exchange, rules, verdict)

    def _estimate(self, exchange: Exchange, body: Any, rules: Sequence[Rule]) -> Estimate:
        """What it may take: never more for the answer than the smallest limit has room for."""
        route = exchange.route
        endpoint = route.entry.endpoint if route is not None else None
        prompt = ATTACHMENT if body is None else prompt_tokens(body)
        if endpoint is None or endpoint.kind not in ANSWERED:
            return Estimate(prompt)
        settings = route.model.settings if route is not None and route.model is not None else None
        places = endpoint.form.places if endpoint.form is not None else {}
        estimate = Estimate(prompt, answer_tokens(body, places, settings.max_tokens if settings else None))
        limits = [rule.window.limit for rule in rules if rule.of == "tokens"]
        return estimate.within(min(limits)) if limits else estimate

    def _put_meter(self, exchange: Exchange, reservation: _Reservation, body: Any) -> None:
        """Have the answer's tokens counted; asks for them where a stream would not tell otherwise."""
        route = exchange.route
        entry = route.entry if route is not None else None
        known = entry.dialect if entry is not None else None
        if known is None and exchange.translated is None:
            known = self._dialect_of(exchange.path)
        hides = False
        form = entry.passing.form if entry is not None and entry.passing is not None else None
        if exchange.translated is None and form is not None and form.usage and isinstance(body, dict):
            hides = body.get("stream") is True and value_at(body, form.usage) is not True
            if hides and exchange.body_is_whole:
                reservation.original = exchange.whole_body
                exchange.replace_body(_asking(exchange.whole_body, body, form.usage))
        dialects = self._dialects if known is None else (known,)
        reservation.meter = exchange.meter = Meter(dialects, hides_usage=hides)

    def _settle(self, reservation: _Reservation) -> None:
        """Put right what was taken by what was used, and count that."""
        exchange, meter = reservation.exchange, reservation.meter
        used = meter.used(reservation.estimate) if meter is not None else None
        if used is None:
            # A client that leaves before its answer begins has had its prompt read all the same.
            left = meter is not None and not meter.has_begun and exchange.was_sent and not exchange.error
            used = Estimate(reservation.estimate.prompt) if left else NOTHING
        amounts = _amounts(used, reservation.price)
        owed = [(rule.window, amounts[rule.of] - amount) for rule, amount in reservation.taken]
        if any(amount for _, amount in owed):
            self._store.add([(window, amount) for window, amount in owed if amount])
        if self._book.counts_usage:
            key = exchange.key.name if exchange.key is not None else MASTER
            self._store.count(Used(key, reservation.model, 1, used.prompt, used.answer, amounts["cost"]))


def _amounts(used: Estimate, price: Price) -> dict[str, float]:
    return {
        "requests": 1.0,
        "tokens": float(used.prompt + used.answer),
        "cost": price.cost(used.prompt, used.answer),
    }


def _takes_tokens(exchange: Exchange) -> bool:
    """Whether a request is one that makes a model work."""
    endpoint = exchange.route.entry.endpoint if exchange.route is not None else None
    if endpoint is not None and endpoint.kind in FREE:
        return False
    return exchange.request.method == "POST" and exchange.request.body_exists


async def _body_of(exchange: Exchange) -> Any:
    """The client's parsed body; None where it is no JSON."""
    request = exchange.request
    media_type = request.content_type
    plain = request.headers.get("Content-Encoding", "identity").lower() == "identity"
    if not plain or media_type not in _JSON and not media_type.endswith("+json"):
        return None
    try:
        return orjson.loads(await exchange.body())
    except orjson.JSONDecodeError:
        return None


def _named_model(exchange: Exchange, body: Any) -> str:
    """The model that a request names which `models:` does not have."""
    in_path = exchange.route.path_model if exchange.route is not None else None
    named = in_path or (body.get("model") if isinstance(body, dict) else None)
    return named if isinstance(named, str) else ""


def _asking(data: bytes, body: dict[str, Any], place: str) -> bytes:
    """A body that asks for what its stream has used."""
    changed = dict(body)
    put_at(changed, place, True)
    top = place.partition(".")[0]
    return with_fields(data, {top: changed[top]})
