"""`selftest` against servers that can everything, nothing, or only some things: a toy TGI, scripts, and llama.cpp's."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from mooltiproxy.cli import main
from mooltiproxy.config.load import from_data
from mooltiproxy.errors import ConfigError
from mooltiproxy.mapping.framing import encode_sse
from mooltiproxy.selftest import Wish, selftest
from tests.servers.llama import SENTENCE, running_llama
from tests.servers.scripted import STREAM_HEAD, Peer, Received, Script, answer, answering, chunk, upstream
from tests.servers.toy import running_toy

CHAT = "/v1/chat/completions"
HELLO = "Hello, dear world!"
CITIES = ("Paris", "Rome")
USAGE = {"prompt_tokens": 9, "completion_tokens": 4}
KEY = "sk-the-targets-own-key"
IT = Wish("it")


def call_of(city: str) -> dict[str, Any]:
    arguments = orjson.dumps({"city": city}).decode()
    return {"id": f"call_{city}", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}


def whole(content: str | None, finish: str = "stop", **message: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    return {"object": "chat.completion", "choices": [choice], "usage": USAGE}


def refusal(message: str, param: str | None = None, status: str = "400 Bad Request") -> bytes:
    return answer(orjson.dumps({"error": {"message": message, "param": param}}), status=status)


def able_answer(body: dict[str, Any]) -> dict[str, Any]:
    """What a server answers that can do everything."""
    messages = body["messages"]
    if body.get("tools") and messages[-1]["role"] != "tool":
        cities = CITIES if "Rome" in messages[-1]["content"] else CITIES[:1]
        return whole(None, "tool_calls", tool_calls=[call_of(city) for city in cities])
    if "response_format" in body:
        return whole('{"city": "Paris", "is_capital": true}')
    if "stop" in body:
        return whole(HELLO.partition(body["stop"][0])[0])
    if body["max_tokens"] < 10:
        return whole("One", "length")
    text = "KIWI" if messages[0]["role"] == "system" else HELLO
    told = whole(text)
    if body.get("logprobs"):
        told["choices"][0]["logprobs"] = {"content": [{"token": text, "logprob": -0.1, "top_logprobs": []}]}
    told["choices"] *= body.get("n", 1)
    return told


async def able(peer: Peer, received: Received) -> None:
    method, path, _ = received.line.split()
    body = orjson.loads(received.body or b"{}")
    if (method, path) == ("GET", "/v1/models"):
        await peer.send(answer(orjson.dumps({"object": "list", "data": [{"id": "first"}, {"id": "second"}]})))
    elif path == "/v1/embeddings":
        await peer.send(answer(orjson.dumps({"data": [{"embedding": [0.5, 0.5, 0.0]}]})))
    elif path != CHAT:
        await peer.send(answer(b"not found", status="404 Not Found", media_type="text/plain"))
    elif "messages" not in body:
        await peer.send(refusal("messages: field required", "messages"))
    elif body.get("stream"):
        await peer.send(STREAM_HEAD)
        for word in HELLO.split():
            await peer.send(chunk(encode_sse({"choices": [{"index": 0, "delta": {"content": word}}]})))
        last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        await peer.send(chunk(encode_sse(last) + encode_sse("[DONE]")) + b"0\r\n\r\n")
    else:
        await peer.send(answer(orjson.dumps(able_answer(body))))


def chats(told: bytes | dict[str, Any]) -> Script:
    """A server that has chats only, and gives each the same answer whatever it asks for."""
    data = answer(orjson.dumps(told)) if isinstance(told, dict) else told

    async def script(peer: Peer, received: Received) -> None:
        is_chat = received.line.split()[1] == CHAT
        await peer.send(data if is_chat else answer(b"", status="404 Not Found"))

    return script


async def findings(url: str, wish: Wish = IT, **config: Any) -> dict[str, str]:
    """The lines by their names."""
    own = {"url": url, **config.pop("target", {})}

    def configure(spoken: Any) -> Any:
        return from_data({"targets": {"default": "it", "it": {"speaks": list(spoken), **own}}, **config}, Path(), {})

    lines: list[str] = []
    await selftest(configure, wish, lines.append)
    return by_name("\n".join(lines))


def by_name(text: str) -> dict[str, str]:
    return {line[:18].strip(): line[19:] for line in text.splitlines()}


def said_no(found: dict[str, str]) -> set[str]:
    return {name for name, line in found.items() if line.startswith("no")}


@pytest.fixture(scope="module")
def llama() -> Iterator[str]:
    with running_llama() as url:
        yield url


async def test_a_server_that_can_do_everything_gets_a_yes_to_everything() -> None:
    async with upstream(able) as up:
        found = await findings(up.url)
    assert said_no(found) == {f"speaks {name}" for name in ("anthropic", "gemini", "ollama", "tgi")}
    assert found["speaks openai"].startswith(f"yes: GET /v1/models (200), POST {CHAT} (400); not POST /v1/responses")
    assert found["models"] == "yes: first, second"
    assert found["answer"] == f'yes: "{HELLO}"'
    assert found["stream"].startswith("yes: 3 pieces")
    assert found["usage"] == "yes: 9 in, 4 out"
    assert (found["stop"], found["max_tokens"], found["n"]) == ("yes", "yes", "yes")
    assert found["system prompt"] == "yes: obeyed"
    assert found["tools"] == 'yes: {"city":"Paris"}'
    assert found["parallel tools"] == "yes: 2 calls"
    assert found["embeddings"] == "yes: 3 dimensions"


async def test_a_server_that_passes_over_what_it_cannot_do_gets_a_no_to_that() -> None:
    async with upstream(chats({**whole(HELLO), "usage": None})) as up:
        found = await findings(up.url)
    assert found["answer"] == f'yes: "{HELLO}"'
    assert found["stream"] == "no: the answer comes whole, as application/json"
    assert found["usage"] == "no: the answer does not say its tokens"
    assert found["stop"] == "no: the answer goes on behind 'l'"
    assert found["max_tokens"] == "no: the answer is not cut: finish_reason stop"
    assert found["tools"] == f'no: no call comes back, but "{HELLO}"'
    assert found["parallel tools"] == "no: no call comes back"
    assert found["JSON schema"] == f'no: the answer is no JSON object: "{HELLO}"'
    assert found["logprobs"] == "no: the answer has none"
    assert found["n"] == "no: one choice comes back"
    assert found["models"].startswith("no: 404")
    assert found["embeddings"].startswith("no: 404")


async def test_a_system_prompt_that_makes_no_longer_prompt_has_not_arrived() -> None:
    async with upstream(chats(whole(HELLO))) as up:
        assert (await findings(up.url))["system prompt"] == "no: a longer one makes no longer prompt"


async def test_a_refusal_is_a_no_with_its_message_and_field() -> None:
    async def without_tools(peer: Peer, received: Received) -> None:
        if b'"tools"' in received.body:
            await peer.send(refusal("tools are\nnot \x1b[31mfor us", "tools"))
        else:
            await able(peer, received)

    async with upstream(without_tools) as up:
        found = await findings(up.url)
    assert found["tools"] == found["tool results"] == "no: 400: tools are not ?[31mfor us (tools)"
    assert found["answer"].startswith("yes")


async def test_a_server_that_cannot_be_made_to_call_may_call_by_itself() -> None:
    async def undemanding(peer: Peer, received: Received) -> None:
        if b'"tool_choice"' in received.body:
            await peer.send(refusal("required is not supported", "tool_choice"))
        else:
            await able(peer, received)

    async with upstream(undemanding) as up:
        told = (await findings(up.url))["tools"]
    assert told == 'yes: {"city":"Paris"}; not on demand: 400: required is not supported (tool_choice)'


async def test_nothing_more_is_asked_of_a_chat_that_does_not_answer() -> None:
    async with upstream(chats(refusal("out of memory", status="500 Internal Server Error"))) as up:
        found = await findings(up.url)
        assert len([one for one in up.requests if CHAT in one.line]) == 2
    assert found["answer"].startswith("no: 500: out of memory")
    assert found["tools"] == "no: not asked, for want of an answer"


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nhey",
        answer(b'[null, {"choices": 5}]'),
        answer(b'{"choices": [{"message": "x"}, 3], "data": {"id": 1}, "usage": []}'),
        answer(b'{"choices": [{"message": {"content": 5, "tool_calls": [1]}, "logprobs": 7}], "data": [[]]}'),
        answer(b"data: {\n\n", media_type="text/event-stream"),
    ],
    ids=["no JSON", "an array", "odd types", "odd answers", "a broken stream"],
)
async def test_garbage_is_a_no_and_never_an_error_of_ours(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with upstream(answering(data)) as up:
        found = await findings(up.url)
    yes = {name for name, line in found.items() if line.startswith("yes") and not name.startswith("speaks")}
    assert yes == set()
    assert [record for record in caplog.records if record.exc_info] == []


async def test_an_answer_that_breaks_off_is_a_no() -> None:
    async def short(peer: Peer, received: Received) -> None:
        await able(peer, received) if b"logprobs" not in received.body else await peer.send(answer(b"{}")[:-1])
        peer.writer.close()

    async with upstream(short) as up:
        found = await findings(up.url)
    assert found["logprobs"] == "no: the answer breaks off"
    assert found["n"] == "yes"


async def test_a_stream_in_one_piece_or_without_an_end_is_none() -> None:
    events = [encode_sse({"choices": [{"index": 0, "delta": {"content": "Hello"}}]})]
    told = {}
    for name, more in (("open", []), ("closed", [{"choices": [{"delta": {}, "finish_reason": "stop"}]}])):
        stream = b"".join([*events, *map(encode_sse, more)])

        async def script(peer: Peer, received: Received, stream: bytes = stream) -> None:
            if b'"stream":true' in received.body:
                await peer.send(STREAM_HEAD + chunk(stream) + b"0\r\n\r\n")
            else:
                await able(peer, received)

        async with upstream(script) as up:
            told[name] = (await findings(up.url))["stream"]
    assert told["open"] == "no: the stream ends without a finish_reason"
    assert told["closed"] == "no: the answer comes in one piece"


async def test_an_api_that_only_clients_speak_is_not_asked_for() -> None:
    async with upstream(able) as up:
        found = await findings(up.url, rest={"prefix": "/rest"})
    assert "rest" not in found
    assert not [received for received in up.requests if "/rest/" in received.line]


async def test_each_probe_has_its_own_time() -> None:
    async def silent_on_tools(peer: Peer, received: Received) -> None:
        if b'"tools"' in received.body:
            await peer.gone()
        else:
            await able(peer, received)

    async with upstream(silent_on_tools) as up:
        async with asyncio.timeout(10):
            found = await findings(up.url, Wish("it", timeout=0.3))
    assert found["tools"] == "no: no answer within 0.3 s (--timeout)"
    assert found["JSON schema"].startswith("yes")


async def test_a_model_that_wants_max_completion_tokens_gets_them() -> None:
    async def reasoning_model(peer: Peer, received: Received) -> None:
        body = orjson.loads(received.body or b"{}")
        if "max_tokens" in body:
            await peer.send(refusal("use 'max_completion_tokens' instead of max_tokens", "max_tokens"))
        elif "max_completion_tokens" in body:
            received.body = orjson.dumps({**body, "max_tokens": body["max_completion_tokens"]})
            await able(peer, received)
        else:
            await able(peer, received)

    async with upstream(reasoning_model) as up:
        assert (await findings(up.url))["max_tokens"] == "yes"


@pytest.mark.parametrize(
    ("wanted", "models", "asked"),
    [
        (None, {}, "first"),
        (None, {"big": {"target": "it", "name": "vendor/big"}}, "vendor/big"),
        ("big", {"big": {"target": "it", "name": "vendor/big"}}, "vendor/big"),
        ("second", {}, "second"),
    ],
)
async def test_the_model_is_the_one_named_or_the_configurations_or_the_first(
    wanted: str | None, models: dict[str, Any], asked: str
) -> None:
    async with upstream(able) as up:
        await findings(up.url, Wish("it", wanted), models=models)
        bodies = [orjson.loads(one.body) for one in up.requests if CHAT in one.line]
    assert {body["model"] for body in bodies if body} == {asked}


async def test_every_question_carries_the_targets_key_which_is_never_told() -> None:
    async def talkative(peer: Peer, received: Received) -> None:
        if received.value("authorization") != f"Bearer {KEY}" or b"messages" in received.body:
            await peer.send(refusal(f"what is {KEY}?"))
        else:
            await able(peer, received)

    async with upstream(talkative) as up:
        found = await findings(up.url, target={"key": KEY, "speaks": "openai"})
        openai = [one for one in up.requests if one.line.split()[1] in ("/v1/models", CHAT)]
    assert found["models"] == "yes: first, second"
    assert found["answer"] == f"no: 400: what is {'*' * len(KEY)}?"
    assert {one.value("authorization") for one in openai} <= {f"Bearer {KEY}", None}
    assert KEY in {one.value("x-api-key") for one in openai}


async def test_a_refusal_for_want_of_a_key_does_not_tell_a_dialect() -> None:
    async with upstream(answering(refusal("no key", status="401 Unauthorized"))) as up:
        found = await findings(up.url)
    assert found["speaks ollama"] == "no: GET /api/version (401), POST /api/chat (401)"
    assert found["speaks openai"].startswith("yes: GET /v1/models (401); not POST")


async def test_a_target_that_is_not_in_the_configuration_is_named_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match="there is no target other: name one of it"):
        await findings("http://127.0.0.1:9", Wish("other"))


def test_a_server_that_is_not_there_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", "http://127.0.0.1:9"]) == 1
    assert capsys.readouterr().err == "the target cannot be connected to: is it running?\n"


def test_a_tgi_server_is_asked_through_the_translation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with running_toy() as toy:
        (tmp_path / "config.yaml").write_text(
            f"targets: {{default: gone, toy: {{url: '{toy.url}', speaks: auto}},"
            " gone: {url: 'http://127.0.0.1:9', speaks: auto}}\n"
        )
        assert main(["selftest", "toy", "--timeout", "20"]) == 0
        assert {request["path"] for request in toy.requests} >= {"/generate", "/generate_stream"}
    found = by_name(capsys.readouterr().out)
    yes = {
        "answer",
        "stream",
        "usage",
        "stop",
        "max_tokens",
        "logprobs",
        "system prompt",
        "speaks tgi",
        "target",
        "model",
        "models",
    }
    assert found["target"] == toy.url
    assert said_no(found) == found.keys() - yes
    assert found["tools"] == "no: 400: tools: this target knows no tools (tools)"
    assert re.match(r"no: 422: .*grammar", found["JSON schema"])


def test_wrong_usage_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["http://127.0.0.1:9", "--config", "x.yaml"], ["a", "--timeout", "0"], ["a", "--timeout", "x"]):
        with pytest.raises(SystemExit) as ended:
            main(["selftest", *arguments])
        assert ended.value.code == 2


async def test_llama_cpps_server_is_found_to_do_what_it_does(llama: str) -> None:
    found = await findings(llama)
    assert found["models"] == "yes: tiny-agent"
    assert found["speaks openai"].startswith("yes") and found["speaks anthropic"].startswith("yes: POST /v1/messages")
    assert found["answer"] == found["tool results"] == f'yes: "{SENTENCE}"'
    assert found["embeddings"] == "yes: 128 dimensions"
    assert found["parallel tools"] == "no: one call comes back"
    assert "image input is not supported" in found["vision"]
    no = {"parallel tools", "vision", "speaks gemini", "speaks ollama", "speaks tgi"}
    assert said_no(found) == no


async def test_llama_cpps_server_is_asked_for_messages_where_the_configuration_says_so(llama: str) -> None:
    found = await findings(llama, target={"speaks": "anthropic"})
    assert found["answer"] == found["tool results"] == f'yes: "{SENTENCE}"'
    assert found["stream"].startswith("yes") and found["tools"].startswith("yes")
    assert found["n"].startswith("no: 400: n:")
