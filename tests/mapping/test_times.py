from typing import Any

import pytest

from mooltiproxy.mapping.times import rfc3339, unix_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2023-11-14T22:13:20Z", 1700000000),
        ("2023-11-14T22:13:20.123456Z", 1700000000),
        ("2023-11-14T23:13:20+01:00", 1700000000),
        ("yesterday", None),
        (7, None),
        (None, None),
    ],
)
def test_a_time_is_read(text: Any, seconds: int | None) -> None:
    assert unix_seconds(text) == seconds


def test_a_time_is_written() -> None:
    assert (rfc3339(1700000000), rfc3339(None)) == ("2023-11-14T22:13:20Z", "1970-01-01T00:00:00Z")
