"""Ollama's API as of its release of November 2026 (docs.ollama.com/api, with the types of its source, api/types.go).

Chat, generate (with suffix and raw), embed and embeddings, tags, show and ps; version, and the words at the root by
which clients look whether a server is there. Streams are newline-delimited JSON and the default; durations are
nanoseconds. An empty conversation or prompt, which loads or unloads a model, is answered by the proxy in front of other
APIs.
"""

from collections.abc import Mapping
from typing import Any

from mooltiproxy.errors import ProxyError
from mooltiproxy.mapping.dialect import Dialect, Reply
from mooltiproxy.mapping.neutral import Usage

from . import chat, embed, generate, lines, models

VERSION = "0.33.3"
"""The release whose API this is. Clients look at it to decide what they may ask: it belongs to this module, not to the
target."""


def write_error(error: ProxyError, request_id: str) -> dict[str, Any]:
    """The body of an error answer and the last line of a stream that fails; the id has its place in a header only."""
    return {"error": str(error)}


def read_usage(told: Any, fields: Mapping[str, str]) -> Usage | None:
    """What an answer or the last line of a stream tells of tokens."""
    has_counts = isinstance(told, dict) and ("eval_count" in told or "prompt_eval_count" in told)
    return lines.read_usage(told) if has_counts else None


def _tells_version(status: int, body: Any) -> bool:
    """Whether an answer to GET /api/version is one of this API's; llama.cpp's server has /api/tags but not this."""
    return status == 200 and isinstance(body, dict) and isinstance(body.get("version"), str)


dialect = Dialect(
    name="ollama",
    doc="Ollama: chat, generate, embed, tags, show, ps, version",
    base="",
    endpoints=(
        chat.endpoint,
        generate.endpoint,
        embed.endpoint,
        embed.old_endpoint,
        models.tags_endpoint,
        models.show_endpoint,
        models.ps_endpoint,
    ),
    write_error=write_error,
    write_stream_error=write_error,
    limit_style="general",
    usage_mark=b'eval_count"',
    read_usage=read_usage,
    probe=("/api/version", _tells_version),
    other_paths=frozenset(["/api/version"]),
    has_tags=True,
    # Models are created, copied, pulled and deleted by an operator, not through the proxy.
    unserved=frozenset(["/api/copy", "/api/create", "/api/delete", "/api/me", "/api/pull", "/api/push"]),
    replies={
        "/": Reply(b"Ollama is running", "text/plain"),
        "/api/version": Reply(b'{"version":"%s"}' % VERSION.encode(), "application/json"),
    },
)
