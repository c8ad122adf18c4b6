"""The running process: signals, drain, reload, TLS."""

import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from pathlib import Path

import pytest

from mooltiproxy.certs import write_pair
from tests.servers.authority import Authority
from tests.servers.proxy_process import KEY, free_port, running_proxy
from tests.servers.toy import Toy, running_toy

CONFIG = """\
system: {{port: {port}, drain: {drain}}}
targets:
  default: toy
  toy: {{url: {toy}, mapping: {{/generate_stream: , /info: }}}}
"""
BODY = b'{"inputs": "The tea", "parameters": {"max_new_tokens": 30, "do_sample": false}}'
HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}


@pytest.fixture(scope="module")
def toy() -> Iterator[Toy]:
    with running_toy("--delay", "0.02") as running:
        yield running


def configured(toy: Toy, port: int, drain: float = 5) -> str:
    return CONFIG.format(port=port, toy=toy.url, drain=drain)


def opened_stream(port: int) -> tuple[HTTPConnection, HTTPResponse]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", "/generate_stream", BODY, HEADERS)
    return connection, connection.getresponse()


def get(port: int, path: str = "/info") -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers=HEADERS)
    status = connection.getresponse().status
    connection.close()
    return status


def test_sigterm_lets_open_streams_finish_refuses_new_ones_and_exits_with_0(toy: Toy, tmp_path: Path) -> None:
    port = free_port()
    with running_proxy(tmp_path, configured(toy, port)) as process:
        streams = [opened_stream(port) for _ in range(20)]
        process.send_signal(signal.SIGTERM)
        bodies = [response.read() for _, response in streams]
        assert all(b'"generated_text":"' in body for body in bodies)
        assert process.wait(5) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        for connection, _ in streams:
            connection.close()


def test_a_stream_longer_than_drain_is_cut(toy: Toy, tmp_path: Path) -> None:
    port = free_port()
    with running_proxy(tmp_path, configured(toy, port, drain=0.1)) as process:
        connection, response = opened_stream(port)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
        with pytest.raises((IncompleteRead, ConnectionResetError)):
            response.read()
        connection.close()


def test_sighup_reloads_and_open_streams_go_on(toy: Toy, tmp_path: Path) -> None:
    port = free_port()
    config = configured(toy, port)
    with running_proxy(tmp_path, config) as process:
        assert get(port, "/health") == 404
        connection, response = opened_stream(port)
        (tmp_path / "config.yaml").write_text(config.replace("/info: ", "/info: , /health: "))
        process.send_signal(signal.SIGHUP)
        assert process.line_with("reloaded") == "INFO the configuration was reloaded\n"
        assert get(port, "/health") == 200
        assert b'"generated_text":"' in response.read()
        connection.close()


def test_nobody_waits_for_a_silent_server_that_is_asked_what_it_speaks(toy: Toy, tmp_path: Path) -> None:
    port = free_port()
    config = configured(toy, port)
    with socket.create_server(("127.0.0.1", 0)) as silent, running_proxy(tmp_path, config) as process:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        (tmp_path / "config.yaml").write_text(f"{config}  other: {{url: {url}, speaks: auto}}\n")
        process.send_signal(signal.SIGHUP)
        asking, _ = silent.accept()
        assert get(port) == 200
        asking.close()
        silent.close()
        assert "what it speaks cannot be found out" in process.line_with("found out")


def test_a_bad_file_changes_nothing_and_says_why(toy: Toy, tmp_path: Path) -> None:
    port = free_port()
    config = configured(toy, port)
    with running_proxy(tmp_path, config) as process:
        (tmp_path / "config.yaml").write_text(config + "nonsense: 1\n")
        process.send_signal(signal.SIGHUP)
        assert "nonsense" in process.line_with("nonsense")
        assert get(port) == 200


def test_a_reload_that_would_leave_no_master_key_is_refused(toy: Toy, tmp_path: Path) -> None:
    port = free_port()
    config = configured(toy, port).replace("system: {", f"system: {{masterkey: {KEY}, ")
    with running_proxy(tmp_path, config, key=None) as process:
        (tmp_path / "config.yaml").write_text(configured(toy, port))
        process.send_signal(signal.SIGHUP)
        assert "master key" in process.line_with("master key")
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/info", headers={"Authorization": "Bearer "})
        assert connection.getresponse().status == 401
        connection.close()
        assert get(port) == 200


