"""`mooltiproxy logs`: what a model server says, asked of the proxy that runs it."""

import socket
import ssl
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from urllib.parse import quote, urlsplit

import orjson

from mooltiproxy.config.model import Config
from mooltiproxy.errors import MooltiError

TIMEOUT = 10.0
"""Seconds until the proxy has to answer."""
PIECE = 65536
PATH = "/-/logs"
KEY = "MOOLTIPROXY_KEY"
DEFAULT_PORTS = {"http": 80, "https": 443}
LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "::1"}
"""Where to ask a proxy that listens on all addresses."""


class CannotAsk(MooltiError):
    """The proxy is not to be reached, or does not answer as it should."""


class NoSuchLog(CannotAsk):
    """The proxy answers that there is no such log."""


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


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose log, a model's or a target's, how many of its lines (None: all), and whether those to come as well."""

    name: str
    lines: int | None = None
    follow: bool = False


def show_logs(proxy: Proxy, wanted: Wanted, write: Callable[[bytes], None]) -> None:
    """Write a log as it comes; raises CannotAsk that says what to do."""
    if not proxy.key:
        raise CannotAsk(f"a log is shown to the proxy's master key, or one with `admin`: set {KEY} in the environment")
    try:
        try:
            _show(proxy, wanted, "model", write)
        except NoSuchLog:
            _show(proxy, wanted, "target", write)
    except ConnectionRefusedError:
        raise CannotAsk(f"no proxy answers at {proxy.url}: does it run? --url names another place") from None
    except TimeoutError:
        raise CannotAsk(f"{proxy.url} has not answered within {TIMEOUT:g} s") from None
    except ssl.SSLError as error:
        raise CannotAsk(f"no TLS with {proxy.url}: {error.reason or error}") from None
    except (ConnectionError, socket.gaierror, HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise CannotAsk(f"the connection to {proxy.url} has failed: {reason}") from None


def _show(proxy: Proxy, wanted: Wanted, kind: str, write: Callable[[bytes], None]) -> None:
    """The same where the name is one of a model or of a target; raises NoSuchLog where there is none."""
    query = f"{kind}={quote(wanted.name, safe='')}"
    query += "" if wanted.lines is None else f"&lines={wanted.lines}"
    query += "&follow=true" if wanted.follow else ""
    with closing(_connection(proxy)) as connection:
        connection.request("GET", f"{PATH}?{query}", headers={"Authorization": f"Bearer {proxy.key}"})
        response = connection.getresponse()
        if response.status != 200:
            raise _refusal(proxy, wanted, response)
        if wanted.follow and connection.sock is not None:
            connection.sock.settimeout(None)
        while piece := response.read1(PIECE):
            write(piece)


def _connection(proxy: Proxy) -> HTTPConnection:
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


def _refusal(proxy: Proxy, wanted: Wanted, response: HTTPResponse) -> CannotAsk:
    """What an answer that is no log means."""
    if response.status == 401:
        return CannotAsk(f"{proxy.url} does not take the key: set {KEY} to the one that it was started with")
    if response.status == 403:
        return CannotAsk(f"{proxy.url} shows a log to its master key, or one with `admin`, and {KEY} is none of these")
    said = _message(response.read(PIECE))
    if response.status == 404:
        return NoSuchLog(f"{proxy.url} has no log of {wanted.name}: {said}")
    return CannotAsk(f"{proxy.url} answered {response.status}: {said}")


def _message(body: bytes) -> str:
    """What an error says in the form of OpenAI's API, which paths of no other have."""
    try:
        return str(orjson.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "what answers there may not be this proxy"
