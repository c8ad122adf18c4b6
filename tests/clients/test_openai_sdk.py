"""The official openai client, whole and streaming, chat and completions, against a TGI-speaking server."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.clients.conftest import Served

Made = Callable[..., OpenAI]
MESSAGES: list[openai.types.chat.ChatCompletionMessageParam] = [
    {"role": "system", "content": "You are a lighthouse keeper."},
    {"role": "user", "content": "Tell me about the lighthouse."},
]
BASES = ["", "/v1"]
TARGETS = ["streaming", "seed"]


@pytest.fixture
def client(served: Served) -> Iterator[Made]:
    """Makes clients of this base path and target, and closes them."""
    with ExitStack() as stack:

        def made(base: str = "/v1", target: str = "streaming", key: str = served.key) -> OpenAI:
            url = served.url + base
            api = OpenAI(base_url=url, api_key=key, default_headers={"target": target}, max_retries=0)
            return stack.enter_context(api)

        yield made


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("target", TARGETS)
def test_a_chat_is_answered_whole(client: Made, base: str, target: str) -> None:
    answer = client(base, target).chat.completions.create(model="m", messages=MESSAGES, max_tokens=20)
    choice = answer.choices[0]
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert answer.object == "chat.completion"
    assert answer.model == "m"


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("target", TARGETS)
def test_a_chat_is_streamed_as_the_same_text(client: Made, base: str, target: str) -> None:
    api = client(base, target)
    whole = api.chat.completions.create(model="m", messages=MESSAGES, max_tokens=20, temperature=0)
    with api.chat.completions.create(model="m", messages=MESSAGES, max_tokens=20, temperature=0, stream=True) as stream:
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert len({chunk.id for chunk in chunks}) == 1


def test_log_probabilities_are_told_whole_and_streamed(client: Made) -> None:
    api = client("/v1", "streaming")
    asked: dict[str, Any] = {"model": "m", "messages": MESSAGES, "max_tokens": 8, "temperature": 0}
    whole = api.chat.completions.create(**asked, logprobs=True, top_logprobs=2).choices[0]
    assert whole.logprobs and whole.logprobs.content
    assert "".join(token.token for token in whole.logprobs.content).strip() == (whole.message.content or "").strip()
    assert all(1 <= len(token.top_logprobs) <= 2 for token in whole.logprobs.content)
    with api.chat.completions.create(**asked, logprobs=True, top_logprobs=2, stream=True) as stream:
        choices = [chunk.choices[0] for chunk in stream if chunk.choices]
    told = [token for choice in choices if choice.logprobs for token in choice.logprobs.content or ()]
    assert told == whole.logprobs.content


def test_a_stream_arrives_in_pieces_and_a_replayed_one_too(client: Made) -> None:
    with client().chat.completions.create(model="m", messages=MESSAGES, max_tokens=20, stream=True) as stream:
        assert sum(1 for _ in stream) > 5


def test_usage_comes_with_the_stream_where_it_is_asked_for(client: Made) -> None:
    with client().chat.completions.create(
        model="m", messages=MESSAGES, max_tokens=20, stream=True, stream_options={"include_usage": True}
    ) as stream:
        *_, last = stream
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens


@pytest.mark.parametrize("stop", ["the", ["the", "a"]])
@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_ends_the_answer_and_is_not_in_it(client: Made, stop: str | list[str], stream: bool) -> None:
    api = client()
    if stream:
        with api.chat.completions.create(model="m", messages=MESSAGES, stop=stop, stream=True, temperature=0) as got:
            chunks = [chunk for chunk in got if chunk.choices]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        finish = chunks[-1].choices[0].finish_reason
    else:
        answer = api.chat.completions.create(model="m", messages=MESSAGES, stop=stop, temperature=0)
        text, finish = answer.choices[0].message.content or "", answer.choices[0].finish_reason
    assert finish == "stop"
    assert "the" not in text


@pytest.mark.parametrize("stream", [False, True])
def test_a_legacy_completion_is_answered(client: Made, stream: bool) -> None:
    api = client()
    if stream:
        with api.completions.create(model="m", prompt="The tea", max_tokens=8, stream=True) as got:
            assert "".join(chunk.choices[0].text for chunk in got if chunk.choices)
    else:
        answer = api.completions.create(model="m", prompt="The tea", max_tokens=8)
        assert answer.choices[0].text
        assert answer.usage is not None


async def test_the_asynchronous_client_streams_many_at_once(served: Served) -> None:
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key=served.key) as api:
        streams = [
            await api.chat.completions.create(model="m", messages=MESSAGES, max_tokens=10, stream=True)
            for _ in range(10)
        ]
        for stream in streams:
            text = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
            assert "".join(text)


def test_a_wrong_key_raises_the_sdks_own_error(client: Made) -> None:
    api = client(key="wrong")
    with pytest.raises(openai.AuthenticationError) as caught:
        api.chat.completions.create(model="m", messages=MESSAGES)
    assert caught.value.code == "invalid_api_key"


def test_an_unknown_target_raises_not_found_with_the_request_id(client: Made) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client(target="nowhere").chat.completions.create(model="m", messages=MESSAGES)
    assert caught.value.request_id


def test_what_the_target_cannot_do_is_a_bad_request_that_names_the_field(client: Made) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client().chat.completions.create(model="m", messages=MESSAGES, n=2)
    assert caught.value.param == "n"


def test_what_is_dropped_is_named_in_a_header(client: Made) -> None:
    raw = client().chat.completions.with_raw_response.create(
        model="m", messages=MESSAGES, max_tokens=5, logit_bias={"1": 5}
    )
    assert "logit_bias" in raw.headers["x-mooltiproxy-dropped"]
