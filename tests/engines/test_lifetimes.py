"""Servers that the proxy has started live no longer than it, and not shorter than they are needed."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from mooltiproxy.engines.leftovers import Record, birth, end_leftovers
from tests.servers.engines import BODY, engines, processes, toy_target
from tests.servers.proxy_process import KEY, Running, free_port, running_proxy

HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
SHORT = orjson.dumps(BODY)
LONG = orjson.dumps({**BODY, "parameters": {"max_new_tokens": 30, "do_sample": False}})


def eventually(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Client:
    """Asks a proxy at a port."""

    def __init__(self, port: int) -> None:
        self._port = port

    @contextmanager
    def asked(self, method: str, path: str, target: str = "", body: bytes | None = None) -> Iterator[HTTPResponse]:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=10)
        with closing(connection):
            connection.request(method, path, body, {**HEADERS, **({"target": target} if target else {})})
            with connection.getresponse() as response:
                yield response

    def pid(self, target: str) -> int:
        """Ask the target, then what its server's process is."""
        with self.asked("POST", "/generate", target, SHORT) as response:
            assert response.status == 200, response.read()
        with self.asked("GET", "/status") as response:
            pids: dict[str, Any] = {one["target"]: one["pid"] for one in orjson.loads(response.read())["targets"]}
        return int(pids[target])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for a test's files; whatever has it on its command line is killed at the end."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    yield tmp_path
    try:
        eventually(lambda: not list(processes(str(tmp_path))))
    finally:
        for pid in processes(str(tmp_path)):
            os.kill(pid, signal.SIGKILL)


def configuration(port: int, **targets: dict[str, Any]) -> str:
    return str(yaml.safe_dump({**engines(**targets), "system": {"port": port, "drain": 5}}))


def reloaded(running: Running, folder: Path, config: str) -> None:
    (folder / "config.yaml").write_text(config)
    running.send_signal(signal.SIGHUP)
    running.line_with("the configuration was reloaded")


def test_kill_9_of_the_proxy_leaves_nothing_behind(folder: Path) -> None:
    port = free_port()
    through_a_shell = toy_target(log=folder / "shell.jsonl")
    through_a_shell["run"]["command"] = f"sh -c '{through_a_shell['run']['command']} & wait'"
    deaf = toy_target("--ignore-sigterm", log=folder / "deaf.jsonl", stop_timeout=0.3)
    with running_proxy(folder, configuration(port, a=through_a_shell, b=deaf)) as running:
        client = Client(port)
        assert client.pid("a") and client.pid("b")
        assert len(list(processes(f"{folder}/shell.jsonl"))) == 3  # the guard, the shell and the server
        running.process.kill()
        eventually(lambda: not list(processes(str(folder))))


def test_what_a_killed_guard_leaves_behind_is_ended_at_the_next_start(folder: Path) -> None:
    port = free_port()
    config = configuration(port, a=toy_target(log=folder / "toy.jsonl"))
    with running_proxy(folder, config) as running:
        server = Client(port).pid("a")
        guards = [pid for pid in processes(f"{folder}/toy") if pid != server]
        for pid in guards:
            os.kill(pid, signal.SIGSTOP)  # it must not see the proxy's end
        running.process.kill()
        for pid in guards:
            os.kill(pid, signal.SIGKILL)
    assert server in processes(str(folder))
    with running_proxy(folder, config) as running:
        eventually(lambda: server not in processes(str(folder)))
    assert list((folder / "mooltiproxy").iterdir()) == []


def test_sigterm_stops_all_servers_in_parallel_within_drain(folder: Path) -> None:
    port = free_port()
    deaf = [toy_target("--ignore-sigterm", log=folder / f"{name}.jsonl", stop_timeout=0.7) for name in "abc"]
    with running_proxy(folder, configuration(port, **dict(zip("abc", deaf, strict=True)))) as running:
        client = Client(port)
        assert all(client.pid(name) for name in "abc")
        began = time.monotonic()
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 0
        assert 0.7 <= time.monotonic() - began < 2.0  # one after the other they would take 2.1 s
    assert list(processes(str(folder))) == []


