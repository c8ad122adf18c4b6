"""Which header fields cross the proxy, in each direction.

Hop-by-hop fields, and those that `Connection` names, stop here (RFC 9110, 7.6.1); so do the client's credentials, what
the proxy itself reads, and what tells about the network behind either side.
"""

from collections.abc import Iterable

Fields = list[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding "
    b"upgrade".split()
)
CREDENTIALS = frozenset(b"authorization x-api-key x-goog-api-key api-key cookie x-admin-key".split())
NEVER_TO_TARGET = (
    HOP_BY_HOP
    | CREDENTIALS
    | frozenset(
        b"host content-length expect target forwarded via x-real-ip x-forwarded-for x-forwarded-host x-forwarded-proto "
        b"x-forwarded-port x-forwarded-prefix origin referer access-control-request-method "
        b"access-control-request-headers http2-settings".split()
    )
)
NEVER_TO_TARGET_PREFIXES = (b"x-stainless-", b"x-mooltiproxy-", b"sec-", b"cf-")
TO_OTHER_DIALECT = frozenset(b"user-agent traceparent tracestate x-request-id accept-language".split())
NEVER_TO_CLIENT = HOP_BY_HOP | frozenset(
    b"content-length set-cookie set-cookie2 alt-svc strict-transport-security server www-authenticate authorization "
    b"access-control-allow-origin access-control-allow-methods access-control-allow-headers access-control-max-age "
    b"access-control-allow-credentials access-control-expose-headers x-request-id http2-settings x-powered-by".split()
)
FROM_OTHER_DIALECT = frozenset(b"retry-after retry-after-ms x-should-retry date".split())
FROM_OTHER_DIALECT_PREFIXES = (
    b"x-compute-",
    b"x-prompt-tokens",
    b"x-generated-tokens",
    b"x-total-time",
    b"x-validation-time",
    b"x-queue-time",
    b"x-inference-time",
    b"x-time-per-token",
)


def _kept_for_target(name: bytes) -> bool:
    return name not in NEVER_TO_TARGET and not name.startswith(NEVER_TO_TARGET_PREFIXES)


def _kept_for_client(name: bytes) -> bool:
    return name not in NEVER_TO_CLIENT


def _kept_from_other_dialect(name: bytes) -> bool:
    return name in FROM_OTHER_DIALECT or name.startswith(FROM_OTHER_DIALECT_PREFIXES)


def nominated(fields: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """The fields that `Connection` names as meant for this hop only, in lower case."""
    return frozenset(
        token.strip().lower() for name, value in fields if name.lower() == b"connection" for token in value.split(b",")
    )


def for_target(fields: Iterable[tuple[bytes, bytes]], *, translated: bool) -> Fields:
    """The client's fields that go to the target; few of them where the target speaks another dialect."""
    kept: Fields = []
    named: frozenset[bytes] | None = None
    for name, value in fields:
        lower = name.lower()
        if lower in TO_OTHER_DIALECT if translated else _kept_for_target(lower):
            kept.append((lower, value))
        elif lower == b"connection" and value.lower() not in (b"keep-alive", b"close"):
            named = nominated(fields)
    return [(name, value) for name, value in kept if name not in named] if named else kept


def for_client(fields: Fields, *, translated: bool, without: frozenset[bytes] = frozenset()) -> Fields:
    """The target's fields that go to the client, but for those `without`. Its request id goes as x-upstream-request-id,
    and so does that of an API with a field of its own for it, where that means nothing to the client."""
    named = nominated(fields)
    if without:
        named = named | without if named else without
    keep = _kept_from_other_dialect if translated else _kept_for_client
    kept: Fields = []
    for name, value in fields:
        lower = name.lower()
        if lower == b"x-request-id" or translated and lower == b"request-id":
            kept.append((b"x-upstream-request-id", value))
        elif keep(lower) and lower not in named:
            kept.append((lower, value))
    return kept


def as_text(fields: Fields) -> dict[str, str]:
    """The fields by lower-case name, the last of each."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in fields}


def value_of(fields: Fields, wanted: bytes) -> bytes | None:
    """The first value of a field, by its lower-case name."""
    for name, value in fields:
        if name.lower() == wanted:
            return value
    return None


def media_type(fields: Fields) -> str:
    """The answer's media type in lower case, without parameters; "" where there is none."""
    value = value_of(fields, b"content-type")
    return value.partition(b";")[0].strip().lower().decode("latin-1") if value else ""
