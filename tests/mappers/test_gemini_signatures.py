"""What a vendor wants back goes through clients of other APIs, and to nobody but its vendor."""

from typing import Any

import orjson
import pytest

from mappers.anthropic.messages import endpoint as messages
from mappers.gemini import chat as gemini
from mappers.openai.chat import endpoint as openai_chat
from mappers.openai.responses import endpoint as responses
from mooltiproxy.mapping.dialect import Endpoint
from mooltiproxy.mapping.framing import SSEDecoder, encode_named_sse, encode_sse
from mooltiproxy.mapping.neutral import NOWHERE, Asked
from mooltiproxy.mapping.translate import DialectTranslation, Translated

CALL = {"functionCall": {"id": "c1", "name": "get", "args": {"city": "Rome"}}, "thoughtSignature": "Y2FsbA=="}
SECOND = {"functionCall": {"id": "c2", "name": "get", "args": {"city": "Oslo"}}}
MODEL = "gemini-3-pro"


def translated(client: Endpoint, target: Endpoint, body: dict[str, Any], asked: Asked = NOWHERE) -> Translated:
    return DialectTranslation(client, target, {}, "").request(body, asked)


def sent(client: Endpoint, target: Endpoint, body: dict[str, Any], asked: Asked = NOWHERE) -> dict[str, Any]:
    return orjson.loads(translated(client, target, body, asked).body)  # type: ignore[no-any-return]


def parts_sent(client: Endpoint, body: dict[str, Any]) -> list[dict[str, Any]]:
    """What the model said, as a Gemini target gets it again."""
    contents = sent(client, gemini, body)["contents"]
    return [part for content in contents if content["role"] == "model" for part in content["parts"]]


