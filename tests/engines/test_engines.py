"""Model servers on demand: the proxy, real servers that it starts, and clients."""

import asyncio
import os
import random
import re
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from mooltiproxy.engines import local, owner
from mooltiproxy.engines.schedule import Ticket
from mooltiproxy.upstream.session import Origin
from tests.engines.running import generated, running_engines, shown, until
from tests.servers.engines import BODY, asked, engines, processes, toy_target
from tests.servers.proxy import BEARER, proxy


async def test_a_request_starts_the_server_and_is_answered(tmp_path: Path) -> None:
    async with running_engines(tmp_path, toy=toy_target()) as running:
        assert (await shown(running, "toy"))["state"] == "stopped"
        status, answer = await generated(running, "toy")
        assert (status, "generated_text" in answer) == (200, True)
        found = await shown(running, "toy")
        assert (found["state"], found["in_flight"], found["waiting"], found["models"]) == ("ready", 0, 0, ["toy"])
        assert found["pid"] in processes(str(tmp_path))


async def test_fifty_requests_at_once_start_one_server(tmp_path: Path) -> None:
    async with running_engines(tmp_path, toy=toy_target("--load-time", "0.3")) as running:
        answers = await asyncio.gather(*(generated(running, "toy") for _ in range(50)))
        assert {status for status, _ in answers} == {200}
        async with running.client.get("/-/metrics") as response:
            text = await response.text()
    assert 'mooltiproxy_engine_starts_total{outcome="ready",server="toy"} 1.0' in text
    assert 'mooltiproxy_engine_ready{server="toy"} 1.0' in text


async def test_a_server_that_dies_while_loading_answers_with_its_last_words(tmp_path: Path) -> None:
    async with running_engines(tmp_path, toy=toy_target("--crash-loading", "--load-time", "0.1")) as running:
        async with running.client.post("/v1/messages", json=MESSAGES) as response:
            assert (response.status, response.headers["retry-after"]) == (503, "2")
            body = orjson.loads(await response.read())
        assert body["type"] == "error"
        assert "the toy was told to crash while loading" in body["error"]["message"]
        began = time.monotonic()
        assert (await generated(running, "toy"))[0] == 503
        assert time.monotonic() - began < 0.5  # it is not started again at once
        assert "exit code 1" in (await shown(running, "toy"))["error"]


async def test_a_command_that_is_not_there_is_told(tmp_path: Path) -> None:
    target = toy_target()
    target["run"]["command"] = "no-such-program --port ${port}"
    async with running_engines(tmp_path, toy=target) as running:
        status, answer = await generated(running, "toy")
    assert status == 503
    assert "`no-such-program` cannot be started: No such file" in answer["error"]


async def test_secrets_in_the_last_words_are_masked(tmp_path: Path) -> None:
    target = toy_target()
    target["run"]["command"] = "sh -c 'echo key $SECRET and the-target-key on ${port}; exit 3'"
    target |= {"key": "the-target-key"}
    target["run"]["env"] = {"SECRET": "very-secret-words"}
    async with running_engines(tmp_path, toy=target) as running:
        status, answer = await generated(running, "toy")
        assert "secret-words" not in str(await shown(running, "toy"))
    assert status == 503
    assert "key *** and *** on" in answer["error"]


