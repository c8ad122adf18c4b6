"""Ollama's API in front of OpenAI's and behind it, through the engine that serves requests."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from mappers.ollama import chat, dialect, embed, generate, models
from mappers.openai import dialect as openai
from mooltiproxy.config.load import from_data
from mooltiproxy.errors import UpstreamError
from mooltiproxy.mapping.dialect import Endpoint
from mooltiproxy.mapping.framing import encode_ndjson, encode_sse
from mooltiproxy.mapping.neutral import NOWHERE, Asked
from mooltiproxy.mapping.translate import DialectTranslation, Translated

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "description": "Weather", "parameters": SCHEMA}}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
QUESTION = {"role": "user", "content": "Weather in Paris and Rome?"}
SSE = "text/event-stream"
NDJSON = "application/x-ndjson"
JSON = "application/json"


def endpoint_of(path: str) -> Endpoint:
    return next(endpoint for endpoint in openai.endpoints if path in endpoint.paths)


OPENAI_CHAT, OPENAI_TEXT = endpoint_of("/v1/chat/completions"), endpoint_of("/v1/completions")


def in_front(body: dict[str, Any], client: Endpoint = chat.endpoint, target: Endpoint = OPENAI_CHAT) -> Translated:
    return DialectTranslation(client, target, {}, "").request({"model": "m1", **body}, NOWHERE)


def behind(body: dict[str, Any], client: Endpoint = OPENAI_CHAT, target: Endpoint = chat.endpoint) -> Translated:
    return DialectTranslation(client, target, {}, "").request({"model": "m1", **body}, NOWHERE)


def sent(translated: Translated) -> Any:
    return orjson.loads(translated.body)


def answered(translated: Translated, data: bytes, media_type: str) -> bytes:
    answer = translated.answer(media_type, {})
    assert answer is not None
    return answer.feed(data) + answer.end()


def lines(data: bytes) -> list[Any]:
    return [orjson.loads(line) for line in data.splitlines()]


def chunks(data: bytes) -> list[Any]:
    events = [event.removeprefix(b"data: ") for event in data.split(b"\n\n") if event]
    assert events.pop() == b"[DONE]"
    return [orjson.loads(event) for event in events]


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return encode_sse({"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def fragment(index: int, arguments: str, **first: Any) -> bytes:
    function = {"arguments": arguments, **({"name": "weather"} if first else {})}
    return chunk({"tool_calls": [{"index": index, **first, "function": function}]})


USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
SSE_END = encode_sse({"choices": [], "usage": USAGE}) + encode_sse("[DONE]")
STREAMED_CALLS = (
    chunk({"role": "assistant", "content": "", "reasoning_content": "Look."})
    + fragment(0, "", id="call_a")
    + fragment(0, '{"city":')
    + fragment(0, '"Paris"}')
    + fragment(1, '{"city":"Rome"}', id="call_b")
    + chunk({}, "tool_calls")
    + SSE_END
)


def test_a_whole_conversation_with_tools_reaches_openai() -> None:
    calls = [{"function": {"name": "weather", "arguments": {"city": city}}} for city in ("Paris", "Rome")]
    messages = [
        {"role": "user", "content": "What is this?", "images": [PNG]},
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "tool_name": "weather", "content": "20"},
        {"role": "tool", "tool_name": "weather", "content": "30"},
    ]
    body = sent(in_front({"messages": messages, "tools": [TOOL], "stream": False}))
    ids = [call["id"] for call in body["messages"][1]["tool_calls"]]
    assert [message["tool_call_id"] for message in body["messages"][2:]] == ids
    assert body["tools"] == [TOOL]
    assert body["messages"][0]["content"][0] == {
        "type": "image_url",
        "image_url": {"url": f"data:image/png;base64,{PNG}"},
    }
    assert body["messages"][1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Paris"}'}


def test_options_format_and_think_reach_openai_and_the_rest_is_named() -> None:
    options = {"num_predict": 64, "temperature": 0.5, "repeat_penalty": 1.1, "seed": 7, "stop": ["END"], "num_ctx": 512}
    translated = in_front(
        {
            "messages": [QUESTION],
            "options": options,
            "format": SCHEMA,
            "think": "low",
            "keep_alive": "5m",
            "shift": True,
        }
    )
    body = sent(translated)
    assert (body["max_tokens"], body["temperature"], body["repetition_penalty"]) == (64, 0.5, 1.1)
    assert (body["seed"], body["stop"], body["reasoning_effort"]) == (7, ["END"], "low")
    assert body["response_format"]["json_schema"]["schema"] == SCHEMA
    assert body["stream"] is True
    assert sorted(translated.dropped) == ["keep_alive", "options.num_ctx", "shift"]


def test_openais_stream_of_calls_becomes_lines() -> None:
    translated = in_front({"messages": [QUESTION], "tools": [TOOL]})
    assert translated.keepalive == b""
    assert translated.media_type == "application/x-ndjson"
    messages = [line["message"] for line in lines(answered(translated, STREAMED_CALLS, SSE))]
    assert messages[0] == {"role": "assistant", "content": "", "thinking": "Look."}
    assert [call["function"]["arguments"] for message in messages for call in message.get("tool_calls", ())] == [
        {"city": "Paris"},
        {"city": "Rome"},
    ]


def test_the_last_line_holds_openais_usage() -> None:
    last = lines(answered(in_front({"messages": [QUESTION]}), STREAMED_CALLS, SSE))[-1]
    assert (last["done"], last["done_reason"]) == (True, "stop")
    assert (last["prompt_eval_count"], last["eval_count"]) == (12, 3)


def test_openais_stream_cut_anywhere_becomes_the_same_lines() -> None:
    def content(data: bytes) -> list[Any]:
        return [(line["message"], line["done"]) for line in lines(data)]

    expected = content(answered(in_front({"messages": [QUESTION]}), STREAMED_CALLS, SSE))
    for cut in range(1, len(STREAMED_CALLS), 7):
        answer = in_front({"messages": [QUESTION]}).answer(SSE, {})
        assert answer is not None
        data = answer.feed(STREAMED_CALLS[:cut]) + answer.feed(STREAMED_CALLS[cut:]) + answer.end()
        assert content(data) == expected


def test_openais_whole_answer_becomes_one_object() -> None:
    message = {"role": "assistant", "content": "Hi", "reasoning_content": "Greet."}
    whole = orjson.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "length"}], "usage": USAGE})
    (body,) = lines(answered(in_front({"messages": [QUESTION], "stream": False}), whole, JSON))
    assert body["message"] == {"role": "assistant", "content": "Hi", "thinking": "Greet."}
    assert (body["model"], body["done"], body["done_reason"]) == ("m1", True, "length")


def test_an_empty_answer_is_one_line() -> None:
    data = chunk({"role": "assistant", "content": ""}) + chunk({}, "stop") + encode_sse("[DONE]")
    (line,) = lines(answered(in_front({"messages": [QUESTION]}), data, SSE))
    assert (line["message"]["content"], line["done"]) == ("", True)


def test_a_stream_that_openai_breaks_off_is_an_error() -> None:
    answer = in_front({"messages": [QUESTION]}).answer(SSE, {})
    assert answer is not None
    assert answer.live
    answer.feed(chunk({"content": "Hi"}))
    with pytest.raises(UpstreamError):
        answer.feed(encode_sse({"error": {"message": "it died"}}))
    assert answer.fail(dialect.write_stream_error(UpstreamError("it died"), "id")) == b'{"error":"it died"}\n'


def test_a_raw_prompt_reaches_openais_completions() -> None:
    translated = in_front({"prompt": "Once upon", "raw": True}, generate.endpoint, OPENAI_TEXT)
    assert sent(translated)["prompt"] == "Once upon"
    data = encode_sse({"choices": [{"index": 0, "text": " a time", "finish_reason": "stop"}]}) + encode_sse("[DONE]")
    assert [line["response"] for line in lines(answered(translated, data, SSE))] == [" a time", ""]


def test_a_prompt_with_a_suffix_reaches_openais_completions() -> None:
    body = sent(in_front({"prompt": "def f(", "suffix": "return"}, generate.endpoint, OPENAI_TEXT))
    assert (body["prompt"], body["suffix"]) == ("def f(", "return")


def test_a_plain_prompt_is_asked_at_the_targets_chat(tmp_path: Path) -> None:
    target = {"url": "http://127.0.0.1:1", "speaks": "openai"}
    config = from_data({"targets": {"default": "one", "one": target}}, tmp_path, {"MOOLTIPROXY_KEY": "k"})
    entry = config.targets["one"].mapping["/api/generate"]
    assert entry.translation is not None
    assert entry.path == "/v1/completions"
    talk = entry.translation.request({"model": "m1", "prompt": "Hello", "system": "Be brief."}, NOWHERE)
    assert talk.path == "/v1/chat/completions"
    assert sent(talk)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
    ]
    data = chunk({"content": "Hi"}) + chunk({}, "stop") + encode_sse("[DONE]")
    assert [line["response"] for line in lines(answered(talk, data, SSE))] == ["Hi", ""]
    raw = entry.translation.request({"model": "m1", "prompt": "Hello", "raw": True}, NOWHERE)
    assert raw.path is None
    assert sent(raw)["prompt"] == "Hello"


def test_openais_conversation_reaches_ollama() -> None:
    translated = behind(
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "What?"}, image(f"data:image/png;base64,{PNG}")]},
                {"role": "assistant", "content": None, "tool_calls": [call("call_a", '{"city": "Paris"}')]},
                {"role": "tool", "tool_call_id": "call_a", "content": "20"},
            ],
            "tools": [TOOL],
            "max_completion_tokens": 5,
            "user": "u",
            "store": True,
        }
    )
    assert sent(translated) == {
        "model": "m1",
        "messages": [
            {"role": "user", "content": "What?", "images": [PNG]},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {"id": "call_a", "function": {"index": 0, "name": "weather", "arguments": {"city": "Paris"}}}
                ],
            },
            {"role": "tool", "tool_name": "weather", "tool_call_id": "call_a", "content": "20"},
        ],
        "tools": [TOOL],
        "stream": False,
        "options": {"temperature": 1.0, "top_p": 1.0, "num_predict": 5},
    }
    assert sorted(translated.dropped) == ["store", "user"]


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def call(identifier: str, arguments: str) -> dict[str, Any]:
    return {"id": identifier, "type": "function", "function": {"name": "weather", "arguments": arguments}}


def line(message: dict[str, Any], **more: Any) -> bytes:
    return encode_ndjson({"model": "m1", "message": {"role": "assistant", **message}, "done": False, **more})


def ollama_call(city: str, **more: Any) -> dict[str, Any]:
    return {**more, "function": {"name": "weather", "arguments": {"city": city}}}


LINES = (
    line({"content": "", "thinking": "Look."})
    + line({"content": "", "tool_calls": [ollama_call("Paris", id="call_a")]})
    + line({"content": "", "tool_calls": [ollama_call("Rome")]})
    + line({"content": ""}, done=True, done_reason="stop", prompt_eval_count=12, eval_count=3)
)


def test_ollamas_lines_become_openais_chunks() -> None:
    body = {"messages": [QUESTION], "stream": True, "stream_options": {"include_usage": True}}
    made = chunks(answered(behind(body), LINES, NDJSON))
    assert made[-1]["usage"] == USAGE
    choices = [one["choices"][0] for one in made if one["choices"]]
    assert choices[-1]["finish_reason"] == "tool_calls"
    fragments = [one for choice in choices for one in choice["delta"].get("tool_calls", ())]
    assert [one["id"] for one in fragments if "id" in one][0] == "call_a"
    assert [one["function"]["arguments"] for one in fragments if one["function"]["arguments"]] == [
        '{"city":"Paris"}',
        '{"city":"Rome"}',
    ]


def test_ollamas_lines_are_gathered_for_a_client_that_wants_no_stream() -> None:
    body = orjson.loads(answered(behind({"messages": [QUESTION]}), LINES, NDJSON))
    assert body["choices"][0]["finish_reason"] == "tool_calls"
    assert len(body["choices"][0]["message"]["tool_calls"]) == 2
    assert body["usage"] == USAGE


def test_ollamas_whole_answer_becomes_openais() -> None:
    whole = line({"content": "Hi"}, done=True, done_reason="length", prompt_eval_count=12, eval_count=3)
    body = orjson.loads(answered(behind({"messages": [QUESTION]}), whole, JSON))
    assert body["choices"][0]["message"]["content"] == "Hi"
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"] == USAGE


def test_an_error_line_of_ollama_is_an_error() -> None:
    answer = behind({"messages": [QUESTION], "stream": True}).answer(NDJSON, {})
    assert answer is not None
    with pytest.raises(UpstreamError, match="it died"):
        answer.feed(encode_ndjson({"error": "it died"}))


def test_openais_completions_reach_generate() -> None:
    translated = behind({"prompt": "Once upon", "echo": True}, OPENAI_TEXT, generate.endpoint)
    body = sent(translated)
    assert (body["prompt"], body["raw"], body["options"]["num_predict"]) == ("Once upon", True, 16)
    answer = orjson.dumps({"model": "m1", "response": " a time", "done": True, "done_reason": "stop"})
    assert orjson.loads(answered(translated, answer, JSON))["choices"][0]["text"] == "Once upon a time"


def test_the_old_endpoint_of_embeddings_is_answered_by_the_new_one() -> None:
    translation = DialectTranslation(embed.old_endpoint, embed.endpoint, {}, "")
    translated = translation.request({"model": "m1", "prompt": "a"}, NOWHERE)
    assert sent(translated) == {"model": "m1", "input": ["a"]}
    assert answered(translated, b'{"embeddings": [[0.5]]}', JSON) == b'{"embedding":[0.5]}'


def test_show_is_answered_from_a_list_of_models() -> None:
    translation = DialectTranslation(models.show_endpoint, models.tags_endpoint, {}, "")
    translated = translation.request({"model": "m1"}, Asked("/api/show"))
    assert (translated.method, translated.body) == ("GET", b"")
    body = orjson.loads(answered(translated, b'{"models": [{"name": "m1:latest", "model": "m1:latest"}]}', JSON))
    assert body["capabilities"] == ["completion", "tools"]
