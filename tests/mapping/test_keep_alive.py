"""`keep_alive` of a request, as Ollama's clients write it."""

import math

import orjson
import pytest

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
    ],
)
def test_numbers_are_seconds_and_texts_durations(said: object, seconds: float) -> None:
    assert keep_alive_in(orjson.dumps({"keep_alive": said})) == pytest.approx(seconds)


@pytest.mark.parametrize("said", [None, True, [], {}, "", "soon", "5 m", "5m!", "1d", "9" * (LONGEST + 1)])
def test_what_is_no_duration_says_nothing(said: object) -> None:
    assert keep_alive_in(orjson.dumps({"keep_alive": said})) is None


@pytest.mark.parametrize("body", [None, b"", b"{}", b'["keep_alive"]', b'{"keep_alive"', b'{"a": {"keep_alive": 3}}'])
def test_only_the_top_of_a_json_object_counts(body: bytes | None) -> None:
    assert keep_alive_in(body) is None
