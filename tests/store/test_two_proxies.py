"""Two proxies and one store, over HTTP: what one learns the other knows, and what is left when the store is gone."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import yaml

from mooltiproxy.config.load import from_data
from mooltiproxy.errors import ConfigError
from mooltiproxy.store import Used
from tests.servers.pool import eventually, got, spread, workers
from tests.servers.proxy import BEARER, Proxy, passing, proxy
from tests.servers.proxy_process import running_proxy
from tests.servers.redis_server import redis_server
from tests.servers.scripted import answer, answering, upstream
from tests.servers.toy import running_toy

PATH = "/chat/completions"


def sharing(url: str, store: str) -> dict[str, Any]:
    rules = {"max_tries": 2, "ban": "1h", "trusted_proxies": ["127.0.0.1"]}
    return passing(url) | {"system": {"store": store}, "cerbere": rules}


async def status(running: Proxy, key: str = "", sender: str = "192.0.2.1") -> int:
    fields = {"X-Forwarded-For": sender, **({"Authorization": f"Bearer {key}"} if key else BEARER)}
    async with running.client.get(PATH, headers=fields) as response:
        return response.status


async def knocked(running: Proxy, sender: str = "192.0.2.1") -> int:
    async with running.client.get("/ping", headers={"X-Forwarded-For": sender}) as response:
        return response.status


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    end = time.monotonic() + 10
    while not await holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


async def metric(running: Proxy) -> str:
    async with running.client.get("/-/metrics") as response:
        lines = (await response.text()).splitlines()
    return next(line.split()[1] for line in lines if line.startswith("mooltiproxy_store_up"))


async def test_two_proxies_share_bans_and_usage_and_go_on_when_the_store_is_gone(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as server, upstream(answering(answer())) as up:
        data = sharing(up.url, server.url)
        async with proxy(data) as one, proxy(data) as other:
            assert [await status(one, "wrong"), await status(other, "wrong")] == [401, 401]

            async def is_banned_at_both() -> bool:  # asked without a key: a right one makes up for wrong ones
                return [await knocked(one), await knocked(other)] == [403, 403]

            await until(is_banned_at_both)
            one.server._store.count(Used("master", "llama", requests=3))

            async def is_told() -> bool:
                async with other.client.get("/-/usage") as response:
                    rows = (await response.json())["usage"]
                return [row["requests"] for row in rows] == [3]

            await until(is_told)
            assert await metric(one) == "1.0"
            await server.kill()

            async def is_down() -> bool:
                return await metric(one) == "0.0"

            await until(is_down)
            assert await status(one, sender="192.0.2.2") == 200
            assert await status(one) == 403
            async with one.client.get("/-/usage") as response:
                assert (response.status, response.headers["retry-after"]) == (503, "1")
            await server.start()

            async def is_back() -> bool:
                return await metric(one) == await metric(other) == "1.0"

            await until(is_back)
            assert await is_banned_at_both()


def test_workers_share_a_file_and_a_ban_outlives_them(tmp_path: Path) -> None:
    with running_toy() as toy:
        target = {"url": toy.url, "mapping": {"/info": None}}
        system = {"port": 0, "workers": 2, "drain": 2, "store": "sqlite:gate.db"}
        config = {"system": system, "cerbere": {"max_tries": 2}, "targets": {"default": "toy", "toy": target}}
        with running_proxy(tmp_path, yaml.safe_dump(config)) as running:
            with spread(running.port, workers(running)) as [[first], [second]]:
                assert got(first, "/info", "wrong")[0] == 401
                assert got(second, "/info", "wrong")[0] == 401
                eventually(lambda: got(first, "/ping")[0] == got(second, "/ping")[0] == 403)
            running.send_signal(15)
            running.wait(20)
        with running_proxy(tmp_path, yaml.safe_dump(config)) as running:
            for _ in range(8):
                with closing(HTTPConnection("127.0.0.1", running.port, timeout=20)) as connection:
                    assert got(connection, "/info")[0] == 403


@pytest.mark.parametrize("store", ["sqlite:", "sqlite:there/is/no/such/folder.db", "mysql://host", "redis://", ""])
def test_what_is_no_store_is_refused(tmp_path: Path, store: str) -> None:
    with pytest.raises(ConfigError, match="system.store"):
        from_data(sharing("http://a", store), tmp_path, {"MOOLTIPROXY_KEY": "x"})


def test_a_files_path_is_beside_the_configuration(tmp_path: Path) -> None:
    config = from_data(sharing("http://a", "sqlite:gate.db"), tmp_path, {"MOOLTIPROXY_KEY": "x"})
    assert config.system.store == f"sqlite:{tmp_path / 'gate.db'}"
    assert "gate.db" not in repr(config.system)


async def test_a_url_with_words_that_nobody_knows_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match="system.store"):
        async with proxy(sharing("http://a", "redis://127.0.0.1:9/not-a-number?socket_timeout=soon")):
            pass
