"""Makes the self-signed certificate that `system.ssl: true` serves with."""

import ipaddress
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mooltiproxy.errors import ConfigError, Problem

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, GeneralName

DEFAULT_HOSTS = ("localhost", "127.0.0.1", "::1")
VALID_FOR = timedelta(days=825)
"""The longest that all common clients accept."""
NO_CRYPTOGRAPHY = "`cert new` needs the package `cryptography`: pip install 'mooltiproxy[cert]'"
CLOCK_SKEW = timedelta(hours=1)
NAME = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?", re.IGNORECASE)


def write_pair(folder: Path, hosts: Sequence[str] = DEFAULT_HOSTS) -> tuple[Path, Path]:
    """Write cert.pem and key.pem for these names and addresses into `folder`; gives back both paths.

    Raises ConfigError for a host that is neither, if one of the files is there already, if they cannot be written, or
    without cryptography.
    """
    cert, key = folder / "cert.pem", folder / "key.pem"
    for file in (cert, key):
        if file.exists():
            raise ConfigError(Problem("is there already: move it away first if you want a new pair", file=str(file)))
    key_pem, cert_pem = _make(hosts or DEFAULT_HOSTS)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_new(key, key_pem, mode=0o600)
        _write_new(cert, cert_pem, mode=0o644)
    except OSError as error:
        raise ConfigError(Problem(f"cannot be written: {error.strerror}", file=str(error.filename))) from error
    return cert, key


def _make(hosts: Sequence[str]) -> tuple[bytes, bytes]:
    # cryptography is imported where it is used: the other commands do without it, and so does the base install
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise ConfigError(Problem(NO_CRYPTOGRAPHY)) from None

    names = [_name(host) for host in hosts]
    key = ec.generate_private_key(ec.SECP256R1())
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return key_pem, _certificate(key, names).public_bytes(serialization.Encoding.PEM)


def _name(host: str) -> "GeneralName":
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        pass
    try:
        name = host.encode("idna").decode() if not host.isascii() else host
    except UnicodeError:
        name = ""
    if not NAME.fullmatch(name) or len(name) > 253:
        raise ConfigError(Problem(f"{host!r} is neither a host name nor an address, as in example.org or 192.0.2.7"))
    return x509.DNSName(name)


def _certificate(key: "EllipticCurvePrivateKey", names: Sequence["GeneralName"]) -> "Certificate":
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mooltiproxy")])
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now - CLOCK_SKEW + VALID_FOR)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    return builder.sign(key, hashes.SHA256())


def _write_new(file: Path, content: bytes, *, mode: int) -> None:
    """Create the file with its mode from the first moment; an existing one is an error."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as out:
        out.write(content)
