"""A proxy of several processes, with its signals, its deaths and what its workers share."""

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
import yaml

from mooltiproxy.certs import write_pair
from tests.servers.pool import HEADERS, connected, eventually, got, is_there, spread, worker_of, workers
from tests.servers.proxy_process import KEY, running_proxy
from tests.servers.toy import Toy, running_toy

LONG = b'{"inputs": "The tea", "parameters": {"max_new_tokens": 30, "do_sample": false}}'
PASSING = "async def passing(request, handler): return await handler(request)\n"


@pytest.fixture(scope="module")
def toy() -> Iterator[Toy]:
    with running_toy("--delay", "0.02") as running:
        yield running


def configuration(toy: Toy, **more: Any) -> str:
    target = {"url": toy.url, "mapping": {"/generate_stream": None, "/info": None}}
    system = {"port": 0, "workers": 2, "drain": 5, **more.pop("system", {})}
    return str(yaml.safe_dump({"targets": {"default": "toy", "toy": target}, "system": system, **more}))


def opened_stream(connection: HTTPConnection) -> HTTPResponse:
    connection.request("POST", "/generate_stream", LONG, HEADERS)
    return connection.getresponse()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionError:
        return False
    return True


def metrics(connection: HTTPConnection) -> dict[str, float]:
    _, body = got(connection, "/-/metrics")
    lines = (line.rpartition(" ") for line in body.decode().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def test_both_workers_answer_and_each_tells_of_the_whole_proxy(toy: Toy, tmp_path: Path) -> None:
    config = yaml.safe_load(configuration(toy))
    config["targets"]["gone"] = {"url": "http://127.0.0.1:9", "mapping": {"/gone": None}}
    with running_proxy(tmp_path, yaml.safe_dump(config)) as running:
        pids = workers(running)
        assert len(pids) == 2
        with spread(running.port, pids) as [[first], [second]]:
            for connection in (first, second):
                assert got(connection, "/info")[0] == 200
                assert got(connection, "/to/gone/gone")[0] == 502
            assert sum(metrics(first).values()) == sum(metrics(second).values()) == 2
            os.kill(pids[0], signal.SIGKILL)
            running.line_with("worker 1 serves again")
            assert sum(metrics(second).values()) == 2  # what it has counted stays


def test_a_killed_worker_has_a_successor_that_serves_its_queue(toy: Toy, tmp_path: Path) -> None:
    with running_proxy(tmp_path, configuration(toy)) as running, ExitStack() as opened:
        pids = workers(running)
        with spread(running.port, pids) as [[first], [second]]:
            broken, going = opened_stream(first), opened_stream(second)
            os.kill(pids[0], signal.SIGSTOP)  # what comes to it now stays in its queue
            queued = [opened.enter_context(closing(HTTPConnection("127.0.0.1", running.port))) for _ in range(16)]
            for connection in queued:
                connection.request("GET", "/info", headers=HEADERS)
            os.kill(pids[0], signal.SIGKILL)
            assert "by signal 9" in running.line_with("has ended")
            assert [connection.getresponse().status for connection in queued] == [200] * 16
            with pytest.raises((HTTPException, ConnectionError)):
                broken.read()
            assert b'"generated_text":"' in going.read()
        running.line_with("serves again")
        assert len(workers(running)) == 2 and pids[0] not in workers(running)


def test_a_worker_that_dies_under_load_costs_only_what_it_was_answering(toy: Toy, tmp_path: Path) -> None:
    with running_proxy(tmp_path, configuration(toy)) as running:
        ended = threading.Event()

        def ask(_: int) -> tuple[int, int]:
            answered = lost = 0
            while not ended.is_set():
                with closing(HTTPConnection("127.0.0.1", running.port, timeout=20)) as connection:
                    try:
                        assert got(connection, "/info")[0] == 200
                        answered += 1
                    except (HTTPException, ConnectionError):
                        lost += 1
            return answered, lost

        with ThreadPoolExecutor(8) as clients:
            asking = [clients.submit(ask, number) for number in range(8)]
            try:
                os.kill(workers(running)[1], signal.SIGKILL)
                running.line_with("worker 2 serves again")
            finally:
                ended.set()
            assert all(answered and lost <= 1 for answered, lost in (one.result() for one in asking))


def test_kill_9_of_the_supervisor_ends_all_workers(toy: Toy, tmp_path: Path) -> None:
    with running_proxy(tmp_path, configuration(toy)) as running, closing(connected(running.port)) as connection:
        pids = workers(running)
        opened_stream(connection)
        running.process.kill()
        eventually(lambda: not any(is_there(pid) for pid in pids))
        assert not listens(running.port)


def test_a_worker_that_is_stuck_does_not_outlive_its_supervisor(toy: Toy, tmp_path: Path) -> None:
    stuck = "import time\nasync def forever(request, handler):\n    time.sleep(60)\n"
    (tmp_path / "own.py").write_text(stuck)
    config = configuration(toy, middlewares=["own:forever", "routing", "mapping"])
    with running_proxy(tmp_path, config) as running:
        pids = workers(running)
        with closing(HTTPConnection("127.0.0.1", running.port)) as connection:
            connection.request("GET", "/info", headers=HEADERS)
            running.process.kill()
            eventually(lambda: not any(is_there(pid) for pid in pids), 15)


def test_sigterm_lets_the_streams_of_all_workers_end(toy: Toy, tmp_path: Path) -> None:
    with running_proxy(tmp_path, configuration(toy)) as running:
        with spread(running.port, workers(running), 3) as clients:
            streams = [opened_stream(connection) for of_worker in clients for connection in of_worker]
            running.send_signal(signal.SIGTERM)
            eventually(lambda: not listens(running.port), 0.5)  # while they go on
            assert all(b'"generated_text":"' in stream.read() for stream in streams)
            assert running.wait(10) == 0
    lines = (tmp_path / "access.txt").read_text().splitlines()
    assert sum(" /generate_stream toy 200 " in line for line in lines) == 6


def test_a_stream_longer_than_drain_is_cut_in_every_worker(toy: Toy, tmp_path: Path) -> None:
    with running_proxy(tmp_path, configuration(toy, system={"drain": 0.1})) as running:
        with spread(running.port, workers(running)) as [[first], [second]]:
            streams = [opened_stream(first), opened_stream(second)]
            running.send_signal(signal.SIGTERM)
            assert running.wait(10) == 0
            for stream in streams:
                with pytest.raises((HTTPException, ConnectionError)):
                    stream.read()


def test_a_reload_reaches_all_workers_and_successors_and_a_bad_file_none(toy: Toy, tmp_path: Path) -> None:
    with running_proxy(tmp_path, configuration(toy)) as running:
        file, pids = tmp_path / "config.yaml", workers(running)
        with spread(running.port, pids) as [[first], [second]]:
            streams = [opened_stream(first), opened_stream(second)]
            config = yaml.safe_load(file.read_text())
            config["targets"]["toy"]["mapping"]["/health"] = None
            file.write_text(yaml.safe_dump(config))
            running.send_signal(signal.SIGHUP)
            running.line_with("the configuration was reloaded")
            assert all(b'"generated_text":"' in stream.read() for stream in streams)
            assert got(first, "/health")[0] == got(second, "/health")[0] == 200
        file.write_text("targets: {default: nobody}")
        running.send_signal(signal.SIGHUP)
        running.line_with("the configuration was not reloaded")
        os.kill(pids[0], signal.SIGKILL)  # its successor serves what is in force, not what is in the file
        running.line_with("worker 1 serves again")
        with spread(running.port, workers(running)) as [[first], [second]]:
            assert got(first, "/health")[0] == got(second, "/health")[0] == 200


def test_what_a_worker_cannot_take_up_none_takes_up_and_a_successor_waits_for(toy: Toy, tmp_path: Path) -> None:
    middleware = tmp_path / "own.py"
    middleware.write_text(PASSING)
    config = configuration(toy, middlewares=["bearer_auth", "own:passing", "routing", "mapping"])
    with running_proxy(tmp_path, config) as running, closing(connected(running.port)) as client:
        middleware.write_text("1 / 0\n")
        running.send_signal(signal.SIGHUP)
        assert "not reloaded" in running.line_with("the configuration was")
        assert "ZeroDivisionError" in running.line_with("own")
        assert got(client, "/info")[0] == 200
        os.kill(next(pid for pid in workers(running) if pid != worker_of(client, workers(running))), signal.SIGKILL)
        running.line_with("cannot be started")
        for _ in range(16):  # nobody waits for a successor that cannot start
            with closing(connected(running.port)):
                pass
        middleware.write_text(PASSING)
        running.line_with("serves again")
        with spread(running.port, workers(running)) as [[first], [second]]:
            assert got(first, "/info")[0] == got(second, "/info")[0] == 200


def test_wrong_keys_count_together_and_a_ban_reaches_all_workers(toy: Toy, tmp_path: Path) -> None:
    config = configuration(toy, cerbere={"max_tries": 3})
    with running_proxy(tmp_path, config) as running:
        with spread(running.port, workers(running)) as [[first], [second]]:
            assert got(first, "/info", "wrong")[0] == 401
            assert got(second, "/info", "wrong")[0] == 401
            assert got(second, "/info", "wrong")[0] == 401
            eventually(lambda: got(first, "/ping")[0] == 403)
            os.kill(workers(running)[0], signal.SIGKILL)
            running.line_with("worker 1 serves again")
            assert got(second, "/info")[0] == 403
        for _ in range(4):
            with closing(HTTPConnection("127.0.0.1", running.port)) as connection:
                assert got(connection, "/info")[0] == 403  # of the new one, too


def test_a_right_key_makes_up_for_the_wrong_ones_at_another_worker(toy: Toy, tmp_path: Path) -> None:
    with running_proxy(tmp_path, configuration(toy, cerbere={"max_tries": 2})) as running:
        with spread(running.port, workers(running)) as [[first], [second]]:
            for _ in range(3):
                assert got(first, "/info", "wrong")[0] == 401
                assert got(second, "/info")[0] == 200
                assert got(first, "/info")[0] == 200
            assert got(second, "/info", "wrong")[0] == 401


def test_workers_serve_with_tls(toy: Toy, tmp_path: Path) -> None:
    cert, _ = write_pair(tmp_path / "certificates")
    with running_proxy(tmp_path, configuration(toy, system={"ssl": True})) as running:
        context = ssl.create_default_context(cafile=str(cert))
        for _ in range(8):
            with closing(HTTPSConnection("127.0.0.1", running.port, context=context)) as connection:
                assert got(connection, "/info")[0] == 200


def test_one_process_imports_nothing_of_this(toy: Toy, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import sys\n"
        "from aiohttp import web\n"
        "async def told(request, handler):\n"
        "    return web.Response(text=' '.join(name for name in sys.modules if 'mooltiproxy.workers' in name))\n"
    )
    config = configuration(toy, middlewares=["own:told", "routing", "mapping"], system={"workers": 1})
    with running_proxy(tmp_path, config) as running:
        with closing(HTTPConnection("127.0.0.1", running.port)) as connection:
            assert got(connection, "/") == (200, b"")
        assert not workers(running)


def test_a_port_in_use_is_one_line_and_exit_code_3(toy: Toy, tmp_path: Path) -> None:
    with running_proxy(tmp_path, configuration(toy)) as running:
        again = tmp_path / "again"
        again.mkdir()
        code, said = refused(again, configuration(toy, system={"port": running.port}))
    assert (code, said) == (3, f"cannot listen on 127.0.0.1 port {running.port}: Address already in use\n")


@pytest.mark.parametrize("workers", [1, 2])
def test_what_cannot_be_served_is_said_as_one_process_says_it(toy: Toy, tmp_path: Path, workers: int) -> None:
    (tmp_path / "own.py").write_text("1 / 0\n")
    config = configuration(toy, middlewares=["own:passing", "routing", "mapping"], system={"workers": workers})
    code, said = refused(tmp_path, config)
    assert code == 1
    assert re.sub(r"^.*warning.*\n|^INFO.*\n", "", said, flags=re.MULTILINE).count("\n") == 1
    assert "own.py: middlewares.own:passing: cannot be loaded: ZeroDivisionError" in said


def refused(folder: Path, config: str) -> tuple[int, str]:
    """The exit code of a proxy that ends by itself, and what it has said."""
    file = folder / "config.yaml"
    file.write_text(config)
    mooltiproxy = [sys.executable, "-m", "mooltiproxy", "serve", "--config", str(file)]
    environ = {**os.environ, "MOOLTIPROXY_KEY": KEY, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(mooltiproxy, env=environ, cwd=folder, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stderr
