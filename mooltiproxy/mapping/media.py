"""Media inside JSON: data URLs and base64 in the spellings that clients use."""

import base64
import binascii
import re
from urllib.parse import urlsplit

_DATA_URL = re.compile(r"data:([^;,]*)((?:;[^;,]*)*),(.*)", re.IGNORECASE | re.DOTALL)


_MAGIC = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
)


def data_url(media_type: str, data: str) -> str:
    """A data URL of base64 data."""
    return f"data:{media_type};base64,{data}"


def split_data_url(url: str) -> tuple[str, str] | None:
    """Media type and standard, padded base64 of a base64 data URL (RFC 2397); None for any other URL.

    Raises ValueError for a data URL whose data is not base64.
    """
    match = _DATA_URL.fullmatch(url.strip())
    if match is None:
        return None
    media_type, parameters, data = match.groups()
    if not parameters.lower().endswith(";base64"):
        raise ValueError("a data URL must hold base64")
    return media_type.lower() or "text/plain", standard_base64(data)


def host_of(url: str) -> str:
    """The host of a URL in lower case; "" where it has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def standard_base64(data: str) -> str:
    """Base64 with the standard alphabet and padding, from URL-safe, unpadded or wrapped base64; raises ValueError."""
    compact = "".join(data.split()).replace("-", "+").replace("_", "/").rstrip("=")
    padded = compact + "=" * (-len(compact) % 4)
    try:
        base64.b64decode(padded, validate=True)
    except binascii.Error as error:
        raise ValueError("this is not base64") from error
    return padded


def image_type(data: str) -> str | None:
    """The media type of a base64 image by its first bytes; None for one that is not known."""
    begin = base64.b64decode(data[:16] + "=" * (-len(data[:16]) % 4))
    if begin.startswith(b"RIFF") and begin[8:12] == b"WEBP":
        return "image/webp"
    return next((media_type for magic, media_type in _MAGIC if begin.startswith(magic)), None)
