"""What a target does not have, what a translation loses, and what a silent target's client gets meanwhile."""

import asyncio
from typing import Any

import orjson
import pytest

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.losses import class_of, shown
from tests.servers.proxy import Proxy, proxy
from tests.servers.scripted import STREAM_HEAD, Peer, Received, answer, chunk, upstream

CHAT_ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
}
MISSING = answer(b'{"detail": "Not Found"}', status="404 Not Found")
NO_MODEL = answer(b'{"error": {"message": "The model `m` does not exist", "code": "model_not_found"}}', status="404 X")


async def chat_only(peer: Peer, received: Received) -> None:
    """A server that has chat completions and nothing else."""
    there = received.line.split()[1] == "/v1/chat/completions"
    await peer.send(answer(orjson.dumps(CHAT_ANSWER)) if there else MISSING)


def speaking(url: str, **target: Any) -> dict[str, Any]:
    return {"targets": {"default": "one", "one": {"url": url, "speaks": "openai"} | target}}


async def completed(running: Proxy) -> tuple[int, Any]:
    async with running.client.post("/v1/completions", json={"model": "m", "prompt": "Hi"}) as response:
        return response.status, await response.json()


async def test_a_missing_endpoint_is_learned_from_its_404_and_asked_for_another_way() -> None:
    async with upstream(chat_only) as up, proxy(speaking(up.url)) as running:
        for _ in range(2):
            status, body = await completed(running)
            assert (status, body["object"], body["choices"][0]["text"]) == (200, "text_completion", "Hello")
    paths = [received.line.split()[1] for received in up.requests]
    assert paths == ["/v1/completions", "/v1/chat/completions", "/v1/chat/completions"]


async def test_endpoints_says_it_beforehand() -> None:
    async with upstream(chat_only) as up, proxy(speaking(up.url, endpoints=["chat"])) as running:
        assert (await completed(running))[0] == 200
    assert [received.line.split()[1] for received in up.requests] == ["/v1/chat/completions"]


async def test_a_missing_model_is_the_clients_business_and_nothing_is_learned() -> None:
    async def script(peer: Peer, received: Received) -> None:
        await peer.send(NO_MODEL)

    async with upstream(script) as up, proxy(speaking(up.url)) as running:
        for _ in range(2):
            status, body = await completed(running)
            assert (status, body["error"]["code"]) == (404, "model_not_found")
    assert [received.line.split()[1] for received in up.requests] == ["/v1/completions"] * 2


# Losses.


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("seed", "sampling"),
        ("clamped temperature 1.5->1", "sampling"),
        ("messages[2].name", "messages"),
        ("messages.tool_calls", "tools"),
        ("cache_control", "cache"),
        ("whatever", "other"),
    ],
)
def test_each_loss_has_a_class(entry: str, name: str) -> None:
    assert class_of(entry) == name


def test_a_rejected_class_is_a_bad_request_that_names_the_field() -> None:
    with pytest.raises(BadRequest) as caught:
        shown(("user", "seed"), {"sampling": "reject"})
    assert caught.value.param == "seed"


def test_an_allowed_class_is_not_told_and_the_default_counts_for_the_rest() -> None:
    assert shown(("user", "seed", "user"), {"default": "allow", "sampling": "warn"}) == ("seed",)


@pytest.mark.parametrize(
    ("policy", "status", "told"), [("warn", 200, "logit_bias"), ("allow", 200, None), ("reject", 400, None)]
)
async def test_losses_decide_what_becomes_of_a_request(policy: str, status: int, told: str | None) -> None:
    async def script(peer: Peer, received: Received) -> None:
        details = {"finish_reason": "eos_token", "generated_tokens": 1, "seed": None, "prefill": [], "tokens": []}
        await peer.send(answer(orjson.dumps({"generated_text": "Hi", "details": details})))

    async with upstream(script) as up:
        config = speaking(up.url, speaks="tgi", losses={"sampling": policy})
        async with proxy(config) as running:
            body = {"messages": [{"role": "user", "content": "x"}], "logit_bias": {"1": 1}}
            async with running.client.post("/v1/chat/completions", json=body) as response:
                assert (response.status, response.headers.get("x-mooltiproxy-dropped")) == (status, told)


