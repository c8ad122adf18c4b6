"""Reloading: by request, by a file that changes, and keys that come and go."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from mooltiproxy import watcher
from mooltiproxy.config.load import load
from mooltiproxy.config.model import Config
from mooltiproxy.keys import hash_of
from mooltiproxy.server import Server
from tests.servers.proxy import BEARER, KEY, passing, proxy
from tests.servers.scripted import Peer, Received, answer, answering, upstream

ALICE = "the-key-of-alice"
FILE = f"""\
system: {{port: 0}}
targets:
  default: one
  one: {{url: URL, mapping: {{/info: }}}}
keys:
  alice: {{hash: "{hash_of(ALICE)}"}}
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "EVERY", 0.02)


@asynccontextmanager
async def serving(
    folder: Path, text: str = FILE, url: str = "http://127.0.0.1:1", before: Callable[[], object] = bool
) -> AsyncIterator[aiohttp.ClientSession]:
    """A client, with the master key, of a proxy that serves this file and reads it again when told; `before` that it
    calls this, in a thread."""
    file = folder / "config.yaml"
    file.write_text(text.replace("URL", url))
    environ = {"MOOLTIPROXY_KEY": KEY}

    def again() -> Config:
        before()
        return load(file, environ)

    server = Server(load(file, environ), reload=again)
    await server.start()
    async with aiohttp.ClientSession(base_url=server.urls[0], headers=BEARER) as client:
        try:
            yield client
        finally:
            await server.drain()


async def reloaded(client: aiohttp.ClientSession) -> tuple[int, Any]:
    async with client.post("/-/reload") as response:
        return response.status, orjson.loads(await response.read())


async def status_of(client: aiohttp.ClientSession, path: str, key: str = KEY) -> int:
    async with client.get(path, headers={"Authorization": f"Bearer {key}"}) as response:
        return response.status


async def becomes(wanted: object, ask: Callable[[], Awaitable[object]]) -> None:
    """Returns once the answer is the wanted one."""
    async with asyncio.timeout(10):
        while True:
            if await ask() == wanted:
                return
            await asyncio.sleep(0.02)


async def test_a_reload_puts_the_file_in_force_and_says_what_has_changed(tmp_path: Path) -> None:
    async with upstream(answering(answer())) as up, serving(tmp_path, url=up.url) as client:
        assert await status_of(client, "/more") == 404
        file = tmp_path / "config.yaml"
        text = file.read_text().replace("{/info: }", "{/info: , /more: }").replace("port: 0", "port: 1")
        file.write_text(text[: text.index("keys:")])
        status, body = await reloaded(client)
        assert status == 200
        assert body["reloaded"] is True
        changes = [" ".join(line.split()) for line in body["changes"]]
        assert changes == [
            "! system port changes only with a restart",
            "~ target one mapping./more",
            "- key alice revoked",
        ]
        assert await status_of(client, "/more") == 200
        assert await status_of(client, "/more", ALICE) == 401


async def test_a_bad_file_changes_nothing_and_every_problem_is_told(tmp_path: Path) -> None:
    async with upstream(answering(answer())) as up, serving(tmp_path, url=up.url) as client:
        file = tmp_path / "config.yaml"
        file.write_text(file.read_text() + "nonsense: 1\nmore: 2\n")
        status, body = await reloaded(client)
        assert (status, body["reloaded"]) == (400, False)
        assert [line.split(": ")[0] for line in body["problems"]] == [f"{file}:7", f"{file}:8"]
        assert await status_of(client, "/info", ALICE) == 200


