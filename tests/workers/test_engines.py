"""Model servers that several workers share: the supervisor starts and stops them, for all."""

import time
from concurrent.futures import ThreadPoolExecutor

import orjson

from tests.servers.engines import asked
from tests.servers.pool import HEADERS, eventually, got, spread
from tests.workers.conftest import Together
from tests.workers.targets import WHOLE, status, stream


def test_fifty_requests_at_once_start_one_server_that_both_workers_use(together: Together) -> None:
    log = together.folder / "toy.jsonl"
    with spread(together.running.port, together.pids, 25) as connections, ThreadPoolExecutor(50) as clients:
        every = [connection for of_worker in connections for connection in of_worker]
        got(every[0], "/unload")
        before = asked(log)
        answers = clients.map(lambda connection: stream(connection, 5, "a").read(), every)
        assert all(WHOLE in answer for answer in answers)
        assert len(together.servers()) == 1 and asked(log) == before + 50
        eventually(lambda: status(every[0], "a")["in_flight"] == 0)
        assert status(every[0], "a")["waiting"] == 0


def test_unloading_waits_for_the_streams_of_all_workers(together: Together) -> None:
    with spread(together.running.port, together.pids, 3) as [first, second], ThreadPoolExecutor(1) as beside:
        streams = [stream(connection, 40, "a") for connection in (*first[:2], *second[:2])]
        assert status(first[2], "a")["in_flight"] == status(second[2], "a")["in_flight"] == 4
        unloading = beside.submit(got, second[2], "/unload")
        eventually(lambda: status(first[2], "a")["state"] == "draining")
        assert all(WHOLE in one.read() for one in streams)
        unloaded = unloading.result()
        assert unloaded[0] == 200 and "a" in orjson.loads(unloaded[1])["unloaded"]
        assert together.servers() == [] and status(first[2], "a")["state"] == "stopped"


def test_keep_alive_of_any_worker_counts(together: Together) -> None:
    with spread(together.running.port, together.pids) as [[first], [second]]:
        stream(first, 5, "a", keep_alive=600).read()
        until = status(second, "a")["until"]
        assert 590 < until - time.time() <= 600
        stream(second, 5, "a", keep_alive=0).read()
        eventually(lambda: status(first, "a")["state"] == "stopped")


def test_servers_of_a_group_take_turns_between_workers(together: Together) -> None:
    with spread(together.running.port, together.pids, 3) as both, ThreadPoolExecutor(6) as clients:
        pairs = zip(("one", "other"), both, strict=True)
        asking = [clients.submit(got, one, f"/to/{name}/drip") for name, of_worker in pairs for one in of_worker]
        assert [one.result() for one in asking] == [(200, b"ok")] * 6


def test_a_server_that_does_not_start_is_told_to_the_clients_of_all_workers(together: Together) -> None:
    with spread(together.running.port, together.pids) as [[first], [second]]:
        for connection in (first, second):
            connection.request("GET", "/to/broken/info", headers=HEADERS)
            answer = connection.getresponse()
            assert answer.status == 503 and answer.getheader("retry-after")
            assert b"could not be started" in answer.read()
        assert status(first, "broken")["state"] == "failed"


def test_the_log_of_a_server_is_shown_and_followed_through_any_worker(together: Together) -> None:
    with spread(together.running.port, together.pids, 2) as [first, second]:
        assert got(first[0], "/to/one/info") == (200, b"ok")
        for connection in (first[0], second[0]):
            assert b"it listens" in got(connection, "/-/logs?target=one")[1]
        for connection in (first[1], second[1]):
            connection.request("GET", "/-/logs?target=one&lines=0&follow=true", headers=HEADERS)
        following = [connection.getresponse() for connection in (first[1], second[1])]
        got(first[0], "/unload")
        assert got(second[0], "/to/one/info") == (200, b"ok")
        for response in following:
            assert b"--- started at" in response.readline()
