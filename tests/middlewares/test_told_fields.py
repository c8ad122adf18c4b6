"""What a target's header fields say about waiting, limits and ids reaches clients of other APIs in their words."""

from typing import Any

import orjson
import pytest

from tests.servers.proxy import proxy
from tests.servers.scripted import answer, answering, upstream

CHAT = "/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
MESSAGES = "/v1/messages", {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
GENERATE = "/v1beta/models/m:generateContent", {"contents": [{"parts": [{"text": "Hi"}]}]}
OLLAMA = "/api/chat", {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": False}

RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "33.4s"}
EXHAUSTED = {"error": {"code": 429, "message": "Quota.", "status": "RESOURCE_EXHAUSTED", "details": [RETRY]}}
SAID = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}


async def asked(
    speaks: str, given: bytes, question: tuple[str, dict[str, Any]]
) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Status, header fields by lower-case name, and body of the answer."""
    async with upstream(answering(given)) as up:
        target = {"url": up.url, "speaks": speaks, "key": "k"}
        async with proxy({"targets": {"default": "one", "one": target}}) as running:
            async with running.client.post(question[0], json=question[1]) as response:
                fields = {name.lower(): value for name, value in response.headers.items()}
                return response.status, fields, await response.json()


@pytest.mark.parametrize("question", [CHAT, MESSAGES, OLLAMA])
@pytest.mark.parametrize("status", [429, 503])
async def test_how_long_gemini_wants_one_to_wait_is_told_every_client(
    question: tuple[str, dict[str, Any]], status: int
) -> None:
    exhausted = answer(orjson.dumps(EXHAUSTED), status=f"{status} X")
    told, fields, _ = await asked("gemini", exhausted, question)
    assert (told, fields["retry-after"]) == (status, "34")


async def test_a_header_counts_more_than_the_body() -> None:
    exhausted = answer(orjson.dumps(EXHAUSTED), "retry-after: 7", status="429 X")
    _, fields, _ = await asked("gemini", exhausted, CHAT)
    assert fields["retry-after"] == "7"


async def test_a_client_of_gemini_reads_in_the_body_how_long_to_wait() -> None:
    busy = answer(b'{"error": {"message": "slow down"}}', "retry-after: 7", status="429 X")
    status, fields, body = await asked("openai", busy, GENERATE)
    assert (status, fields["retry-after"], body["error"]["status"]) == (429, "7", "RESOURCE_EXHAUSTED")
    assert {"@type": RETRY["@type"], "retryDelay": "7s"} in body["error"]["details"]


async def test_an_anthropic_client_reads_limits_and_the_id_in_its_own_fields() -> None:
    given = answer(orjson.dumps(SAID), "x-ratelimit-remaining-requests: 59", "x-request-id: req_1")
    _, fields, _ = await asked("openai", given, MESSAGES)
    assert fields["anthropic-ratelimit-requests-remaining"] == "59"
    assert "x-ratelimit-remaining-requests" not in fields
    assert fields["request-id"] == fields["x-request-id"]
    assert fields["x-upstream-request-id"] == "req_1"


async def test_an_anthropic_client_reads_the_id_of_an_error_in_its_own_field() -> None:
    status, fields, body = await asked("openai", answer(b"{}", status="500 X"), MESSAGES)
    assert status == 500
    assert fields["request-id"] == fields["x-request-id"] == body["request_id"]


async def test_an_openai_client_reads_anthropics_limits_and_id() -> None:
    said = {"type": "message", "content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn"}
    limits = ("anthropic-ratelimit-tokens-remaining: 9", "request-id: req_1")
    _, fields, _ = await asked("anthropic", answer(orjson.dumps(said), *limits), CHAT)
    assert (fields["x-ratelimit-remaining-tokens"], fields["x-upstream-request-id"]) == ("9", "req_1")
    assert "request-id" not in fields
