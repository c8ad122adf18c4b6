import ipaddress
import ssl
import stat
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from mooltiproxy.certs import write_pair
from mooltiproxy.errors import ConfigError


def _names(cert: Path) -> x509.SubjectAlternativeName:
    extension = x509.load_pem_x509_certificate(cert.read_bytes()).extensions.get_extension_for_oid(
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME
    )
    assert isinstance(extension.value, x509.SubjectAlternativeName)
    return extension.value


def _shake_hands(cert: Path, key: Path, host: str) -> None:
    """A whole TLS handshake in memory, the client trusting only this certificate, as strictly as it can."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(cert, key)
    client_context = ssl.create_default_context(cafile=str(cert))
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server, server_hostname=host)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue


def test_the_pair_is_for_this_machine_by_default(tmp_path: Path) -> None:
    cert, _ = write_pair(tmp_path)
    assert _names(cert).get_values_for_type(x509.DNSName) == ["localhost"]
    addresses = _names(cert).get_values_for_type(x509.IPAddress)
    assert addresses == [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")]


@pytest.mark.parametrize("host", ["proxy.example.org", "192.0.2.7", "2001:db8::7", "a.wild.example.org"])
def test_a_client_that_trusts_the_certificate_accepts_its_hosts(tmp_path: Path, host: str) -> None:
    cert, key = write_pair(tmp_path, ["proxy.example.org", "192.0.2.7", "[2001:db8::7]", "*.wild.example.org"])
    _shake_hands(cert, key, host)


def test_a_client_refuses_the_certificate_for_another_host(tmp_path: Path) -> None:
    cert, key = write_pair(tmp_path, ["proxy.example.org"])
    with pytest.raises(ssl.SSLCertVerificationError):
        _shake_hands(cert, key, "other.example.org")


def test_the_key_can_be_read_by_its_owner_only(tmp_path: Path) -> None:
    _, key = write_pair(tmp_path)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_the_certificate_is_valid_for_825_days(tmp_path: Path) -> None:
    cert, _ = write_pair(tmp_path)
    made = x509.load_pem_x509_certificate(cert.read_bytes())
    assert (made.not_valid_after_utc - made.not_valid_before_utc).days == 825


@pytest.mark.parametrize("name", ["cert.pem", "key.pem"])
def test_an_existing_file_is_never_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(ConfigError, match=f"{name}: is there already: move it away"):
        write_pair(tmp_path)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize("host", ["https://example.org", "", "a b", "example.org:8000", "-x.org", "*"])
def test_a_host_that_is_none_is_refused_before_anything_is_written(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match="neither a host name nor an address"):
        write_pair(tmp_path, [host])
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "certificates").write_text("")
    with pytest.raises(ConfigError, match="certificates: cannot be written"):
        write_pair(tmp_path / "certificates")


def test_without_cryptography_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(ConfigError, match=r"mooltiproxy\[cert\]"):
        write_pair(tmp_path / "certificates")
    assert not (tmp_path / "certificates").exists()