def answered(client: Endpoint, body: dict[str, Any], parts: list[dict[str, Any]]) -> list[Any]:
    """The client's whole answer, or the events of its stream, where a Gemini target answers with these parts."""
    told = translated(client, gemini, body)
    if not body.get("stream"):
        candidate = {"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}
        translator = told.answer("application/json", {})
        assert translator is not None
        return [orjson.loads(translator.feed(orjson.dumps({"candidates": [candidate]})) + translator.end())]
    translator = told.answer("text/event-stream", {})
    assert translator is not None
    events: list[Any] = [{"candidates": [{"content": {"role": "model", "parts": [part]}}]} for part in parts]
    events.append({"candidates": [{"finishReason": "STOP"}]})
    decoder = SSEDecoder()
    data = b"".join(translator.feed(encode_sse(event)) for event in events) + translator.end()
    return [orjson.loads(event) for event in decoder.feed(data)]


def blocks_of(events: list[Any]) -> list[dict[str, Any]]:
    """The content of a message, put together as Anthropic's SDKs do."""
    if "content" in events[0]:
        return list(events[0]["content"])
    blocks: list[dict[str, Any]] = []
    for event in events:
        delta = event.get("delta", {})
        if event["type"] == "content_block_start":
            blocks.append(dict(event["content_block"]))
        elif delta.get("type") == "input_json_delta":
            blocks[-1]["input"] = orjson.loads(delta["partial_json"])
        elif event["type"] == "content_block_delta":
            name = delta["type"].removesuffix("_delta")
            blocks[-1][name] = blocks[-1].get(name, "") + delta[name]
    return blocks


def messages_body(stream: bool, said: list[Any] | None = None) -> dict[str, Any]:
    asked: list[Any] = [{"role": "user", "content": "Weather?"}]
    if said is not None:
        calls = [block["id"] for block in said if block["type"] == "tool_use"]
        results = [{"type": "tool_result", "tool_use_id": call, "content": "sunny"} for call in calls]
        asked += [{"role": "assistant", "content": said}, {"role": "user", "content": results or "Go on."}]
    return {"model": MODEL, "max_tokens": 9, "messages": asked, "stream": stream}


def responses_body(stream: bool, said: list[Any] | None = None) -> dict[str, Any]:
    calls = [item["call_id"] for item in said or () if item["type"] == "function_call"]
    results = [{"type": "function_call_output", "call_id": call, "output": "sunny"} for call in calls]
    asked = [{"role": "user", "content": "Weather?"}, *(said or ()), *results]
    return {"model": MODEL, "input": asked, "stream": stream}


STREAMED = pytest.mark.parametrize("stream", [False, True])
THOUGHTS = pytest.mark.parametrize("thoughts", [[], [{"text": "Hm.", "thought": True}]])


@STREAMED
@THOUGHTS
def test_the_signature_of_a_call_goes_through_an_anthropic_client(stream: bool, thoughts: list[dict[str, Any]]) -> None:
    said = blocks_of(answered(messages, messages_body(stream), [*thoughts, CALL, SECOND]))
    assert [block["type"] for block in said] == ["thinking", "tool_use", "tool_use"]
    assert parts_sent(messages, messages_body(stream, said)) == [*thoughts, CALL, SECOND]


@STREAMED
def test_a_text_between_a_thought_and_a_call_keeps_its_place(stream: bool) -> None:
    parts: list[dict[str, Any]] = [{"text": "Hm.", "thought": True}, {"text": "I look."}, CALL]
    said = blocks_of(answered(messages, messages_body(stream), parts))
    assert [block["type"] for block in said] == ["thinking", "text", "thinking", "tool_use"]
    assert parts_sent(messages, messages_body(stream, said)) == parts


@STREAMED
def test_the_last_block_of_an_anthropic_client_is_the_text_that_it_takes_for_the_answer(stream: bool) -> None:
    said = blocks_of(answered(messages, messages_body(stream), [{"text": "Hi", "thoughtSignature": "dGV4dA=="}]))
    assert said == [{"type": "text", "text": "Hi"}]


@STREAMED
@THOUGHTS
def test_signatures_go_through_a_client_of_responses(stream: bool, thoughts: list[dict[str, Any]]) -> None:
    parts = [*thoughts, {"text": "I look.", "thoughtSignature": "dGV4dA=="}, CALL, SECOND]
    last = answered(responses, responses_body(stream), parts)[-1]
    said = last["response"]["output"] if stream else last["output"]
    assert parts_sent(responses, responses_body(stream, said)) == parts


@STREAMED
def test_the_signature_of_a_text_may_come_behind_it(stream: bool) -> None:
    parts = [{"text": "I "}, {"text": "look."}, {"text": "", "thoughtSignature": "dGV4dA=="}]
    last = answered(responses, responses_body(stream), parts)[-1]
    said = last["response"]["output"] if stream else last["output"]
    again = parts_sent(responses, responses_body(stream, said))
    assert again == [{"text": "I look.", "thoughtSignature": "dGV4dA=="}]


def test_what_gemini_signed_is_not_sent_to_another_target() -> None:
    said = answered(responses, responses_body(False), [{"text": "Hm.", "thought": True}, CALL])[-1]["output"]
    for target in (messages, openai_chat):
        told = translated(responses, target, responses_body(False, said))
        assert {"messages.reasoning_content", "messages.tool_calls.signature"} <= set(told.dropped)
        assert b"Y2FsbA" not in told.body and b"mooltiproxy" not in told.body


def test_a_thought_of_anthropic_goes_back_to_it_through_a_client_of_gemini_and_to_nobody_else() -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
    content = [thought, {"type": "redacted_thinking", "data": "b3BhcXVl"}, {"type": "text", "text": "Hi"}]
    question = {"role": "user", "parts": [{"text": "Weather?"}]}
    translator = translated(gemini, messages, {"contents": [question]}, Asked(model="claude-opus-4-5")).answer(
        "application/json", {}
    )
    assert translator is not None
    answer = {"type": "message", "content": content, "stop_reason": "end_turn"}
    told = orjson.loads(translator.feed(orjson.dumps(answer)) + translator.end())
    said = told["candidates"][0]["content"]
    history = {"contents": [question, said, question]}
    assert sent(gemini, messages, history, Asked(model="m1"))["messages"][1]["content"] == content
    foreign = translated(gemini, responses, history, Asked(model="m1"))
    assert (
        "messages.reasoning_content" in foreign.dropped
        and b"c2ln" not in foreign.body
        and b"b3BhcXVl" not in foreign.body
    )


def test_a_thought_of_openai_goes_back_to_it_through_an_anthropic_client_and_to_nobody_else() -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "ENC"}
    call = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "get", "arguments": "{}"}
    ended = {"type": "response.completed", "response": {"status": "completed", "output": [thought, call]}}
    translator = translated(messages, responses, messages_body(True)).answer("text/event-stream", {})
    assert translator is not None
    data = translator.feed(encode_named_sse(ended)) + translator.end()
    said = blocks_of([orjson.loads(event) for event in SSEDecoder().feed(data)])
    items = sent(messages, responses, messages_body(False, said))["input"]
    assert {key: items[1][key] for key in thought} == thought
    foreign = translated(messages, gemini, messages_body(False, said))
    assert "messages.signature" in foreign.dropped and b"ENC" not in foreign.body
