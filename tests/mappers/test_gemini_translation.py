"""Gemini on one side of the engine and OpenAI's chat on the other, both ways, whole and streamed."""

from typing import Any

import orjson
import pytest

from mappers.gemini import chat, chat_stream
from mappers.openai.chat import endpoint as openai_chat
from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping.answers import AnswerTranslator
from mooltiproxy.mapping.attachments import Attachment, AttachmentsNeeded
from mooltiproxy.mapping.dialect import Endpoint
from mooltiproxy.mapping.framing import encode_sse
from mooltiproxy.mapping.neutral import NOWHERE, Asked
from mooltiproxy.mapping.translate import DialectTranslation, Translated

SSE = Asked(model="m1", query={"alt": "sse"})
ARRAY = Asked(model="m1")
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
CONTENTS = [
    {"role": "user", "parts": [{"text": "Weather?"}]},
    {"role": "model", "parts": [{"functionCall": {"name": "get", "args": {"city": "Rome"}}}]},
    {"role": "user", "parts": [{"functionResponse": {"name": "get", "response": {"result": "sunny"}}}]},
]
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Weather?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "c1",
                "type": "function",
                "function": {"name": "get", "arguments": '{"city": "Rome"}'},
                "extra_content": {"google": {"thought_signature": "c2ln"}},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
]


def asked(client: Endpoint, target: Endpoint, body: Any, where: Asked = NOWHERE) -> Translated:
    return DialectTranslation(client, target, {}, "").request(body, where)


def answered(translated: Translated, data: bytes, media_type: str = "application/json") -> bytes:
    translator = translated.answer(media_type, {})
    assert translator is not None
    return fed(translator, data)


def fed(translator: AnswerTranslator, data: bytes, size: int = 7) -> bytes:
    pieces = [translator.feed(data[at : at + size]) for at in range(0, len(data), size)]
    return b"".join([*pieces, translator.end()])


def events_of(stream: bytes) -> list[Any]:
    lines = [line.removeprefix(b"data: ") for line in stream.split(b"\n\n") if line]
    return [orjson.loads(line) for line in lines if line != b"[DONE]"]


def openai_stream() -> bytes:
    fragments: list[dict[str, Any]] = [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "Hm."},
        {"content": "Wait"},
        {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "get", "arguments": '{"city"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ': "Rome"}'}}]},
        {"tool_calls": [{"index": 1, "id": "c2", "function": {"name": "get", "arguments": "{}"}}]},
    ]
    chunks: list[Any] = [{"choices": [{"index": 0, "delta": delta}]} for delta in fragments]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    usage = {"prompt_tokens": 12, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 6}}
    chunks.append({"choices": [], "usage": usage})
    return b"".join(map(encode_sse, [*chunks, "[DONE]"]))


WRITTEN: list[list[dict[str, Any]]] = [
    [{"text": "Hm.", "thought": True}],
    [{"text": "Wait"}],
    [
        {"functionCall": {"id": "c1", "name": "get", "args": {"city": "Rome"}}},
        {"functionCall": {"id": "c2", "name": "get", "args": {}}},
    ],
]
COUNTS = {"promptTokenCount": 12, "candidatesTokenCount": 3, "thoughtsTokenCount": 6, "totalTokenCount": 21}


def check_written(events: list[Any]) -> None:
    assert [event["candidates"][0]["content"]["parts"] for event in events] == WRITTEN
    assert events[-1]["candidates"][0]["finishReason"] == "STOP"
    assert events[-1]["usageMetadata"] == COUNTS


def test_a_gemini_clients_request_reaches_a_chat_target() -> None:
    body = {
        "contents": CONTENTS,
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "tools": [{"functionDeclarations": [{"name": "get", "parameters": {"type": "OBJECT"}}]}],
        "generationConfig": {"maxOutputTokens": 5, "topK": 3},
        "safetySettings": [{}],
    }
    translated = asked(chat, openai_chat, body, ARRAY)
    sent = orjson.loads(translated.body)
    call = sent["messages"][2]["tool_calls"][0]
    assert [message["role"] for message in sent["messages"]] == ["system", "user", "assistant", "tool"]
    assert (call["function"]["name"], orjson.loads(call["function"]["arguments"])) == ("get", {"city": "Rome"})
    assert sent["messages"][3] == {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}
    assert (sent["model"], sent["max_tokens"], sent["tools"][0]["function"]["parameters"]) == (
        "m1",
        5,
        {"type": "object"},
    )
    assert translated.dropped == ("safetySettings",)


def test_a_gemini_client_streams_events_from_a_chat_target() -> None:
    translated = asked(chat_stream, openai_chat, {"contents": CONTENTS}, SSE)
    assert (translated.streaming, translated.keepalive) == (True, b"\n")
    check_written(events_of(answered(translated, openai_stream(), "text/event-stream")))


def test_a_gemini_client_streams_one_array_from_a_chat_target() -> None:
    translated = asked(chat_stream, openai_chat, {"contents": CONTENTS}, ARRAY)
    assert translated.media_type.startswith("application/json")
    check_written(orjson.loads(answered(translated, openai_stream(), "text/event-stream")))


def test_a_gemini_client_gets_a_stream_whole() -> None:
    translated = asked(chat, openai_chat, {"contents": CONTENTS}, ARRAY)
    whole = orjson.loads(answered(translated, openai_stream(), "text/event-stream"))
    assert whole["candidates"][0]["content"]["parts"] == [*WRITTEN[0], *WRITTEN[1], *WRITTEN[2]]
    assert whole["usageMetadata"] == COUNTS


