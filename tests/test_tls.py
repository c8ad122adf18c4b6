"""TLS on both sides: certificates that are keys, that are renewed, and that targets have."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from mooltiproxy import watcher
from mooltiproxy.certs import write_pair
from mooltiproxy.config.load import from_data
from mooltiproxy.errors import ConfigError
from mooltiproxy.keys import hash_of
from tests.servers.authority import Authority
from tests.servers.proxy import KEY, Proxy, passing, proxy
from tests.servers.scripted import answer, answering, upstream

ALICE = "the-key-of-alice"
HOST = x509.DNSName("localhost")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "EVERY", 0.02)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@dataclass
class Client:
    """One TLS connection to the proxy."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def get(self, *rows: str, path: str = "/info") -> tuple[int, bytes]:
        """Status and body."""
        head = "\r\n".join([f"GET {path} HTTP/1.1", "host: localhost", *rows, "", ""])
        self.writer.write(head.encode())
        told = await self.reader.readuntil(b"\r\n\r\n")
        length = int(told.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return int(told.split()[1]), await self.reader.readexactly(length)

    @property
    def peer(self) -> bytes:
        """The certificate that the proxy has shown."""
        return bytes(self.writer.get_extra_info("ssl_object").getpeercert(binary_form=True))


@asynccontextmanager
async def connected(running: Proxy, trusted: Path, own: Path | None = None) -> AsyncIterator[Client]:
    """A client that trusts this certificate, and perhaps has one of its own."""
    context = ssl.create_default_context(cafile=trusted)
    if own is not None:
        context.load_cert_chain(own)
    reader, writer = await asyncio.open_connection("localhost", running.port, ssl=context)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


def bearer(key: str) -> str:
    return f"authorization: Bearer {key}"


@pytest.mark.parametrize(("offered", "taken"), [(["h2", "http/1.1"], "http/1.1"), (["h2"], None), ([], None)])
async def test_clients_are_told_that_it_speaks_http_1_1_only(
    tmp_path: Path, offered: list[str], taken: str | None
) -> None:
    cert, key = write_pair(tmp_path, ["localhost"])
    async with proxy(passing("http://127.0.0.1:1") | {"system": {"ssl": {"cert": str(cert), "key": str(key)}}}) as one:
        context = ssl.create_default_context(cafile=cert)
        context.set_alpn_protocols(offered)
        _, writer = await asyncio.open_connection("localhost", one.port, ssl=context)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == taken
        writer.close()


# A client's certificate as a key.


@asynccontextmanager
async def mutual(folder: Path, authority: Authority, **keys: Any) -> AsyncIterator[Proxy]:
    """A proxy that every client must show a certificate, with these keys."""
    write_pair(folder / "certificates", ["localhost"])
    tls = {name: f"certificates/{name}.pem" for name in ("cert", "key")} | {"client_ca": str(authority.certificate)}
    async with upstream(answering(answer())) as up:
        config = {**passing(up.url, "/info"), "system": {"ssl": tls}, "keys": keys}
        async with proxy(config, folder) as running:
            yield running


def served(folder: Path) -> Path:
    return folder / "certificates" / "cert.pem"


@pytest.mark.parametrize(
    ("certificate", "names", "also"),
    [
        ("CN=alice", ["alice"], []),
        ("DNS:Alice.example", ["other"], [x509.DNSName("x.example"), x509.DNSName("ALICE.example")]),
        ("URI:spiffe://here/alice", ["other"], [x509.UniformResourceIdentifier("spiffe://here/alice")]),
        ("email:alice@here.example", ["other"], [x509.RFC822Name("alice@here.example")]),
    ],
)
async def test_a_clients_certificate_is_a_key(
    tmp_path: Path,
    authority: Authority,
    capsys: pytest.CaptureFixture[str],
    certificate: str,
    names: list[str],
    also: list[x509.GeneralName],
) -> None:
    own = authority.issue(*names, also=also)
    async with mutual(tmp_path, authority, alice={"certificate": certificate}) as running:
        async with connected(running, served(tmp_path), own) as client:
            assert (await client.get())[0] == 200
    assert " alice GET /info " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "also"),
    [
        (["alic"], []),
        (["alice2"], []),
        (["Alice"], []),
        (["alice,CN=bob"], []),
        (["bob", "alice"], []),
        (["alice", "alice"], []),
        (["bob"], [x509.DNSName("CN=alice")]),
        (["bob"], [x509.UniformResourceIdentifier("CN=alice")]),
        (["CN=alice"], []),
    ],
)
async def test_a_name_that_is_not_the_whole_name_is_none(
    tmp_path: Path, authority: Authority, names: list[str], also: list[x509.GeneralName]
) -> None:
    own = authority.issue(*names, also=also, file="own")
    async with mutual(tmp_path, authority, alice={"certificate": "CN=alice"}) as running:
        async with connected(running, served(tmp_path), own) as client:
            assert (await client.get())[0] == 401


