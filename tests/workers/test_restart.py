"""SIGUSR2: other processes in the place of all workers, and nobody notices."""

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import yaml

from tests.servers.engines import processes
from tests.servers.pool import HEADERS, eventually, got, is_there, spread, workers
from tests.servers.proxy_process import running_proxy
from tests.servers.small import small_target
from tests.servers.toy import Toy
from tests.workers.targets import PASSING, WHOLE, configuration, faults, stream


@contextmanager
def asking(port: int) -> Iterator[list[int]]:
    """The statuses that clients get meanwhile: two that keep their connections, and two that open one for each."""
    answers: list[int] = []
    ended = threading.Event()

    def ask(keeps: bool) -> None:
        with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
            while not ended.wait(0.005):
                answers.append(got(connection, "/info")[0])
                if not keeps:
                    connection.close()

    with ThreadPoolExecutor(4) as clients:
        running = [clients.submit(ask, keeps) for keeps in (True, True, False, False)]
        try:
            yield answers
        finally:
            ended.set()
        for one in running:
            one.result()


def test_a_restart_replaces_all_workers_and_loses_no_request(toy: Toy, tmp_path: Path) -> None:
    middleware = tmp_path / "own.py"
    middleware.write_text(PASSING)
    chain = ["bearer_auth", "own:passing", "routing", "mapping"]
    targets = {"held": small_target(tmp_path), "gone": {"url": "http://127.0.0.1:9", "mapping": {"/gone": None}}}
    config = configuration(toy, middlewares=chain, targets=targets)
    with running_proxy(tmp_path, yaml.safe_dump(config)) as running:
        pids = workers(running)
        with spread(running.port, pids, 3) as [first, second]:
            assert got(first[0], "/to/held/info")[0] == 200
            server = list(processes(str(tmp_path / "small")))
            assert [got(one, "/to/gone/gone")[0] for one in (first[0], second[0])] == [502, 502]
            streams = [stream(of_worker[1], 150) for of_worker in (first, second)]
            config["targets"]["toy"]["mapping"]["/health"] = None
            (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
            middleware.write_text(PASSING.replace("return", "request['new'] = 1; return"))
            with asking(running.port) as answers:
                running.send_signal(signal.SIGUSR2)
                running.line_with("all workers have been replaced")
            assert len(answers) > 200 and set(answers) == {200}
            for of_worker in (first, second):  # a connection to an old worker gets one answer more
                of_worker[2].request("GET", "/info", headers=HEADERS)
                response = of_worker[2].getresponse()
                assert (response.status, response.getheader("connection")) == (200, "close")
            assert all(WHOLE in one.read() for one in streams)
        eventually(lambda: not any(is_there(pid) for pid in pids))
        assert len(workers(running)) == 2
        with spread(running.port, workers(running)) as [[first], [second]]:
            assert got(first, "/health")[0] == got(second, "/health")[0] == 200
            assert faults(first) == faults(second) == 2
        assert list(processes(str(tmp_path / "small"))) == server

        pids = workers(running)
        middleware.write_text("1 / 0\n")
        running.send_signal(signal.SIGUSR2)
        assert "not reloaded" in running.line_with("the configuration was")
        assert "worker 1 of 2 cannot be replaced" in running.line_with("the restart ends here")
        assert "ZeroDivisionError" in running.line_with("own")
        assert workers(running) == pids
        with spread(running.port, pids) as [[first], [second]]:
            assert got(first, "/health")[0] == got(second, "/health")[0] == 200
