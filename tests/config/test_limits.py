"""`limits:`, `price:` and `concurrent:` of the file."""

from pathlib import Path
from typing import Any

import pytest

from mooltiproxy.config.load import from_data
from mooltiproxy.config.model import Concurrent, Limits, Price, Rate
from mooltiproxy.errors import ConfigError

ONE = {"url": "http://127.0.0.1:1", "speaks": "openai"}
TARGETS = {"default": "one", "one": ONE}


def loaded(**more: Any) -> Any:
    return from_data({"targets": TARGETS, **more}, Path(), {"MOOLTIPROXY_KEY": "x", "B": "b"})


def test_a_limit_is_an_amount_and_a_time_or_several() -> None:
    said = {"requests": "1000/15m", "tokens": ["5 / 1.5s", "1000000/1d"], "concurrent": "8", "soft": {"cost": "0.5/1h"}}
    assert loaded(limits={**said, "per": "ip"}).limits == Limits(
        hard={"requests": (Rate(1000, 900),), "tokens": (Rate(5, 1.5), Rate(1000000, 86400))},
        soft={"cost": (Rate(0.5, 3600),)},
        concurrent=8,
        per="ip",
    )


def test_keys_and_models_have_limits_of_their_own_and_targets_places() -> None:
    config = loaded(
        keys={"bob": {"envkey": "B", "limits": {"requests": "1/1m"}}},
        models={"m": {"target": "one", "limits": {"concurrent": 2}, "price": {"input": 3, "output": "15.5"}}},
        targets={
            "default": "one",
            "one": {**ONE, "concurrent": 4},
            "two": {**ONE, "concurrent": {"most": 1, "max_wait": "1m"}},
        },
    )
    assert config.keys[0].limits == Limits({"requests": (Rate(1, 60),)}, name="bob")
    assert config.models["m"].limits == Limits(concurrent=2, name="m")
    assert config.models["m"].price == Price(3.0, 15.5)
    assert config.targets["one"].concurrent == Concurrent(4)
    assert config.targets["two"].concurrent == Concurrent(1, max_wait=60.0)


BAD = [
    {"limits": {"requests": 5}},
    {"limits": {"requests": "5"}},
    {"limits": {"requests": "0/1m"}},
    {"limits": {"requests": "5/0.5s"}},
    {"limits": {"requests": "5/0"}},
    {"limits": {"requests": "-5/1m"}},
    {"limits": {"requests": "5/month"}},
    {"limits": {"concurrent": 0}},
    {"limits": {"per": "model"}},
    {"limits": {"soft": {"concurrent": 1}}},
    {"keys": {"bob": {"envkey": "B", "limits": {"usage": True}}}},
    {"models": {"m": {"target": "one", "price": {"input": -1}}}},
    {"models": {"m": {"target": "one", "price": {"input": "inf"}}}},
    {"models": {"m": {"target": "one", "price": {"output": "much"}}}},
    {"targets": {"default": "one", "one": {**ONE, "concurrent": 0}}},
    {"targets": {"default": "one", "one": {**ONE, "concurrent": {"max_wait": 5}}}},
    {"targets": {"default": "one", "one": {**ONE, "concurrent": {"most": 1, "max_wait": 0}}}},
]


@pytest.mark.parametrize("data", BAD)
def test_what_is_no_limit_is_told_with_what_was_expected(data: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected|unknown key|there is no such"):
        loaded(**data)
