"""Model servers that several workers share: the supervisor starts and stops them, for all."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from tests.servers.engines import BODY, asked, engines, processes, toy_target
from tests.servers.pool import HEADERS, connected, eventually, got, is_there, spread, workers
from tests.servers.proxy_process import Running, running_proxy

SHORT = orjson.dumps(BODY)
LONG = orjson.dumps({**BODY, "parameters": {"max_new_tokens": 25, "do_sample": False}})


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for a test's files; whatever has it on its command line has to end with the proxy."""
    yield tmp_path
    eventually(lambda: not list(processes(str(tmp_path))))


def configuration(**targets: dict[str, Any]) -> str:
    system = {"port": 0, "workers": 2, "drain": 5}
    return str(yaml.safe_dump({**engines(**targets), "system": system}))


def generated(connection: HTTPConnection, body: bytes = SHORT, target: str = "a") -> HTTPResponse:
    connection.request("POST", "/generate_stream", body, {**HEADERS, "target": target})
    return connection.getresponse()


def state(connection: HTTPConnection, target: str = "a") -> dict[str, Any]:
    _, body = got(connection, "/-/status")
    return next(one for one in orjson.loads(body)["targets"] if one["target"] == target)


def servers(folder: Path) -> list[int]:
    """The toys that run, without their guards."""
    found = [pid for pid in processes(f"{folder}/toy") if b"guard.py" not in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return found


def test_fifty_requests_at_once_start_one_server_that_both_workers_use(folder: Path) -> None:
    log = folder / "toy.jsonl"
    toy = toy_target("--load-time", "0.3", log=log)
    with running_proxy(folder, configuration(a=toy)) as running, ThreadPoolExecutor(50) as clients:
        with spread(running.port, workers(running), 25) as connections:
            every = [connection for of_worker in connections for connection in of_worker]
            answers = clients.map(lambda connection: generated(connection).read(), every)
            assert all(b'"generated_text":"' in answer for answer in answers)
        assert len(servers(folder)) == 1 and asked(log) == 50
        with closing(connected(running.port)) as client:
            eventually(lambda: state(client)["in_flight"] == 0)
            assert state(client)["waiting"] == 0


def test_unloading_waits_for_the_streams_of_all_workers(folder: Path) -> None:
    toy = toy_target("--delay", "0.03", log=folder / "toy.jsonl")
    with running_proxy(folder, configuration(a=toy)) as running, ThreadPoolExecutor(1) as beside:
        with spread(running.port, workers(running), 3) as [first, second]:
            streams = [generated(connection, LONG) for connection in (*first[:2], *second[:2])]
            assert state(first[2])["in_flight"] == state(second[2])["in_flight"] == 4
            unloading = beside.submit(got, second[2], "/unload")
            eventually(lambda: state(first[2])["state"] == "draining")
            assert all(b'"generated_text":"' in stream.read() for stream in streams)
            assert unloading.result() == (200, b'{"unloaded":["a"]}')
            assert servers(folder) == [] and state(first[2])["state"] == "stopped"
            assert generated(first[2]).status == 200  # and it is started again


def test_what_a_worker_holds_is_given_back_when_it_dies(folder: Path) -> None:
    toy = toy_target("--delay", "0.2", log=folder / "toy.jsonl")
    with running_proxy(folder, configuration(a=toy)) as running:
        pids = workers(running)
        with spread(running.port, pids, 2) as [first, second]:
            generated(first[0], LONG)
            assert state(second[0])["in_flight"] == 1
            os.kill(pids[0], signal.SIGKILL)
            eventually(lambda: state(second[0])["in_flight"] == 0)
            began = time.monotonic()
            assert got(second[0], "/unload") == (200, b'{"unloaded":["a"]}')
            assert time.monotonic() - began < 2


def test_keep_alive_of_any_worker_counts(folder: Path) -> None:
    now, later = ({**BODY, "keep_alive": seconds} for seconds in (0, 600))
    with running_proxy(folder, configuration(a=toy_target(log=folder / "toy.jsonl"))) as running:
        with spread(running.port, workers(running)) as [[first], [second]]:
            generated(first, orjson.dumps(later)).read()
            until = state(second)["until"]
            assert 590 < until - time.time() <= 600
            generated(second, orjson.dumps(now)).read()
            eventually(lambda: state(first)["state"] == "stopped")


def test_servers_of_a_group_take_turns_between_workers(folder: Path) -> None:
    toys = {name: toy_target("--delay", "0.02", log=folder / f"toy-{name}.jsonl", group="one") for name in "ab"}
    with running_proxy(folder, configuration(**toys)) as running, ThreadPoolExecutor(6) as clients:
        with spread(running.port, workers(running), 3) as [first, second]:
            asking = [clients.submit(generated, one, LONG, "a") for one in first]
            asking += [clients.submit(generated, one, LONG, "b") for one in second]
            assert [one.result().status for one in asking] == [200] * 6
            assert all(b'"generated_text":"' in one.result().read() for one in asking)


def test_a_server_that_does_not_start_is_told_to_the_clients_of_all_workers(folder: Path) -> None:
    toy = toy_target("--crash-loading", "--load-time", "0.1", log=folder / "toy.jsonl")
    with running_proxy(folder, configuration(a=toy)) as running:
        with spread(running.port, workers(running)) as [[first], [second]]:
            for connection in (first, second):
                answer = generated(connection)
                assert answer.status == 503 and answer.getheader("retry-after")
                assert b"could not be started" in answer.read()
            assert state(first)["state"] == "failed"


def test_a_reload_that_removes_a_server_lets_its_streams_end(folder: Path) -> None:
    a, b = (toy_target("--delay", "0.03", log=folder / f"toy-{name}.jsonl") for name in "ab")
    with running_proxy(folder, configuration(a=a, b=b)) as running:
        with spread(running.port, workers(running), 2) as [first, second]:
            stream = generated(first[0], LONG, "b")
            reloaded(running, folder, configuration(a=a))
            assert generated(second[0], SHORT, "b").status == 404
            assert b'"generated_text":"' in stream.read()
            eventually(lambda: not servers(folder))


def test_the_log_of_a_server_is_shown_and_followed_through_any_worker(folder: Path) -> None:
    with running_proxy(folder, configuration(a=toy_target(log=folder / "toy.jsonl"))) as running:
        with spread(running.port, workers(running), 2) as [first, second]:
            generated(first[0]).read()
            for connection in (first[0], second[0]):
                assert b"listening on" in got(connection, "/-/logs?target=a")[1]
            for connection in (first[1], second[1]):
                connection.request("GET", "/-/logs?target=a&lines=0&follow=true", headers=HEADERS)
            following = [connection.getresponse() for connection in (first[1], second[1])]
            got(first[0], "/unload")
            generated(second[0]).read()
            for response in following:
                assert b"--- started at" in response.readline()
            running.send_signal(signal.SIGTERM)
            assert all(response.read().endswith(b"\n") for response in following)
            assert running.wait(10) == 0


def test_kill_9_of_the_supervisor_leaves_neither_workers_nor_servers(folder: Path) -> None:
    with running_proxy(folder, configuration(a=toy_target(log=folder / "toy.jsonl"))) as running:
        pids = workers(running)
        with closing(connected(running.port)) as connection:
            assert generated(connection).status == 200
            assert servers(folder)
            running.process.kill()
            eventually(lambda: not list(processes(str(folder))))
            eventually(lambda: not any(is_there(pid) for pid in pids))


def reloaded(running: Running, folder: Path, config: str) -> None:
    (folder / "config.yaml").write_text(config)
    running.send_signal(signal.SIGHUP)
    running.line_with("the configuration was reloaded")
