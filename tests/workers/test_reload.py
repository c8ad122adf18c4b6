"""Reload, restart and the end of a proxy of several processes."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from typing import Any

import orjson
import pytest
import yaml

from tests.servers.engines import processes
from tests.servers.pool import HEADERS, connected, eventually, got, is_there, spread, workers
from tests.servers.small import small_target
from tests.servers.toy import Toy
from tests.workers.conftest import Together
from tests.workers.targets import GONE, WHOLE, Lent, configuration, faults, replaced, stream

PASSING = "async def passing(request, handler): return await handler(request)\n"


@pytest.fixture(scope="module")
def lent(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lent]:
    """A proxy with a middleware of the user's, `own.py`."""
    folder = tmp_path_factory.mktemp("lent")
    chain = ["access_log", "bearer_auth", "own:passing", "routing", "mapping"]
    targets = {"held": small_target(folder), "gone": GONE}
    config = configuration(toy, targets=targets, middlewares=chain, system={"drain": 2})
    with closing(Lent(folder, config, PASSING)) as lent:
        yield lent


def with_path(config: dict[str, Any], *paths: str) -> dict[str, Any]:
    """The same, but that the toy answers further paths."""
    toy = config["targets"]["toy"]
    changed = {**toy, "mapping": {**toy["mapping"], **dict.fromkeys(paths)}}
    return {**config, "targets": {**config["targets"], "toy": changed}}


def test_a_reload_reaches_all_workers_or_none_and_successors_serve_what_is_in_force(lent: Lent) -> None:
    file, middleware = lent.folder / "config.yaml", lent.folder / "own.py"
    with lent.running() as running:
        pids = workers(running)
        with spread(running.port, pids, 2) as [first, second]:
            streams = [stream(first[0]), stream(second[0])]
            first[1].request("GET", "/to/held/drip", headers=HEADERS)
            dripping = first[1].getresponse()
            changed = with_path(lent.config, "/health")
            del changed["targets"]["held"]
            file.write_text(yaml.safe_dump(changed))
            running.send_signal(signal.SIGHUP)
            running.line_with("the configuration was reloaded")
            assert got(second[1], "/to/held/info")[0] == 404
            assert dripping.read() == b"ok" and all(WHOLE in one.read() for one in streams)
            assert got(first[0], "/health")[0] == got(second[0], "/health")[0] == 200
            eventually(lambda: not list(processes(str(lent.folder / "small"))))

            file.write_text("targets: {default: nobody}")
            running.send_signal(signal.SIGHUP)
            running.line_with("the configuration was not reloaded")
            os.kill(pids[0], signal.SIGKILL)  # its successor serves what is in force, not what is in the file
            running.line_with("serves again")
            assert got(second[0], "/health")[0] == 200
        with spread(running.port, workers(running)) as [[first], [second]]:
            assert got(first, "/health")[0] == got(second, "/health")[0] == 200

        file.write_text(yaml.safe_dump(with_path(lent.config, "/more")))
        middleware.write_text("1 / 0\n")
        running.send_signal(signal.SIGHUP)
        assert "not reloaded" in running.line_with("the configuration was")
        assert "ZeroDivisionError" in running.line_with("own")
        os.kill(pids[1], signal.SIGKILL)
        running.line_with("cannot be started")
        for _ in range(16):  # nobody waits for a successor that cannot start
            with closing(connected(running.port)) as connection:
                assert got(connection, "/more")[0] == 404
        middleware.write_text(PASSING)
        running.line_with("serves again")
        with spread(running.port, workers(running)) as [[first], [second]]:
            assert got(first, "/health")[0] == got(second, "/health")[0] == 200
        file.write_text(yaml.safe_dump(lent.config))
        running.send_signal(signal.SIGHUP)
        running.line_with("the configuration was reloaded")


def posted(connection: HTTPConnection) -> tuple[int, Any]:
    connection.request("POST", "/-/reload", headers=HEADERS)
    response = connection.getresponse()
    return response.status, orjson.loads(response.read())


def test_a_reload_that_one_worker_is_asked_for_and_changed_files_are_for_all(together: Together) -> None:
    running, file, keys = together.running, together.folder / "config.yaml", together.folder / "keys.yml"
    config = yaml.safe_load(file.read_text())
    with spread(running.port, together.pids) as [[first], [second]]:
        replaced(file, with_path(config, "/health"))
        status, body = posted(first)
        assert (status, body["reloaded"]) == (200, True)
        assert body["changes"][0].split() == ["~", "target", "toy", "mapping./health"]
        assert got(first, "/health")[0] == got(second, "/health")[0] == 200
        replaced(file, {**config, "nonsense": 1})
        status, body = posted(second)
        assert (status, body["reloaded"]) == (400, False)
        assert "nonsense" in body["problems"][0]
        replaced(file, config)
        eventually(lambda: got(first, "/health")[0] == got(second, "/health")[0] == 404)
        assert got(first, "/-/status", "of-the-file")[0] == 200
        keys.write_text("{}")
        for _ in together.pids:
            running.line_with("keys_file was read anew")
        assert {got(one, "/-/status", "of-the-file")[0] for one in (first, second)} == {401}


