"""Tokens are found in the answers of every API, for the clients of every API, whole and streamed."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from mooltiproxy.discovery import discover
from mooltiproxy.limits.estimate import Estimate
from mooltiproxy.limits.meter import MOST_READ, Meter
from tests.grid.conversation import HI_THERE, Asked
from tests.limits.sending import limited
from tests.servers.scripted import Peer, Received, answer
from tests.servers.strict import SERVERS, strict

MESSAGES = [{"role": "user", "content": "Hi"}]
CONTENTS = [{"role": "user", "parts": [{"text": "Hi"}]}]
CLIENTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "openai": ("/v1/chat/completions", "/v1/chat/completions", {"model": "m1", "messages": MESSAGES}),
    "responses": ("/v1/responses", "/v1/responses", {"model": "m1", "input": "Hi"}),
    "anthropic": ("/v1/messages", "/v1/messages", {"model": "m1", "messages": MESSAGES, "max_tokens": 50}),
    "gemini": (
        "/v1beta/models/m1:generateContent",
        "/v1beta/models/m1:streamGenerateContent?alt=sse",
        {"contents": CONTENTS},
    ),
    "ollama": ("/api/chat", "/api/chat", {"model": "m1", "messages": MESSAGES}),
}


@pytest.mark.parametrize("target", SERVERS)
@pytest.mark.parametrize("client", CLIENTS)
async def test_what_the_target_tells_is_counted(target: str, client: str) -> None:
    heard: list[Asked] = []
    whole, streamed, body = CLIENTS[client]
    speaks = {"speaks": target, **({"endpoints": ["chat"]} if target == "openai" else {})}
    async with limited({"tokens": "1000000/1d"}, strict(SERVERS[target], heard), target=speaks) as one:
        for path, stream in ((whole, False), (streamed, True)):
            said = body if client == "gemini" else {**body, "stream": stream}
            headers = {"accept-encoding": "gzip"}
            async with one.proxy.client.post(path, json=said, headers=headers) as response:
                assert response.status == 200, await response.read()
                await response.read()
        (used,) = await one.used()
        told = HI_THERE.usage
        assert (used.model, used.requests) == ("m1", 2)
        assert (used.tokens_in, used.tokens_out) == (2 * (told.prompt or 0), 2 * (told.answer or 0))
        assert {received.value("accept-encoding") for received in one.target.requests} == {"identity"}


async def test_embeddings_cost_their_prompt() -> None:
    async def script(peer: Peer, received: Received) -> None:
        embedded = {"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}
        usage = {"prompt_tokens": 7, "total_tokens": 7}
        await peer.send(answer(orjson.dumps({"object": "list", "data": [embedded], "usage": usage})))

    async with limited({"tokens": "1000/1d"}, script) as one:
        async with one.proxy.client.post("/v1/embeddings", json={"model": "m1", "input": "Hi"}) as response:
            assert response.status == 200
        (used,) = await one.used()
        assert (used.tokens_in, used.tokens_out) == (7, 0)


# One answer, without a proxy.

DIALECTS = discover(None).dialects
GUESS = Estimate(9, 9)


def metered(name: str, body: bytes, media_type: str = "application/json", **fields: str) -> Estimate | None:
    meter = Meter([DIALECTS[name]], hides_usage=False)
    meter.begin(200, media_type, {one.replace("_", "-"): value for one, value in fields.items()})
    assert meter.feed(body[:20]) + meter.feed(body[20:]) + meter.end() == body
    return meter.used(GUESS)


def test_geminis_stream_as_one_array_tells_in_its_last_element() -> None:
    events = [{"usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": count}} for count in (1, 4)]
    assert metered("gemini", orjson.dumps([*events, {"candidates": []}])) == Estimate(5, 4)


def test_tgi_tells_of_the_answer_in_its_details_and_of_the_prompt_in_a_field() -> None:
    body = orjson.dumps({"generated_text": "Hi", "details": {"generated_tokens": 6}})
    assert metered("tgi", body, x_prompt_tokens="11") == Estimate(11, 6)
    assert metered("tgi", body) == Estimate(9, 6)
    assert metered("tgi", b"data:" + body + b"\n\n", "text/event-stream") == Estimate(9, 6)


def test_an_answer_that_cannot_be_read_costs_what_was_guessed_of_the_request() -> None:
    usage = b'{"usage": {"prompt_tokens": 3, "completion_tokens": 4}}'
    assert metered("openai", usage) == Estimate(3, 4)
    assert metered("openai", usage, content_encoding="gzip") == Estimate(9, 0)
    assert metered("openai", b'{"pad": "' + b"x" * MOST_READ + b'", ' + usage[1:]) == Estimate(9, 0)
    assert metered("openai", b'{"choices": [{"message": {"content": "xxxxyyyy') == Estimate(9, 2)


def test_what_a_users_dialect_fails_on_is_no_usage(caplog: pytest.LogCaptureFixture) -> None:
    def failing(told: Any, fields: Any) -> None:
        raise KeyError("tokens")

    meter = Meter([replace(DIALECTS["openai"], read_usage=failing)], hides_usage=False)
    meter.begin(200, "application/json", {})
    meter.feed(b'{"usage": 1}')
    assert meter.used(GUESS) == Estimate(9, 0)
    assert "read_usage of the dialect openai failed" in caplog.text


def test_an_answer_that_begins_anew_counts_alone() -> None:
    meter = Meter([DIALECTS["openai"]], hides_usage=False)
    for count, status in ((5, 200), (7, 200), (9, 500)):
        meter.begin(status, "application/json", {})
        meter.feed(b'{"usage": {"prompt_tokens": 1, "completion_tokens": %d}}' % count)
        meter.end()
        used = meter.used(GUESS)
        assert used == (Estimate(1, count) if status == 200 else None)
