"""`speaks: auto`: asked where somebody may ask, and what happens where nobody may or nobody answers."""

import asyncio
from pathlib import Path

import pytest

from mooltiproxy.config.load import load
from mooltiproxy.discovery import discover
from mooltiproxy.errors import ConfigError, UpstreamUnreachable
from mooltiproxy.upstream.probe import probe
from tests.servers.scripted import Peer, Received, answer, upstream
from tests.servers.toy import running_toy

FILE = "targets:\n  default: a\n  a:\n    url: http://127.0.0.1:1\n    speaks: auto\n"


def written(folder: Path) -> Path:
    file = folder / "config.yaml"
    file.write_text(FILE)
    return file


def test_the_answer_of_the_server_takes_its_place(tmp_path: Path) -> None:
    asked: list[str] = []
    config = load(written(tmp_path), {}, lambda url: asked.append(url) or ["tgi"])  # type: ignore[func-returns-value]
    assert config.targets["a"].speaks == ("tgi",)
    assert asked == ["http://127.0.0.1:1"]


def test_where_nobody_asks_it_is_openai_with_a_warning(tmp_path: Path) -> None:
    config = load(written(tmp_path), {})
    assert config.targets["a"].speaks == ("openai",)
    assert [warning.line for warning in config.warnings] == [5]


def test_a_server_that_does_not_answer_is_an_error_at_its_line(tmp_path: Path) -> None:
    def unreachable(url: str) -> list[str]:
        raise UpstreamUnreachable("nobody there")

    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path), {}, unreachable)
    assert [(problem.line, "nobody there" in problem.message) for problem in caught.value.problems] == [(5, True)]


def test_a_live_server_is_known_by_its_answers() -> None:
    dialects = discover(None).dialects.values()
    with running_toy() as toy:
        assert probe(toy.url, dialects) == ("tgi",)
    with pytest.raises(UpstreamUnreachable):
        probe("http://127.0.0.1:1", dialects)


async def test_a_server_that_wants_a_key_is_known_all_the_same() -> None:
    async def script(peer: Peer, received: Received) -> None:
        known = received.line.split()[1] == "/v1/models"
        refusal = answer(b'{"error": {"message": "no key"}}', status="401 Unauthorized")
        await peer.send(refusal if known else answer(b"", status="404 Not Found"))

    async with upstream(script) as up:
        assert await asyncio.to_thread(probe, f"{up.url}/v1", list(discover(None).dialects.values())) == ("openai",)
