"""GET /-/logs, with real servers: what they said, and what they say."""

import asyncio
import shlex
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mooltiproxy.engines.logs import Follower
from mooltiproxy.keys import hash_of
from tests.servers.engines import processes
from tests.servers.proxy import Proxy, head, proxy

SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        word = self.path.removeprefix("/say/")
        if word == "much":
            print((500 * "x" + chr(10)) * 1000, end="", flush=True)
        elif word not in ("/health", "crash"):
            print(word, flush=True)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
        if word == "crash":
            os._exit(3)
    def log_message(self, *args):
        pass
print("up with", os.environ.get("SECRET"), flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def talking(folder: Path, **run: Any) -> dict[str, Any]:
    """A target whose server says what it is asked to."""
    (folder / "server.py").write_text(SERVER)
    command = shlex.join([sys.executable, "-I", "-S", str(folder / "server.py"), "${port}"])
    return {
        "url": "http://127.0.0.1:${port}",
        "mapping": dict.fromkeys(["/health", "/say/crash", "/say/a", "/say/b", "/say/much"]),
        "run": {"command": command, "env": {"SECRET": "very-secret-words"}, **run},
    }


@asynccontextmanager
async def running(folder: Path, **run: Any) -> AsyncIterator[Proxy]:
    target = talking(folder, **run)
    other = {"url": "http://127.0.0.1:1", "speaks": "openai"}
    models = {"chatty": {"target": "talker"}, "foreign": {"target": "other"}}
    data = {"targets": {"default": "talker", "talker": target, "other": other}, "models": models}
    async with proxy({**data, "system": {"drain": 5}, "keys": {"bob": {"hash": hash_of("bobs-key")}}}) as found:
        yield found
    assert not list(processes(str(folder)))


async def said(running: Proxy, path: str) -> int:
    async with running.client.get(path, headers={"target": "talker"}) as response:
        return response.status


async def log(running: Proxy, query: str, **headers: str) -> tuple[int, str]:
    async with running.client.get(f"/-/logs?{query}", headers=headers) as response:
        return response.status, await response.text()


async def lines_until(response: aiohttp.ClientResponse, wanted: str) -> list[str]:
    found: list[str] = []
    async with asyncio.timeout(5):
        while not found or found[-1] != wanted:
            found.append((await response.content.readline()).decode().rstrip("\n"))
            assert response.content.at_eof() is False or found[-1] == wanted, found
    return found


async def until_b(follower: Follower) -> AsyncIterator[list[str]]:
    async for lines in follower:
        yield lines
        if lines[-1] == "b":
            return


async def test_the_log_of_a_model_or_target_spans_its_runs_with_secrets_masked(tmp_path: Path) -> None:
    async with running(tmp_path) as found:
        assert await log(found, "model=chatty") == (200, "")
        assert await said(found, "/say/a") == 200
        await said(found, "/say/crash")
        while await said(found, "/say/b") != 200:  # the proxy may not have seen its end yet
            pass
        status, text = await log(found, "target=talker")
        first, up, a, second, up_again, b = text.splitlines()
        assert (status, up, a, up_again, b) == (200, "up with ***", "a", "up with ***", "b")
        assert first.startswith("--- started at ") and second.startswith("--- started at ")
        assert await log(found, "model=chatty&lines=2") == (200, "up with ***\nb\n")
        assert await log(found, "model=chatty&lines=0") == (200, "")


async def test_following_shows_new_lines_until_the_client_leaves(tmp_path: Path) -> None:
    async with running(tmp_path) as found:
        await said(found, "/say/a")
        async with found.client.get("/-/logs?model=chatty&lines=1&follow=true") as response:
            assert response.headers["content-type"] == "text/plain; charset=utf-8"
            assert "x-request-id" in response.headers and response.headers["server"] == "mooltiproxy"
            assert await lines_until(response, "a") == ["a"]
            await said(found, "/say/b")
            assert await lines_until(response, "b") == ["b"]
            response.close()
        followers = (await found.server._engines.log_of("talker"))._followers
        for follower in list(followers):
            await asyncio.wait_for(asyncio.shield(follower.ended), 5)


async def test_who_follows_sees_the_stream_end_when_the_proxy_drains(tmp_path: Path) -> None:
    async with running(tmp_path) as found:
        await said(found, "/say/a")
        async with found.client.get("/-/logs?model=chatty&follow=true") as response:
            await lines_until(response, "a")
            began = time.monotonic()
            await found.server.drain()
            assert time.monotonic() - began < 2
            assert await response.content.read() == b""  # and not a broken stream


async def test_who_follows_but_never_reads_blocks_neither_the_server_nor_the_drain(tmp_path: Path) -> None:
    async with running(tmp_path) as found:
        await said(found, "/say/a")
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", found.port))
            client.sendall(head("GET /-/logs?model=chatty&follow=1"))
            for _ in range(12):
                assert await said(found, "/say/much") == 200
            output = await found.server._engines.log_of("talker")
            [deaf] = output._followers
            here = output.follow()
            await said(found, "/say/b")
            assert [lines async for lines in until_b(here)][-1][-1] == "b"
            assert deaf._lost > 0
            began = time.monotonic()
            await found.server.drain()
            assert time.monotonic() - began < 2.5


@pytest.mark.parametrize(
    ("query", "status", "word"),
    [
        ("", 400, "either `model=` or `target=`"),
        ("model=chatty&target=talker", 400, "either"),
        ("model=chatty&lines=-1", 400, "whole number"),
        ("model=chatty&lines=many", 400, "whole number"),
        ("model=chatty&follow=perhaps", 400, "true or false"),
        ("model=unknown", 404, "no such model"),
        ("target=unknown", 404, "no such target"),
        ("model=foreign", 404, "no server that the proxy starts"),
    ],
)
async def test_what_cannot_be_shown_is_said(tmp_path: Path, query: str, status: int, word: str) -> None:
    async with running(tmp_path) as found:
        answer = await log(found, query)
        assert answer[0] == status and word in answer[1]


async def test_logs_are_for_the_master_key_and_read_with_get(tmp_path: Path) -> None:
    async with running(tmp_path) as found:
        assert (await log(found, "model=chatty", Authorization="Bearer bobs-key"))[0] == 403
        assert (await log(found, "model=chatty", Authorization="Bearer wrong"))[0] == 401
        async with found.client.post("/-/logs?model=chatty") as response:
            assert response.status == 405


async def test_a_target_with_a_server_for_each_model_wants_a_model(tmp_path: Path) -> None:
    target = talking(tmp_path)
    target["run"]["command"] += " ${model}"
    data = {
        "targets": {"default": "each", "each": target},
        "models": {"m1": {"target": "each"}, "m2": {"target": "each"}},
    }
    async with proxy(data) as found:
        assert await log(found, "model=m1") == (200, "")
        status, text = await log(found, "target=each")
        assert (status, "name one of those" in text) == (400, True)