def served_with(folder: Path, config: str) -> subprocess.CompletedProcess[str]:
    (folder / "config.yaml").write_text(config)
    command = [sys.executable, "-m", "mooltiproxy", "serve", "--config", str(folder / "config.yaml")]
    environ = {"MOOLTIPROXY_KEY": KEY, "PYTHONPATH": str(Path(__file__).parent.parent)}
    return subprocess.run(command, capture_output=True, text=True, timeout=20, env=environ, check=False)


def test_a_port_in_use_is_one_line_and_exit_code_3(toy: Toy, tmp_path: Path) -> None:
    ended = served_with(tmp_path, configured(toy, toy.port))
    assert ended.returncode == 3
    assert len(ended.stderr.strip().splitlines()) == 1
    assert str(toy.port) in ended.stderr


# TLS.

OK = b"HTTP/1.1 200 OK"
TLS_CONFIG = """\
system: {{port: {port}, ssl: {ssl}}}
targets:
  default: toy
  toy: {{url: {toy}, mapping: {{/info: }}}}
"""


def get_over_tls(port: int, context: ssl.SSLContext) -> bytes:
    """The status line of an answer; raises OSError where the server or this client does not like the other."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        with context.wrap_socket(raw, server_hostname="localhost") as connection:
            rows = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
            connection.sendall(f"GET /info HTTP/1.1\r\nhost: localhost\r\n{rows}\r\n".encode())
            line = connection.recv(15)
            if not line:
                raise ConnectionResetError
            return line


def test_ssl_true_serves_the_pair_that_cert_new_made(toy: Toy, tmp_path: Path) -> None:
    cert, _ = write_pair(tmp_path / "certificates", ["localhost"])
    port = free_port()
    with running_proxy(tmp_path, TLS_CONFIG.format(port=port, ssl="true", toy=toy.url)):
        assert get_over_tls(port, ssl.create_default_context(cafile=cert)) == OK
        with pytest.raises(ssl.SSLCertVerificationError):
            get_over_tls(port, ssl.create_default_context())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tls_older_than_1_2_is_refused(toy: Toy, tmp_path: Path) -> None:
    write_pair(tmp_path / "certificates", ["localhost"])
    port = free_port()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with running_proxy(tmp_path, TLS_CONFIG.format(port=port, ssl="true", toy=toy.url)):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(OSError):
            get_over_tls(port, context)


def test_client_ca_asks_every_client_for_a_certificate(toy: Toy, tmp_path: Path) -> None:
    cert, _ = write_pair(tmp_path / "certificates", ["localhost"])
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    port = free_port()
    setting = f"{{cert: certificates/cert.pem, key: certificates/key.pem, client_ca: {ours.certificate}}}"
    with running_proxy(tmp_path, TLS_CONFIG.format(port=port, ssl=setting, toy=toy.url)):
        known = ssl.create_default_context(cafile=cert)
        known.load_cert_chain(ours.issue("alice"))
        assert get_over_tls(port, known) == OK
        unknown = ssl.create_default_context(cafile=cert)
        unknown.load_cert_chain(theirs.issue("mallory"))
        for context in (ssl.create_default_context(cafile=cert), unknown):
            with pytest.raises(OSError):
                get_over_tls(port, context)


@pytest.fixture
def tls_upstream(tmp_path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """A TLS server with a certificate that nobody knows; it notes what it is sent."""
    cert, key = write_pair(tmp_path / "upstream", ["localhost"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    got: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        raw, _ = listening.accept()
        try:
            with context.wrap_socket(raw, server_side=True) as connection:
                got.append(connection.recv(65536))
        except OSError:
            raw.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listening.getsockname()[1], got
    thread.join(5)
    listening.close()


def test_an_upstream_certificate_that_nobody_signed_is_refused_and_nothing_sent(
    tls_upstream: tuple[int, list[bytes]], tmp_path: Path
) -> None:
    upstream_port, got = tls_upstream
    port = free_port()
    target = f"{{url: 'https://localhost:{upstream_port}', mapping: {{/info: }}}}"
    config = f"system: {{port: {port}}}\ntargets: {{default: a, a: {target}}}\n"
    with running_proxy(tmp_path, config):
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/info", headers=HEADERS)
        response = connection.getresponse()
        assert response.status == 502
        assert b"certificate" in response.read()
        connection.close()
    assert got == []
