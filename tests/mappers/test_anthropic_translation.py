"""Anthropic's API in front of OpenAI's and behind it, through the engine, whole and streamed."""

from typing import Any

import orjson
import pytest

from mappers.anthropic import dialect, messages, models
from mappers.openai import chat, completions
from mooltiproxy.errors import BadRequest, ProxyError
from mooltiproxy.mapping.answers import AnswerTranslator
from mooltiproxy.mapping.dialect import Endpoint
from mooltiproxy.mapping.framing import DONE, SSEDecoder, encode_named_sse, encode_sse, parse_event
from mooltiproxy.mapping.neutral import NOWHERE
from mooltiproxy.mapping.translate import DialectTranslation, Translated

JSON, SSE = "application/json", "text/event-stream"
ASKED = {"model": "m1", "max_tokens": 64, "messages": [{"role": "user", "content": "Weather in Paris and Rome?"}]}
CHAT = {"model": "m1", "messages": ASKED["messages"]}
CACHE = {"type": "ephemeral"}
USAGE = {"prompt_tokens": 12, "completion_tokens": 9, "total_tokens": 21, "prompt_tokens_details": {"cached_tokens": 4}}


def request(client: Endpoint, target: Endpoint, body: dict[str, Any]) -> Translated:
    return DialectTranslation(client, target, {}, "").request(body, NOWHERE)


def to_openai(**fields: Any) -> Translated:
    return request(messages.endpoint, chat.endpoint, {**ASKED, **fields})


def to_anthropic(**fields: Any) -> Translated:
    return request(chat.endpoint, messages.endpoint, {**CHAT, **fields})


def sent(translated: Translated) -> Any:
    return orjson.loads(translated.body)


def translator(translated: Translated, media_type: str) -> AnswerTranslator:
    found = translated.answer(media_type, {})
    assert found is not None
    return found


def run(translated: Translated, media_type: str, *pieces: bytes) -> bytes:
    answer = translator(translated, media_type)
    return b"".join(map(answer.feed, pieces)) + answer.end()


def events_of(stream: bytes) -> list[Any]:
    decoder = SSEDecoder()
    return [parse_event(one) for one in [*decoder.feed(stream), *decoder.end()]]


def kinds(stream: bytes) -> list[str]:
    """The kinds of the events of a stream, with the kinds of blocks that begin."""
    return [
        event["content_block"]["type"] if event["type"] == "content_block_start" else event["type"]
        for event in events_of(stream)
    ]


def chunk(finish: str | None = None, **delta: Any) -> bytes:
    return encode_sse({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def fragment(number: int, **fields: Any) -> dict[str, Any]:
    function = {name: fields.pop(name) for name in ("name", "arguments") if name in fields}
    return {"index": number, **fields, "function": function}


CHUNKS = [
    chunk(role="assistant", content=""),
    chunk(reasoning_content="Two cities"),
    chunk(reasoning_content="."),
    chunk(content="I ask.", tool_calls=[]),
    chunk(tool_calls=[fragment(0, id="a", name="get", arguments="")]),
    chunk(tool_calls=[fragment(0, arguments='{"city":')]),
    chunk(tool_calls=[fragment(0, arguments='"Paris"}')]),
    chunk(tool_calls=[fragment(1, id="b", name="get", arguments='{"city":"Rome"}')]),
    chunk("stop"),
    encode_sse({"choices": [], "usage": USAGE}),
    encode_sse(DONE),
]

EVENTS = [
    {"type": "message_start", "message": {"usage": {"input_tokens": 8, "cache_read_input_tokens": 4}}},
    {"type": "ping"},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Two cities."}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "c2ln"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "I ask."}},
    {"type": "content_block_stop", "index": 1},
    {
        "type": "content_block_start",
        "index": 2,
        "content_block": {"type": "tool_use", "id": "a", "name": "get", "input": {}},
    },
    {
        "type": "content_block_delta",
        "index": 2,
        "delta": {"type": "input_json_delta", "partial_json": '{"city":"Paris"}'},
    },
    {"type": "content_block_stop", "index": 2},
    {
        "type": "content_block_start",
        "index": 3,
        "content_block": {"type": "tool_use", "id": "b", "name": "get", "input": {}},
    },
    {"type": "content_block_stop", "index": 3},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
    {"type": "message_stop"},
]
STREAM = b"".join(map(encode_named_sse, EVENTS))


def agents_request() -> dict[str, Any]:
    """A coding agent's request in the middle of its work."""
    tools = [
        {
            "name": f"Tool{number}",
            "description": "Does something",
            "input_schema": {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "properties": {"path": {"type": "string"}},
                "required": ["path"],
                "additionalProperties": False,
            },
        }
        for number in range(23)
    ]
    return {
        "model": "m1",
        "max_tokens": 32000,
        "stream": True,
        "system": [
            {"type": "text", "text": "You are an agent."},
            {"type": "text", "text": "Work well.", "cache_control": CACHE},
        ],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "<reminder>Be kind.</reminder>"}]},
            {"role": "user", "content": [{"type": "text", "text": "Read a.txt", "cache_control": CACHE}]},
            {"role": "system", "content": "Today is Monday."},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "I read it.", "signature": "c2ln"},
                    {"type": "redacted_thinking", "data": "opaque"},
                    {"type": "text", "text": "Reading."},
                    {"type": "tool_use", "id": "toolu_1", "name": "Tool1", "input": {"path": "a.txt"}},
                    {"type": "tool_use", "id": "toolu_2", "name": "Tool2", "input": {"path": "b.txt"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "hello"},
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_2",
                        "content": [{"type": "text", "text": "no such file"}],
                        "is_error": True,
                        "cache_control": CACHE,
                    },
                    {"type": "text", "text": "<reminder>Go on.</reminder>"},
                ],
            },
        ],
        "tools": [*tools, {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}],
        "metadata": {"user_id": "user_1"},
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "medium"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    }


