"""Reloading a proxy of several processes: by a signal, by a request to one of them, and by a file that changes."""

import os
import signal
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import orjson
import yaml

from tests.servers.engines import processes
from tests.servers.pool import HEADERS, connected, eventually, got, spread, workers
from tests.servers.proxy_process import running_proxy
from tests.servers.small import small_target
from tests.servers.toy import Toy
from tests.workers.targets import PASSING, WHOLE, configuration, replaced, stream


def posted(connection: HTTPConnection) -> tuple[int, Any]:
    connection.request("POST", "/-/reload", headers=HEADERS)
    response = connection.getresponse()
    return response.status, orjson.loads(response.read())


def test_a_reload_reaches_all_workers_or_none_and_successors_serve_what_is_in_force(toy: Toy, tmp_path: Path) -> None:
    file, middleware = tmp_path / "config.yaml", tmp_path / "own.py"
    middleware.write_text(PASSING)
    chain = ["bearer_auth", "own:passing", "routing", "mapping"]
    config = configuration(toy, middlewares=chain, targets={"held": small_target(tmp_path)})
    mapping = config["targets"]["toy"]["mapping"]
    with running_proxy(tmp_path, yaml.safe_dump(config)) as running:
        pids = workers(running)
        with spread(running.port, pids, 2) as [first, second]:
            streams = [stream(first[0]), stream(second[0])]
            first[1].request("GET", "/to/held/drip", headers=HEADERS)
            dripping = first[1].getresponse()
            mapping["/health"] = None
            del config["targets"]["held"]
            file.write_text(yaml.safe_dump(config))
            running.send_signal(signal.SIGHUP)
            running.line_with("the configuration was reloaded")
            assert got(second[1], "/to/held/info")[0] == 404
            assert dripping.read() == b"ok" and all(WHOLE in one.read() for one in streams)
            assert got(first[0], "/health")[0] == got(second[0], "/health")[0] == 200
            eventually(lambda: not list(processes(str(tmp_path / "small"))))

            file.write_text("targets: {default: nobody}")
            running.send_signal(signal.SIGHUP)
            running.line_with("the configuration was not reloaded")
            os.kill(pids[0], signal.SIGKILL)  # its successor serves what is in force, not what is in the file
            running.line_with("worker 1 serves again")
            assert got(second[0], "/health")[0] == 200
        with spread(running.port, workers(running)) as [[first], [second]]:
            assert got(first, "/health")[0] == got(second, "/health")[0] == 200

        mapping["/more"] = None
        file.write_text(yaml.safe_dump(config))
        middleware.write_text("1 / 0\n")
        running.send_signal(signal.SIGHUP)
        assert "not reloaded" in running.line_with("the configuration was")
        assert "ZeroDivisionError" in running.line_with("own")
        os.kill(pids[1], signal.SIGKILL)
        running.line_with("worker 2 cannot be started")
        for _ in range(16):  # nobody waits for a successor that cannot start
            with closing(connected(running.port)) as connection:
                assert got(connection, "/more")[0] == 404
        middleware.write_text(PASSING)
        running.line_with("serves again")
        with spread(running.port, workers(running)) as [[first], [second]]:
            assert got(first, "/health")[0] == got(second, "/health")[0] == 200


def test_a_reload_that_one_worker_is_asked_for_is_for_all(tmp_path: Path) -> None:
    keys, target = tmp_path / "keys.yml", {"url": "http://127.0.0.1:1", "mapping": {"/info": None}}
    keys.write_text("admin_key: of-the-file\n")
    keys.chmod(0o600)
    config: dict[str, Any] = {"targets": {"default": "one", "one": target}, "keys_file": "keys.yml"}
    config["system"] = {"port": 0, "workers": 2, "drain": 1, "watch": True}
    with running_proxy(tmp_path, yaml.safe_dump(config)) as running:
        file = tmp_path / "config.yaml"
        with spread(running.port, workers(running)) as [[first], [second]]:
            target["mapping"] = {"/info": None, "/more": None}
            replaced(file, config)
            assert posted(first) == (200, {"reloaded": True, "changes": ["~ target      one  mapping./more"]})
            assert got(first, "/more")[0] == got(second, "/more")[0] == 502
            replaced(file, {**config, "nonsense": 1})
            status, body = posted(second)
            assert (status, body["reloaded"]) == (400, False)
            assert "nonsense" in body["problems"][0]
            target["mapping"] = {"/last": None}
            replaced(file, config)
            eventually(lambda: got(first, "/last")[0] == got(second, "/last")[0] == 502)
            assert got(first, "/-/status", "of-the-file")[0] == 200
            keys.write_text("{}")
            for _ in range(2):
                running.line_with("keys_file was read anew")
            assert {got(one, "/-/status", "of-the-file")[0] for one in (first, second)} == {401}
