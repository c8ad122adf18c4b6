from datetime import UTC, datetime, timedelta

import pytest

from mooltiproxy.upstream.headers import as_text
from mooltiproxy.upstream.limits import limits_for, retry_after


def anthropics(**fields: str) -> dict[str, str]:
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    return as_text(limits_for("anthropic", given))


def openais(**fields: str) -> dict[str, str]:
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    return as_text(limits_for("openai", given))


def test_counts_go_under_the_names_that_the_client_reads() -> None:
    told = anthropics(X_RateLimit_Limit_Requests="60", x_ratelimit_remaining_tokens="149984", x_other="1")
    assert told == {"anthropic-ratelimit-requests-limit": "60", "anthropic-ratelimit-tokens-remaining": "149984"}
    told = openais(anthropic_ratelimit_requests_limit="60", anthropic_ratelimit_tokens_remaining="9")
    assert told == {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-tokens": "9"}


def test_the_clients_own_names_stay() -> None:
    assert openais(x_ratelimit_reset_tokens="6m0s") == {"x-ratelimit-reset-tokens": "6m0s"}
    assert anthropics(anthropic_ratelimit_requests_reset="x") == {"anthropic-ratelimit-requests-reset": "x"}


def test_counts_that_the_other_api_has_no_name_for_are_left_out() -> None:
    assert openais(anthropic_ratelimit_input_tokens_limit="9") == {}
    assert anthropics(x_ratelimit_limit_project="9") == {}


@pytest.mark.parametrize(
    ("wait", "seconds"), [("6m0s", 360), ("1s", 1), ("1h2m3s", 3723), ("2m", 120), ("1.5s", 1.5), ("500ms", 0.5)]
)
def test_a_wait_becomes_a_moment(wait: str, seconds: float) -> None:
    told = anthropics(x_ratelimit_reset_tokens=wait)["anthropic-ratelimit-tokens-reset"]
    left = datetime.fromisoformat(told) - datetime.now(UTC)
    assert seconds - 5 < left.total_seconds() <= seconds


@pytest.mark.parametrize(("seconds", "wait"), [(359.5, "6m0s"), (19.5, "20s"), (-3, "0s")])
def test_a_moment_becomes_a_wait(seconds: float, wait: str) -> None:
    moment = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    assert openais(anthropic_ratelimit_tokens_reset=moment) == {"x-ratelimit-reset-tokens": wait}


@pytest.mark.parametrize("broken", ["", "soon", "ms", "12"])
def test_what_is_no_time_is_left_out(broken: str) -> None:
    assert openais(anthropic_ratelimit_tokens_reset=broken) == {}
    assert anthropics(x_ratelimit_reset_tokens=broken) == {}


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "7", "retry-after-ms": "1200"}, 2),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({}, None),
    ],
)
def test_how_long_to_wait_is_read(fields: dict[str, str], seconds: int | None) -> None:
    assert retry_after(fields) == seconds