# Keep-alives.

STREAMED = {"messages": [{"role": "user", "content": "x"}], "stream": True}
TOKEN = b'data:{"index":1,"token":{"id":1,"text":"Hi","logprob":0,"special":false}}\n\n'


async def test_a_silent_target_gives_the_streaming_client_signs_of_life() -> None:
    may_answer = asyncio.Event()

    async def script(peer: Peer, received: Received) -> None:
        await may_answer.wait()
        await peer.send(STREAM_HEAD + chunk(TOKEN))
        await peer.gone()

    async with upstream(script) as up, proxy(speaking(up.url, speaks="tgi", keepalive=0.1)) as running:
        async with running.client.post("/v1/chat/completions", json=STREAMED) as response:
            assert (response.status, response.content_type) == (200, "text/event-stream")
            for _ in range(2):
                assert await response.content.readuntil(b"\n\n") == b": keep-alive\n\n"
            may_answer.set()
            while b"Hi" not in await response.content.readuntil(b"\n\n"):
                pass
            response.close()
        await up.script_ended.wait()


async def test_an_error_after_a_sign_of_life_is_told_in_the_stream() -> None:
    async def script(peer: Peer, received: Received) -> None:
        await asyncio.sleep(0.3)
        await peer.send(answer(b'{"error": "no room", "error_type": "overloaded"}', status="429 Too Many"))

    async with upstream(script) as up, proxy(speaking(up.url, speaks="tgi", keepalive=0.1)) as running:
        async with running.client.post("/v1/chat/completions", json=STREAMED) as response:
            text = await response.text()
    assert "[DONE]" not in text
    assert orjson.loads(text.strip().split("\n\n")[-1].removeprefix("data: "))["error"]["message"] == "no room"


async def test_a_client_that_does_not_stream_is_never_answered_early() -> None:
    async def script(peer: Peer, received: Received) -> None:
        await asyncio.sleep(0.3)
        await peer.send(answer(b'{"error": "no room", "error_type": "overloaded"}', status="429 Too Many"))

    async with upstream(script) as up, proxy(speaking(up.url, speaks="tgi", keepalive=0.1)) as running:
        body = {"messages": STREAMED["messages"]}
        async with running.client.post("/v1/chat/completions", json=body) as response:
            assert response.status == 429


async def test_the_health_of_a_server_that_has_no_such_path_is_whether_it_lists_its_models() -> None:
    async def models_only(peer: Peer, received: Received) -> None:
        there = received.line.split()[1] == "/v1/models"
        await peer.send(answer(b'{"object": "list", "data": []}') if there else MISSING)

    async with upstream(models_only) as target, proxy(speaking(target.url)) as running:
        async with running.client.get("/health") as told:
            assert told.status == 200
    assert [request.line.split()[1] for request in target.requests] == ["/health", "/v1/models"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/chat/completions"), ("HEAD", "/v1/models")])
async def test_nothing_is_learned_from_a_method_that_the_endpoint_does_not_have(method: str, path: str) -> None:
    async def strict_about_methods(peer: Peer, received: Received) -> None:
        if received.line.startswith(f"{method} "):
            await peer.send(answer(b"", status="405 Method Not Allowed"))
        elif received.line.split()[1] == path:
            await peer.send(answer(orjson.dumps(CHAT_ANSWER)))
        else:
            await peer.send(MISSING)

    asks = {"method": "GET"} if method == "HEAD" else {"method": "POST", "json": {"model": "m", "messages": []}}
    async with upstream(strict_about_methods) as target, proxy(speaking(target.url)) as running:
        async with running.client.request(method, path) as refused:
            assert refused.status == 405
        async with running.client.request(**asks, url=path) as answered:
            assert answered.status == 200
    assert [request.line.split()[1] for request in target.requests] == [path, path]