async def test_a_reload_is_for_admins_and_takes_a_post(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        assert await status_of(client, "/-/reload") == 405
        assert await status_of(client, "/-/reload", ALICE) == 403
        assert await status_of(client, "/-/reload", "nobody") == 401


async def test_without_a_file_there_is_nothing_to_reload() -> None:
    async with proxy(passing("http://127.0.0.1:1")) as running:
        async with running.client.post("/-/reload") as response:
            assert response.status == 400
            assert "without a configuration file" in await response.text()


async def test_a_stream_goes_on_while_the_file_is_read_again(tmp_path: Path) -> None:
    may_end = asyncio.Event()

    async def slow(peer: Peer, received: Received) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab")
        await may_end.wait()
        await peer.send(b"cd")

    async with upstream(slow) as up, serving(tmp_path, url=up.url) as client, client.get("/info") as response:
        file = tmp_path / "config.yaml"
        file.write_text(file.read_text().replace("/info: ", "/other: "))
        assert (await reloaded(client))[0] == 200
        may_end.set()
        assert await response.read() == b"abcd"


async def test_whoever_leaves_while_it_reloads_does_not_stop_it(tmp_path: Path) -> None:
    begun, may_read = threading.Event(), threading.Event()

    def before() -> None:
        begun.set()
        may_read.wait(5)

    async with upstream(answering(answer())) as up, serving(tmp_path, url=up.url, before=before) as client:
        file = tmp_path / "config.yaml"
        file.write_text(file.read_text().replace("{/info: }", "{/info: , /more: }"))
        asking = asyncio.create_task(reloaded(client))
        await asyncio.to_thread(begun.wait, 5)
        asking.cancel()
        await asyncio.sleep(0.05)
        may_read.set()
        await becomes(200, lambda: status_of(client, "/more"))


# system.watch

WATCHING = FILE.replace("port: 0", "port: 0, watch: true")


async def test_a_file_that_changes_is_taken_up(tmp_path: Path) -> None:
    async with upstream(answering(answer())) as up, serving(tmp_path, WATCHING, up.url) as client:
        file = tmp_path / "config.yaml"
        file.write_text(file.read_text().replace("{/info: }", "{/more: }"))
        await becomes(200, lambda: status_of(client, "/more"))
        file.write_text(file.read_text().replace("{/more: }", "{/again: }"))
        await becomes(200, lambda: status_of(client, "/again"))


async def test_a_file_that_is_bad_is_told_once_and_taken_up_when_it_is_good(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with upstream(answering(answer())) as up, serving(tmp_path, WATCHING, up.url) as client:
        file = tmp_path / "config.yaml"
        good = file.read_text().replace("{/info: }", "{/info: , /more: }")
        file.write_text("nonsense: 1\n")

        async def told() -> bool:
            return "was not reloaded" in caplog.text

        await becomes(True, told)
        await asyncio.sleep(0.2)
        assert caplog.text.count("was not reloaded") == 1
        assert await status_of(client, "/info") == 200
        file.write_text(good)
        await becomes(200, lambda: status_of(client, "/more"))


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("config/a.yml", "model: {model_name: a}", "model: {model_name: b}"),
        ("prompts/en/own.prompt", "Be kind.", "Be brief."),
        ("mappers/own.py", "def mine(ip, cfg={}):\n    return ip\n", "def mine(ip, cfg={}):\n    return {}\n"),
        ("template.jinja", "{{ messages[0].content }}", "{{ messages[-1].content }}"),
        ("middle.py", "async def ware(request, handler): return await handler(request)\n", "ware = print\n"),
    ],
)
async def test_what_a_file_is_made_of_is_watched_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, before: str, after: str
) -> None:
    caplog.set_level("INFO")
    (tmp_path / "config").mkdir()
    middleware = "async def ware(request, handler): return await handler(request)\n"
    for name, text in (("middle.py", middleware), (file, before)):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "template.jinja").touch()
    more = "models_dir: config\nmiddlewares: [bearer_auth, 'middle:ware', routing]\n"
    more += "templates: {T: {file: template.jinja}}\n" if file.endswith("jinja") else ""
    async with serving(tmp_path, WATCHING + more):
        (tmp_path / file).write_text(after)

        async def told() -> bool:
            return "was reloaded" in caplog.text

        await becomes(True, told)


async def test_nothing_is_watched_unless_it_is_said(tmp_path: Path) -> None:
    async with upstream(answering(answer())) as up, serving(tmp_path, url=up.url) as client:
        file = tmp_path / "config.yaml"
        file.write_text(file.read_text().replace("{/info: }", "{/info: , /more: }"))
        await asyncio.sleep(0.2)
        assert await status_of(client, "/more") == 404


# keys_file

WITH_KEYS = FILE + "keys_file: api_tokens.yml\n"


def write_keys(folder: Path, text: str) -> None:
    """As editors do it: all at once."""
    new = folder / "new"
    new.write_text(text)
    new.chmod(0o600)
    os.replace(new, folder / "api_tokens.yml")


async def test_keys_of_the_file_come_and_go_without_a_reload(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    write_keys(tmp_path, "api_key: the-first\nadmin_key: the-second\n")
    async with upstream(answering(answer())) as up, serving(tmp_path, WITH_KEYS, up.url) as client:
        assert await status_of(client, "/info", "the-first") == 200
        assert await status_of(client, "/-/metrics", "the-first") == 403
        assert await status_of(client, "/-/metrics", "the-second") == 200
        write_keys(tmp_path, "api_key: the-third\n")

        async def told() -> bool:  # whoever asks with a key until it counts gets banned
            return "keys_file was read anew, revoked: admin_key, api_key" in caplog.text

        await becomes(True, told)
        assert await status_of(client, "/info", "the-third") == 200
        assert await status_of(client, "/info", "the-first") == 401
        assert await status_of(client, "/info", ALICE) == 200
    assert "the-" not in caplog.text


@pytest.mark.parametrize("text", ["", "api_key: [the-fourth\n", f"alice: {ALICE}\n", None])
async def test_a_broken_file_keeps_the_last_good_keys(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str | None
) -> None:
    write_keys(tmp_path, "api_key: the-first\n")
    async with upstream(answering(answer())) as up, serving(tmp_path, WITH_KEYS, up.url) as client:
        if text is None:
            (tmp_path / "api_tokens.yml").unlink()
        else:
            write_keys(tmp_path, text)

        async def told() -> bool:
            return "its last good keys stay" in caplog.text

        await becomes(True, told)
        await asyncio.sleep(0.1)
        assert await status_of(client, "/info", "the-first") == 200
        assert len(caplog.records) == 1
        assert "\n" not in caplog.records[0].getMessage()
        assert "the-fourth" not in caplog.text
