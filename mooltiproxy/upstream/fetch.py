"""Whole answers to requests of our own: probes, and images and documents that a client names by URL.

Such a URL is the client's choice, so where it leads is checked: http and https only, every address that its name
resolves to must be public (unless the configuration allows any), the connection goes to the very address that was
checked, and each redirect is checked anew. Size, time and number are limited.
"""

import asyncio
import base64
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

import orjson

from mooltiproxy.config.model import Timeouts
from mooltiproxy.errors import BadRequest, ProxyError, UpstreamBroken, UpstreamError
from mooltiproxy.mapping.attachments import PDF, Attachment
from mooltiproxy.upstream import headers
from mooltiproxy.upstream.session import Origin, PooledSession

MAX_SIZE = 20 * 1024 * 1024
MAX_NUMBER = 32
TYPES = ("image/", PDF, "text/")
"""What the media types of answers begin with that a client may have fetched."""
MAX_REDIRECTS = 3
TIMEOUTS = Timeouts(connect=5.0, first_byte=10.0, idle=5.0, total=20.0)
NO_FIELDS: Mapping[str, str] = {}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(slots=True)
class Whole:
    """A receiver that gathers one answer of at most `limit` bytes."""

    done: "asyncio.Future[None]"
    limit: int
    status: int = 0
    fields: headers.Fields = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)

    def head(self, status: int, fields: headers.Fields) -> None:
        """Keep the head."""
        self.status, self.fields = status, fields

    def body(self, data: bytes) -> None:
        """Keep the bytes, up to the limit."""
        self.data += data
        if len(self.data) > self.limit:
            self.failed(UpstreamBroken(f"the answer is longer than {self.limit} bytes"))

    def end(self) -> None:
        """The answer is complete."""
        if not self.done.done():
            self.done.set_result(None)

    def failed(self, error: UpstreamError) -> None:
        """The answer is not to be had."""
        if not self.done.done():
            self.done.set_exception(error)

    def flush(self) -> None:
        """Nothing is written anywhere."""

    def json(self) -> Any:
        """The body as JSON, None where it is none."""
        try:
            return orjson.loads(self.data)
        except orjson.JSONDecodeError:
            return None


async def get(
    session: PooledSession,
    origin: Origin,
    path: str,
    timeouts: Timeouts,
    limit: int,
    address: str | None = None,
    fields: Mapping[str, str] = NO_FIELDS,
) -> Whole:
    """GET a path, with further header `fields`; raises UpstreamError. `address` is where to connect to, whatever the
    name resolves to."""
    return await call(session, origin, "GET", path, timeouts, limit, address=address, fields=fields)


async def call(
    session: PooledSession,
    origin: Origin,
    method: str,
    path: str,
    timeouts: Timeouts,
    limit: int,
    *,
    body: bytes | None = None,
    address: str | None = None,
    fields: Mapping[str, str] = NO_FIELDS,
) -> Whole:
    """The answer to a request, of at most `limit` bytes; `body` is JSON, None where there is none. For the rest see
    `get`."""
    own = {"host": origin.authority, "accept": "*/*", "connection": "close", **fields}
    if body is not None:
        own |= {"content-type": "application/json"}
    if method != "GET":
        own |= {"content-length": str(len(body or b""))}
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in own.items()) + "\r\n"
    whole = Whole(asyncio.get_running_loop().create_future(), limit)
    await ask(session, origin, head.encode() + (body or b""), whole, timeouts, address)
    return whole


async def ask(
    session: PooledSession,
    origin: Origin,
    request: bytes,
    whole: Whole,
    timeouts: Timeouts,
    address: str | None = None,
) -> None:
    """Send a request, its body included, on a connection of its own, and gather the answer; raises UpstreamError."""
    connection = await session.acquire(origin, timeouts.connect, fresh=True, address=address)
    try:
        connection.send(request, whole, timeouts, is_last=True)
        await whole.done
    finally:
        connection.close()


class AttachmentFetcher:
    """Fetches images and documents over a session; `allow_private` takes the limit to public addresses away."""

    def __init__(self, session: PooledSession, *, allow_private: bool = False) -> None:
        self._session = session
        self._allow_private = allow_private

    async def fetch(self, urls: Sequence[str]) -> Mapping[str, Attachment]:
        """What is at these URLs, by URL; raises BadRequest that says why one cannot be had."""
        if len(urls) > MAX_NUMBER:
            raise _refused(f"more than {MAX_NUMBER} images and documents by URL in one request")
        try:
            async with asyncio.timeout(TIMEOUTS.total):
                return {url: await self._attachment(url) for url in urls}
        except TimeoutError:
            raise _refused("the images and documents by URL could not be fetched in time") from None

    async def _attachment(self, url: str) -> Attachment:
        try:
            whole = await self._follow(url)
        except UpstreamError as error:
            raise _refused(f"a URL of the request cannot be fetched: {error}") from error
        if whole.status != 200:
            raise _refused(f"a URL of the request cannot be fetched: its server answered {whole.status}")
        media_type = headers.media_type(whole.fields)
        if not media_type.startswith(TYPES):
            raise _refused("a URL of the request leads to what is neither an image nor a PDF nor a text")
        return Attachment(media_type, base64.b64encode(whole.data).decode())

    async def _follow(self, url: str) -> Whole:
        for _ in range(MAX_REDIRECTS + 1):
            origin, path = self._origin(url)
            address = await self._address(origin)
            whole = await get(self._session, origin, path, TIMEOUTS, MAX_SIZE, address)
            location = headers.value_of(whole.fields, b"location")
            if whole.status not in (301, 302, 303, 307, 308) or location is None:
                return whole
            url = urljoin(url, location.decode("latin-1"))
        raise _refused("a URL of the request redirects too often")

    def _origin(self, url: str) -> tuple[Origin, str]:
        try:
            parts = urlsplit(url)
            origin = Origin.of(f"{parts.scheme}://{parts.netloc}")
        except ValueError as error:
            raise _refused("a URL of the request cannot be read") from error
        clean = url.isascii() and url.isprintable() and " " not in url
        if parts.scheme not in ("http", "https") or not origin.host or parts.username is not None or not clean:
            raise _refused("the URL of an image or document must be plain http or https")
        return origin, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    async def _address(self, origin: Origin) -> str:
        """The address to connect to: the first that the name has, if all of them may be asked."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise _refused("the server that a URL of the request names cannot be found") from error
        addresses = [str(info[4][0]) for info in found]
        if not addresses or not (self._allow_private or all(is_public(address) for address in addresses)):
            raise _refused("a URL of the request leads to a private address")
        return addresses[0]


def is_public(text: str) -> bool:
    """Whether an address is one of the public internet, in whatever disguise."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return address.is_global and not address.is_multicast


def _refused(message: str) -> ProxyError:
    return BadRequest(message, param="messages")
