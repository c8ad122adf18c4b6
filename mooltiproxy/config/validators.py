"""The words of the schema: small named validators that coerce once and say what was expected.

Each is a `Word`: called with a value it gives the coerced one or raises `voluptuous.Invalid`, and `json` is its JSON
Schema. No message quotes the value: it may be a secret. Numbers and flags may also come as text, as in `"${PORT}"`.
"""

import difflib
import ipaddress
import math
import re
import shlex
import sys
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from voluptuous import Invalid

from mooltiproxy.config.cores import usable_cores
from mooltiproxy.config.model import PORT, Network
from mooltiproxy.keys import MASTER
from mooltiproxy.mapping.keep_alive import CENTURY

Json = dict[str, Any]

AUTO = "auto"
MOST_WORKERS = 256

VARIABLE: Json = {"type": "string", "pattern": r"\$\{"}
"""What may stand in the place of any value that is not text: `${NAME}`."""

_SECONDS = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?", re.ASCII)
_SECOND_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmg]i?b|b)?", re.IGNORECASE | re.ASCII)
_SIZE_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SLUG = re.compile(r"[A-Za-z0-9._-]+")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESOURCE = re.compile(r"ram|gpu[0-9]*")
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_URL_PATH = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/%-]*")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[A-Za-z0-9._-]+(:\d+)?|[a-z][a-z0-9+.-]*://\[[0-9A-Fa-f:]+\](:\d+)?")


class Word:
    """A named validator: `check` takes the value as YAML gave it, `json` is the JSON Schema of what it takes."""

    def __init__(self, check: Callable[[Any], Any], json: Json) -> None:
        self.check = check
        self.json = json

    def __call__(self, value: Any) -> Any:
        """The coerced value; raises Invalid."""
        return self.check(value)


def word(json: Json) -> Callable[[Callable[[Any], Any]], Word]:
    """Make a function a Word of this JSON Schema."""
    return lambda check: Word(check, json)


def matching(pattern: str) -> Json:
    """The JSON Schema of text that matches, or that holds a `${NAME}`."""
    return {"type": "string", "anyOf": [{"pattern": f"^({pattern})$"}, VARIABLE]}


def or_variable(json: Json) -> Json:
    """The JSON Schema of a value that is not text, or of a `${NAME}` in its place."""
    return {"anyOf": [json, VARIABLE]}


def expected(what: str, value: Any) -> Invalid:
    """The error for a value that is not `what`; it names the kind of a wrong one, never the value."""
    return Invalid(f"expected {what}" if isinstance(value, str) and value else f"expected {what}, got {kind_of(value)}")


def kind_of(value: Any) -> str:
    """What a YAML value is, in words."""
    if value is None or value == "":
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    kinds = {int: "a number", float: "a number", str: "text", list: "a list", dict: "keys and values"}
    return kinds.get(type(value), "something else")


def suggestion(name: str, known: Iterable[str]) -> str:
    """`: did you mean `x`?` for a name that is nearly a known one; else the known ones, if they are few."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, 1) or difflib.get_close_matches(name.lower(), names, 1)
    if close:
        return f": did you mean `{close[0]}`?"
    return f", expected one of {', '.join(names)}" if 0 < len(names) <= 20 else ""


def one_of(what: str, names: Collection[str] | None) -> Word:
    """The name of something that must be there; any name where `names` is None."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or not value:
            raise expected(f"the name of a {what}", value)
        if names is not None and value not in names:
            raise Invalid(f"there is no such {what}{suggestion(value, names)}")
        return value

    return Word(check, {"type": "string"})


@word(or_variable({"type": "boolean"}))
def flag(value: Any) -> bool:
    """True or false."""
    if isinstance(value, str) and value in ("true", "false"):
        return value == "true"
    if not isinstance(value, bool):
        raise expected("true or false", value)
    return value


def whole_number(low: int, high: int | None = None) -> Word:
    """A whole number within the bounds, both inclusive."""
    what = f"a whole number from {low} to {high}" if high is not None else f"a whole number, {low} or more"

    def check(value: Any) -> int:
        number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
        if isinstance(number, bool) or not isinstance(number, int):
            raise expected(what, value)
        if number < low or (high is not None and number > high):
            raise Invalid(f"expected {what}")
        return number

    json: Json = {"type": "integer", "minimum": low}
    return Word(check, or_variable(json if high is None else {**json, "maximum": high}))


