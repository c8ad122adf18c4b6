"""Anthropic's Messages API (docs.claude.com/en/api, November 2026; version 2023-06-01): messages, count_tokens, models.

`GET /v1/models` is a path of OpenAI's API as well: clients of this one are known by their `anthropic-version`.
"""

from collections.abc import Mapping
from typing import Any

from mooltiproxy.errors import ProxyError
from mooltiproxy.mapping.dialect import Dialect
from mooltiproxy.mapping.neutral import Usage
from mooltiproxy.mapping.upstream_errors import CONTEXT_OVERFLOW

from . import common, messages, models

TOO_LONG = "prompt is too long"
"""The words by which clients know that they must shorten the conversation."""

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def write_error(error: ProxyError, request_id: str) -> dict[str, Any]:
    """The body of an error answer, and the data of an error event (docs.claude.com/en/api/errors)."""
    message = str(error)
    if error.code == CONTEXT_OVERFLOW and TOO_LONG not in message.lower():
        message = f"{TOO_LONG}: {message}"
    kind = _TYPES.get(error.status) or ("api_error" if error.status >= 500 else "invalid_request_error")
    body: dict[str, Any] = {"type": kind, "message": message}
    if error.code == messages.NO_THREADS:
        body["details"] = {"error_code": error.code, "unsupported": ["thread"]}
    return {"type": "error", "error": body, "request_id": request_id}


def read_usage(told: Any, fields: Mapping[str, str]) -> Usage | None:
    """What an answer or an event tells of tokens: the first has those of the prompt, the last but one all others."""
    if not isinstance(told, dict):
        return None
    inner = told.get("message")
    return common.read_usage(inner.get("usage") if isinstance(inner, dict) else told.get("usage"))


def _lists_models(status: int, body: Any) -> bool:
    """Whether an answer to GET /v1/models is one of this API's, if only its refusal."""
    if status >= 400:
        return isinstance(body, dict) and body.get("type") == "error"
    return isinstance(body, dict) and "has_more" in body and isinstance(body.get("data"), list)


dialect = Dialect(
    name="anthropic",
    doc="Anthropic: messages, token counts and models",
    base="/v1",
    endpoints=(messages.endpoint, messages.count_endpoint, models.list_endpoint, models.one_endpoint),
    write_error=write_error,
    write_stream_error=write_error,
    read_usage=read_usage,
    probe=("/v1/models", _lists_models),
    sign="anthropic-version",
    other_paths=frozenset(["/v1/messages/batches", "/messages/batches"]),
    key_field="x-api-key",
    key_prefix="",
    fixed_fields={"anthropic-version": "2023-06-01"},
    limit_style="anthropic",
    id_field="request-id",
)
