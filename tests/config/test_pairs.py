"""Mapping entries that name two dialects."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from mooltiproxy.config.model import MappingEntry
from mooltiproxy.errors import ConfigError
from mooltiproxy.mapping.neutral import NOWHERE
from tests.config.writing import loaded
from tests.servers.proxy import proxy
from tests.servers.scripted import answering, upstream

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}
MESSAGE = {"role": "assistant", "content": "Hi there"}
ANSWER = {"choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}]}


def entries(folder: Path, mapping: str, *, url: str = "http://h:1/base") -> Any:
    text = f"targets:\n  default: it\n  it:\n    url: {url}\n    mapping:\n{mapping}"
    return loaded(folder, text).targets["it"].mapping


def sent(entry: MappingEntry, body: Any) -> Any:
    assert entry.translation is not None
    return orjson.loads(entry.translation.request(body, NOWHERE).body)


def described(entry: MappingEntry) -> str:
    assert entry.translation is not None
    return entry.translation.description


def test_a_path_is_translated_between_the_two_that_are_named(tmp_path: Path) -> None:
    entry = entries(tmp_path, "      /v1/messages: {from: anthropic, to: openai}")["/v1/messages"]
    assert (entry.path, described(entry)) == ("/v1/chat/completions", "anthropic chat to openai chat")
    assert sent(entry, CHAT)["messages"] == CHAT["messages"]


def test_the_clients_dialect_is_that_of_its_path(tmp_path: Path) -> None:
    entry = entries(tmp_path, "      /chat/completions: {to: ollama}")["/chat/completions"]
    assert (entry.path, described(entry)) == ("/api/chat", "openai chat to ollama chat")


@pytest.mark.parametrize(
    ("line", "path", "description"),
    [
        ("/mine: {from: openai, to: ollama, path: /api/embed}", "/api/embed", "openai embeddings to ollama embed"),
        ("/mine: {from: openai, to: tgi, path: /generate}", "/generate", "openai chat to tgi chat"),
        ("/mine: {from: openai, to: tgi, path: /other}", "/other", "openai chat to tgi chat"),
        ("/v1/completions: {to: tgi, path: /other}", "/other", "openai completions to tgi text"),
        ("/v1/completions: {to: anthropic}", "/v1/messages", "openai completions to anthropic chat"),
    ],
)
def test_the_paths_say_which_endpoints_are_meant(tmp_path: Path, line: str, path: str, description: str) -> None:
    (entry,) = entries(tmp_path, f"      {line}").values()
    assert (entry.path, described(entry)) == (path, description)


def test_the_api_base_of_the_url_is_not_repeated(tmp_path: Path) -> None:
    mapping = entries(tmp_path, "      /v1/messages: {to: openai}\n      /models:", url="http://h:1/v1")
    assert mapping["/v1/messages"].path == "/v1/chat/completions"
    assert mapping["/models"].path == "/v1/models"


def test_a_prompt_is_rendered_by_the_entrys_template(tmp_path: Path) -> None:
    entry = entries(tmp_path, "      /chat/completions: {to: tgi, template: FalconInstruct}")["/chat/completions"]
    assert ">>>QUESTION<<<Hello>>>ANSWER<<<" in sent(entry, CHAT)["inputs"]


def test_the_same_dialect_on_both_sides_passes_untouched(tmp_path: Path) -> None:
    entry = entries(tmp_path, "      /mine: {from: openai, to: openai, path: /chat/completions}")["/mine"]
    assert (entry.path, entry.translation) == ("/chat/completions", None)


@pytest.mark.parametrize(
    ("line", "where", "message"),
    [
        ("/x: {from: openai}", "from", "expected `to:` beside it"),
        ("/x: {to: openia}", "to", "there is no such dialect: did you mean `openai`?"),
        ("/x: {to: openai}", "to", "expected `from:`, the dialect of the clients"),
        ("/api/chat: {to: openai, in: identity}", "in", "either functions (in, out, stream) or dialects (from, to)"),
        ("/api/embed: {to: anthropic}", "to", "anthropic has nothing for embeddings of ollama"),
        (
            "/v1/messages: {to: openai, path: /embeddings}",
            "path",
            "cannot be asked at /embeddings, which is embeddings",
        ),
    ],
)
def test_what_does_not_fit_together_is_an_error_at_its_place(
    tmp_path: Path, line: str, where: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        entries(tmp_path, f"      {line}")
    (problem,) = caught.value.problems
    assert problem.path[-1] == where
    assert message in problem.message


async def test_a_client_is_answered_in_its_own_dialect_at_a_path_of_ones_own() -> None:
    async with upstream(answering(_json(ANSWER))) as up:
        entry = {"from": "anthropic", "to": "openai", "path": "/bob"}
        config = {"targets": {"default": "one", "one": {"url": up.url, "mapping": {"/mine": entry}}}}
        async with proxy(config) as running, running.client.post("/mine", json=CHAT) as response:
            body = await response.json()
    assert up.requests[0].line == "POST /bob HTTP/1.1"
    assert body["content"] == [{"type": "text", "text": "Hi there"}]


async def test_errors_at_a_path_of_ones_own_have_the_clients_form() -> None:
    entry = {"from": "anthropic", "to": "openai", "path": "/bob"}
    config = {"targets": {"default": "one", "one": {"url": "http://127.0.0.1:1", "mapping": {"/mine": entry}}}}
    async with proxy(config) as running, running.client.post("/mine", json={**CHAT, "messages": 3}) as response:
        assert (response.status, (await response.json())["type"]) == (400, "error")


def _json(body: Any) -> bytes:
    data = orjson.dumps(body)
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data)
