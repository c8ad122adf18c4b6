"""A proxy of several processes: its deaths, what its workers share, and what it says where it cannot serve."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest
import yaml

from mooltiproxy.cli import main
from mooltiproxy.workers.link import PROTOCOL
from mooltiproxy.workers.supervisor import STORE
from tests.servers.engines import processes
from tests.servers.pool import HEADERS, connected, eventually, got, is_there, spread, workers
from tests.servers.proxy_process import KEY, running_proxy
from tests.servers.small import small_target
from tests.servers.toy import Toy
from tests.workers.conftest import Together
from tests.workers.targets import GONE, WHOLE, Lent, configuration, faults, status, stream

IMPATIENT = """
import sys
from mooltiproxy.workers import child
child.PULSE, child.LONGEST_SILENCE = 0.1, 2.0
from mooltiproxy.cli import main
sys.exit(main(sys.argv[1:]))
"""
"""The proxy, whose supervisor soon takes a worker for stuck."""
STUCK = """
import time
async def forever(request, handler):
    if request.path == "/stuck":
        time.sleep(60)
    return await handler(request)
"""


@pytest.fixture(scope="module")
def lent(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lent]:
    """A proxy that notices at once that a worker is stuck, and bans for one wrong key."""
    folder = tmp_path_factory.mktemp("lent")
    chain = ["ip_rules", "bearer_auth", "own:forever", "routing", "mapping"]
    more: dict[str, Any] = {"middlewares": chain, "cerbere": {"max_tries": 1}}
    config = configuration(toy, targets={"held": small_target(folder), "gone": GONE}, **more)
    with closing(Lent(folder, config, STUCK, ("-c", IMPATIENT))) as lent:
        yield lent


def test_both_workers_answer_and_each_tells_of_the_whole_proxy(together: Together) -> None:
    assert len(together.pids) == 2
    with spread(together.running.port, together.pids) as [[first], [second]]:
        before = faults(first)
        for connection in (first, second):
            assert got(connection, "/info")[0] == 200
            assert got(connection, "/to/gone/gone")[0] == 502
        assert faults(first) == faults(second) == before + 2


def test_wrong_keys_count_together_and_a_ban_reaches_all_workers(together: Together) -> None:
    with spread(together.running.port, together.pids, source="127.0.0.2") as [[first], [second]]:
        assert got(first, "/info", "wrong")[0] == 401
        assert got(second, "/info", "wrong")[0] == 401
        assert got(second, "/info", "wrong")[0] == 401
        eventually(lambda: got(first, "/ping")[0] == 403)


def test_a_right_key_makes_up_for_the_wrong_ones_at_another_worker(together: Together) -> None:
    with spread(together.running.port, together.pids, source="127.0.0.3") as [[first], [second]]:
        for _ in range(3):
            assert got(first, "/info", "wrong")[0] == 401
            assert got(second, "/info")[0] == 200
            assert got(first, "/info")[0] == 200
        assert got(second, "/info", "wrong")[0] == 401


def test_a_limit_counts_in_all_workers_together_where_the_file_names_no_store(together: Together) -> None:
    with spread(together.running.port, together.pids) as [[first], [second]]:
        statuses = [got(one, "/info", "of-the-limited")[0] for one in 4 * (first, second)]
    assert statuses == [200] * 3 + [429] * 5


def test_a_port_in_use_is_one_line_and_exit_code_3(
    together: Together, toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = together.running.port
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(configuration(toy, system={"port": port})))
    monkeypatch.setenv("MOOLTIPROXY_KEY", KEY)
    assert main(["serve", "--config", str(tmp_path / "config.yaml")]) == 3
    assert capsys.readouterr().err == f"cannot listen on 127.0.0.1 port {port}: Address already in use\n"


def test_a_worker_of_another_version_than_its_supervisor_says_so_and_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["serve", "--target", "http://127.0.0.1:9", "--worker", f"{PROTOCOL + 1},3,4,5"]) == 1
    assert "full restart" in caplog.text


def test_a_killed_worker_costs_what_it_was_answering_and_its_successor_serves_its_queue(lent: Lent) -> None:
    with lent.running() as running, ExitStack() as opened:
        pids = workers(running)
        with spread(running.port, pids, 3) as [first, second]:
            assert [got(one, "/to/gone/gone")[0] for one in (first[0], second[0])] == [502, 502]
            assert faults(second[0]) == 2
            with closing(connected(running.port, "127.0.0.2")) as guessing:
                assert got(guessing, "/info", "wrong")[0] == 401
            first[1].request("GET", "/to/held/hold", headers=HEADERS)
            eventually(lambda: status(second[0], "held")["in_flight"] == 1)
            broken, going = stream(first[0]), stream(second[1])
            os.kill(pids[0], signal.SIGSTOP)  # what comes to it now stays in its queue
            queued = [opened.enter_context(closing(HTTPConnection("127.0.0.1", running.port))) for _ in range(16)]
            for connection in queued:
                connection.request("GET", "/info", headers=HEADERS)
            os.kill(pids[0], signal.SIGKILL)
            assert "by signal 9" in running.line_with("has ended")
            assert [connection.getresponse().status for connection in queued] == [200] * 16
            with pytest.raises((HTTPException, ConnectionError)):
                broken.read()
            assert WHOLE in going.read()
            running.line_with("serves again")
            assert len(workers(running)) == 2 and pids[0] not in workers(running)
            assert faults(second[0]) == 2  # what it has counted stays, and what it held is given back
            assert status(second[0], "held")["in_flight"] == 0
            assert got(second[0], "/unload") == (200, b'{"unloaded":["held"]}')
        with spread(running.port, workers(running)) as both:
            for [connection] in both:
                with closing(HTTPConnection("127.0.0.1", running.port, source_address=("127.0.0.2", 0))) as banned:
                    assert got(banned, "/info")[0] == 403
                assert got(connection, "/info")[0] == 200
        with under_load(running.port):
            os.kill(pids[1], signal.SIGKILL)
            running.line_with("worker 2 serves again")


@contextmanager
def under_load(port: int) -> Iterator[None]:
    """Clients ask meanwhile: each of them may lose one answer."""
    ended = threading.Event()

    def ask(_: int) -> tuple[int, int]:
        answered = lost = 0
        while not ended.wait(0.02):
            with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
                try:
                    assert got(connection, "/info")[0] == 200
                    answered += 1
                except (HTTPException, ConnectionError):
                    lost += 1
        return answered, lost

    with ThreadPoolExecutor(8) as clients:
        asking = [clients.submit(ask, number) for number in range(8)]
        try:
            yield
        finally:
            ended.set()
        assert all(answered and lost <= 1 for answered, lost in (one.result() for one in asking))


def test_a_worker_that_is_stuck_is_replaced_and_none_outlives_its_supervisor(lent: Lent) -> None:
    with lent.running() as running:
        pids = workers(running)
        with spread(running.port, pids, 2) as [first, second]:
            first[0].request("GET", "/stuck", headers=HEADERS)
            assert "has not answered for 2 s" in running.line_with(f"(process {pids[0]})")
            running.line_with("serves again")
            assert pids[1] in workers(running)
            assert got(second[1], "/to/held/info") == (200, b"ok")
            assert list(processes(str(lent.folder / "small")))
            stream(second[1])
            with closing(HTTPConnection("127.0.0.1", running.port)) as stuck_again:
                stuck_again.request("GET", "/stuck", headers=HEADERS)
                pids = workers(running)
                counted = counted_in(pids[1])
                running.process.kill()
                eventually(lambda: not any(is_there(pid) for pid in pids), 15)
        with pytest.raises(ConnectionError):
            connected(running.port)
    eventually(lambda: not list(processes(str(lent.folder / "small"))) and not counted.exists())


def counted_in(worker: int) -> Path:
    """The folder of the file in which workers count."""
    opened = (link.resolve() for link in Path(f"/proc/{worker}/fd").iterdir())
    return next(file.parent for file in opened if file.name == STORE)


def test_one_process_imports_nothing_of_this_and_passes_over_the_signal_for_it(toy: Toy, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import sys\n"
        "from aiohttp import web\n"
        "async def told(request, handler):\n"
        "    return web.Response(text=' '.join(name for name in sys.modules if 'mooltiproxy.workers' in name))\n"
    )
    config = configuration(toy, middlewares=["own:told", "routing", "mapping"], system={"workers": 1})
    with running_proxy(tmp_path, yaml.safe_dump(config)) as running:
        running.send_signal(signal.SIGUSR2)
        assert "system.workers of 2 or more" in running.line_with("SIGUSR2")
        with closing(HTTPConnection("127.0.0.1", running.port)) as connection:
            assert got(connection, "/") == (200, b"")
        assert not workers(running)


def test_what_workers_cannot_serve_is_said_as_one_process_says_it(toy: Toy, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("1 / 0\n")
    config = configuration(toy, middlewares=["own:passing", "routing", "mapping"])
    code, said = refused(tmp_path, config)
    assert code == 1
    assert re.sub(r"^.*warning.*\n|^INFO.*\n", "", said, flags=re.MULTILINE).count("\n") == 1
    assert "own.py: middlewares.own:passing: cannot be loaded: ZeroDivisionError" in said


def refused(folder: Path, config: dict[str, Any]) -> tuple[int, str]:
    """The exit code of a proxy that ends by itself, and what it has said."""
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    mooltiproxy = [sys.executable, "-m", "mooltiproxy", "serve", "--config", str(file)]
    environ = {**os.environ, "MOOLTIPROXY_KEY": KEY, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(mooltiproxy, env=environ, cwd=folder, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stderr
