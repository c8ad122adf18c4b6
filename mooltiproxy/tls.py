"""The listener's TLS: its certificate is read anew when its files have changed, and counts for new connections."""

import ssl
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from mooltiproxy.config.model import TLS
from mooltiproxy.errors import ConfigError, Problem


class Certificates:
    """The certificate of a listener, and the authorities of its clients.

    `context` is for the listener. It hands every new connection over to one that was made of the files when they were
    last good, and that nothing changes afterwards: no handshake sees half of two pairs.
    """

    def __init__(self, tls: TLS) -> None:
        """Raises ConfigError for files that cannot be used."""
        self._tls = tls
        self._content = self._read()
        self._current = tls_context(tls)
        self.context = tls_context(tls)
        self.context.sni_callback = self._hand_over

    @property
    def files(self) -> Sequence[Path]:
        """What it is read from."""
        files = (self._tls.cert, self._tls.key, self._tls.client_ca)
        return [file for file in files if file is not None]

    def renew(self) -> bool:
        """Read the files anew, if they are others; whether they are. Blocks. Raises ConfigError, and the last good ones
        stay in use."""
        content = self._read()
        if content == self._content:
            return False
        self._current = tls_context(self._tls)
        self._content = content
        return True

    def _read(self) -> list[bytes]:
        """What stands in the files, as a hash."""
        try:
            return [sha256(file.read_bytes()).digest() for file in self.files]
        except OSError as error:
            raise unusable(error) from error

    def _hand_over(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Called in each handshake, also where the client names no host."""
        connection.context = self._current


def tls_context(tls: TLS) -> ssl.SSLContext:
    """TLS 1.2 or newer, HTTP/1.1, a client certificate where `client_ca` is set; raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(tls.cert, tls.key, password=_no_password)
        if tls.client_ca:
            context.load_verify_locations(tls.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
            # A session that is taken up again is not verified again, whoever has been taken out of client_ca meanwhile.
            context.num_tickets = 0
            context.options |= ssl.OP_NO_TICKET
    except (OSError, ssl.SSLError, ValueError) as error:
        raise unusable(error) from error
    return context


def unusable(error: Exception) -> ConfigError:
    """What is said of files that cannot be used."""
    return ConfigError(Problem(f"the certificates cannot be used: {error}", path=("system", "ssl")))


def _no_password() -> str:
    raise ValueError("the key has a password")