async def test_a_certificate_with_the_names_of_two_keys_is_none_of_them(tmp_path: Path, authority: Authority) -> None:
    own = authority.issue("alice", also=[x509.DNSName("bob.example")])
    keys = {"alice": {"certificate": "CN=alice"}, "bob": {"certificate": "DNS:bob.example"}}
    async with mutual(tmp_path, authority, **keys) as running:
        async with connected(running, served(tmp_path), own) as client:
            assert (await client.get())[0] == 401


async def test_a_key_that_is_sent_goes_before_the_certificate_and_a_wrong_one_is_wrong(
    tmp_path: Path, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {"alice": {"certificate": "CN=alice"}, "bob": {"hash": hash_of("the-key-of-bob")}}
    async with mutual(tmp_path, authority, **keys) as running:
        async with connected(running, served(tmp_path), authority.issue("alice")) as client:
            assert (await client.get(bearer("the-key-of-bob")))[0] == 200
            assert (await client.get(bearer("wrong")))[0] == 401
            assert (await client.get("authorization: Basic YTpi"))[0] == 401
    logged = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in logged] == ["bob", "-", "-"]


async def test_a_certificates_key_has_rights_and_expires_as_every_key(tmp_path: Path, authority: Authority) -> None:
    keys = {
        "alice": {"certificate": "CN=alice", "endpoints": ["chat"]},
        "bob": {"certificate": "CN=bob", "expires": "2020-01-01"},
    }
    async with mutual(tmp_path, authority, **keys) as running:
        for name, status in (("alice", 403), ("bob", 401)):
            async with connected(running, served(tmp_path), authority.issue(name)) as client:
                assert (await client.get())[0] == status


# Renewed certificates.


def replace_pair(folder: Path, hosts: list[str]) -> Path:
    """A new pair in the place of the old one; the certificate's file."""
    for file in write_pair(folder / "new", hosts):
        os.replace(file, folder / "certificates" / file.name)
    return served(folder)


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            if done():
                return
            await asyncio.sleep(0.02)


async def test_new_connections_get_the_renewed_certificate_and_old_ones_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    write_pair(tmp_path / "certificates", ["localhost"])
    async with upstream(answering(answer())) as up:
        config = {**passing(up.url, "/info"), "system": {"ssl": True}}
        async with proxy(config, tmp_path) as running, connected(running, served(tmp_path)) as old:
            assert (await old.get(bearer(KEY)))[0] == 200
            before = old.peer
            replace_pair(tmp_path, ["localhost"])
            await until(lambda: "certificate of the files that have changed" in caplog.text)
            async with connected(running, served(tmp_path)) as new:
                assert (await new.get(bearer(KEY)))[0] == 200
                assert new.peer != before
            assert (await old.get(bearer(KEY)))[0] == 200