@contextmanager
def asking(port: int) -> Iterator[list[int]]:
    """The statuses that clients get meanwhile: two that keep their connections, and two that open one for each."""
    answers: list[int] = []
    ended = threading.Event()

    def ask(keeps: bool) -> None:
        with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
            while len(answers) <= 200 or not ended.wait(0.02):
                answers.append(got(connection, "/info")[0])
                if not keeps:
                    connection.close()

    with ThreadPoolExecutor(4) as clients:
        all_of_them = [clients.submit(ask, keeps) for keeps in (True, True, False, False)]
        try:
            yield answers
        finally:
            ended.set()
        for one in all_of_them:
            one.result()


def test_a_restart_replaces_all_workers_and_loses_no_request(lent: Lent) -> None:
    with lent.running() as running:
        pids = workers(running)
        with spread(running.port, pids, 3) as [first, second]:
            assert got(first[0], "/to/held/info")[0] == 200
            server = list(processes(str(lent.folder / "small")))
            before = faults(first[0])
            assert [got(one, "/to/gone/gone")[0] for one in (first[0], second[0])] == [502, 502]
            streams = [stream(of_worker[1], 150) for of_worker in (first, second)]
            (lent.folder / "config.yaml").write_text(yaml.safe_dump(with_path(lent.config, "/health")))
            with asking(running.port) as answers:
                running.send_signal(signal.SIGUSR2)
                running.line_with("worker 1 is now process")
                running.send_signal(signal.SIGUSR2)
                assert "send it again" in running.line_with("SIGUSR2 came while")
                running.line_with("all workers have been replaced")
            assert len(answers) > 200 and set(answers) == {200}
            for of_worker in (first, second):  # a connection to an old worker gets one answer more
                of_worker[2].request("GET", "/info", headers=HEADERS)
                response = of_worker[2].getresponse()
                assert (response.status, response.getheader("connection")) == (200, "close")
            assert all(WHOLE in one.read() for one in streams)
        eventually(lambda: not any(is_there(pid) for pid in pids), 15)
        assert len(workers(running)) == 2
        with spread(running.port, workers(running)) as [[first], [second]]:
            assert got(first, "/health")[0] == got(second, "/health")[0] == 200
            assert faults(first) == faults(second) == before + 2
        assert list(processes(str(lent.folder / "small"))) == server


def test_a_restart_stops_at_a_worker_that_cannot_be_started(lent: Lent) -> None:
    with lent.running() as running:
        pids = workers(running)
        (lent.folder / "own.py").write_text("1 / 0\n")
        running.send_signal(signal.SIGUSR2)
        assert "not reloaded" in running.line_with("the configuration was")
        assert "worker 1 of 2 cannot be replaced" in running.line_with("the restart ends here")
        assert "ZeroDivisionError" in running.line_with("own")
        (lent.folder / "own.py").write_text(PASSING)
        assert workers(running) == pids
        with spread(running.port, pids) as [[first], [second]]:
            assert got(first, "/info")[0] == got(second, "/info")[0] == 200


def listens(port: int) -> bool:
    try:
        connected(port).close()
    except ConnectionError:
        return False
    return True


def test_sigterm_lets_the_streams_of_all_workers_end_and_cuts_what_is_longer_than_drain(lent: Lent) -> None:
    with lent.running() as running:
        with spread(running.port, workers(running), 5) as clients:
            short = [stream(connection, 25) for of_worker in clients for connection in of_worker[:2]]
            for of_worker in clients:
                of_worker[2].request("GET", "/to/held/hold", headers=HEADERS)
                assert got(of_worker[3], "/to/held/info")[0] == 200
                of_worker[3].request("GET", "/-/logs?target=held&follow=true", headers=HEADERS)
            long, following = ([of_worker[index].getresponse() for of_worker in clients] for index in (2, 3))
            running.send_signal(signal.SIGTERM)
            eventually(lambda: not listens(running.port), 0.5)  # while they go on
            assert all(sock_of(of_worker[4]).recv(1) == b"" for of_worker in clients)  # nobody waits at an idle one
            assert all(WHOLE in one.read() for one in short)
            assert all(b"it listens" in one.read() for one in following)
            assert running.process.poll() is None
            assert running.wait(10) == 0
            for one in long:
                with pytest.raises((HTTPException, ConnectionError)):
                    one.read()
    lines = (lent.folder / "access.txt").read_text().splitlines()
    assert sum(" /generate_stream toy 200 " in line for line in lines) >= 4


def sock_of(connection: HTTPConnection) -> Any:
    """The socket of an open connection."""
    return connection.sock
