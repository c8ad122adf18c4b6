"""The running proxy, asked by a command: where it is, how it is reached, and what to do where it is not."""

import socket
import ssl
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from mooltiproxy.config.model import Config
from mooltiproxy.errors import MooltiError

TIMEOUT = 10.0
"""Seconds until the proxy has to answer."""
KEY = "MOOLTIPROXY_KEY"
DEFAULT_PORTS = {"http": 80, "https": 443}
LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "::1"}
"""Where to ask a proxy that listens on all addresses."""


class CannotAsk(MooltiError):
    """The proxy is not to be reached, or does not answer as it should."""


class NobodyAsked(CannotAsk):
    """No proxy was asked: none listens there, or there is no key to ask it with."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy: its address, an admin's key, and the file of its own certificate, None where authorities are to
    vouch for it."""

    scheme: str = "http"
    host: str = "127.0.0.1"
    port: int = 8000
    key: str = field(default="", repr=False)
    certificate: Path | None = None

    @classmethod
    def of(cls, config: Config) -> "Proxy":
        """The one that serves a configuration on this machine."""
        system = config.system
        host = LOOPBACK.get(system.host, system.host)
        certificate = Path(system.tls.cert) if system.tls else None
        return cls("https" if system.tls else "http", host, system.port, system.masterkey, certificate)

    def at(self, url: str) -> "Proxy":
        """The same one at a URL; raises CannotAsk."""
        parts = urlsplit(url)
        try:
            port = parts.port or DEFAULT_PORTS[parts.scheme]
        except (ValueError, KeyError):
            port = 0
        if not parts.hostname or not port:
            raise CannotAsk(f"{url} is no URL of a proxy: name one such as http://127.0.0.1:8000")
        return replace(self, scheme=parts.scheme, host=parts.hostname, port=port)

    @property
    def url(self) -> str:
        """Its address, to be shown."""
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


@contextmanager
def asking(proxy: Proxy, what: str) -> Iterator[None]:
    """Around what asks it for something, such as `a log is`; raises CannotAsk that says what to do."""
    if not proxy.key:
        raise NobodyAsked(f"{what} shown to the proxy's master key, or one with `admin`: set {KEY} in the environment")
    try:
        yield
    except ConnectionRefusedError:
        raise NobodyAsked(f"no proxy answers at {proxy.url}: does it run? --url names another place") from None
    except TimeoutError:
        raise CannotAsk(f"{proxy.url} has not answered within {TIMEOUT:g} s") from None
    except ssl.SSLError as error:
        raise CannotAsk(f"no TLS with {proxy.url}: {error.reason or error}") from None
    except (ConnectionError, socket.gaierror, HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise CannotAsk(f"the connection to {proxy.url} has failed: {reason}") from None


def asked(
    proxy: Proxy, what: str, method: str, path: str, body: Any = None, *, expected: Collection[int] = (200,)
) -> Any:
    """What it answers as JSON; raises CannotAsk, also for a status that is not expected."""
    headers = {"Authorization": f"Bearer {proxy.key}", "Content-Type": "application/json"}
    with asking(proxy, what), closing(connection(proxy)) as there:
        there.request(method, path, None if body is None else orjson.dumps(body), headers)
        response = there.getresponse()
        said = response.read()
    if response.status not in expected:
        raise refusal(proxy, what, response.status, said)
    try:
        return orjson.loads(said)
    except ValueError:
        raise CannotAsk(f"{proxy.url} answered no JSON: {NOT_OURS}") from None


def refusal(proxy: Proxy, what: str, status: int, said: bytes) -> CannotAsk:
    """What an answer means that is none."""
    if status == 401:
        return CannotAsk(f"{proxy.url} does not take the key: set {KEY} to the one that it was started with")
    if status == 403 and "banned" in message(said):
        return CannotAsk(
            f"{proxy.url} has banned the address that this is asked from: put it on `cerbere.whitelist` and reload"
        )
    if status == 403:
        return CannotAsk(
            f"{proxy.url}: {what} shown to its master key, or one with `admin`, and {KEY} is none of these"
        )
    return CannotAsk(f"{proxy.url} answered {status}: {message(said)}")


def connection(proxy: Proxy) -> HTTPConnection:
    """To be asked on; raises what `asking` puts into words."""
    if proxy.scheme == "http":
        return HTTPConnection(proxy.host, proxy.port, timeout=TIMEOUT)
    if proxy.certificate is None:
        return HTTPSConnection(proxy.host, proxy.port, timeout=TIMEOUT)
    return _pinned(proxy, proxy.certificate)


def _pinned(proxy: Proxy, certificate: Path) -> HTTPConnection:
    """A connection to whoever has exactly this certificate: the names in it need not be those of this machine."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = HTTPSConnection(proxy.host, proxy.port, timeout=TIMEOUT, context=context)
    connection.connect()
    shown = connection.sock.getpeercert(binary_form=True)
    if shown != _first_certificate(certificate):
        connection.close()
        raise CannotAsk(f"{proxy.url} shows another certificate than {certificate}: was it started with this file?")
    return connection


def _first_certificate(file: Path) -> bytes:
    text = file.read_text(encoding="ascii", errors="replace")
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    return ssl.PEM_cert_to_DER_cert(f"{begin}{text.partition(begin)[2].partition(end)[0]}{end}")


NOT_OURS = "what answers there may not be this proxy"


def message(body: bytes) -> str:
    """What an error says in the form of OpenAI's API, which paths of no other have."""
    try:
        return str(orjson.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return NOT_OURS
