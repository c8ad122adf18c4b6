"""The bytes of a request to a target: pure, so that `explain` shows exactly what the forwarder sends."""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from mooltiproxy.config.model import Target
from mooltiproxy.mapping.dialect import Dialect
from mooltiproxy.mapping.translate import Translated
from mooltiproxy.routing import Route
from mooltiproxy.upstream import headers
from mooltiproxy.upstream.session import Origin

BODILESS = ("GET", "HEAD", "OPTIONS", "DELETE")


@dataclass(frozen=True, slots=True)
class Plan:
    """What the configuration decides about requests to one target, put together once."""

    origin: Origin
    host_field: bytes
    key_field: bytes
    translated_fields: bytes
    follow_redirects: bool

    @classmethod
    def of(cls, target: Target, dialect: Dialect | None) -> "Plan":
        """The plan of a target where it speaks this dialect, which says how the target's key is sent."""
        origin = Origin.of_target(target)
        fields = b""
        name, prefix = (dialect.key_field, dialect.key_prefix) if dialect else ("authorization", "Bearer ")
        if target.key:
            fields = f"{name}: {prefix}{target.key}\r\n".encode()
        fixed = dialect.fixed_fields if dialect else {}
        translated = "content-type: application/json\r\naccept-encoding: identity\r\n"
        translated += "".join(f"{name}: {value}\r\n" for name, value in fixed.items())
        return cls(origin, origin.host_field, fields, translated.encode(), target.preserve_method)


def path_at_target(route: Route, origin: Origin, translated: Translated | None, query: str) -> str:
    """The path to ask at. A translated request takes nothing of the client's query along."""
    path = route.entry.path
    if route.path_model is not None:
        model = route.model.upstream_name if route.model else route.path_model
        path = path.replace("{model}", quote(model, safe="/:@"))
    if translated is not None:
        return origin.base + (translated.path or path)
    return origin.base + path + (f"?{query}" if query else "")


def request_head(
    plan: Plan,
    origin: Origin,
    path: str,
    method: str,
    fields: Iterable[tuple[bytes, bytes]],
    translated: Translated | None,
    body: bytes | None,
    length: int | None,
) -> bytes:
    """The head of a request. `body` is None where it follows in pieces: `length` bytes, or None for unknown."""
    method = (translated.method if translated else None) or method
    host_field = plan.host_field if origin is plan.origin else origin.host_field
    line = f"{method} {path} HTTP/1.1\r\n".encode("utf-8", "surrogateescape")
    parts = [line, host_field, plan.key_field]
    for name, value in headers.for_target(fields, translated=translated is not None):
        parts += (name, b": ", value, b"\r\n")
    if translated is not None:
        parts.append(plan.translated_fields)
    if body is None:
        parts.append(b"transfer-encoding: chunked\r\n" if length is None else b"content-length: %d\r\n" % length)
    elif body or method not in BODILESS:
        parts.append(b"content-length: %d\r\n" % len(body))
    parts.append(b"\r\n")
    return b"".join(parts)
