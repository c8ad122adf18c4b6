"""`explain` says what the live path does, byte for byte, and sends nothing."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from mooltiproxy.cli import main
from mooltiproxy.config.load import from_data
from mooltiproxy.explain import Question, explain
from tests.servers.proxy import proxy
from tests.servers.scripted import STREAM_HEAD, Peer, Received, answer, chunk, upstream

PATH = "/v1/chat/completions"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "logit_bias": {"1": 1}, "seed": 3}
TOKENS = (
    b'data:{"index":1,"token":{"id":1,"text":"Hel","logprob":0,"special":false}}\n\n'
    b'data:{"index":2,"token":{"id":1,"text":"lo","logprob":0,"special":false},"generated_text":"Hello",'
    b'"details":{"finish_reason":"length","generated_tokens":2,"seed":null,"input_length":4}}\n\n'
)
DETAILS = {"finish_reason": "length", "generated_tokens": 2, "seed": None, "prefill": [], "tokens": []}
WHOLE = orjson.dumps({"generated_text": "Hello", "details": DETAILS})


def config_for(url: str) -> dict[str, Any]:
    targets = {
        "default": "one",
        "one": {"url": f"{url}/base", "speaks": "tgi"},
        "two": {"url": url, "speaks": "openai"},
    }
    return {"targets": targets, "models": {"big": {"target": "two", "name": "vendor/big"}}}


def explained(url: str, **question: Any) -> list[str]:
    return list(explain(from_data(config_for(url), Path("."), {}), Question(**{"path": PATH} | question)))


def sent(lines: list[str]) -> str:
    return "\n".join(line[2:] for line in lines if line.startswith("> "))


def received(lines: list[str]) -> str:
    return "\n".join(line[2:] for line in lines if line.startswith("< "))


@pytest.mark.parametrize(("stream", "recorded"), [(False, WHOLE), (True, TOKENS)])
async def test_it_shows_the_bytes_of_the_live_path_in_both_directions(
    stream: bool, recorded: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda size: "1" * 2 * size)
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.0)

    async def script(peer: Peer, received: Received) -> None:
        await peer.send(STREAM_HEAD + chunk(recorded) + b"0\r\n\r\n" if stream else answer(recorded))

    body = orjson.dumps(CHAT | {"stream": stream})
    async with upstream(script) as up:
        lines = explained(up.url, body=body, answer=recorded)
        async with proxy(config_for(up.url)) as running:
            async with running.client.post(PATH, data=body, headers={"content-type": "application/json"}) as response:
                text = await response.text()
                dropped = response.headers["x-mooltiproxy-dropped"]
    live = next(one for one in up.requests if one.line.startswith("POST"))
    assert sent(lines).startswith(live.line + "\n")
    assert sent(lines).endswith("\n" + live.body.decode())
    assert f"content-length: {len(live.body)}" in sent(lines)
    assert f"dropped      {dropped}" in lines
    assert received(lines) == text


def test_what_the_query_says_holds_for_the_answer() -> None:
    path, body = "/v1beta/models/m:streamGenerateContent", b'{"contents": [{"parts": [{"text": "Hi"}]}]}'
    assert received(explained("http://127.0.0.1:1", path=path, body=body, answer=TOKENS)).startswith("[{")
    asked = f"{path}?alt=sse"
    assert received(explained("http://127.0.0.1:1", path=asked, body=body, answer=TOKENS)).startswith("data: {")


def test_a_line_separator_of_unicode_stays_in_the_line_that_it_is_in() -> None:
    body = orjson.dumps(CHAT | {"messages": [{"role": "user", "content": "one\u2028two"}]})
    assert any("one\u2028two" in line for line in explained("http://127.0.0.1:1", path=f"/to/two{PATH}", body=body))


@pytest.mark.parametrize("begin", [b"id: 1\n", b"retry: 5\n", b"\xef\xbb\xbf"])
def test_a_recorded_stream_is_known_by_any_field_of_an_event(begin: bytes) -> None:
    body = orjson.dumps(CHAT | {"stream": True})
    assert received(explained("http://127.0.0.1:1", body=body, answer=begin + TOKENS)).endswith("data: [DONE]\n\n")


def test_it_masks_the_targets_key_and_names_what_comes_before_the_target(tmp_path: Path) -> None:
    data = config_for("http://127.0.0.1:1")
    data["targets"]["one"]["key"] = "very-secret"
    lines = list(explain(from_data(data, tmp_path, {}), Question(PATH, body=orjson.dumps(CHAT))))
    assert "very-secret" not in "\n".join(lines)
    assert "authorization: Bearer ***" in sent(lines)
    assert any(line.startswith("middlewares  access_log, ") for line in lines)


def test_the_model_of_the_command_line_routes_and_is_renamed() -> None:
    lines = explained("http://127.0.0.1:1", body=orjson.dumps(CHAT), model="big")
    assert lines[0].startswith("target       two")
    assert '"model":"vendor/big"' in sent(lines)


def test_a_missing_endpoints_other_way_is_told() -> None:
    lines = explained("http://127.0.0.1:1", path="/to/two/v1/completions", body=b'{"prompt": "x"}')
    assert any(line.startswith("otherwise    openai completions to openai chat") for line in lines)


def test_a_recorded_error_in_a_stream_is_what_the_client_would_see() -> None:
    recorded = TOKENS.split(b"\n\n")[0] + b'\n\ndata:{"error":"gone","error_type":"generation"}\n\n'
    text = received(explained("http://127.0.0.1:1", body=orjson.dumps(CHAT | {"stream": True}), answer=recorded))
    assert '"message":"gone"' in text
    assert "[DONE]" not in text


def test_what_the_proxy_would_refuse_is_one_line_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, body = tmp_path / "config.yaml", tmp_path / "body.json"
    config.write_text("targets: {default: one, one: {url: 'http://127.0.0.1:1', speaks: tgi}}\n")
    body.write_bytes(orjson.dumps(CHAT | {"n": 2}))
    assert main(["explain", "--config", str(config), "--path", PATH, str(body)]) == 1
    assert "n" in capsys.readouterr().err
    assert main(["explain", "--config", str(config), "--path", "/nowhere"]) == 1
    assert "does not map" in capsys.readouterr().err


def test_a_request_that_no_target_is_asked_for_shows_its_answer() -> None:
    *_, dropped, last = explained("http://127.0.0.1:1", path="/api/chat", body=b'{"model": "m", "keep_alive": 0}')
    assert dropped == "dropped      keep_alive"
    assert last.startswith("answer       of the proxy itself: {") and '"done_reason":"unload"' in last


def test_what_the_proxy_itself_tells_of_models_is_said() -> None:
    url = "http://127.0.0.1:1"
    assert explained(url, path="/v1/models")[1] == "asked        one, two"
    assert "asked" not in str(explained(url, path="/v1/models", target="two"))
    assert "what the file says" in explained(url, path="/api/show", body=b'{"model": "big"}')[0]
    assert "target       one" in explained(url, path="/api/show", body=b'{"model": "else"}')[0]


def test_what_would_be_fetched_first_is_told() -> None:
    config = from_data(config_for("http://127.0.0.1:1"), Path(), {})
    document = {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": [document]}]}
    lines = list(explain(config, Question("/v1/messages", "two", body=orjson.dumps(body))))
    assert "fetched      https://example.com/a.pdf" in lines
    assert not any(line.startswith("> ") for line in lines)


SETTINGS = {"system": "Be brief.", "overrides": {"top_k": 3}, "defaults": {"seed": 1, "top_p": 0.5}, "max_tokens": 9}
NAMES = "top_p (default), top_k (override), max_tokens (at most 9)"


@pytest.mark.parametrize("target", ["one", "two"])
async def test_it_names_the_settings_of_the_model_and_shows_what_they_make_of_the_request(target: str) -> None:
    body = orjson.dumps({**CHAT, "model": "set", "max_tokens": 10})
    async with upstream(lambda peer, received: peer.send(answer(WHOLE))) as up:
        data = config_for(up.url)
        data["models"] = {"set": {"target": target, "name": "there", **SETTINGS}}
        lines = list(explain(from_data(data, Path("."), {}), Question(PATH, body=body, answer=WHOLE)))
        async with proxy(data) as running:
            async with running.client.post(PATH, data=body, headers={"content-type": "application/json"}) as response:
                dropped = response.headers["x-mooltiproxy-dropped"]
        assert f"settings     system, {NAMES}" in lines
        assert f"dropped      {dropped}" in lines
        assert sent(lines).endswith(up.requests[0].body.decode())
        assert '"model":"set"' in received(lines) or target == "two"


def test_it_names_the_losses_of_settings_and_of_functions() -> None:
    data = config_for("http://127.0.0.1:1")
    entry = {"path": "/generate", "in": "chatReqOpenAItoTGI", "out": "chatAnsTGItoOpenAI"}
    data["targets"]["two"] = {"url": "http://127.0.0.1:1", "mapping": {PATH: entry}}
    data["models"]["big"]["max_tokens"] = 9
    body = orjson.dumps({**CHAT, "model": "big", "max_tokens": 10})
    lines = list(explain(from_data(data, Path("."), {}), Question(PATH, body=body)))
    assert "dropped      clamped max_tokens 10->9; logit_bias" in lines