port = whole_number(0, 65535)
"""A TCP port; 0 takes a free one."""


@word({"anyOf": [{"const": AUTO}, whole_number(1, MOST_WORKERS).json]})
def workers(value: Any) -> int:
    """A number of processes; `auto` is one for each core that this one may use."""
    if value == AUTO:
        return 1 if sys.platform == "win32" else min(usable_cores(), MOST_WORKERS)
    try:
        number: int = whole_number(1, MOST_WORKERS)(value)
    except Invalid:
        raise expected(f"a number of processes from 1 to {MOST_WORKERS}, or {AUTO}", value) from None
    if sys.platform == "win32" and number > 1:
        raise Invalid("expected 1: on Windows one process serves")
    return number


@word({"type": "array", "items": {"type": "number", "minimum": 0}, "minItems": 2, "maxItems": 2})
def bounds(value: Any) -> tuple[float, float]:
    """The least and the most of something, both allowed."""
    if not isinstance(value, list) or len(value) != 2 or not all(_is_number(one) and one >= 0 for one in value):
        raise expected("the least and the most, such as [0.1, 1.0]", value)
    low, high = value
    if low > high:
        raise Invalid("expected the least before the most, such as [0.1, 1.0]")
    return float(low), float(high)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@word({"anyOf": [{"type": "number", "minimum": 0}, matching(_SECONDS.pattern)]})
def seconds(value: Any) -> float:
    """A duration: a number of seconds, or one with a unit such as 500ms, 30s, 5m."""
    what = "seconds (30, 0.5) or a time with a unit (500ms, 30s, 5m, 2h, 1d)"
    if isinstance(value, str) and (match := _SECONDS.fullmatch(value)):
        value = float(match[1]) * _SECOND_UNITS[match[2] or "s"]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise expected(what, value)
    if value < 0 or not math.isfinite(value):
        raise Invalid(f"expected {what}, not negative")
    return float(value)


@word(seconds.json)
def limit(value: Any) -> float | None:
    """A duration after which something is given up; 0 is no limit, None."""
    return seconds(value) or None


@word({"anyOf": [{"type": "integer", "minimum": 1}, matching(r"[0-9]+(\.[0-9]+)? ?([kKmMgG]?[iI]?[bB])?")]})
def size(value: Any) -> int:
    """A number of bytes, or one with a unit such as 64MiB, 10MB."""
    what = "bytes (1048576) or a size with a unit (500kB, 10MB, 64MiB), more than 0"
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        value = int(float(match[1]) * _SIZE_UNITS[(match[2] or "b").lower()])
    if isinstance(value, bool) or not isinstance(value, int):
        raise expected(what, value)
    if value <= 0:
        raise Invalid(f"expected {what}")
    return value


@word({"type": "string", "pattern": r"^(ram|gpu[0-9]*)$"})
def resource(value: Any) -> str:
    """A kind of memory: the machine's, that of all its GPUs, or that of one."""
    if not isinstance(value, str) or not _RESOURCE.fullmatch(value):
        raise expected("ram, gpu (all of them), or gpu0, gpu1 ...", value)
    return value


@word({"type": "string", "minLength": 1})
def field_name(value: Any) -> str:
    """The name of a field in somebody else's JSON."""
    if not isinstance(value, str) or not value:
        raise expected("the name of a field", value)
    return value


@word({"type": "string"})
def network(value: Any) -> Network:
    """An address or network, v4 or v6; `::ffff:a.b.c.d` becomes `a.b.c.d`."""
    what = "an address (192.0.2.7, 2001:db8::7) or a network (192.0.2.0/24, 2001:db8::/32)"
    if not isinstance(value, str) or not value:
        raise expected(what, value)
    if "%" in value:
        raise Invalid(f"expected {what} without a zone (%)")
    try:
        loose = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise Invalid(f"expected {what}") from None
    if "/" in value and ipaddress.ip_address(value.partition("/")[0]) != loose.network_address:
        raise Invalid(f"expected {what}: bits are set behind the prefix, write the network's first address")
    return _unmapped(loose)


