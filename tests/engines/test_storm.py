"""A storm of reloads in the middle of streams."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import yaml

from tests.servers.engines import engines, processes, toy_target
from tests.servers.proxy_process import KEY, Running, free_port, running_proxy

STREAMS, RELOADS = 50, 20
BODY = {"inputs": "The tea", "parameters": {"max_new_tokens": 25, "do_sample": False}}


def configuration(folder: Path, port: int, number: int) -> str:
    """One of many, between which much changes, but nothing that the servers of `a` and `b` are made of."""
    slow = ("--delay", "0.05")
    targets = {name: toy_target(*slow, log=folder / f"{name}.jsonl") for name in ("a", "b")}
    targets["a"]["run"] |= {"unload_after": 100 + number, "max_waiting": 100 + number, "log_lines": 10 + number}
    targets["b"]["keepalive"] = 1 + number
    targets |= {f"new-{number}": toy_target(log=folder / "new.jsonl", group="new")}
    data = engines(**targets)
    data["models"][f"other-{number}"] = {"target": "b", "name": f"x{number}"}
    data["system"] = {"port": port, "drain": 5, "timeout": 20 + number}
    return str(yaml.safe_dump(data))


async def streamed(client: aiohttp.ClientSession, target: str, begun: asyncio.Queue[None]) -> list[Any]:
    """The events of one stream."""
    async with client.post("/generate_stream", json=BODY, headers={"target": target}) as response:
        assert response.status == 200
        text = await response.content.readuntil(b"\n\n")
        begun.put_nowait(None)
        text += await response.read()
    return [orjson.loads(event.removeprefix(b"data:")) for event in text.split(b"\n\n") if event]


async def pids(client: aiohttp.ClientSession) -> dict[str, Any]:
    """The processes of the servers that run, by target."""
    async with client.get("/-/status") as response:
        targets = orjson.loads(await response.read())["targets"]
    return {one["target"]: one["pid"] for one in targets if one["pid"]}


def reload(running: Running, folder: Path, config: str) -> None:
    (folder / "config.yaml").write_text(config)
    running.send_signal(signal.SIGHUP)
    running.line_with("not reloaded" if "comand" in config else "the configuration was reloaded")


async def test_20_reloads_break_none_of_50_streams_and_restart_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    port = free_port()
    headers = {"Authorization": f"Bearer {KEY}"}
    with running_proxy(tmp_path, configuration(tmp_path, port, 0)) as running:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers, connector=connector) as client:
            begun: asyncio.Queue[None] = asyncio.Queue()
            streams = [asyncio.ensure_future(streamed(client, "ab"[number % 2], begun)) for number in range(STREAMS)]
            for _ in streams:
                await begun.get()
            before = await pids(client)
            assert before.keys() == {"a", "b"}
            os.kill(before["b"], signal.SIGSTOP)  # the streams of `a` go on meanwhile, those of `b` cannot have ended
            for number in range(1, RELOADS + 1):
                config = configuration(tmp_path, port, number)
                config = config.replace("command:", "comand:") if number % 5 == 0 else config
                await asyncio.to_thread(reload, running, tmp_path, config)
            assert sum(stream.done() for stream in streams) <= STREAMS / 2
            os.kill(before["b"], signal.SIGCONT)
            answers = await asyncio.gather(*streams)
            assert await pids(client) == before
        texts = {events[-1]["generated_text"] for events in answers}
        assert len(texts) == 1 and texts.pop()
        assert {len(events) for events in answers} == {len(answers[0])}
        running.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(running.wait, 10) == 0
    assert list(processes(str(tmp_path))) == []
