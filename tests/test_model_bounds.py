"""What `models:` says of requests that name no model, of temperatures, and of the user's last message alone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from mappers.openai import chat
from mooltiproxy.config.load import from_data
from mooltiproxy.errors import BadRequest, ConfigError
from mooltiproxy.mapping.neutral import Request, Sampling, Text, Turn
from mooltiproxy.mapping.settings import Settings
from tests.servers.proxy import Proxy, proxy
from tests.servers.scripted import Upstream, answer, answering, upstream

SAID = {"role": "user", "content": "Tea?"}
WHOLE = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Milk."}, "finish_reason": "stop"}]}
HERE = Path()
NOW = datetime(2026, 11, 21, tzinfo=UTC)


@dataclass
class Pair:
    running: Proxy
    target: Upstream

    async def asked(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        async with self.running.client.post(path, json=body) as response:
            return response.status, await response.json()

    @property
    def got(self) -> Any:
        return orjson.loads(self.target.requests[-1].body)


@asynccontextmanager
async def pair(**model: Any) -> AsyncIterator[Pair]:
    async with upstream(answering(answer(orjson.dumps(WHOLE)))) as target:
        one = {"url": target.url, "speaks": "openai"}
        data = {"targets": {"default": "one", "one": one}, "models": {"*": {"target": "one", **model}}}
        async with proxy(data) as running:
            yield Pair(running, target)


async def test_a_body_that_names_no_model_gets_that_of_the_star() -> None:
    async with pair(name="mistral", defaults={"max_tokens": 128}) as both:
        assert (await both.asked("/v1/chat/completions", {"messages": [SAID]}))[0] == 200
        assert both.got == {"messages": [SAID], "model": "mistral", "max_tokens": 128}


async def test_a_body_that_names_no_model_gets_none_where_the_star_has_no_name() -> None:
    async with pair(name="*", defaults={"max_tokens": 128}) as both:
        await both.asked("/v1/chat/completions", {"messages": [SAID]})
        assert both.got == {"messages": [SAID], "max_tokens": 128}


async def test_a_translated_body_that_names_no_model_gets_it_too() -> None:
    async with pair(name="mistral", defaults={"temperature": 0.5}) as both:
        status, told = await both.asked("/api/chat", {"messages": [SAID], "stream": False})
        assert (status, told["message"]["content"], told["model"]) == (200, "Milk.", "mistral")
        assert (both.got["model"], both.got["temperature"]) == ("mistral", 0.5)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_a_temperature_out_of_bounds_is_refused_by_name(path: str) -> None:
    async with pair(temperature=[0.1, 1]) as both:
        asked = {"model": "m", "max_tokens": 5, "messages": [SAID]}
        status, told = await both.asked(path, {**asked, "temperature": 0})
        assert status == 400
        assert "temperature: expected 0.1 to 1, got 0" in told["error"]["message"]
        assert both.target.requests == []
        for allowed in ({}, {"temperature": 0.1}, {"temperature": 1}):
            assert (await both.asked(path, {**asked, **allowed}))[0] == 200


async def test_any_temperature_is_allowed_without_bounds() -> None:
    async with pair(name="mistral") as both:
        assert (await both.asked("/v1/chat/completions", {"messages": [SAID], "temperature": 2}))[0] == 200


@pytest.mark.parametrize("bounds", [0.1, [0.1], [1, 0.1], ["a", "b"], [-1, 1]])
def test_bounds_that_are_none_are_a_mistake_of_the_file(bounds: Any) -> None:
    model = {"target": "one", "temperature": bounds}
    with pytest.raises(ConfigError, match="the least"):
        from_data(
            {"targets": {"default": "one", "one": {"url": "http://a", "speaks": "tgi"}}, "models": {"m": model}},
            HERE,
            {},
        )


def test_words_can_be_put_around_the_users_last_message_alone() -> None:
    settings = Settings(prefix="<", suffix=">", around_last=True)
    said = [("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "four")]
    request = Request(turns=[Turn(role, [Text(text)]) for role, text in said])  # type: ignore[arg-type]
    settings.edit({}, "", NOW).apply(request)
    assert [part.text for turn in request.turns for part in turn.parts if isinstance(part, Text)] == [
        "one",
        "two",
        "<three>",
        "four",
    ]
    body = {"messages": [{"role": role, "content": text} for role, text in said]}
    written = orjson.loads(settings.edit(body, "", NOW).edited(orjson.dumps(body), chat.endpoint, {}))
    assert [message["content"] for message in written["messages"]] == ["one", "two", "<three>", "four"]


def test_a_conversation_without_the_user_gets_no_words_around() -> None:
    settings = Settings(prefix="<", around_last=True)
    request = Request(turns=[Turn("assistant", [Text("two")])])
    settings.edit({}, "", NOW).apply(request)
    assert request.turns == [Turn("assistant", [Text("two")])]


def test_a_temperature_that_only_the_clients_api_promises_is_not_refused() -> None:
    promised = Request(sampling=Sampling(temperature=1.0), assumed=frozenset({"temperature"}))
    Settings(temperature=(0.0, 0.5)).edit({}, "", NOW).apply(promised)
    with pytest.raises(BadRequest):
        Settings(temperature=(0.0, 0.5)).edit({}, "", NOW).apply(Request(sampling=Sampling(temperature=1.0)))
