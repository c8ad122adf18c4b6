"""What clients, the log and the metrics are told of limits."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence

from mooltiproxy.errors import RateLimited
from mooltiproxy.exchange import Exchange
from mooltiproxy.limits.rules import Place, Rule
from mooltiproxy.mapping.dialect import Dialect, LimitStyle
from mooltiproxy.mapping.limit_fields import LIMITED, Of, field_name, limit_fields, names_of
from mooltiproxy.metrics import Metrics
from mooltiproxy.store import Level, Verdict

log = logging.getLogger("mooltiproxy.limits")

SOFT = b"x-mooltiproxy-over"
"""The field that names the soft limits that a request is over."""
MOST_TOLD = 10_000
"""Windows of which it is kept that the log was told."""
_NAMES = {of: names_of((of,)) for of in LIMITED}
_WHOSE = {"key": "this key", "ip": "this address", "model": "this model"}

Told = Sequence[tuple[Rule, Level]]


class Teller:
    """Writes header fields, errors, and one line of the log a window. Outlives reloads."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._said: dict[str, float] = {}

    def tell(self, exchange: Exchange, dialect_of: Callable[[str], Dialect], told: Told) -> None:
        """Put into the answer how these windows stand: of those that count the same, the one with the least left."""
        for of in LIMITED:
            rules = [(rule, level) for rule, level in told if rule.of == of and rule.is_hard]
            if rules:
                rule, level = min(rules, key=_left) if len(rules) > 1 else rules[0]
                self._tell_one(exchange, dialect_of, of, rule, level)
        over = [rule for rule, level in told if rule.soft < rule.window.limit - level.remaining]
        if over:
            self._tell_over(exchange, over)

    def tell_only(self, exchange: Exchange, style: LimitStyle, rule: Rule, level: Level) -> None:
        """The same for the one limit of requests that nothing else stands beside: the common case."""
        exchange.headers += limit_fields(style, "requests", int(rule.window.limit), int(level.remaining), level.reset)
        exchange.limits_told = _NAMES["requests"]

    def _tell_one(
        self, exchange: Exchange, dialect_of: Callable[[str], Dialect], of: Of, rule: Rule, level: Level
    ) -> None:
        style = dialect_of(exchange.path).limit_style
        names = _NAMES[of]
        if (
            exchange.limits_told and names <= exchange.limits_told
        ):  # of the key's limit and the model's the one with the least left counts
            remaining = field_name(style, of, "remaining")
            earlier = next((int(value) for name, value in exchange.headers if name == remaining), math.inf)
            if earlier <= level.remaining:
                return
            exchange.headers[:] = [field for field in exchange.headers if field[0] not in names]
        exchange.headers += limit_fields(style, of, int(rule.window.limit), int(level.remaining), level.reset)
        exchange.limits_told = exchange.limits_told | names if exchange.limits_told else names

    def _tell_over(self, exchange: Exchange, over: Iterable[Rule]) -> None:
        texts = []
        for rule in over:
            texts.append(f"{rule.scope}: {rule.text}")
            self._metrics.over_soft[rule.scope, rule.of] += 1
            self._log_once(rule)
        exchange.headers.append((SOFT, "; ".join(texts).encode()))

    def _log_once(self, rule: Rule) -> None:
        """One line a window."""
        now = time.monotonic()
        if now < self._said.get(rule.window.name, 0.0):
            return
        if len(self._said) >= MOST_TOLD:
            self._said.clear()
        self._said[rule.window.name] = now + rule.window.seconds
        log.warning(
            "%s is over its soft limit of %s", rule.window.name.rpartition(":")[0].rpartition(":")[0], rule.text
        )

    def refusal(self, exchange: Exchange, rules: Sequence[Rule], verdict: Verdict) -> RateLimited:
        """The error of a request for which a window has too little."""
        rule = next(rule for rule in rules if rule.window is verdict.refused)
        self._metrics.limited[rule.scope, rule.of] += 1
        code = "insufficient_quota" if rule.of == "cost" else None
        if math.isinf(verdict.retry_after):
            exchange.headers.append((b"x-should-retry", b"false"))  # by which the vendors' clients know
            asks = "it asks for more than that: send less, or ask for a shorter answer"
            return RateLimited(f"{_WHOSE[rule.scope]} may have {rule.text}, and {asks}", None, code)
        seconds = max(1, math.ceil(verdict.retry_after))
        return RateLimited(f"{_WHOSE[rule.scope]} has had its {rule.text}: try again in {seconds} s", seconds, code)

    def crowded(self, place: Place) -> RateLimited:
        """The error of a request for which there is no place."""
        self._metrics.limited[place.scope, "concurrent"] += 1
        most = f"{place.most} requests at a time"
        return RateLimited(f"{_WHOSE[place.scope]} may have {most}: wait for an answer before the next one", 1)


def _left(told: tuple[Rule, Level]) -> float:
    return told[1].remaining