def test_a_server_that_is_being_stopped_already_gets_no_more_time_than_the_drain_has(folder: Path) -> None:
    port = free_port()
    deaf = toy_target("--ignore-sigterm", log=folder / "a.jsonl", stop_timeout=60)
    with running_proxy(folder, configuration(port, a=deaf).replace("drain: 5", "drain: 0.2")) as running:
        with Client(port).asked("POST", "/generate", "a", orjson.dumps({**BODY, "keep_alive": 0})) as response:
            assert response.status == 200
        running.send_signal(signal.SIGTERM)
        assert running.wait(5) == 0
    assert list(processes(str(folder))) == []


def test_sigterm_lets_the_answer_of_a_server_end_first(folder: Path) -> None:
    port = free_port()
    with running_proxy(folder, configuration(port, a=toy_target("--delay", "0.03", log=folder / "t"))) as running:
        client = Client(port)
        with client.asked("POST", "/generate_stream", "a", LONG) as response:
            running.send_signal(signal.SIGTERM)
            assert b'"generated_text":"' in response.read()
        assert running.wait(10) == 0


def test_a_reload_touches_only_servers_whose_own_settings_have_changed(folder: Path) -> None:
    port = free_port()
    same, changed, gone = (toy_target("--delay", "0.015", log=folder / f"{name}.jsonl") for name in "abc")
    with running_proxy(folder, configuration(port, a=same, b=changed, c=gone)) as running:
        client = Client(port)
        before = {name: client.pid(name) for name in "abc"}
        with client.asked("POST", "/generate_stream", "b", LONG) as stream:
            same["run"]["unload_after"] = 100
            changed["run"]["env"] = {"NEW": "1"}
            reloaded(running, folder, configuration(port, a=same, b=changed))
            assert b'"generated_text":"' in stream.read()
        after = {name: client.pid(name) for name in "ab"}
        assert after["a"] == before["a"]
        assert after["b"] != before["b"]
        eventually(lambda: before["c"] not in processes(str(folder)))


def test_a_configuration_that_is_refused_stops_nothing(folder: Path) -> None:
    port = free_port()
    config = configuration(port, a=toy_target(log=folder / "toy.jsonl"))
    with running_proxy(folder, config) as running:
        client = Client(port)
        before = client.pid("a")
        (folder / "config.yaml").write_text(config.replace("command:", "comand:"))
        running.send_signal(signal.SIGHUP)
        running.line_with("not reloaded")
        assert client.pid("a") == before


def test_only_the_servers_of_proxies_that_are_gone_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    servers = [subprocess.Popen(["sleep", "60"], start_new_session=True) for _ in range(3)]
    try:
        records = [Record.write(server.pid) for server in servers]
        left, reused, _ = [record.file for record in records if record is not None]
        left.write_bytes(orjson.dumps({"server": [servers[0].pid, birth(servers[0].pid)], "proxy": [1, "long ago"]}))
        reused.write_bytes(orjson.dumps({"server": [servers[1].pid, "earlier"], "proxy": [1, "long ago"]}))
        assert end_leftovers() == [servers[0].pid]
        assert servers[0].wait(5) == -signal.SIGKILL
        assert [server.poll() for server in servers[1:]] == [None, None]
        assert len(list((tmp_path / "mooltiproxy").iterdir())) == 1
    finally:
        for server in servers:
            server.kill()
            server.wait()


def test_a_folder_that_others_may_write_to_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "mooltiproxy").mkdir()
    (tmp_path / "mooltiproxy").chmod(0o777)
    assert Record.write(os.getpid()) is None
    assert end_leftovers() == []


def test_a_machine_with_no_folder_to_write_to_has_no_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", list)
    assert Record.write(os.getpid()) is None
    assert end_leftovers() == []
