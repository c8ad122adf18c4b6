"""OpenAI's API (platform.openai.com/docs/api-reference, November 2026): chat completions, Responses, legacy
completions, token counts, embeddings and models."""

from collections.abc import Mapping
from typing import Any

from mooltiproxy.errors import ProxyError
from mooltiproxy.mapping.dialect import Dialect
from mooltiproxy.mapping.neutral import Usage

from . import chat, common, completions, count, embeddings, models, responses, responses_reader

_API_PATHS = (
    "/moderations",
    "/audio/transcriptions",
    "/audio/translations",
    "/audio/speech",
    "/images/generations",
    "/images/edits",
    "/images/variations",
    "/files",
    "/batches",
    "/rerank",
    "/score",
)
_SERVER_PATHS = ("/tokenize", "/detokenize", "/health", "/version")
_TYPES = {401: "invalid_request_error", 403: "permission_error", 429: "rate_limit_error"}


def write_error(error: ProxyError, request_id: str) -> dict[str, Any]:
    """The body of an error answer (platform.openai.com/docs/guides/error-codes), with the request id beside it."""
    return {
        "error": {
            "message": str(error),
            "type": _TYPES.get(error.status) or ("server_error" if error.status >= 500 else "invalid_request_error"),
            "param": error.param,
            "code": error.code or ("rate_limit_exceeded" if error.status == 429 else None),
            "request_id": request_id,
        }
    }


def read_usage(told: Any, fields: Mapping[str, str]) -> Usage | None:
    """What an answer, a chunk or an event of Responses tells of tokens."""
    if not isinstance(told, dict):
        return None
    inner = told.get("response")
    value = inner.get("usage") if isinstance(inner, dict) else told.get("usage")
    if isinstance(value, dict) and "input_tokens" in value:
        return responses_reader.read_usage(value)
    return common.read_usage(value)


def _lists_models(status: int, body: Any) -> bool:
    """Whether an answer to GET /v1/models is one of this API's, if only the wish for a key."""
    if status in (401, 403):
        return isinstance(body, dict) and bool(body.get("error")) and body.get("type") != "error"  # Anthropic's
    return isinstance(body, dict) and body.get("object") == "list" and isinstance(body.get("data"), list)


dialect = Dialect(
    name="openai",
    doc="OpenAI: chat completions, Responses, legacy completions, token counts, embeddings, models",
    base="/v1",
    endpoints=(
        chat.endpoint,
        responses.endpoint,
        count.endpoint,
        count.tokenize_endpoint,
        completions.endpoint,
        embeddings.endpoint,
        models.endpoint,
        models.one_endpoint,
    ),
    write_error=write_error,
    write_stream_error=write_error,
    read_usage=read_usage,
    probe=("/v1/models", _lists_models),
    other_paths=frozenset(
        [*(base + path for path in _API_PATHS for base in ("/v1", "")), *_SERVER_PATHS],
    ),
)
