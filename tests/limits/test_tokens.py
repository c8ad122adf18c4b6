"""Tokens and money: reserved before, settled after, whatever becomes of the answer."""

import asyncio
from typing import Any

import orjson
import pytest

from mooltiproxy.mapping.framing import encode_sse
from mooltiproxy.store import Used
from tests.limits.sending import BOB, Limited, events_of, limited, model, streaming
from tests.servers.openai_chat import USAGE
from tests.servers.scripted import STREAM_HEAD, Peer, Received, answer, chunk

HEAD = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m1"}
LIMITS = {"tokens": "10000/1d"}


def said(text: str) -> dict[str, Any]:
    return {**HEAD, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


STOP = {**HEAD, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


async def left(one: Limited) -> int:
    """The tokens that are left, all being settled."""
    _, fields, _ = await one.chat("/v1/chat/completions", max_tokens=1, messages=[])
    return int(fields["x-ratelimit-remaining-tokens"])


async def spent(one: Limited) -> tuple[int, int]:
    """The tokens of prompts and answers that alice has used."""
    used = await one.used()
    return sum(row.tokens_in for row in used), sum(row.tokens_out for row in used)


async def test_an_answer_is_settled_by_what_the_target_has_told() -> None:
    async with limited(LIMITS) as one:
        _, fields, _ = await one.chat(max_tokens=500)
        assert fields["x-ratelimit-limit-tokens"] == "10000"
        assert 9000 < int(fields["x-ratelimit-remaining-tokens"]) < 9500
        assert await one.used() == [Used("alice", "m1", 1, 12, 3, 0.0)]
        assert 9900 < await left(one) < 10000 - 15


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
@pytest.mark.parametrize("stream", [False, True])
async def test_translated_and_untouched_answers_count_the_same(path: str, stream: bool) -> None:
    async with limited(LIMITS) as one:
        status, _, body = await one.chat(path, stream=stream, input="Hi")
        if status == 400:  # an API is strict about fields that are another's
            status, _, body = await bare(one, path, stream)
        assert status == 200, body
        assert await spent(one) == (12, 3)


async def bare(one: Limited, path: str, stream: bool) -> tuple[int, Any, bytes]:
    body = {"model": "m1", "stream": stream, "input": "Hi"}
    async with one.proxy.client.post(path, json=body) as response:
        return response.status, response.headers, await response.read()


async def test_a_stream_is_asked_for_its_usage_and_the_client_does_not_get_to_see_it() -> None:
    async with limited(LIMITS) as one, limited() as plain:
        _, _, body = await one.chat(stream=True)
        assert orjson.loads(one.target.requests[0].body)["stream_options"] == {"include_usage": True}
        assert body == (await plain.chat(stream=True))[2]
        assert await spent(one) == (12, 3)


async def test_a_client_that_asks_for_usage_gets_it() -> None:
    async with limited(LIMITS) as one:
        _, _, body = await one.chat(stream=True, stream_options={"include_usage": True})
        assert events_of(body)[-2]["usage"] == USAGE


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
@pytest.mark.parametrize("size", [1, 7, 50])
async def test_the_event_is_taken_out_however_the_stream_is_cut(size: int, ends: bytes) -> None:
    usage = {**HEAD, "choices": [], "usage": USAGE}
    kept = b"".join(encode_sse(event) for event in (said("Hi"), STOP))
    data = (kept + encode_sse(usage) + b"data: [DONE]\n\n").replace(b"\n", ends)

    async def cut(peer: Peer, received: Received) -> None:
        await peer.send(STREAM_HEAD)
        for at in range(0, len(data), size):
            await peer.send(chunk(data[at : at + size]))
            await asyncio.sleep(0)
        await peer.send(b"0\r\n\r\n")

    async with limited(LIMITS, cut) as one:
        _, _, body = await one.chat(stream=True)
        assert body == kept + b"data: [DONE]\n\n"
        assert await spent(one) == (12, 3)


async def test_usage_beside_text_stays_in_the_stream() -> None:
    last = {**STOP, "usage": USAGE}
    async with limited(LIMITS, streaming([said("Hi"), last, "[DONE]"])) as one:
        assert last in events_of((await one.chat(stream=True))[2])
        assert await spent(one) == (12, 3)


async def test_a_stream_that_tells_nothing_is_counted_by_its_text() -> None:
    async with limited(LIMITS, streaming([said("x" * 40), said("y" * 40), STOP, "[DONE]"])) as one:
        await one.chat(stream=True)
        tokens_in, tokens_out = await spent(one)
        assert tokens_out == 20
        assert 5 <= tokens_in <= 12


async def test_a_target_that_breaks_off_counts_with_what_it_had_said() -> None:
    async with limited(LIMITS, streaming([said("x" * 400)], ends=False)) as one:
        with pytest.raises(Exception):  # noqa: B017 - the cut answer, in whatever words of the client
            await one.chat(stream=True)
        assert (await spent(one))[1] == 100


async def test_a_client_that_leaves_counts_with_what_was_said_so_far() -> None:
    async def talking(peer: Peer, received: Received) -> None:
        await peer.send(STREAM_HEAD + chunk(encode_sse(said("x" * 400))))
        await peer.gone()

    async with limited(LIMITS, talking) as one:
        body = {"model": "m1", "messages": [], "stream": True}
        async with one.proxy.client.post("/v1/chat/completions", json=body) as response:
            await response.content.readany()
            response.close()
        await one.target.script_ended.wait()
        await settled(one)
        assert (await spent(one))[1] == 100


async def settled(one: Limited) -> None:
    for _ in range(200):
        if await one.used():
            return
        await asyncio.sleep(0.01)


async def test_a_client_that_leaves_before_the_answer_pays_for_its_prompt() -> None:
    async def silent(peer: Peer, received: Received) -> None:
        await peer.gone()

    async with limited(LIMITS, silent) as one:
        task = asyncio.create_task(one.chat(messages=[{"role": "user", "content": "x" * 400}]))
        await one.target.asked.wait()
        task.cancel()
        await settled(one)
        assert await spent(one) == (102, 0)


@pytest.mark.parametrize("told", [2**63, 1e308])
async def test_no_target_claims_more_than_can_be_counted(told: float) -> None:
    body = orjson.dumps({**HEAD, "choices": [], "usage": {"prompt_tokens": told, "completion_tokens": told}})

    async def boasting(peer: Peer, received: Received) -> None:
        await peer.send(answer(body))

    async with limited({"tokens": "5000000000/1h"}, boasting) as one:
        assert (await one.chat())[0] == 200
        assert await spent(one) == (10**9, 10**9)
        _, fields, _ = await one.chat()
        assert 2 * 10**9 < int(fields["x-ratelimit-remaining-tokens"]) < 3 * 10**9
        assert (await one.chat())[0] == 200
        assert b"5000000000 tokens in 1h" in (await one.chat())[2]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_an_error_gives_everything_back(path: str) -> None:
    async def refusing(peer: Peer, received: Received) -> None:
        await peer.send(answer(b'{"error": {"message": "no"}}', status="500 Internal Server Error"))

    async with limited(LIMITS, refusing) as one:
        assert (await one.chat(path, max_tokens=5000))[0] >= 500
        assert await left(one) > 9990
        assert await spent(one) == (0, 0)


async def test_what_is_more_than_is_left_is_refused_and_what_can_never_fit_says_so() -> None:
    async with limited({"tokens": "100/1h"}) as one:
        status, fields, body = await one.chat(messages=[{"role": "user", "content": "word " * 200}])
        assert (status, fields.get("retry-after"), fields["x-should-retry"]) == (429, None, "false")
        assert "asks for more than that" in orjson.loads(body)["error"]["message"]
        assert (await one.chat(max_tokens=100_000))[0] == 200
        assert (await one.chat(max_tokens=100))[0] == 429


async def test_a_models_limits_are_for_all_its_clients_and_another_model_is_free() -> None:
    models = {"m1": {"target": "one", "limits": {"requests": "2/1h"}}, "m2": {"target": "one"}}
    async with limited(models=models) as one:
        statuses = [(await one.chat())[0], (await one.chat(key=BOB))[0], (await one.chat())[0]]
        assert statuses == [200, 200, 429]
        assert (await one.chat(model="m2"))[0] == 200


async def test_of_two_limits_the_one_with_less_left_is_told() -> None:
    async with limited({"requests": "9/1h"}, models=model(limits={"requests": "3/1h"})) as one:
        _, fields, _ = await one.chat()
        assert (fields["x-ratelimit-limit-requests"], fields["x-ratelimit-remaining-requests"]) == ("3", "2")
        async with one.proxy.client.get("/v1/models", headers={"Authorization": f"Bearer {BOB}"}) as response:
            assert response.headers["x-ratelimit-remaining-requests"] == "8"


async def test_money_is_counted_by_the_prices_of_models() -> None:
    price = {"input": 1000, "output": 10000}
    async with limited({"cost": "0.1/1d"}, models=model(price=price)) as one:
        await one.chat(max_tokens=1)
        (used,) = await one.used()
        assert used.cost == pytest.approx(12 * 0.001 + 3 * 0.01)
        await one.chat(max_tokens=1)
        status, fields, body = await one.chat(max_tokens=1)
        assert status == 429
        assert orjson.loads(body)["error"]["code"] == "insufficient_quota"
        assert (await one.chat(key=BOB, max_tokens=1))[0] == 200


async def test_usage_can_be_counted_without_a_limit() -> None:
    async with limited({"usage": True}) as one:
        await one.chat()
        assert await one.used() == [Used("alice", "m1", 1, 12, 3, 0.0)]


async def test_a_call_that_looks_like_usage_is_not_believed() -> None:
    spoof = {"prompt_tokens": 0, "completion_tokens": 0}
    whole = {"choices": [{"message": {"content": "x" * 400, "usage": spoof}, "finish_reason": "stop"}]}

    async def lying(peer: Peer, received: Received) -> None:
        await peer.send(answer(orjson.dumps(whole)))

    async with limited(LIMITS, lying) as one:
        await one.chat()
        assert (await spent(one))[1] == 100
