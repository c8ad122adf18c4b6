from typing import Any

import orjson
import pytest

from mooltiproxy.errors import UpstreamRefused
from mooltiproxy.mapping.upstream_errors import MAX_MESSAGE, failure_in, read_error

JSON = "application/json"


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "no good", "type": "invalid_request_error", "param": None, "code": None}},
        {"error": {"code": 400, "message": "no good", "status": "INVALID_ARGUMENT"}},
        [{"error": {"code": 400, "message": "no good"}}],
        {"error": "no good"},
        {"error": "no good", "error_type": "validation"},
        {"detail": "no good"},
        {"message": "no good"},
        {"object": "error", "message": "no good", "code": 400},
        {"type": "error", "error": {"type": "invalid_request_error", "message": "no good"}},
    ],
)
def test_every_shape_of_error_is_read(body: Any) -> None:
    error = read_error(422, JSON, orjson.dumps(body))
    assert (str(error), error.status) == ("no good", 422)


def test_a_validation_list_names_the_fields() -> None:
    body = {"detail": [{"loc": ["body", "messages", 0], "msg": "field required"}, {"msg": "bad"}]}
    assert str(read_error(422, JSON, orjson.dumps(body))) == "body.messages.0: field required; bad"


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_of_our_key_is_not_the_clients(status: int) -> None:
    error = read_error(status, JSON, b'{"error": {"message": "Incorrect API key: sk-secret"}}')
    assert isinstance(error, UpstreamRefused)
    assert error.status == 502
    assert "secret" not in str(error)
    assert "own credentials" in str(error)


def test_a_bad_key_at_google_is_not_the_clients_either() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
    body = {"error": {"code": 400, "message": "API key not valid", "status": "INVALID_ARGUMENT", "details": details}}
    assert isinstance(read_error(400, JSON, orjson.dumps(body)), UpstreamRefused)
    failure = failure_in(body)
    assert failure
    assert failure.status == 502


@pytest.mark.parametrize("status", [404, 500, 503])
def test_a_page_of_html_becomes_a_short_text_and_keeps_its_status(status: int) -> None:
    error = read_error(status, "text/html", b"<html><body>nginx 10.0.0.7</body></html>")
    assert (str(error), error.status) == (f"the target answered with status {status}", status)


def test_plain_text_is_kept() -> None:
    assert str(read_error(404, "text/plain", b"404 page not found\n")) == "404 page not found"


def test_an_empty_body_becomes_a_short_text() -> None:
    assert str(read_error(500, "", b"")) == "the target answered with status 500"


def test_a_long_message_is_cut_and_control_characters_go() -> None:
    error = read_error(400, JSON, orjson.dumps({"error": "a\x00\x1b[31m\r\nb" + "x" * 5000}))
    assert len(str(error)) == MAX_MESSAGE
    assert str(error).startswith("a[31m b")


@pytest.mark.parametrize(
    "text",
    [
        "This model's maximum context length is 4096 tokens",
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000",
        "prompt is too long: 9 tokens > 8 maximum",
    ],
)
def test_an_overflow_of_the_context_is_recognised(text: str) -> None:
    error = read_error(422, JSON, orjson.dumps({"error": text, "error_type": "validation"}))
    assert (error.status, error.code) == (422, "context_length_exceeded")


def test_llamacpps_overflow_is_recognised_by_its_type() -> None:
    body = {"error": {"code": 400, "message": "too big", "type": "exceed_context_size_error"}}
    assert read_error(400, JSON, orjson.dumps(body)).code == "context_length_exceeded"


def test_code_and_param_are_kept() -> None:
    body = {"error": {"message": "no such model", "code": "model_not_found", "param": "model"}}
    error = read_error(404, JSON, orjson.dumps(body))
    assert (error.code, error.param) == ("model_not_found", "model")


def test_overloaded_is_unavailable() -> None:
    assert read_error(529, JSON, b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}').status == 503


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ({"error": "x", "error_type": "validation"}, 422),
        ({"error": "x", "error_type": "overloaded"}, 429),
        ({"error": "x", "error_type": "generation"}, 424),
        ({"error": "x", "error_type": "incomplete_generation"}, 500),
        ({"error": {"message": "x", "http_status_code": 422}}, 422),
        ({"error": {"message": "x", "code": 503}}, 503),
        ({"error": {"message": "x", "type": "rate_limit_error"}}, 429),
        ({"error": {"message": "x", "trace": "y"}}, 502),
        ([{"error": {"message": "x"}}], 502),
        ({"error": {"message": "x", "code": 401}}, 502),
    ],
)
def test_a_failure_in_a_stream_has_a_status(event: Any, status: int) -> None:
    failure = failure_in(event)
    assert failure is not None
    assert failure.status == status


@pytest.mark.parametrize("event", [{"choices": []}, {"error": None}, [], "error", None, {"message": "x"}])
def test_other_events_are_no_failures(event: Any) -> None:
    assert failure_in(event) is None


@pytest.mark.parametrize(("delay", "seconds"), [("34s", 34), ("3.5s", 4), ("soon", None), (7, None), ("1e9s", None)])
def test_how_long_google_wants_one_to_wait_is_read(delay: Any, seconds: int | None) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.Help"}, {"retryDelay": delay}]
    error = read_error(429, JSON, orjson.dumps({"error": {"message": "Quota.", "details": details}}))
    assert error.retry_after == seconds