async def test_the_master_key_is_no_server_s_business(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOOLTIPROXY_KEY", "hidden")
    target = toy_target()
    target["run"]["command"] = "sh -c 'echo found ${port}:$MOOLTIPROXY_KEY:$OTHER; exit 3'"
    target["run"]["env"] = {"OTHER": "p${port}"}
    async with running_engines(tmp_path, toy=target) as running:
        _, answer = await generated(running, "toy")
    assert re.search(r"found (\d+)::p\1$", answer["error"])


async def test_keys_of_others_are_no_server_s_business(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OWN_KEY", "OTHER_KEY", "UNKNOWN"):
        monkeypatch.setenv(name, f"it-has-{name}")
    target, other = toy_target(), toy_target() | {"envkey": "OTHER_KEY"}
    target["run"]["command"] = "sh -c 'echo ${port}: $OTHER_KEY, $UNKNOWN, $(printf %s $OWN_KEY | wc -c); exit 3'"
    target |= {"envkey": "OWN_KEY"}
    async with proxy(engines(toy=target, other=other), tmp_path, OWN_KEY="own", OTHER_KEY="other") as running:
        _, answer = await generated(running, "toy")
    assert re.search(r"\d+: , it-has-UNKNOWN, 14$", answer["error"])


async def test_a_server_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    async with running_engines(tmp_path, toy=toy_target("--load-time", "60", ready_timeout=0.5)) as running:
        status, answer = await generated(running, "toy")
    assert status == 503
    last = r"(, but with 503|: the target cannot be connected to)"  # on a busy machine it is not even there
    assert re.search(rf"/health with 200 within 0.5 s \(ready_timeout\){last}", answer["error"])


async def test_a_server_that_is_deaf_to_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    async with running_engines(tmp_path, toy=toy_target("--ignore-sigterm", stop_timeout=0.3)) as running:
        await generated(running, "toy")
        began = time.monotonic()
        async with running.client.post("/-/unload") as response:
            assert orjson.loads(await response.read()) == {"unloaded": ["toy"]}
        assert 0.3 <= time.monotonic() - began < 2
        assert (await shown(running, "toy"))["state"] == "stopped"


async def test_keep_alive_2_and_the_server_is_gone_within_4_seconds(tmp_path: Path) -> None:
    async with running_engines(tmp_path, toy=toy_target(), other=toy_target()) as running:
        await generated(running, "toy", keep_alive=2)
        assert 0 < (await shown(running, "toy"))["until"] - time.time() <= 2
        await generated(running, "other")
        await until(running, "toy", 4, state="stopped")
        assert (await shown(running, "other"))["state"] == "ready"


async def test_keep_alive_0_of_an_ollama_client_unloads_when_its_answer_ends(tmp_path: Path) -> None:
    async with running_engines(tmp_path, toy=toy_target()) as running:
        body = {"model": "toy", "messages": [{"role": "user", "content": "Hi"}], "stream": False, "keep_alive": 0}
        async with running.client.post("/api/chat", json=body) as response:
            assert response.status == 200
        await until(running, "toy", state="stopped")


async def test_keep_alive_among_ollama_s_options_counts_and_is_no_loss(tmp_path: Path) -> None:
    async with running_engines(tmp_path, toy=toy_target()) as running:
        body = {"model": "toy", "messages": [{"role": "user", "content": "Hi"}], "stream": False}
        async with running.client.post("/api/chat", json={**body, "options": {"keep_alive": "1h"}}) as response:
            assert (response.status, response.headers.get("x-mooltiproxy-dropped")) == (200, None)
        assert 3500 < (await shown(running, "toy"))["until"] - time.time() <= 3600


async def test_a_keep_alive_that_is_no_duration_is_refused_before_a_server_is_started(tmp_path: Path) -> None:
    async with running_engines(tmp_path, toy=toy_target()) as running:
        async with running.client.post("/v1/chat/completions", json={**CHAT, "keep_alive": "soon"}) as response:
            assert response.status == 400
            assert orjson.loads(await response.read())["error"]["param"] == "keep_alive"
        assert (await shown(running, "toy"))["state"] == "stopped"


MESSAGES = {"model": "toy", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
CHAT = {"model": "toy", "max_tokens": 5, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize(
    ("path", "sign", "end"),
    [
        ("/v1/chat/completions", b": keep-alive\n\n", b"data: [DONE]\n\n"),
        ("/v1/messages", b'event: ping\ndata: {"type": "ping"}\n\n', b'data: {"type":"message_stop"}\n\n'),
    ],
)
async def test_a_streaming_client_gets_signs_of_life_while_the_server_starts(
    tmp_path: Path, path: str, sign: bytes, end: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mooltiproxy.upstream.forward.FIRST_SIGN", 0.1)
    async with running_engines(tmp_path, toy=toy_target("--load-time", "0.3")) as running:
        async with running.client.post(path, json=CHAT) as response:
            assert (response.status, response.content_type) == (200, "text/event-stream")
            assert await response.content.readexactly(len(sign)) == sign
            assert (await shown(running, "toy"))["waiting"] == 1
            rest = await response.read()
    assert rest.endswith(end)
    assert b'"error"' not in rest


async def test_a_stream_that_passes_gets_signs_of_life_and_then_the_server_s_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mooltiproxy.upstream.forward.FIRST_SIGN", 0.1)
    async with running_engines(tmp_path, toy=toy_target("--load-time", "0.3")) as running:
        body = {**BODY, "stream": True}
        async with running.client.post("/", json=body, headers={"target": "toy"}) as response:
            text = await response.read()
    assert text.startswith(b": keep-alive\n\ndata:{")
    assert b'"generated_text":"' in text


async def test_a_failed_start_ends_a_stream_that_has_begun_with_an_error_of_its_api(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mooltiproxy.upstream.forward.FIRST_SIGN", 0.1)
    async with running_engines(tmp_path, toy=toy_target("--load-time", "0.3", "--crash-loading")) as running:
        async with running.client.post("/v1/messages", json={**MESSAGES, "stream": True}) as response:
            assert response.status == 200
            text = await response.read()
        assert b"event: error\n" in text
        assert b"told to crash while loading" in text
        async with running.client.post("/", json={**BODY, "stream": True}) as response:
            assert response.status == 503  # now it is known before anything is sent


async def test_a_client_that_leaves_is_taken_off_the_queue(tmp_path: Path) -> None:
    async with running_engines(tmp_path, toy=toy_target("--load-time", "0.3", log=tmp_path / "a.jsonl")) as running:
        task = asyncio.ensure_future(generated(running, "toy"))
        await until(running, "toy", waiting=1)
        task.cancel()
        await until(running, "toy", waiting=0, state="starting")
        await until(running, "toy", state="ready")
        assert asked(tmp_path / "a.jsonl") == 0


async def test_a_full_queue_and_a_long_wait_are_503_with_retry_after(tmp_path: Path) -> None:
    target = toy_target("--load-time", "3", max_waiting=1, max_wait=0.4)
    async with running_engines(tmp_path, toy=target) as running:
        first = asyncio.ensure_future(generated(running, "toy"))
        await until(running, "toy", waiting=1)
        async with running.client.post("/v1/chat/completions", json={**CHAT, "stream": False}) as response:
            assert (response.status, response.headers.getall("retry-after")) == (503, ["1"])
            assert "too many requests wait" in orjson.loads(await response.read())["error"]["message"]
        status, answer = await first
        assert (status, "not free in time" in answer["error"]) == (503, True)


async def test_a_crash_in_a_stream_is_told_and_the_next_request_starts_the_server_again(tmp_path: Path) -> None:
    async with running_engines(tmp_path, toy=toy_target("--crash-after", "3")) as running:
        async with running.client.post("/v1/chat/completions", json=CHAT) as response:
            text = await response.read()
        assert b'"error"' in text
        assert b"[DONE]" not in text
        assert "told to crash in an answer" in (await until(running, "toy", state="stopped"))["error"]
        assert (await generated(running, "toy"))[0] == 200


async def test_a_server_whose_guard_is_killed_is_ended_and_started_again(tmp_path: Path) -> None:
    async with running_engines(tmp_path, toy=toy_target()) as running:
        await generated(running, "toy")
        server = (await shown(running, "toy"))["pid"]
        (guard,) = set(processes(str(tmp_path))) - {server}
        os.kill(guard, signal.SIGKILL)
        await until(running, "toy", state="stopped")
        assert server not in processes(str(tmp_path))
        assert (await generated(running, "toy"))[0] == 200


async def test_a_request_that_finds_nobody_where_a_server_has_just_been_asks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_engines(tmp_path, toy=toy_target()) as running:
        assert (await generated(running, "toy"))[0] == 200
        found, tickets = owner.Engines.origin, list[Ticket]()

        def origin(engines: owner.Engines, ticket: Ticket) -> Origin | None:
            tickets.append(ticket)
            there = found(engines, ticket)
            return replace(there, port=1) if there is not None and len(tickets) == 1 else there

        monkeypatch.setattr(owner.Engines, "origin", origin)
        assert (await generated(running, "toy"))[0] == 200
        assert len(set(tickets)) == 2
        assert (await shown(running, "toy"))["in_flight"] == 0


async def test_200_requests_for_3_exclusive_servers_are_all_answered_and_never_two_of_them_run(tmp_path: Path) -> None:
    targets: dict[str, Any] = {name: toy_target(group="gpu") for name in ("a", "b", "c")}
    async with running_engines(tmp_path, **targets) as running:
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                alive = [pid for pid in processes(f"{tmp_path}/toy.jsonl") if b"guard.py" not in _command(pid)]
                most = max(most, len(alive))
                await asyncio.sleep(0.01)

        watching = asyncio.ensure_future(watch())
        names = random.Random(5).choices(sorted(targets), k=200)
        gate = asyncio.Semaphore(66)

        async def one(name: str) -> int:
            async with gate:
                return (await generated(running, name))[0]

        statuses = await asyncio.gather(*map(one, names))
        watching.cancel()
    assert statuses == [200] * 200
    assert most == 1


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b"guard.py"


async def test_status_and_unload_are_for_the_master_key(tmp_path: Path) -> None:
    data = engines(toy=toy_target()) | {"keys": {"alice": {"envkey": "ALICE"}}}
    async with proxy(data, tmp_path, ALICE="the-key-of-alice") as running:
        headers = {"Authorization": "Bearer the-key-of-alice"}
        for path in ("/status", "/-/status", "/unload"):
            async with running.client.get(path, headers=headers) as response:
                assert response.status == 403
        async with running.client.get("/-/unload", headers=BEARER) as response:
            assert response.status == 405


async def test_unload_names_one_target_or_model(tmp_path: Path) -> None:
    async with running_engines(tmp_path, a=toy_target(), b=toy_target()) as running:
        await asyncio.gather(generated(running, "a"), generated(running, "b"))
        async with running.client.get("/unload?model=a") as response:
            assert orjson.loads(await response.read()) == {"unloaded": ["a"]}
        assert (await shown(running, "b"))["state"] == "ready"
        async with running.client.get("/unload?target=c") as response:
            assert response.status == 404


async def test_a_server_of_somebody_else_at_its_port_is_not_taken_for_it(tmp_path: Path) -> None:
    port = local.free_port()
    listening = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", port)
    target = toy_target()
    target["url"] = f"http://127.0.0.1:{port}"
    async with listening, running_engines(tmp_path, toy=target) as running:
        status, answer = await generated(running, "toy")
    assert status == 503
    assert "another server listens" in answer["error"]


async def test_who_asks_for_the_models_starts_no_server_and_keeps_none(tmp_path: Path) -> None:
    async with running_engines(tmp_path, a=toy_target(), b=toy_target()) as running:
        for path, name in (("/v1/models", "data"), ("/api/tags", "models"), ("/api/ps", "models")):
            async with running.client.get(path) as response:
                assert response.status == 200
                entries = orjson.loads(await response.read())[name]
                told = [entry.get("id") or entry["name"] for entry in entries]
                assert told == ([] if path == "/api/ps" else ["a", "b"])
        assert (await shown(running, "a"))["state"] == "stopped"
        await generated(running, "a")
        before = (await shown(running, "a"))["until"]
        async with running.client.get("/v1/models", headers={"target": "a"}) as response:
            assert "mooltiproxy/toy" in str(await response.read())
        assert (await shown(running, "a"))["until"] == pytest.approx(before, abs=0.01)


async def test_ollamas_empty_request_loads_and_unloads(tmp_path: Path) -> None:
    async with running_engines(tmp_path, toy=toy_target()) as running:
        for keep_alive, state in (("10m", "ready"), (0, "stopped")):
            body = {"model": "toy", "keep_alive": keep_alive}
            async with running.client.post("/api/generate", json=body) as response:
                answer = orjson.loads(await response.read())
                assert answer["done_reason"] == ("unload" if keep_alive == 0 else "load")
                assert "x-mooltiproxy-dropped" not in response.headers
            found = await until(running, "toy", state=state)
            assert found["until"] is None or 595 < found["until"] - time.time() <= 600


async def test_a_server_for_each_model_gets_its_name_and_its_file(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    for name in ("small", "large"):
        (tmp_path / f"config/{name}.yml").write_text(f"model: {{model_name: {name}-exl2}}\n")
    target = toy_target("--log", f"{tmp_path}/${{model}}.jsonl", group="gpu")
    target["run"]["command"] = f"sh -c 'test -f ${{config}} && exec {target['run']['command']}'"
    data = {"targets": {"default": "tabby", "tabby": target}, "models_dir": "config"}
    async with proxy(data, tmp_path) as running:
        for model in ("small", "large"):
            body = {"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
            async with running.client.post("/v1/chat/completions", json=body) as response:
                assert response.status == 200, await response.read()
            assert asked(tmp_path / f"{model}-exl2.jsonl") == 1
        async with running.client.get("/status") as response:
            told = orjson.loads(await response.read())
        assert [(one["models"], one["state"]) for one in told["targets"]] == [
            (["large"], "ready"),
            (["small"], "stopped"),
        ]
        assert told["model"] == "large"
        async with running.client.post("/unload?model=large") as response:
            assert orjson.loads(await response.read()) == {"unloaded": ["tabby:large"]}
        async with running.client.post("/v1/chat/completions", json={**body, "model": "other"}) as response:
            assert response.status == 404
            assert "a server for each of its models" in await response.text()


def chat_target(load_time: float) -> dict[str, Any]:
    """A target whose server has OpenAI's chat completions, and nothing else."""
    target = toy_target()
    target["speaks"] = "openai"
    target["run"]["command"] = f"{sys.executable} -m tests.servers.chat_server ${{port}} {load_time}"
    del target["template"]
    return target


async def test_a_stream_that_passes_goes_on_in_another_way_where_the_new_server_lacks_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mooltiproxy.upstream.forward.FIRST_SIGN", 0.1)
    body = {"model": "chat", "prompt": "Hi", "stream": True}
    async with running_engines(tmp_path, chat=chat_target(0.3)) as running:
        async with running.client.post("/v1/completions", json=body) as response:
            text = await response.read()
        assert text.startswith(b": keep-alive\n\ndata: {")
        assert text.count(b"HTTP/1.1") == 0
        assert b'"object":"text_completion"' in text
        assert text.endswith(b"data: [DONE]\n\n")


async def test_what_cannot_be_asked_in_another_way_ends_the_stream_that_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mooltiproxy.upstream.forward.FIRST_SIGN", 0.1)
    body = {"model": "chat", "prompt": "Hi", "suffix": "there", "stream": True}
    async with running_engines(tmp_path, chat=chat_target(0.3)) as running:
        async with running.client.post("/v1/completions", json=body) as response:
            text = await response.read()
        assert text.startswith(b': keep-alive\n\ndata: {"error":')
        assert b"fills in no text before a suffix" in text
        assert (await shown(running, "chat"))["in_flight"] == 0
