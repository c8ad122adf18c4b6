"""Which requests are translated, what is refused before, what is said about it, and what a broken target becomes."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.servers.proxy import KEY, proxy
from tests.servers.scripted import STREAM_HEAD, Peer, Received, Script, answer, answering, chunk, upstream

PATH = "/v1/chat/completions"
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
STREAMED = CHAT | {"stream": True}
DETAILS = {"finish_reason": "eos_token", "generated_tokens": 2, "seed": None}
WHOLE = answer(orjson.dumps({"generated_text": "Hello there", "details": DETAILS | {"prefill": [], "tokens": []}}))


def event(text: str, **more: Any) -> bytes:
    token = {"id": 1, "text": text, "logprob": 0.0, "special": False}
    return chunk(
        b"data:" + orjson.dumps({"index": 1, "token": token, "generated_text": None, "details": None} | more) + b"\n\n"
    )


LAST = event(" there", generated_text="Hello there", details=DETAILS | {"input_length": 3})
END = b"0\r\n\r\n"


def tgi(url: str, **entry: Any) -> dict[str, Any]:
    functions = {"path": "/generate", "in": "chatReqOpenAItoTGI", "out": "chatAnsTGItoOpenAI"}
    mapping = {"/chat/completions": functions | entry}
    return {"targets": {"default": "one", "one": {"url": url, "key": "upstream-key", "mapping": mapping}}}


STREAM = {"stream": "chatStreamTGItoOpenAI"}


async def asked(script: Script, body: Any, **entry: Any) -> tuple[int, str, str]:
    """Status, media type and text of the answer to a JSON body."""
    async with upstream(script) as up, proxy(tgi(up.url, **entry)) as running:
        async with running.client.post(PATH, json=body) as response:
            return response.status, response.content_type, await response.text()


async def test_a_whole_answer_is_translated() -> None:
    status, media_type, text = await asked(answering(WHOLE), CHAT)
    assert (status, media_type) == (200, "application/json")
    assert orjson.loads(text)["choices"][0]["message"]["content"] == "Hello there"


async def test_a_stream_is_translated_event_by_event_as_it_comes() -> None:
    may_go_on = asyncio.Event()

    async def script(peer: Peer, received: Received) -> None:
        assert received.line.split()[1] == "/generate_stream"
        await peer.send(STREAM_HEAD + event("Hello"))
        await may_go_on.wait()
        await peer.send(LAST + END)

    async with upstream(script) as up, proxy(tgi(up.url, **STREAM)) as running:
        async with running.client.post(PATH, json=STREAMED) as response:
            assert response.content_type == "text/event-stream"
            assert response.headers["cache-control"] == "no-cache"
            first = b""
            while b"Hello" not in first:
                first += await response.content.readuntil(b"\n\n")
            may_go_on.set()
            rest = await response.content.read()
    assert rest.endswith(b"data: [DONE]\n\n")


async def test_without_a_stream_mapper_a_streaming_client_gets_one_correct_stream() -> None:
    status, media_type, text = await asked(answering(WHOLE), STREAMED)
    assert (status, media_type) == (200, "text/event-stream")
    assert "Hello there" in text
    assert text.endswith("data: [DONE]\n\n")


async def test_an_error_event_before_the_first_word_becomes_a_status() -> None:
    refused = chunk(b'data:{"error":"inputs must have less than 4 tokens","error_type":"validation"}\n\n') + END
    status, media_type, text = await asked(answering(STREAM_HEAD + refused), STREAMED, **STREAM)
    assert (status, media_type) == (422, "application/json")
    assert "less than 4 tokens" in orjson.loads(text)["error"]["message"]


@pytest.mark.parametrize("ending", [END, b"", b"rubbish"])
async def test_a_stream_that_breaks_off_ends_with_an_error_event_and_never_cleanly(ending: bytes) -> None:
    async def script(peer: Peer, received: Received) -> None:
        await peer.send(STREAM_HEAD + event("Hello") + ending)
        peer.writer.close()

    status, _, text = await asked(script, STREAMED, **STREAM)
    assert status == 200
    assert "[DONE]" not in text
    last = text.strip().split("\n\n")[-1]
    assert orjson.loads(last.removeprefix("data: "))["error"]["message"]


async def test_an_upstream_that_goes_on_after_the_last_word_is_told_to_stop() -> None:
    async def script(peer: Peer, received: Received) -> None:
        await peer.send(STREAM_HEAD + event("Hello") + event(" END more"))
        await peer.gone()

    async with upstream(script) as up, proxy(tgi(up.url, **STREAM)) as running:
        async with running.client.post(PATH, json=STREAMED | {"stop": "END"}) as response:
            assert (await response.text()).endswith("data: [DONE]\n\n")
        async with asyncio.timeout(1):
            await up.script_ended.wait()


@pytest.mark.parametrize(
    "broken",
    [
        answer(b"<html>Bad gateway</html>", media_type="text/html"),
        answer(b""),
        answer(b"{}"),
        answer(b"[]"),
        answer(b'"text"'),
        answer(b'{"generated_text": 1}'),
        answer(b"\x1f\x8b", "content-encoding: gzip"),
        b"HTTP/1.1 204 No Content\r\n\r\n",
        STREAM_HEAD + chunk(b"data: {broken\n\n") + END,
        STREAM_HEAD + END,
    ],
)
@pytest.mark.parametrize("body", [CHAT, STREAMED])
async def test_an_answer_that_is_none_becomes_502(broken: bytes, body: dict[str, Any]) -> None:
    status, media_type, text = await asked(answering(broken), body, **STREAM)
    assert (status, media_type) == (502, "application/json")
    assert orjson.loads(text)["error"]["message"]


@pytest.mark.parametrize("status", [400, 404, 422, 429, 500, 503])
async def test_an_error_of_the_target_keeps_its_status_and_its_words(status: int) -> None:
    body = b'{"error": "too busy today", "error_type": "overloaded"}'
    refused = answer(body, "retry-after: 9", status=f"{status} X")
    async with upstream(answering(refused)) as up, proxy(tgi(up.url)) as running:
        async with running.client.post(PATH, json=CHAT) as response:
            assert response.status == status
            assert response.headers["retry-after"] == "9"
            assert (await response.json())["error"]["message"] == "too busy today"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b'"x"', b"null", b"[" * 100_000, b'{"messages": "x"}', b'{"messages": [1]}', b"\xff\xfe",
        b'{"messages": [{"role": "user", "content": 5}]}', b'{"messages": []}', b'{"a": NaN}', b'{"a": "\\ud800"}',
        b'{"messages": [{"role": "user", "content": "x"}], "temperature": "hot"}',
        b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 1e999}',
        b'{"messages": [{"role": "user", "content": "x"}], "stop": [1]}',
    ],
)  # fmt: skip
async def test_a_body_that_cannot_be_translated_is_400(body: bytes) -> None:
    async with upstream(answering(WHOLE)) as up, proxy(tgi(up.url)) as running:
        async with running.client.post(PATH, data=body, headers={"content-type": "application/json"}) as response:
            assert response.status == 400
            assert (await response.json())["error"]["type"] == "invalid_request_error"
    assert up.requests == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "application/json; charset=utf-8"}, 200),
        ({"content-type": "application/json;charset=bogus"}, 200),
        ({"content-type": "application/vnd.api+json"}, 200),
        ({"content-type": "application/x-www-form-urlencoded"}, 200),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "multipart/form-data; boundary=x"}, 415),
        ({"content-type": "application/json", "content-encoding": "gzip"}, 415),
    ],
)
async def test_the_parsed_media_type_decides_what_is_translated(headers: dict[str, str], status: int) -> None:
    async with upstream(answering(WHOLE)) as up, proxy(tgi(up.url)) as running:
        async with running.client.post(PATH, data=orjson.dumps(CHAT), headers=headers) as response:
            assert response.status == status


async def test_the_key_of_the_client_and_its_headers_stay_here_and_the_targets_key_goes() -> None:
    async with upstream(answering(WHOLE)) as up, proxy(tgi(up.url)) as running:
        async with running.client.post(PATH, json=CHAT, headers={"x-private": "1"}) as response:
            assert response.status == 200
    received = up.requests[0]
    assert received.values("authorization") == ["Bearer upstream-key"]
    assert received.value("x-private") is None
    assert received.value("accept-encoding") == "identity"


async def test_a_users_mapper_beside_the_configuration_is_used_by_name(tmp_path: Path) -> None:
    (tmp_path / "mappers").mkdir()
    (tmp_path / "mappers" / "foo.py").write_text(
        "def toFoo(ip, cfg={}):\n    return {'question': ip['messages'][-1]['content']}\n"
        "def fromFoo(ip, cfg={}):\n    return {'said': ip['answer'], 'asked': cfg['request']['model']}\n"
        "def broken(ip, cfg={}):\n    return ip['nothing']\n"
    )
    mapping = {
        "/ask": {"path": "/foo", "in": "toFoo", "out": "fromFoo"},
        "/fail": {"path": "/foo", "in": "broken"},
    }
    async with upstream(answering(answer(b'{"answer": 42}'))) as up:
        config = {"targets": {"default": "one", "one": {"url": up.url, "mapping": mapping}}}
        async with proxy(config, tmp_path) as running:
            async with running.client.post("/ask", json=CHAT) as response:
                assert await response.json() == {"said": 42, "asked": "m"}
            async with running.client.post("/fail", json=CHAT) as response:
                assert response.status == 500
                assert "broken" in (await response.json())["error"]["message"]
    assert up.requests[0].body == b'{"question":"Hi"}'


async def test_debug_logs_both_bodies_on_both_sides_with_keys_masked(caplog: pytest.LogCaptureFixture) -> None:
    said = CHAT | {"messages": [{"role": "user", "content": f"my key is {KEY}"}]}
    with caplog.at_level("INFO", "mooltiproxy.bodies"):
        async with upstream(answering(WHOLE)) as up, proxy(tgi(up.url) | {"system": {"debug": True}}) as running:
            async with running.client.post(PATH, json=said) as response:
                assert response.status == 200
    logged = "\n".join(caplog.messages)
    for what in ("request of the client", "request to the target", "answer of the target", "answer to the client"):
        assert what in logged
    assert "my key is ***" in logged
    assert KEY not in logged


async def test_a_stream_whose_last_word_came_ends_cleanly_though_the_target_hangs() -> None:
    async def script(peer: Peer, received: Received) -> None:
        await peer.send(STREAM_HEAD + LAST)
        await peer.gone()

    for body in (CHAT, STREAMED):
        async with upstream(script) as up:
            config = tgi(up.url, **STREAM) | {"system": {"timeout": {"idle": 0.3}}}
            async with proxy(config) as running, running.client.post(PATH, json=body) as response:
                assert response.status == 200
                text = await response.text()
        assert "there" in text
        assert "error" not in text


async def test_an_error_that_drips_or_hangs_is_told_soon_with_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mooltiproxy.upstream.relay.ERROR_PATIENCE", 0.2)

    async def script(peer: Peer, received: Received) -> None:
        await peer.send(b"HTTP/1.1 503 Busy\r\ncontent-length: 1000\r\n\r\n{")
        await peer.gone()

    assert (await asked(script, CHAT))[0] == 503


async def test_a_whole_answer_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mooltiproxy.mapping.answers.MAX_WHOLE", 1000)
    assert (await asked(answering(answer(b"x" * 2000)), CHAT))[0] == 502


@pytest.mark.parametrize(
    "field",
    [{"max_tokens": 1e300}, {"seed": 1.9e19}, {"stop": ["x"] * 1000}, {"response_format": "DEEP"}],
)
async def test_what_cannot_be_written_again_is_400(field: dict[str, Any]) -> None:
    body = orjson.dumps(CHAT | field).replace(b'"DEEP"', b'{"a":' * 200 + b"1" + b"}" * 200)
    async with upstream(answering(WHOLE)) as up, proxy(tgi(up.url)) as running:
        async with running.client.post(PATH, data=body, headers={"content-type": "application/json"}) as response:
            assert response.status == 400


async def test_a_followed_redirect_after_a_sign_of_life_goes_on_in_the_same_answer() -> None:
    async def script(peer: Peer, received: Received) -> None:
        if received.line.split()[1] == "/moved":
            await peer.send(STREAM_HEAD + LAST + END)
        else:
            await asyncio.sleep(0.3)
            await peer.send(answer(b"", "location: /moved", status="307 Moved"))

    async with upstream(script) as up:
        config = tgi(up.url, **STREAM)
        config["targets"]["one"] |= {"preserveMethod": True, "keepalive": 0.1}
        async with proxy(config) as running, running.client.post(PATH, json=STREAMED) as response:
            text = await response.text()
    assert text.startswith(": keep-alive")
    assert "HTTP/1.1" not in text
    assert text.endswith("data: [DONE]\n\n")
