"""What `system.debug` and `serve --verbose` show of requests and answers."""

import logging
import sys
from typing import Any

import pytest

from mooltiproxy.body_log import BodyLog, formatter
from tests.servers.proxy import KEY, passing, proxy
from tests.servers.scripted import STREAM_HEAD, Peer, Received, answer, answering, chunk, upstream

ASKED = {"model": "m", "messages": [{"role": "user", "content": f"my key is {KEY}"}]}
PATH = "/chat/completions"


def debugged(url: str) -> dict[str, Any]:
    return {**passing(url), "system": {"debug": True}}


def on_terminal(monkeypatch: pytest.MonkeyPatch, *, is_one: bool = True) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_one, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)


def shown(what: str) -> str:
    record = logging.LogRecord("x", logging.INFO, "", 0, "text", (), None)
    record.colour = {"request": "36", "answer": "32"}.get(what, "")
    return formatter().format(record)


async def test_what_passes_untouched_is_logged_on_both_sides_with_keys_masked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        upstream(answering(answer(b'{"said": "%s"}' % KEY.encode()))) as target,
        proxy(debugged(target.url)) as running,
    ):
        with caplog.at_level("INFO", "mooltiproxy.bodies"):
            async with running.client.post(PATH, json=ASKED) as response:
                assert await response.json() == {"said": KEY}
    logged = "\n".join(caplog.messages)
    assert "request of the client (passes): " in logged
    assert "my key is ***" in logged
    assert 'answer of the target (passes): {"said": "***"}' in logged
    assert KEY not in logged


async def test_a_body_that_was_read_for_its_model_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    async with upstream(answering(answer())) as target:
        config = {**debugged(target.url), "models": {"other": {"target": "one"}}}
        async with proxy(config) as running:
            with caplog.at_level("INFO", "mooltiproxy.bodies"):
                async with running.client.post(PATH, json=ASKED) as response:
                    assert response.status == 200
    assert "request of the client (passes): " in "\n".join(caplog.messages)


async def test_a_stream_that_passes_is_logged_piece_by_piece(caplog: pytest.LogCaptureFixture) -> None:
    async def script(peer: Peer, received: Received) -> None:
        await peer.send(STREAM_HEAD + chunk(b"data: 1\n\n") + chunk(b"data: 2\n\n") + b"0\r\n\r\n")

    async with upstream(script) as target, proxy(debugged(target.url)) as running:
        with caplog.at_level("INFO", "mooltiproxy.bodies"):
            async with running.client.post(PATH, json=ASKED) as response:
                assert await response.read() == b"data: 1\n\ndata: 2\n\n"
    assert "data: 2" in "\n".join(caplog.messages)


async def test_what_is_no_text_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        upstream(answering(answer(b"\x00sound", media_type="audio/mpeg"))) as target,
        proxy(debugged(target.url)) as running,
    ):
        with caplog.at_level("INFO", "mooltiproxy.bodies"):
            async with running.client.post(PATH, data=b"\x00picture") as response:
                assert await response.read() == b"\x00sound"
    assert caplog.messages == []


def test_a_body_cannot_steer_the_terminal(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "mooltiproxy.bodies"):
        BodyLog([]).write("1", "request", b"a\x1b]0;title\x07\tb\nc\xc2\x9bd")
    assert caplog.messages == ["1: request: a\\x1b]0;title\\x07\tb\nc\\x9bd"]


def test_a_terminal_gets_requests_and_answers_in_different_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    on_terminal(monkeypatch)
    assert shown("request") == "\x1b[36mINFO text\x1b[0m"
    assert shown("answer") == "\x1b[32mINFO text\x1b[0m"
    assert shown("anything else") == "INFO text"


def test_what_is_no_terminal_gets_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    on_terminal(monkeypatch, is_one=False)
    assert shown("request") == "INFO text"


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    on_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    assert shown("request") == "INFO text"