def test_an_agents_request_is_asked_of_a_chat_target_and_what_it_loses_is_named() -> None:
    translated = request(messages.endpoint, chat.endpoint, agents_request())
    body = sent(translated)
    assert [message["role"] for message in body["messages"]] == [
        "system",
        "user",
        "user",
        "system",
        "assistant",
        "tool",
        "tool",
        "user",
    ]
    assert [call["id"] for call in body["messages"][4]["tool_calls"]] == ["toolu_1", "toolu_2"]
    assert orjson.loads(body["messages"][4]["tool_calls"][0]["function"]["arguments"]) == {"path": "a.txt"}
    assert body["messages"][6] == {"role": "tool", "tool_call_id": "toolu_2", "content": "no such file"}
    assert len(body["tools"]) == 23
    assert (body["max_tokens"], body["stream"], body["user"]) == (32000, True, "user_1")
    assert body["reasoning_effort"] == "medium"
    assert set(translated.dropped) == {
        "cache_control",
        "context_management",
        "messages.is_error",
        "messages.reasoning_content",
        "tools.web_search_20250305",
    }
    assert translated.keepalive == b'event: ping\ndata: {"type": "ping"}\n\n'


def test_a_chat_stream_becomes_blocks_one_after_the_other() -> None:
    stream = run(to_openai(stream=True), SSE, *CHUNKS)
    assert kinds(stream) == [
        "message_start",
        "thinking",
        *["content_block_delta"] * 2,
        "content_block_stop",
        "text",
        "content_block_delta",
        "content_block_stop",
        "tool_use",
        *["content_block_delta"] * 2,
        "content_block_stop",
        "tool_use",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    last = events_of(stream)[-2]
    assert last["delta"]["stop_reason"] == "tool_use"
    assert last["usage"] == {
        "input_tokens": 8,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 4,
        "output_tokens": 9,
    }
    assert stream.startswith(b"event: message_start\ndata: {")


def test_a_message_begins_before_the_first_word_of_the_chat() -> None:
    live = translator(to_openai(stream=True), SSE)
    assert kinds(live.feed(CHUNKS[0])) == ["message_start"]


def test_a_stream_cut_at_every_byte_is_the_same_stream() -> None:
    whole = b"".join(CHUNKS)
    expected = events_of(run(to_openai(stream=True), SSE, whole))[1:]
    for at in range(len(whole)):
        assert events_of(run(to_openai(stream=True), SSE, whole[:at], whole[at:]))[1:] == expected
    expected = events_of(run(to_anthropic(stream=True), SSE, STREAM))
    for at in range(0, len(STREAM), 3):
        got = events_of(run(to_anthropic(stream=True), SSE, STREAM[:at], STREAM[at:]))
        assert [one if one == DONE else one["choices"] for one in got] == [
            one if one == DONE else one["choices"] for one in expected
        ]


def test_a_stream_that_fails_later_ends_with_an_error_event() -> None:
    live = translator(to_openai(stream=True), SSE)
    live.feed(chunk(content="Hi"))
    with pytest.raises(ProxyError, match="too busy") as caught:
        live.feed(encode_sse({"error": {"message": "too busy", "type": "overloaded_error"}}))
        live.end()
    failed = live.fail(dialect.write_stream_error(caught.value, "req-1"))
    assert failed.startswith(b"event: error\ndata: ")
    assert events_of(failed)[0]["error"] == {"type": "overloaded_error", "message": "too busy"}


def test_a_stream_that_fails_at_once_keeps_its_status() -> None:
    live = translator(to_openai(stream=True), SSE)
    with pytest.raises(ProxyError) as caught:
        live.feed(encode_sse({"error": {"message": "slow down", "type": "rate_limit_error"}}))
    assert caught.value.status == 429


def test_a_whole_chat_answer_becomes_a_message() -> None:
    message = {
        "role": "assistant",
        "reasoning_content": "Two cities.",
        "content": "I ask.",
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "get", "arguments": '{"city":"Paris"}'}}],
    }
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USAGE}
    answer = orjson.loads(run(to_openai(), JSON, orjson.dumps(body)))
    assert answer["content"] == [
        {"type": "thinking", "thinking": "Two cities.", "signature": ""},
        {"type": "text", "text": "I ask."},
        {"type": "tool_use", "id": "a", "name": "get", "input": {"city": "Paris"}},
    ]
    assert (answer["stop_reason"], answer["model"]) == ("tool_use", "m1")
    assert (answer["usage"]["input_tokens"], answer["usage"]["cache_read_input_tokens"]) == (8, 4)


