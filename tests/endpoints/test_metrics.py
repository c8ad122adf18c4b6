"""What is counted, as Prometheus reads it."""

from typing import Any

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.servers.proxy import Proxy, proxy
from tests.servers.scripted import Peer, Received, answering, upstream

CHAT = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
CALL = {"id": "call_1", "function": {"name": "f", "arguments": "{}"}}


def before(url: str, **target: Any) -> dict[str, Any]:
    return {"targets": {"default": "one", "one": {"url": url, "speaks": "openai", **target}}}


def answer(body: Any, media_type: str = "application/json") -> bytes:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n"
    return head % (media_type.encode(), len(data)) + data


def chunk(delta: Any, finish: str | None = None) -> bytes:
    return b"data: %b\n\n" % orjson.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


async def counted(running: Proxy, name: str) -> dict[tuple[str, ...], float]:
    """The samples of a counter by the values of their labels."""
    async with running.client.get("/-/metrics") as response:
        assert response.status == 200
        assert response.headers["content-type"].startswith("text/plain; version=")
        families = text_string_to_metric_families(await response.text())
        samples = [sample for family in families for sample in family.samples if sample.name == name]
    return {tuple(sample.labels.values()): sample.value for sample in samples}


async def streamed(running: Proxy) -> bytes:
    async with running.client.post("/v1/messages", json={**CHAT, "stream": True}) as response:
        return await response.read()


async def test_metrics_need_the_key() -> None:
    async with proxy(before("http://127.0.0.1:1")) as running:
        assert b" 401 " in await running.raw(b"GET /-/metrics HTTP/1.1\r\nhost: x\r\n\r\n")


@pytest.mark.parametrize(
    ("stream", "repairs"),
    [
        (chunk({"content": "Hi"}) + chunk({}, "stop"), {"end_mark"}),
        (chunk({"content": "Hi"}) + b"data: what?\n\n" + chunk({}, "stop") + b"data: [DONE]\n\n", {"event"}),
        (chunk({"tool_calls": [CALL]}) + chunk({}, "tool_calls") + b"data: [DONE]\n\n", {"call_index"}),
        (chunk({"tool_calls": [{**CALL, "index": 0}]}) + chunk({}, "stop") + b"data: [DONE]\n\n", {"finish_reason"}),
        (
            chunk({"tool_calls": [{"index": 0, "function": CALL["function"]}]})
            + chunk({}, "tool_calls")
            + b"data: [DONE]\n\n",
            {"call_id"},
        ),
        (chunk({"content": "Hi"}) + chunk({}, "stop") + b"data: [DONE]\n\n", set()),
    ],
)
async def test_what_was_put_right_in_an_answer_is_counted(stream: bytes, repairs: set[str]) -> None:
    async with upstream(answering(answer(stream, "text/event-stream"))) as up, proxy(before(up.url)) as running:
        assert b"message_stop" in await streamed(running)
        faults = await counted(running, "mooltiproxy_upstream_faults_total")
    assert faults == {(repair, "repaired", "one"): 1.0 for repair in repairs}


@pytest.mark.parametrize(
    "stream", [b'data: {"choices"\n\n', chunk({"content": "Hi"}), chunk({"content": "Hi"}) + b"data: {]\n\n"]
)
async def test_an_answer_that_could_not_be_put_right_is_counted(stream: bytes) -> None:
    async with upstream(answering(answer(stream, "text/event-stream"))) as up, proxy(before(up.url)) as running:
        assert b'"type":"error"' in await streamed(running)
        faults = await counted(running, "mooltiproxy_upstream_faults_total")
    assert faults == {("broken", "refused", "one"): 1.0}


async def test_a_target_that_breaks_http_is_counted_where_nothing_is_translated_too() -> None:
    async def garbage(peer: Peer, received: Received) -> None:
        peer.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab")
        peer.writer.close()

    async with upstream(garbage) as up, proxy(before(up.url)) as running:
        with pytest.raises(Exception, match=r".*"):
            async with running.client.post("/v1/chat/completions", json=CHAT) as response:
                await response.read()
        assert await counted(running, "mooltiproxy_upstream_faults_total") == {("broken", "refused", "one"): 1.0}


async def test_an_error_that_a_target_answers_with_is_no_fault() -> None:
    refusal = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    async with upstream(answering(refusal)) as up, proxy(before(up.url)) as running:
        await streamed(running)
        assert await counted(running, "mooltiproxy_upstream_faults_total") == {}


async def test_what_a_target_could_not_be_told_is_counted_by_class() -> None:
    message = {"role": "assistant", "content": "Hi"}
    good = answer({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
    async with upstream(answering(good)) as up, proxy(before(up.url)) as running:
        async with running.client.post("/v1/messages", json={**CHAT, "container": "c"}) as response:
            assert response.headers["x-mooltiproxy-dropped"] == "container"
        assert await counted(running, "mooltiproxy_dropped_total") == {("other", "one"): 1.0}


async def test_a_request_that_is_asked_in_another_way_counts_its_losses_once() -> None:
    message = {"role": "assistant", "content": "Hi"}
    good = answer({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    async def chats_only(peer: Peer, received: Received) -> None:
        missing = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
        await peer.send(good if "/chat/completions" in received.line else missing)

    body = {"inputs": "Hi", "model": "m", "parameters": {"max_new_tokens": 5, "watermark": True}}
    async with upstream(chats_only) as up, proxy(before(up.url)) as running:
        async with running.client.post("/generate", json=body) as response:
            assert response.status == 200
            lost = response.headers["x-mooltiproxy-dropped"].split("; ")
        assert len(up.requests) == 2
        assert sum((await counted(running, "mooltiproxy_dropped_total")).values()) == len(lost)