def _unmapped(found: Network) -> Network:
    mapped = found.network_address.ipv4_mapped if isinstance(found, ipaddress.IPv6Network) else None
    if mapped is None or found.prefixlen < 96:
        return found
    return ipaddress.IPv4Network((mapped, found.prefixlen - 96))


@word({"type": "string", "minLength": 1})
def text(value: Any) -> str:
    """Text that is not empty."""
    if not isinstance(value, str) or not value:
        raise _unquoted("text", value)
    return value


@word({"type": "string"})
def piece(value: Any) -> str:
    """Text, also none: a part of a template."""
    if not isinstance(value, str):
        raise _unquoted("text", value)
    return value


def _unquoted(what: str, value: Any) -> Invalid:
    quotes = ": put it in quotes" if isinstance(value, int | float) else ""
    return Invalid(f"{expected(what, value)}{quotes}")


@word({"type": "string"})
def key(value: Any) -> str:
    """A bearer key; one that is empty or only spaces is none, and comes back as ""."""
    if not isinstance(value, str):
        raise _unquoted("a key as text", value)
    if not value.strip():
        return ""
    if not value.isascii() or not value.isprintable() or value != value.strip():
        raise Invalid("expected a key of printable ASCII characters, without line ends or spaces around it")
    return value


@word(matching(_VARIABLE_NAME.pattern))
def variable_name(value: Any) -> str:
    """The name of an environment variable."""
    if not isinstance(value, str) or not _VARIABLE_NAME.fullmatch(value):
        raise expected("the name of an environment variable that holds the key, not the key itself", value)
    return value


@word({"type": "string", "minLength": 1})
def host(value: Any) -> str:
    """An address or a host name to listen on."""
    what = "an address (127.0.0.1, ::, 0.0.0.0) or a host name"
    if not isinstance(value, str) or not (_is_address(value) or _HOST_NAME.fullmatch(value)):
        raise expected(what, value)
    return value


def _is_address(value: str) -> bool:
    try:
        return bool(ipaddress.ip_address(value))
    except ValueError:
        return False


@word(matching(r"[hH][tT][tT][pP][sS]?://[^\s?#@]+"))
def url(value: Any) -> str:
    """A target's http or https address with host, perhaps port and path; given back without a slash at its end."""
    what = "http://host:port or https://host, perhaps with a path"
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
        raise expected(what, value)
    try:
        parts = urlsplit(value)
        hostname = parts.hostname or ""
        valid_port = parts.port != 0  # raises for one that is out of range
    except ValueError:
        raise Invalid(f"expected {what}: the host or the port is not valid") from None
    if "@" in parts.netloc:
        raise Invalid(f"expected {what}, without credentials: a key belongs into the variable that envkey names")
    if "?" in value or "#" in value:
        raise Invalid(f"expected {what}, without a query (?) or fragment (#)")
    if parts.scheme not in ("http", "https") or not valid_port or not _is_host(hostname):
        raise Invalid(f"expected {what}")
    if not _URL_PATH.fullmatch(parts.path) or _has_dot_segments(parts.path):
        raise Invalid(f"expected {what}, of plain characters and without /./ or /../")
    return f"{parts.scheme}://{parts.netloc.rstrip(':')}{parts.path.rstrip('/')}"


@word(url.json)
def url_or_port(value: Any) -> str:
    """The same; its port may be left to be picked."""
    if not isinstance(value, str) or not re.fullmatch(r"[^/]*//[^/]*:\$\{port\}(/.*)?", value):
        return str(url(value))
    return str(url(value.replace(PORT, "65535", 1))).replace("65535", PORT, 1)


@word({"type": "string", "minLength": 1})
def command(value: Any) -> tuple[str, ...]:
    """A command's words, cut as a shell does, which has nothing else to do with it."""
    if not isinstance(value, str):
        raise expected("a command and its arguments", value)
    try:
        words = tuple(shlex.split(value))
    except ValueError:
        raise Invalid("expected a command whose quotes are all closed") from None
    if not words:
        raise expected("a command and its arguments", value)
    if "\0" in value:
        raise Invalid("expected a command without NUL characters")
    return words


