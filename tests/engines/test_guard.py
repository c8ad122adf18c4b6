"""Servers end as the file says: by a command, a request or SIGTERM, and by SIGKILL if nothing else helps."""

import asyncio
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from mooltiproxy.engines.driver import CannotStart
from mooltiproxy.engines.logs import Log
from mooltiproxy.engines.process import GUARD, Process, Stop, StopRequest
from tests.engines.test_lifetimes import eventually
from tests.servers.engines import processes
from tests.servers.proxy import proxy
from tests.servers.proxy_process import free_port, running_proxy

KEY = {"authorization": "Bearer the-server-key"}
SIGKILLED, SIGTERMED = 137, 143
DEAF = "trap '' TERM; echo up; while :; do sleep 0.02; done"
UNTIL_FILE = "trap '' TERM; echo up; until [ -e ended ]; do sleep 0.02; done; exit 7"
SHUTDOWN = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def do_POST(self):
        asked = self.path, self.headers["authorization"]
        right = asked in [(path, "Bearer the-server-key") for path in ("/shutdown", "/shutdown?now=1")]
        self.send_response(204 if right else 403)
        self.end_headers()
        self.wfile.flush()
        if right:
            os._exit(7)
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("up", flush=True)
server.serve_forever()
"""


@pytest.fixture
def port() -> Iterator[int]:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    yield number


@asynccontextmanager
async def started(
    command: Sequence[str], folder: Path, stop: Stop, env: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[Process, Log]]:
    """The process of a server that says `up`; nothing of it is left at the end."""
    log = Log()
    process = await Process.start(command, folder, {**os.environ, **(env or {})}, 5.0, log, stop)
    try:
        await said(log, "up")
        yield process, log
    finally:
        await process.stop(0)
    assert not list(processes(str(folder)))


async def said(log: Log, line: str) -> None:
    follower = log.follow()
    if line not in log.history(100):
        async with asyncio.timeout(5):
            async for lines in follower:
                if line in lines:
                    break
    follower.end()


async def stopped(process: Process, grace: float = 5.0) -> tuple[int, float]:
    """The exit code after a stop, and the seconds that it took."""
    began = time.monotonic()
    await process.stop(grace)
    return process.ended.result(), time.monotonic() - began


async def test_a_stop_command_runs_where_the_server_does_and_sees_its_environment(tmp_path: Path) -> None:
    stop = ("sh", "-c", 'echo asked by $WHO; touch "$PWD/ended"')
    async with started(("sh", "-c", UNTIL_FILE), tmp_path, stop, {"WHO": "me"}) as (process, log):
        code, seconds = await stopped(process)
        assert (code, seconds < 3) == (7, True)
        assert log.tail(2) == ["up", "asked by me"]


async def test_a_stop_command_may_take_longer_than_the_server(tmp_path: Path) -> None:
    stop = ("sh", "-c", "touch ended; sleep 0.2; echo cleaned up")
    async with started(("sh", "-c", UNTIL_FILE), tmp_path, stop) as (process, log):
        assert (await stopped(process))[0] == 7
        assert log.tail(1) == ["cleaned up"]


@pytest.mark.parametrize(
    ("stop", "word"), [(("sh", "-c", "echo no; exit 3"), "no"), (("no-such-program",), "No such file")]
)
async def test_a_stop_command_that_fails_leaves_it_to_sigterm(tmp_path: Path, stop: Stop, word: str) -> None:
    async with started(("sh", "-c", "echo up; sleep 60"), tmp_path, stop) as (process, log):
        code, seconds = await stopped(process)
        assert (code, seconds < 3) == (SIGTERMED, True)
        assert word in log.tail(1)[0]


async def test_a_stop_request_carries_the_servers_key(tmp_path: Path, port: int) -> None:
    stop = StopRequest(f"http://127.0.0.1:{port}/shutdown?now=1", KEY)
    command = (sys.executable, "-I", "-S", "-c", SHUTDOWN, str(port))
    async with started(command, tmp_path, stop) as (process, _):
        code, seconds = await stopped(process)
        assert (code, seconds < 3) == (7, True)


async def test_a_stop_request_that_is_refused_leaves_it_to_sigterm(tmp_path: Path, port: int) -> None:
    stop = StopRequest(f"http://127.0.0.1:{port}/shutdown?now=1")
    command = (sys.executable, "-I", "-S", "-c", SHUTDOWN, str(port))
    async with started(command, tmp_path, stop) as (process, log):
        code, seconds = await stopped(process)
        assert (code, seconds < 3) == (SIGTERMED, True)
        assert "its stop request was answered with 403" in log.tail(9)


async def test_a_stop_request_that_reaches_nobody_leaves_it_to_sigterm(tmp_path: Path, port: int) -> None:
    stop = StopRequest(f"http://127.0.0.1:{port}/shutdown")
    async with started(("sh", "-c", "echo up; sleep 60"), tmp_path, stop) as (process, log):
        code, seconds = await stopped(process)
        assert (code, seconds < 3) == (SIGTERMED, True)
        assert log.tail(1) == ["its stop request could not be sent: Connection refused"]


async def test_a_stop_request_without_an_answer_ends_with_the_grace(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        stop = StopRequest(f"http://127.0.0.1:{silent.getsockname()[1]}/shutdown")
        async with started(("sh", "-c", "echo up; sleep 60"), tmp_path, stop) as (process, _):
            code, seconds = await stopped(process, 0.3)
            assert (code, 0.3 <= seconds < 1.2) == (SIGKILLED, True)


async def test_who_is_deaf_to_all_is_killed_with_the_stop_command_after_the_grace(tmp_path: Path) -> None:
    marker = str(tmp_path)
    stop = ("sh", "-c", "sleep 60 & wait", marker)
    async with started(("sh", "-c", DEAF, marker), tmp_path, stop) as (process, _):
        code, seconds = await stopped(process, 0.3)
        assert (code, 0.3 <= seconds < 1.2) == (SIGKILLED, True)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody can be made their parent")
async def test_what_has_left_the_servers_session_ends_with_it(tmp_path: Path) -> None:
    daemon = f"setsid sh -c 'setsid sleep 60 & echo $! >>{tmp_path}/pids; exec sleep 61' & echo $! >>{tmp_path}/pids"
    async with started(("sh", "-c", f"{daemon}; sleep 0.1; echo up; sleep 62"), tmp_path, ()) as (process, _):
        assert (await stopped(process))[0] == SIGTERMED
        pids = (tmp_path / "pids").read_text().split()
        assert not set(pids) & set(os.listdir("/proc"))


async def test_a_second_stop_shortens_the_first_one_s_grace(tmp_path: Path) -> None:
    stop = ("sh", "-c", "sleep 60", str(tmp_path))
    async with started(("sh", "-c", DEAF, str(tmp_path)), tmp_path, stop) as (process, _):
        first = asyncio.ensure_future(process.stop(60))
        await asyncio.sleep(0)
        code, seconds = await stopped(process, 0.2)
        assert (code, 0.2 <= seconds < 1.1) == (SIGKILLED, True)
        await first


async def test_no_grace_is_no_grace_for_the_stop_request_either(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        stop = StopRequest(f"http://127.0.0.1:{silent.getsockname()[1]}/shutdown")
        async with started(("sh", "-c", DEAF), tmp_path, stop) as (process, _):
            code, seconds = await stopped(process, 0)
            assert (code, seconds < 0.9) == (SIGKILLED, True)


async def test_keys_of_the_stop_request_are_in_no_argument_and_no_environment(tmp_path: Path) -> None:
    stop = StopRequest("http://127.0.0.1:1/shutdown", KEY)
    async with started(("sh", "-c", f"echo up; : {tmp_path}; sleep 60"), tmp_path, stop):
        found = [Path(f"/proc/{pid}") for pid in processes(str(tmp_path))]
        assert len(found) >= 2  # the guard and the server
        assert not any(
            b"the-server-key" in (one / name).read_bytes() for one in found for name in ("cmdline", "environ")
        )
    assert "the-server-key" not in repr(stop)


def test_the_stop_command_runs_as_well_when_the_proxy_is_gone_and_nobody_reads(tmp_path: Path) -> None:
    orders = b'{"grace": 5, "command": ["sh", "-c", "echo said to nobody; touch ended"]}\n'
    command = [sys.executable, "-I", "-S", str(GUARD), "sh", "-c", UNTIL_FILE.replace("echo up; ", "")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=tmp_path) as guard:
        assert guard.stdin and guard.stdout and guard.stderr
        guard.stdin.write(orders)
        guard.stdin.flush()
        assert guard.stderr.readline().strip().isdigit()
        guard.stdout.close()
        guard.stdin.close()
        assert guard.wait(5) == 7


def test_nothing_is_started_when_the_proxy_is_gone_before_it_has_said_how_to_end_it(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", str(GUARD), "touch", str(tmp_path / "started")]
    assert subprocess.run(command, input=b'{"grace": 5', timeout=5).returncode != 0
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_that_is_no_longer_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match=f"there is no folder {tmp_path}/gone"):
        await Process.start(("true",), tmp_path / "gone", os.environ, 5.0, Log())


async def test_a_command_that_is_not_there_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="`no-such-program` cannot be started: No such file"):
        await Process.start(("no-such-program",), tmp_path, os.environ, 1.0, Log())


def of_target(command: Sequence[str], **run: Any) -> dict[str, Any]:
    """A configuration whose server is this."""
    target = {"url": "http://127.0.0.1:${port}", "speaks": "openai", "key": "the-server-key"}
    return {"targets": {"default": "box", "box": {**target, "run": {"command": shlex.join(command), **run}}}}


def test_kill_9_of_the_proxy_runs_the_stop_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    port, stop = free_port(), "sh -c 'echo to nobody; touch ended; touch stopped-${port}'"
    config = of_target(("sh", "-c", UNTIL_FILE, str(tmp_path), "${port}"), cwd=str(tmp_path), stop=stop, preload=True)
    with running_proxy(tmp_path, yaml.safe_dump({**config, "system": {"port": port}})) as running:
        eventually(lambda: len(list(processes(f"{tmp_path}\0"))) == 2)  # the guard and the server
        running.process.kill()
        eventually(lambda: bool(list(tmp_path.glob("stopped-*"))))
        eventually(lambda: not list(processes(str(tmp_path))))
    assert [one.name for one in tmp_path.glob("stopped-*")] != ["stopped-${port}"]


async def test_a_stop_request_is_asked_below_the_targets_url_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(SHUTDOWN)
    command = (sys.executable, "-I", "-S", str(tmp_path / "server.py"), "${port}")
    async with proxy(of_target(command, stop="POST /shutdown", ready="/")) as running:
        async with running.client.get("/v1/models") as response:
            assert response.status != 503
        async with running.client.post("/-/unload") as response:
            assert await response.json() == {"unloaded": ["box"]}
        async with running.client.get("/-/logs?target=box") as response:
            assert "stop request" not in await response.text()
