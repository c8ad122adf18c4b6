"""`keep_alive` of a request, as Ollama's clients write it."""

import math

import orjson
import pytest

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.keep_alive import LONGEST, keep_alive_in


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (0, 0.0),
        (2, 2.0),
        (1.5, 1.5),
        (-1, math.inf),
        ("10m", 600.0),
        ("1h30m", 5400.0),
        ("300ms", 0.3),
        ("1.5s", 1.5),
        ("-1m", math.inf),
        ("300", 300.0),
        ("-1", math.inf),
        (1e15, math.inf),
        ("99999999999h", math.inf),
    ],
)
def test_numbers_are_seconds_and_texts_durations(said: object, seconds: float) -> None:
    assert keep_alive_in(orjson.dumps({"keep_alive": said})) == pytest.approx(seconds)


@pytest.mark.parametrize("said", [True, [], {}, "", "soon", "5 m", "5m!", "1d", "9" * (LONGEST + 1)])
def test_what_is_no_duration_is_refused_by_name(said: object) -> None:
    with pytest.raises(BadRequest, match="a duration such as 10m") as caught:
        keep_alive_in(orjson.dumps({"keep_alive": said}))
    assert caught.value.param == "keep_alive"


def test_ollama_s_options_may_have_it_and_the_top_goes_first() -> None:
    assert keep_alive_in(b'{"options": {"keep_alive": "5m"}}') == 300
    assert keep_alive_in(b'{"keep_alive": 2, "options": {"keep_alive": "5m"}}') == 2
    assert keep_alive_in(b'{"keep_alive": null, "options": [1]}') is None


@pytest.mark.parametrize("body", [None, b"", b"{}", b'["keep_alive"]', b'{"keep_alive"', b'{"a": {"keep_alive": 3}}'])
def test_elsewhere_it_counts_for_nothing(body: bytes | None) -> None:
    assert keep_alive_in(body) is None