def test_a_gemini_client_gets_a_whole_answer_as_a_stream() -> None:
    message = {"role": "assistant", "content": "Hi"}
    answer = orjson.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
    events = events_of(answered(asked(chat_stream, openai_chat, {"contents": CONTENTS}, SSE), answer))
    assert events[0]["candidates"][0]["content"]["parts"] == [{"text": "Hi"}]
    assert events[-1]["candidates"][0]["finishReason"] == "STOP"


def test_a_gemini_clients_stream_that_breaks_is_an_error_and_no_end() -> None:
    translated = asked(chat_stream, openai_chat, {"contents": CONTENTS}, ARRAY)
    translator = translated.answer("text/event-stream", {})
    assert translator is not None
    begun = translator.feed(openai_stream()[:400])
    with pytest.raises(UpstreamBroken):
        translator.end()
    ended = orjson.loads(begun + translator.fail({"error": {"code": 502}}))
    assert ended[-1] == {"error": {"code": 502}}
    assert all("finishReason" not in event["candidates"][0] for event in ended[:-1])


def test_a_chat_clients_request_reaches_a_gemini_target() -> None:
    body = {"model": "gemini-3-pro", "messages": MESSAGES, "max_tokens": 5, "seed": 1, "user": "me", "stream": True}
    translated = asked(openai_chat, chat, body)
    assert translated.path == "/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse"
    assert translated.dropped == ("user",)
    assert orjson.loads(translated.body) == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Weather?"}]},
            {
                "role": "model",
                "parts": [
                    {
                        "functionCall": {"id": "c1", "name": "get", "args": {"city": "Rome"}},
                        "thoughtSignature": "c2ln",
                    }
                ],
            },
            {
                "role": "user",
                "parts": [{"functionResponse": {"id": "c1", "name": "get", "response": {"result": "sunny"}}}],
            },
        ],
        "generationConfig": {"maxOutputTokens": 5, "seed": 1},
    }


GEMINI_PARTS: list[dict[str, Any]] = [
    {"text": "Hm.", "thought": True},
    {"text": "Wait"},
    {"functionCall": {"id": "c1", "name": "get", "args": {"city": "Rome"}}, "thoughtSignature": "c2ln"},
    {"functionCall": {"id": "c2", "name": "get", "args": {}}},
]


def gemini_events() -> list[Any]:
    events: list[Any] = [{"candidates": [{"content": {"role": "model", "parts": [part]}}]} for part in GEMINI_PARTS]
    return [*events, {"candidates": [{"finishReason": "STOP"}], "usageMetadata": COUNTS}]


def test_a_chat_client_streams_from_a_gemini_target() -> None:
    body = {"model": "m1", "messages": MESSAGES, "stream": True, "stream_options": {"include_usage": True}}
    data = b"".join(map(encode_sse, gemini_events()))
    chunks = events_of(answered(asked(openai_chat, chat, body), data, "text/event-stream"))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    calls = [fragment for delta in deltas for fragment in delta.get("tool_calls", ())]
    assert [delta["reasoning_content"] for delta in deltas if "reasoning_content" in delta] == ["Hm."]
    assert [delta["content"] for delta in deltas if delta.get("content")] == ["Wait"]
    assert [call["index"] for call in calls] == [0, 0, 1, 1]
    assert calls[0]["extra_content"] == {"google": {"thought_signature": "c2ln"}}
    assert calls[1]["function"]["arguments"] == '{"city":"Rome"}'
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert chunks[-1]["usage"]["completion_tokens"] == 9
    assert chunks[-1]["usage"]["completion_tokens_details"] == {"reasoning_tokens": 6}


@pytest.mark.parametrize("array", [False, True])
def test_a_chat_client_gets_a_whole_answer_from_a_gemini_target(array: bool) -> None:
    candidate = {"content": {"role": "model", "parts": GEMINI_PARTS}, "finishReason": "STOP"}
    given = gemini_events() if array else {"candidates": [candidate], "usageMetadata": COUNTS}
    translated = asked(openai_chat, chat, {"model": "m1", "messages": MESSAGES})
    answer = orjson.loads(answered(translated, orjson.dumps(given)))
    message = answer["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Wait", "Hm.")
    assert [call["id"] for call in message["tool_calls"]] == ["c1", "c2"]
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    assert answer["usage"]["total_tokens"] == 21


def shown(url: str) -> dict[str, Any]:
    image = {"type": "image_url", "image_url": {"url": url}}
    return {"model": "m1", "messages": [{"role": "user", "content": [image]}]}


def test_an_image_by_url_is_fetched_for_a_gemini_target() -> None:
    translation = DialectTranslation(openai_chat, chat, {}, "")
    url = "https://example.com/a.png"
    with pytest.raises(AttachmentsNeeded) as caught:
        translation.request(shown(url), NOWHERE)
    assert caught.value.urls == (url,)
    fetched = {url: Attachment("image/png", "iVBORw0KGgo=")}
    sent = orjson.loads(translation.request(shown(url), NOWHERE, fetched).body)
    assert sent["contents"][0]["parts"] == [{"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}]


def test_a_file_at_google_is_not_fetched() -> None:
    url = "https://generativelanguage.googleapis.com/v1beta/files/abc"
    sent = orjson.loads(asked(openai_chat, chat, shown(url)).body)
    assert sent["contents"][0]["parts"] == [{"fileData": {"fileUri": url}}]


def test_a_chat_clients_stream_breaks_where_a_gemini_target_reports_an_error() -> None:
    translated = asked(openai_chat, chat, {"model": "m1", "messages": MESSAGES, "stream": True})
    translator = translated.answer("text/event-stream", {})
    assert translator is not None
    error = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    with pytest.raises(UpstreamBroken, match="overloaded") as caught:
        fed(translator, b"".join(map(encode_sse, [gemini_events()[1], error])))
    assert caught.value.status == 503