@word({"anyOf": [*seconds.json["anyOf"], {"const": -1}]})
def seconds_or_never(value: Any) -> float | None:
    """A duration; -1 is for ever, None, and so is what is longer than a century."""
    if value == -1 and not isinstance(value, bool) or value == "-1":
        return None
    duration: float = seconds(value)
    return duration if duration <= CENTURY else None


def _is_host(hostname: str) -> bool:
    return bool(_HOST_NAME.fullmatch(hostname)) or ("%" not in hostname and _is_address(hostname))


def _has_dot_segments(path: str) -> bool:
    return any(segment.lower().replace("%2e", ".") in (".", "..") for segment in path.split("/"))


@word(matching(r"/[^?#\s]*"))
def target_path(value: Any) -> str:
    """A path to ask a target at, below its url."""
    what = "a path of plain characters that begins with /, without a query (?), fragment (#), /./ or /../"
    if not isinstance(value, str) or not value.startswith("/"):
        raise expected(what, value)
    if not _URL_PATH.fullmatch(value) or _has_dot_segments(value):
        raise Invalid(f"expected {what}")
    return value


@word({"pattern": r"^/[^?#%\s]*$"})
def client_path(value: Any) -> str:
    """A path that clients ask for."""
    if isinstance(value, str) and "%" in value:
        raise Invalid("expected a path without percent escapes (%)")
    return str(target_path(value))


@word({"pattern": r"^[A-Za-z0-9._-]+$"})
def target_name(value: Any) -> str:
    """A target's name, fit for a path and a header."""
    if not isinstance(value, str) or not _SLUG.fullmatch(value) or not value.strip("."):
        repaired = re.sub(r"[^A-Za-z0-9._-]+", "-", str(value)).strip("-.")
        hint = f": try `{repaired}`" if repaired else ""
        raise Invalid(f"expected a name of letters, digits, `.`, `_` and `-`{hint}")
    return value


@word({"pattern": r"^[A-Za-z0-9._-]+$", "not": {"const": MASTER}})
def key_name(value: Any) -> str:
    """The name of a client's key, fit for the log, where `master` is the master key."""
    if value == MASTER:
        raise Invalid("expected another name, since the log calls the master key so")
    return str(target_name(value))


_CERTIFICATE = re.compile(r"(CN=|DNS:|URI:|email:)(\S.*)")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


@word(matching(r"(CN=|DNS:|URI:|email:)\S.*"))
def certificate_name(value: Any) -> str:
    """A name of a client's certificate: its subject's common name, or one of its alternative names."""
    found = _CERTIFICATE.fullmatch(value) if isinstance(value, str) and value.isprintable() else None
    if found is None:
        raise expected("a certificate's name: CN=alice, DNS:host.example, URI:spiffe://... or email:a@b.example", value)
    return found[0].lower().replace("dns:", "DNS:", 1) if found[1] == "DNS:" else found[0]


@word(matching(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].+)?"))
def expiry(value: Any) -> float:
    """The end of a day (UTC), or a time with its zone, in Unix seconds."""
    what = "a day (2027-12-31, its end in UTC) or a time with its zone (2027-12-31T18:00:00+01:00)"
    if not isinstance(value, str) or not value:
        raise expected(what, value)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise Invalid(f"expected {what}") from None
    if _DAY.fullmatch(value):
        return moment.replace(tzinfo=UTC).timestamp() + _SECOND_UNITS["d"]
    if moment.tzinfo is None:
        raise Invalid(f"expected {what}: the zone is missing, such as Z or +01:00")
    return moment.timestamp()


@word({"minLength": 1})
def plain_name(value: Any) -> str:
    """A name of printable characters: a model's or a template's."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise Invalid("expected a name of printable characters")
    return value


@word({"type": "string"})
def origin(value: Any) -> str:
    """An origin whose pages may call the proxy, or `*` for every one."""
    if value == "*" or (isinstance(value, str) and _ORIGIN.fullmatch(value)):
        return str(value)
    raise expected("an origin (https://app.example:8443, no slash at its end), or `*`", value)
