"""Errors as targets write them, in every shape that is known, read into our own.

Shapes: {error: {message}} (OpenAI, Anthropic, Gemini), [{error: ...}] (Gemini arrays), {error: "text", error_type}
(TGI, Ollama), {detail: "text" or [{loc, msg}]} (FastAPI), {message} (others).
"""

import math
import re
from typing import Any

import orjson

from mooltiproxy.errors import UpstreamError, UpstreamRefused
from mooltiproxy.mapping.neutral import Failure

_DELAY = re.compile(r"\d{1,6}(\.\d+)?s")
MAX_MESSAGE = 2000
"""Characters of a target's message that are passed on."""

CONTEXT_OVERFLOW = "context_length_exceeded"
_OVERFLOWS = (
    "maximum context length",
    "context_length_exceeded",
    "exceed_context_size_error",
    "prompt is too long",
    "input length and max_tokens exceed",
    "`inputs` tokens + `max_new_tokens` must be <=",
    "exceeds the maximum number of tokens",
)
_TGI_STATUS = {
    "validation": 422,
    "template_error": 422,
    "tool_error": 422,
    "generation": 424,
    "overloaded": 429,
    "incomplete_generation": 500,
    "healthcheck": 503,
}
"""HTTP status by `error_type`, after TGI's own answers: in its streams the status is always 200."""
_TYPE_STATUS = {
    "invalid_request_error": 400,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "server_error": 500,
    "api_error": 500,
    "unavailable_error": 503,
    "overloaded_error": 503,
}


def read_error(status: int, media_type: str, body: bytes) -> UpstreamError:
    """The error to answer a client with when a target answered with this status (400 and above) and body.

    The status is kept, except that a refusal of the proxy's own credentials is a 502: the client does not hold that
    key.
    """
    if status in (401, 403):
        return UpstreamRefused(f"the target refused the proxy's own credentials with status {status}")
    details = _details(_parsed(body)) or {}
    if _is_bad_key(details):
        return UpstreamRefused("the target refused the proxy's own credentials")
    message = clean_message(details.get("message") or _plain_text(media_type, body))
    message = message or f"the target answered with status {status}"
    error = UpstreamError(
        message,
        param=_string(details.get("param")),
        code=_code(message, details),
        status=503 if status == 529 else status,
    )
    error.retry_after = _retry_after(details)
    return error


def failure_in(event: Any) -> Failure | None:
    """The failure that one parsed event or answer body reports, None if it reports none."""
    if not _names_error(event):
        return None
    details = _details(event)
    if details is None:
        return None
    message = clean_message(details.get("message") or "") or "the target failed without saying why"
    status = _status(details)
    if status in (401, 403) or _is_bad_key(details):
        return Failure("the target refused the proxy's own credentials", 502)
    return Failure(message, status, _code(message, details))


def _is_bad_key(details: dict[str, Any]) -> bool:
    """Google answers a key that it does not know with status 400 and this reason."""
    return any(item.get("reason") == "API_KEY_INVALID" for item in _googles(details))


def _retry_after(details: dict[str, Any]) -> int | None:
    """The seconds to wait that Google tells in the body (google.rpc.RetryInfo): `34s`, `3.5s`."""
    for item in _googles(details):
        delay = _string(item.get("retryDelay")) or ""
        if _DELAY.fullmatch(delay):
            return math.ceil(float(delay.removesuffix("s")))
    return None


def _googles(details: dict[str, Any]) -> list[dict[str, Any]]:
    """What Google says of an error besides its message."""
    items = details.get("details")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def clean_message(text: str) -> str:
    """A target's text without control characters, on one line, at most MAX_MESSAGE characters long."""
    text = " ".join(text[: 4 * MAX_MESSAGE].split())
    text = "".join(character for character in text if character.isprintable())
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 3] + "..."


def _names_error(event: Any) -> bool:
    if isinstance(event, dict):
        return bool(event.get("error")) or event.get("object") == "error"
    return isinstance(event, list) and bool(event) and _names_error(event[0])


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _plain_text(media_type: str, body: bytes) -> str:
    """The body where it is meant to be read; pages of gateways (HTML) are not."""
    return body[: 4 * MAX_MESSAGE].decode("utf-8", "replace") if media_type == "text/plain" else ""


def _details(value: Any) -> dict[str, Any] | None:
    """The error's fields with its text under `message`, whatever the shape."""
    if isinstance(value, list):
        return _details(value[0]) if value else None
    if not isinstance(value, dict):
        return None
    error = value.get("error")
    if isinstance(error, dict):
        return {**error, "message": _string(error.get("message")) or ""}
    for name in ("error", "message", "detail"):
        text = value.get(name)
        if isinstance(text, str):
            return {**value, "message": text}
    if isinstance(value.get("detail"), list):
        return {"message": "; ".join(_validation_text(item) for item in value["detail"])}
    return None


def _validation_text(item: Any) -> str:
    if not isinstance(item, dict):
        return str(item)
    where = item.get("loc")
    place = ".".join(str(part) for part in where) if isinstance(where, list) else ""
    text = str(item.get("msg") or item.get("message") or "not valid")
    return f"{place}: {text}" if place else text


def _status(details: dict[str, Any]) -> int:
    for name in ("http_status_code", "status_code", "status", "code"):
        value = details.get(name)
        if isinstance(value, int) and 400 <= value < 600:
            return 503 if value == 529 else value
    kind = _string(details.get("error_type")) or _string(details.get("type")) or ""
    return _TGI_STATUS.get(kind) or _TYPE_STATUS.get(kind) or 502


def _code(message: str, details: dict[str, Any]) -> str | None:
    code = _string(details.get("code"))
    searched = f"{message} {code or ''} {_string(details.get('type')) or ''}".lower()
    return CONTEXT_OVERFLOW if any(text in searched for text in _OVERFLOWS) else code


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
