"""`speaks: auto`: asked where somebody may ask, and what happens where nobody may or nobody answers."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest

from mooltiproxy.config.load import load
from mooltiproxy.discovery import discover
from mooltiproxy.errors import ConfigError, UpstreamUnreachable
from mooltiproxy.mapping.dialect import Dialect
from mooltiproxy.upstream.probe import probe
from tests.servers.scripted import Peer, Received, Script, answer, answering, upstream
from tests.servers.toy import running_toy

FILE = "targets:\n  default: a\n  a:\n    url: http://127.0.0.1:1\n    speaks: auto\n"


PARROT = """
from mooltiproxy.mapping.dialect import Dialect

dialect = Dialect("parrot", "Parrot: nothing", "", (), lambda error, id: {}, lambda error, id: {})
"""


def written(folder: Path) -> Path:
    file = folder / "config.yaml"
    file.write_text(FILE)
    return file


def test_the_answer_of_the_server_takes_its_place(tmp_path: Path) -> None:
    asked: list[str] = []
    config = load(written(tmp_path), {}, lambda url, *_: asked.append(url) or ["tgi"])  # type: ignore[func-returns-value]
    assert config.targets["a"].speaks == ("tgi",)
    assert asked == ["http://127.0.0.1:1"]


def test_where_nobody_asks_it_is_openai_with_a_warning(tmp_path: Path) -> None:
    config = load(written(tmp_path), {})
    assert config.targets["a"].speaks == ("openai",)
    assert [warning.line for warning in config.warnings] == [5]


def test_a_server_that_does_not_answer_is_an_error_at_its_line(tmp_path: Path) -> None:
    def unreachable(*_: object) -> list[str]:
        raise UpstreamUnreachable("nobody there")

    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path), {}, unreachable)
    assert [(problem.line, "nobody there" in problem.message) for problem in caught.value.problems] == [(5, True)]


def test_a_live_server_is_known_by_its_answers() -> None:
    dialects = discover(None).dialects.values()
    with running_toy() as toy:
        assert probe(toy.url, None, dialects) == ("tgi",)
    with pytest.raises(UpstreamUnreachable):
        probe("http://127.0.0.1:1", None, dialects)


async def test_a_server_that_wants_a_key_is_known_all_the_same() -> None:
    async def script(peer: Peer, received: Received) -> None:
        known = received.line.split()[1] == "/v1/models"
        refusal = answer(b'{"error": {"message": "no key"}}', status="401 Unauthorized")
        await peer.send(refusal if known else answer(b"", status="404 Not Found"))

    assert await spoken(script, None) == ("openai",)


async def spoken(script: Script, key: str | None) -> tuple[str, ...]:
    dialects = list(discover(None).dialects.values())
    async with upstream(script) as up:
        return await asyncio.to_thread(probe, f"{up.url}/v1", key, dialects)


async def test_a_server_that_knows_its_key_gets_it_as_each_api_wants_it() -> None:
    offered: set[str | None] = set()

    async def script(peer: Peer, received: Received) -> None:
        offered.update({received.value("authorization"), received.value("x-api-key")})
        models = b'{"data": [], "has_more": false}' if received.value("anthropic-version") else b"{}"
        await peer.send(answer(models))

    assert await spoken(script, "the-key") == ("anthropic",)
    assert offered == {None, "Bearer the-key", "the-key"}


async def test_a_refusal_of_anthropics_form_is_not_openais() -> None:
    refusal = b'{"type": "error", "error": {"type": "authentication_error", "message": "no key"}}'
    assert await spoken(answering(answer(refusal, status="401 Unauthorized")), None) == ("anthropic",)


def test_a_dialect_of_the_users_own_is_asked_for_too(tmp_path: Path) -> None:
    (tmp_path / "mappers").mkdir()
    (tmp_path / "mappers" / "parrot.py").write_text(PARROT)
    asked: list[str] = []

    def asking(url: str, key: str | None, dialects: Iterable[Dialect]) -> list[str]:
        asked.extend(dialect.name for dialect in dialects)
        return ["openai"]

    load(written(tmp_path), {}, asking)
    assert "parrot" in asked


def test_the_targets_key_is_that_of_its_variable(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(FILE + "    envkey: A_KEY\n")
    asked: list[object] = []
    load(file, {"A_KEY": "the-key"}, lambda *given: asked.append(given[1]) or ["openai"])  # type: ignore[func-returns-value]
    assert asked == ["the-key"]
