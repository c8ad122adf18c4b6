"""Reloading a proxy of several processes by a request to one of them, and by a file that changes."""

import os
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import orjson
import yaml

from tests.servers.pool import HEADERS, eventually, got, spread, workers
from tests.servers.proxy_process import running_proxy


def posted(connection: HTTPConnection) -> tuple[int, Any]:
    connection.request("POST", "/-/reload", headers=HEADERS)
    response = connection.getresponse()
    return response.status, orjson.loads(response.read())


def replaced(file: Path, config: dict[str, Any]) -> None:
    new = file.with_suffix(".new")
    new.write_text(yaml.safe_dump(config))
    os.replace(new, file)


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
            eventually(lambda: {got(one, "/-/status", "of-the-file")[0] for one in (first, second)} == {401})
