"""`limits:` of the file, of keys and of models; `price:` of models and `concurrent:` of targets."""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from voluptuous import Invalid, Marker, Optional, Required

from mooltiproxy.config.model import NO_LIMITS, Concurrent, Limits, Price, Rate
from mooltiproxy.config.shapes import ListOf, Section, SectionOr, Shape, Where
from mooltiproxy.config.validators import (
    Word,
    expected,
    flag,
    matching,
    one_of,
    or_variable,
    seconds,
    whole_number,
    word,
)

KINDS = ("requests", "tokens", "cost")
"""What is counted in windows."""
_LIMITING = (*KINDS, "concurrent", "soft")
_RATE = re.compile(r"(\d+(?:\.\d+)?) ?/ ?(\d+(?:\.\d+)?(?:ms|s|m|h|d)?)", re.ASCII)
_WHAT = "an amount and a time, such as 1000/15m or 1000000/1d"


@word(matching(_RATE.pattern))
def rate(value: Any) -> Rate:
    """So much within a time, `1000/15m`."""
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise expected(_WHAT, value)
    amount, lasts = float(found[1]), seconds(found[2])
    if not amount or lasts < 1:
        raise Invalid(f"expected {_WHAT}: more than nothing, within a second or more")
    return Rate(amount, lasts)


@word(or_variable({"type": "number", "minimum": 0}))
def money(value: Any) -> float:
    """An amount of money."""
    what = "an amount of money, such as 0.25"
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise Invalid(f"expected {what}") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise expected(what, value)
    if not 0 <= value < math.inf:
        raise Invalid(f"expected {what}, not negative")
    return float(value)


def limits(*, per: str, more: Mapping[Marker, Shape] | None = None) -> Section:
    """The section; `per` says what that key is by itself."""
    return Section(
        {
            **_rates(),
            Optional("concurrent", description="Requests that are answered at a time; more are a 429"): whole_number(1),
            Optional("soft", description="The same windows: what is over them is told, not refused"): Section(_rates()),
            Optional("per", description=f"Whom each counter is for: key or ip ({per})"): one_of("word", ("key", "ip")),
            **(more or {}),
        }
    )


def _rates() -> dict[Marker, Shape]:
    return {
        Optional("requests", description="Requests in a window, such as 1000/15m, or a list"): ListOf(rate),
        Optional("tokens", description="Tokens, of prompts and answers together"): ListOf(rate),
        Optional("cost", description="Money, by the prices of models"): ListOf(rate),
    }


def whole_limits() -> Section:
    """`limits:` of the whole file."""
    usage = Optional("usage", description="Count usage also where no tokens or money are limited (false)")
    return limits(per="key, and ip for the master key", more={usage: flag})


def price() -> Section:
    """`price:` of a model."""
    return Section(
        {
            Optional("input", description="Money for a million tokens of prompts (0)"): money,
            Optional("output", description="Money for a million tokens of answers (0)"): money,
        }
    )


@word(whole_number(1).json)
def _most(value: Any) -> dict[str, Any]:
    return {"most": whole_number(1)(value)}


def concurrent() -> SectionOr:
    """`concurrent:` of a target: a number, or a section."""
    section = Section(
        {
            Required(
                "most", msg="expected how many requests at a time, it is missing", description="Requests at a time"
            ): whole_number(1),
            Optional("max_waiting", description="Requests that may wait for their turn (512)"): whole_number(0),
            Optional("max_wait", description="How long each may wait (600)"): _positive_seconds,
        }
    )
    return SectionOr(section, _most)


def _more_than_none(value: Any) -> float:
    lasts: float = seconds(value)
    if not lasts:
        raise Invalid("expected a time of more than 0")
    return lasts


_positive_seconds = Word(_more_than_none, seconds.json)


def built_limits(values: Mapping[str, Any], name: str) -> Limits:
    """The limits of a section; `name` says whose they are."""
    if not values:
        return NO_LIMITS
    return Limits(
        hard={kind: values[kind] for kind in KINDS if kind in values},
        soft={kind: values["soft"][kind] for kind in KINDS if kind in values.get("soft", {})},
        concurrent=values.get("concurrent"),
        per=values.get("per"),
        name=name,
        usage=values.get("usage", False),
    )


def built_price(values: Mapping[str, Any] | None) -> Price | None:
    """The prices of a model."""
    return Price(**values) if values else None


def built_concurrent(values: Mapping[str, Any] | None) -> Concurrent | None:
    """How many requests a target gets at a time."""
    return Concurrent(**values) if values else None


def idle_limits(values: Mapping[str, Any], middlewares: Collection[str]) -> Iterator[tuple[Where, str]]:
    """What is limited in a file's values and will not be, with the reason."""
    said = [
        (path, limits)
        for path, section in _sections(values)
        if (limits := section.get("limits") if path else section) and any(name in limits for name in _LIMITING)
    ]
    if said and "rate_limit" not in middlewares:
        yield ("middlewares",), "without `rate_limit` no limits hold, and there are some"
    if not any(model.get("price") for model in values.get("models", {}).values()):
        for path, limits in said:
            if "cost" in limits or "cost" in limits.get("soft", {}):
                yield (*path, "limits", "cost"), "no model has a `price`, so nothing costs anything"


def _sections(values: Mapping[str, Any]) -> Iterator[tuple[Where, Mapping[str, Any]]]:
    """Where limits may stand: the whole file's section, and the entries that have one."""
    yield (), values.get("limits", {})
    for section in ("keys", "models"):
        yield from (((section, name), entry) for name, entry in values.get(section, {}).items())