@pytest.mark.parametrize("file", ["cert.pem", "key.pem"])
async def test_half_a_pair_keeps_the_old_one_until_it_is_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str
) -> None:
    caplog.set_level("INFO")
    write_pair(tmp_path / "certificates", ["localhost"])
    first = tmp_path / "first.pem"
    first.write_bytes(served(tmp_path).read_bytes())
    write_pair(tmp_path / "new", ["localhost"])
    async with proxy({**passing("http://127.0.0.1:1"), "system": {"ssl": True}}, tmp_path) as running:
        os.replace(tmp_path / "new" / file, tmp_path / "certificates" / file)
        await until(lambda: "the last good certificate stays" in caplog.text)
        async with connected(running, first) as client:
            assert (await client.get(path="/ping"))[0] == 200
        other = "key.pem" if file == "cert.pem" else "cert.pem"
        os.replace(tmp_path / "new" / other, tmp_path / "certificates" / other)
        await until(lambda: "certificate of the files that have changed" in caplog.text)
        async with connected(running, served(tmp_path)) as client:
            assert (await client.get(path="/ping"))[0] == 200


async def test_an_authority_that_is_taken_away_vouches_for_nobody_any_more(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    own = authority.issue("alice")
    async with mutual(tmp_path, authority, alice={"certificate": "CN=alice"}) as running:
        other = Authority(tmp_path / "other")
        os.replace(other.certificate, authority.certificate)
        await until(lambda: "certificate of the files that have changed" in caplog.text)
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            async with connected(running, served(tmp_path), own) as client:
                await client.get()
        async with connected(running, served(tmp_path), other.issue("alice")) as client:
            assert (await client.get())[0] == 200


async def test_nobody_notices_certificates_that_are_swapped_again_and_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    write_pair(tmp_path / "certificates", ["localhost"])
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    shown: set[bytes] = set()
    swapping = True

    async def visit(running: Proxy) -> None:
        while swapping:
            reader, writer = await asyncio.open_connection("localhost", running.port, ssl=anybody)
            client = Client(reader, writer)
            assert (await client.get(bearer(KEY)))[0] == 200
            shown.add(client.peer)
            assert (await client.get(bearer(KEY)))[0] == 200
            writer.close()

    async def swap() -> None:
        before = caplog.text.count("files that have changed")
        replace_pair(tmp_path, ["localhost"])
        await until(lambda: caplog.text.count("files that have changed") > before)

    async with upstream(answering(answer())) as up:
        async with proxy({**passing(up.url, "/info"), "system": {"ssl": True}}, tmp_path) as running:
            visitors = [asyncio.create_task(visit(running)) for _ in range(4)]
            for _ in range(3):
                await swap()
                await asyncio.sleep(0.05)
            swapping = False
            await asyncio.gather(*visitors)
    assert len(shown) == 4


def session_of(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSession | None:
    """What a connection could be taken up again by, after an answer; raises OSError where it is refused."""
    with socket.create_connection(("localhost", port), timeout=10) as raw:
        with context.wrap_socket(raw, server_hostname="localhost", session=session) as connection:
            connection.sendall(b"GET /ping HTTP/1.1\r\nhost: localhost\r\n\r\n")
            if not connection.recv(100):
                raise ConnectionResetError
            return connection.session


async def test_no_session_outlives_the_authority_that_vouched_for_it(tmp_path: Path, authority: Authority) -> None:
    async with mutual(tmp_path, authority) as running:
        context = ssl.create_default_context(cafile=served(tmp_path))
        context.load_cert_chain(authority.issue("alice"))
        session = await asyncio.to_thread(session_of, running.port, context)
        assert session is None or not session.has_ticket


# Targets.


@asynccontextmanager
async def target(authority: Authority, clients: Path | None = None) -> AsyncIterator[tuple[int, list[Any]]]:
    """A TLS server that the authority vouches for, and the certificates that it has been shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.issue("server", also=[HOST], server=True))
    if clients is not None:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    shown: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                shown.append(writer.get_extra_info("peercert"))
                writer.write(answer(b'{"data": []}'))
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            writer.close()

    server = await asyncio.start_server(serve, "localhost", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], shown
    finally:
        server.close()


@asynccontextmanager
async def before(port: int, **tls: Any) -> AsyncIterator[Proxy]:
    section = {"tls": tls} if tls else {}
    async with proxy(passing(f"https://localhost:{port}", "/info", **section)) as running:
        yield running


async def asked(running: Proxy) -> tuple[int, str]:
    async with running.client.get("/info") as response:
        return response.status, await response.text()


async def test_a_target_with_a_private_authority_is_trusted_by_it_alone(tmp_path: Path, authority: Authority) -> None:
    other = Authority(tmp_path / "other")
    async with target(authority) as (port, shown):
        for tls in ({}, {"ca": str(other.certificate)}):
            async with before(port, **tls) as running:
                assert (await asked(running))[0] == 502
        async with before(port, ca=str(authority.certificate)) as running:
            assert (await asked(running))[0] == 200
    assert len(shown) == 1


async def test_a_target_gets_the_certificate_that_it_asks_for(tmp_path: Path, authority: Authority) -> None:
    own = str(authority.issue("proxy"))
    async with target(authority, authority.certificate) as (port, shown):
        async with before(port, ca=str(authority.certificate)) as running:
            assert (await asked(running))[0] == 502
        async with before(port, ca=str(authority.certificate), cert=own) as running:
            assert (await asked(running))[0] == 200
    assert [one["subject"] for one in shown] == [((("commonName", "proxy"),),)]


async def test_verify_false_believes_anybody_and_is_warned_about(authority: Authority) -> None:
    data = passing("https://localhost:1", tls={"verify": False})
    (warning,) = from_data(data, Path(), {"MOOLTIPROXY_KEY": KEY}).warnings
    assert (warning.path, "whoever answers" in warning.message) == (("targets", "one", "tls", "verify"), True)
    async with target(authority) as (port, _), before(port, verify=False) as running:
        assert (await asked(running))[0] == 200


async def test_one_targets_authority_is_not_another_ones(authority: Authority) -> None:
    async with target(authority) as (port, shown):
        entry = {"url": f"https://localhost:{port}", "mapping": {"/info": None}}
        trusting = {**entry, "tls": {"ca": str(authority.certificate)}}
        async with proxy({"targets": {"default": "one", "one": trusting, "two": entry}}) as running:
            assert (await asked(running))[0] == 200
            async with running.client.get("/to/two/info") as response:
                assert response.status == 502
    assert len(shown) == 1


async def test_a_targets_renewed_files_are_taken_up(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    file = tmp_path / "ca.pem"
    file.write_bytes(Authority(tmp_path / "other").certificate.read_bytes())
    async with target(authority) as (port, _), before(port, ca=str(file)) as running:
        assert (await asked(running))[0] == 502
        file.write_text("nothing")
        await until(lambda: "the last good certificates stay" in caplog.text)
        file.write_bytes(authority.certificate.read_bytes())
        await until(lambda: "new connections to targets" in caplog.text)
        assert (await asked(running))[0] == 200


@pytest.mark.parametrize(
    ("tls", "url", "message"),
    [
        ({"ca": "none.pem"}, "https://a", "cannot be read"),
        ({"key": "own.pem"}, "https://a", "expected `cert` beside it"),
        ({"cert": "own.pem"}, "https://a", "cannot be used"),
        ({"ca": "own.pem"}, "https://a", "cannot be used"),
        ({"verify": False}, "http://a", "begins with https://"),
        ({"verfy": False}, "https://a", "did you mean `verify`"),
    ],
)
def test_a_mistake_is_told(tmp_path: Path, tls: dict[str, Any], url: str, message: str) -> None:
    (tmp_path / "own.pem").write_text("nothing of use")
    with pytest.raises(ConfigError, match=message):
        from_data(passing(url, tls=tls), tmp_path, {"MOOLTIPROXY_KEY": KEY})


def test_a_target_with_tls_is_not_asked_what_it_speaks() -> None:
    data = {"targets": {"default": "one", "one": {"url": "https://a", "speaks": "auto", "tls": {"verify": False}}}}
    with pytest.raises(ConfigError, match="one with `tls:` is not asked"):
        from_data(data, Path(), {"MOOLTIPROXY_KEY": KEY})
