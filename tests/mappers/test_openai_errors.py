import pytest

from mappers.openai import dialect
from mooltiproxy.errors import BadRequest, Forbidden, ProxyError, Unauthorized, UpstreamBroken, UpstreamError


def test_an_error_has_openais_form() -> None:
    assert dialect.write_error(BadRequest("n: too many", param="n"), "req-1") == {
        "error": {
            "message": "n: too many",
            "type": "invalid_request_error",
            "param": "n",
            "code": None,
            "request_id": "req-1",
        }
    }


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (Unauthorized("no"), "invalid_request_error", "invalid_api_key"),
        (Forbidden("no"), "permission_error", None),
        (UpstreamError("no", status=429), "rate_limit_error", "rate_limit_exceeded"),
        (UpstreamError("no", status=422), "invalid_request_error", None),
        (UpstreamBroken("no"), "server_error", None),
        (BadRequest("no", code="context_length_exceeded"), "invalid_request_error", "context_length_exceeded"),
    ],
)
def test_type_and_code_follow_the_status(error: ProxyError, kind: str, code: str | None) -> None:
    written = dialect.write_error(error, "req-1")["error"]
    assert (written["type"], written["code"]) == (kind, code)


def test_an_error_in_a_stream_has_the_same_form() -> None:
    error = UpstreamBroken("broke off")
    assert dialect.write_stream_error(error, "r") == dialect.write_error(error, "r")


def test_further_paths_pass_with_and_without_the_base() -> None:
    assert {"/v1/files", "/files", "/v1/moderations", "/tokenize"} <= dialect.other_paths
    assert not dialect.other_paths & {path for endpoint in dialect.endpoints for path in endpoint.paths}
    assert all(endpoint.paths[0].startswith(dialect.base) for endpoint in dialect.endpoints if endpoint.paths)