def test_a_whole_answer_is_replayed_for_a_client_that_streams() -> None:
    body = {"choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "length"}], "usage": USAGE}
    stream = run(to_openai(stream=True), JSON, orjson.dumps(body))
    head, *_ = events_of(stream)
    assert head["message"]["usage"]["input_tokens"] == 8
    assert kinds(stream)[1:4] == ["text", "content_block_delta", "content_block_stop"]
    assert events_of(stream)[-2]["delta"]["stop_reason"] == "max_tokens"


def test_a_stream_is_gathered_for_a_client_that_does_not() -> None:
    answer = orjson.loads(run(to_openai(), SSE, *CHUNKS))
    assert [block["type"] for block in answer["content"]] == ["thinking", "text", "tool_use", "tool_use"]


def test_the_message_stream_becomes_a_chat_stream() -> None:
    *chunks, done = events_of(run(to_anthropic(stream=True, stream_options={"include_usage": True}), SSE, STREAM))
    deltas = [one["choices"][0]["delta"] for one in chunks if one["choices"]]
    calls = [call for one in deltas for call in one.get("tool_calls", [])]
    assert done == DONE
    assert "".join(one.get("reasoning_content", "") for one in deltas) == "Two cities."
    assert "".join(one.get("content") or "" for one in deltas) == "I ask."
    assert [(call["index"], call["id"]) for call in calls if "id" in call] == [(0, "a"), (1, "b")]
    assert "".join(call["function"]["arguments"] for call in calls if call["index"] == 1) == "{}"
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert chunks[-1]["usage"]["prompt_tokens"] == 12
    assert chunks[-1]["usage"]["prompt_tokens_details"]["cached_tokens"] == 4


def test_a_whole_message_becomes_a_chat_answer() -> None:
    content = [{"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}, {"type": "text", "text": "Hi"}]
    body = {"content": content, "stop_reason": "end_turn", "usage": {"input_tokens": 8, "output_tokens": 3}}
    answer = orjson.loads(run(to_anthropic(), JSON, orjson.dumps(body)))
    assert answer["choices"][0]["message"]["content"] == "Hi"
    assert answer["choices"][0]["message"]["reasoning_content"] == "Hm."
    assert answer["usage"]["total_tokens"] == 11


def test_a_chat_request_names_what_it_loses_on_its_way_to_a_message() -> None:
    translated = to_anthropic(temperature=1.5, seed=7, logit_bias={"1": 5}, store=True)
    assert set(translated.dropped) == {"clamped temperature 1.5->1", "seed", "logit_bias", "store"}
    assert translated.path is None


def test_what_a_message_cannot_say_is_refused_by_the_chats_name_for_it() -> None:
    with pytest.raises(BadRequest) as caught:
        to_anthropic(n=2)
    assert caught.value.param == "n"


def test_a_legacy_prompt_becomes_a_users_message() -> None:
    translated = request(completions.endpoint, messages.endpoint, {"model": "m1", "prompt": "Once upon", "echo": True})
    assert sent(translated)["messages"] == [{"role": "user", "content": "Once upon"}]
    assert "echo" in translated.dropped


def test_text_before_a_suffix_is_nothing_that_a_chat_fills_in() -> None:
    with pytest.raises(BadRequest) as caught:
        request(completions.endpoint, messages.endpoint, {"model": "m1", "prompt": "Once upon", "suffix": "."})
    assert caught.value.param == "suffix"


def test_log_probabilities_of_a_prompt_are_nothing_that_a_chat_gives() -> None:
    with pytest.raises(BadRequest, match="of a prompt") as caught:
        request(completions.endpoint, chat.endpoint, {"model": "m1", "prompt": "Once", "echo": True, "logprobs": 1})
    assert caught.value.param == "logprobs"


def test_every_endpoint_of_the_dialect_is_there() -> None:
    assert [(endpoint.label, endpoint.method, endpoint.paths[0]) for endpoint in dialect.endpoints] == [
        ("chat", "POST", "/v1/messages"),
        ("count", "POST", "/v1/messages/count_tokens"),
        ("models", "GET", "/v1/models"),
        ("model", "GET", "/v1/models/{model}"),
    ]
    assert models.list_endpoint in dialect.endpoints
    assert (dialect.key_field, dialect.key_prefix) == ("x-api-key", "")
    assert dialect.fixed_fields == {"anthropic-version": "2023-06-01"}
