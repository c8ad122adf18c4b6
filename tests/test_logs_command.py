"""`mooltiproxy logs` against real proxies."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from mooltiproxy.certs import write_pair
from mooltiproxy.cli import main
from mooltiproxy.config.load import from_data
from mooltiproxy.keys import hash_of
from mooltiproxy.logs_command import Wanted, show_logs
from mooltiproxy.running import CannotAsk, Proxy
from tests.servers import proxy as running
from tests.servers.proxy import KEY

SAYS = "sh -c 'echo one on ${port}; echo two; echo very-secret-words; exit 3'"
ROOT = Path(__file__).parent.parent


def configuration(**system: Any) -> dict[str, Any]:
    """A target whose server says something and ends."""
    run = {"command": SAYS, "env": {"SECRET": "very-secret-words"}}
    target = {"url": "http://127.0.0.1:${port}", "mapping": {"/x": None}, "run": run}
    return {"targets": {"default": "box", "box": target}, "models": {"m": {"target": "box"}}, "system": system}


@asynccontextmanager
async def said(folder: Path, **system: Any) -> AsyncIterator[Proxy]:
    """A proxy whose server has spoken, as the command finds it."""
    data = configuration(**system)
    data["keys"] = {"bob": {"hash": hash_of("bobs-key")}}
    config = from_data(data, folder, {"MOOLTIPROXY_KEY": KEY})
    async with running.proxy(data, folder) as found:
        async with found.client.get("/x", ssl=False) as response:
            assert response.status == 503
        yield replace(Proxy.of(config), port=found.port)


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "mooltiproxy", "logs", *options]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "MOOLTIPROXY_KEY": KEY}


async def shown(proxy: Proxy, name: str, lines: int | None = None) -> list[str]:
    pieces: list[bytes] = []
    await asyncio.to_thread(show_logs, proxy, Wanted(name, lines), pieces.append)
    return b"".join(pieces).decode().splitlines()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
async def test_it_finds_the_proxy_that_serves_the_file(tmp_path: Path, host: str) -> None:
    async with said(tmp_path, host=host) as proxy:
        begun, one, *rest = await shown(proxy, "m")
        assert begun.startswith("--- started at") and one.startswith("one on ")
        assert rest == ["two", "***"]
        assert await shown(proxy, "box", 1) == ["***"]


@pytest.mark.parametrize("hosts", [["127.0.0.1"], ["proxy.example.org"]])
async def test_the_own_certificate_is_known_by_itself_whatever_names_it_has(tmp_path: Path, hosts: list[str]) -> None:
    write_pair(tmp_path / "certificates", hosts)
    async with said(tmp_path, ssl=True) as proxy:
        assert await shown(proxy, "m", 1) == ["***"]


async def test_another_certificate_gets_no_key(tmp_path: Path) -> None:
    write_pair(tmp_path / "certificates")
    other, _ = write_pair(tmp_path / "other")
    async with said(tmp_path, ssl=True) as proxy:
        with pytest.raises(CannotAsk, match="shows another certificate than"):
            await shown(replace(proxy, certificate=other), "m")
        with pytest.raises(CannotAsk, match=r"no TLS with https://127.0.0.1:\d+: CERTIFICATE_VERIFY_FAILED"):
            await shown(replace(proxy, certificate=None), "m")


async def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    async with said(tmp_path) as proxy:
        for wrong, name, words in (
            (replace(proxy, key=""), "m", "set MOOLTIPROXY_KEY in the environment"),
            (replace(proxy, key="wrong"), "m", "does not take the key: set MOOLTIPROXY_KEY to the one"),
            (replace(proxy, key="bobs-key"), "m", "a log is shown to its master key, or one with `admin`, and"),
            (proxy, "unknown", "has no log of unknown: there is no such"),
            (proxy, "a b/&lines=1", "has no log of a b/&lines=1: there is no such"),
            (replace(proxy, port=1), "m", "no proxy answers at http://127.0.0.1:1: does it run"),
        ):
            with pytest.raises(CannotAsk) as refused:
                await shown(wrong, name)
            assert words in str(refused.value)
            assert KEY not in str(refused.value) + repr(wrong)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x", "http://", "http://x:99999", "//x"])
def test_what_is_no_url_is_said(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", "m", "--url", url]) == 1
    assert f"{url} is no URL of a proxy: name one such as http://127.0.0.1:8000" in capsys.readouterr().err


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\na", b"SSH-2.0-x\r\n", b""]
)
def test_what_is_no_proxy_fails_in_one_line(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        asked = subprocess.Popen(command("m", "--url", url), env=environment(), stderr=subprocess.PIPE, text=True)
        peer, _ = server.accept()
        with peer, asked:
            peer.recv(65536)
            peer.sendall(answer)
            peer.close()
            _, told = asked.communicate(timeout=10)
    assert asked.returncode == 1
    assert told.startswith(f"the connection to {url} has failed: ") and told.count("\n") == 1


async def test_following_goes_on_until_ctrl_c_and_ends_quietly(tmp_path: Path) -> None:
    async with said(tmp_path) as proxy:
        asked = await asyncio.create_subprocess_exec(
            *command("m", "--follow", "--lines", "1", "--url", proxy.url),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert asked.stdout is not None
        assert await asyncio.wait_for(asked.stdout.readline(), 10) == b"***\n"
        asked.send_signal(signal.SIGINT)
        out, told = await asyncio.wait_for(asked.communicate(), 10)
        assert (asked.returncode, out, told) == (130, b"", b"")


async def test_following_ends_with_the_proxy(tmp_path: Path) -> None:
    async with running.proxy(configuration(), tmp_path) as found:
        async with found.client.get("/x") as response:
            assert response.status == 503
        pieces: asyncio.Queue[bytes] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        proxy, wanted = Proxy(port=found.port, key=KEY), Wanted("m", follow=True)

        def write(piece: bytes) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        following = asyncio.ensure_future(asyncio.to_thread(show_logs, proxy, wanted, write))
        assert (await asyncio.wait_for(pieces.get(), 5)).endswith(b"\n***\n")
        await found.server.drain()
        await asyncio.wait_for(following, 5)


async def test_the_command_reads_the_file_here_and_the_key_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOOLTIPROXY_KEY", KEY)
    async with said(tmp_path) as proxy:
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(configuration(port=proxy.port)))
        assert await asyncio.to_thread(main, ["logs", "m", "--lines", "2"]) == 0
        assert capsysbinary.readouterr().out.endswith(b"two\n***\n")
