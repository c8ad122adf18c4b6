from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mappers.openai import chat, dialect, responses
from mappers.openai.responses_reader import ResponseReader
from mappers.openai.responses_writer import ResponseWriter
from mooltiproxy.errors import BadRequest, ProxyError, UpstreamBroken, UpstreamError
from mooltiproxy.mapping.framing import SSEDecoder, encode_named_sse, parse_event
from mooltiproxy.mapping.gather import answer_of, stream_of
from mooltiproxy.mapping.neutral import (
    NOWHERE,
    Answer,
    CallArguments,
    CallStart,
    Choice,
    Failure,
    Finish,
    Part,
    Reasoning,
    ReasoningDelta,
    ReasoningOptions,
    Refusal,
    RefusalDelta,
    Request,
    Sampling,
    StreamEvent,
    Text,
    TextDelta,
    TokenProbability,
    ToolCall,
    Usage,
    UsageReport,
)
from mooltiproxy.mapping.signatures import ANTHROPIC, OPENAI, mark
from mooltiproxy.mapping.translate import DialectTranslation

USAGE = {
    "input_tokens": 12,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 6},
    "total_tokens": 21,
}
NEUTRAL_USAGE = Usage(prompt=12, answer=9, cached=4, cache_written=1, reasoning=6)
STOP = Finish("stop")


def message(text: str) -> dict[str, Any]:
    return {"id": "msg_1", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def function(name: str, arguments: str = "{}") -> dict[str, Any]:
    return {"id": f"fc_{name}", "type": "function_call", "call_id": name, "name": "f", "arguments": arguments}


def response(*output: dict[str, Any], status: str = "completed", **fields: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "model": "up", "status": status, "output": list(output), **fields}


def ended(*output: dict[str, Any], status: str = "completed", **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{status}", "response": response(*output, status=status, **fields)}


def added(index: int, item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def done(index: int, item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def delta(kind: str, text: str, index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}.delta", "output_index": index, "delta": text, **fields}


def read(*events: Any, request: Request | None = None) -> list[StreamEvent]:
    reader = ResponseReader(request or Request())
    return [*(neutral for event in events for neutral in reader.read(event)), *reader.end()]


def write(events: Sequence[StreamEvent], request: Request | None = None) -> list[Any]:
    writer = ResponseWriter(request or Request(model="m1"))
    return [*writer.write(events), *writer.end()]


def kinds(events: list[Any]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def test_text_is_read_from_its_deltas() -> None:
    assert read(
        {"type": "response.created", "response": {}},
        added(0, message("")),
        delta("output_text", "Hi"),
        delta("output_text", " there"),
        {"type": "response.output_text.done", "output_index": 0, "text": "Hi there"},
        done(0, message("Hi there")),
        ended(message("Hi there"), usage=USAGE),
    ) == [TextDelta("Hi"), TextDelta(" there"), STOP, UsageReport(NEUTRAL_USAGE)]


def test_what_came_without_deltas_is_read_from_the_end() -> None:
    assert read(delta("output_text", "Hi"), ended(message("Hi there"), function("a"))) == [
        TextDelta("Hi"),
        TextDelta(" there"),
        CallStart(0, "a", "f"),
        CallArguments(0, "{}"),
        Finish("tool_calls"),
    ]


def test_two_calls_are_read() -> None:
    first, second = function("a", '{"x":1}'), function("b", '{"y":2}')
    assert read(
        added(0, function("a", "")),
        delta("function_call_arguments", '{"x"', 0),
        delta("function_call_arguments", ":1}", 0),
        done(0, first),
        added(1, function("b", "")),
        done(1, second),
        ended(first, second),
    ) == [
        CallStart(0, "a", "f"),
        CallArguments(0, '{"x"'),
        CallArguments(0, ":1}"),
        CallStart(1, "b", "f"),
        CallArguments(1, '{"y":2}'),
        Finish("tool_calls"),
    ]


def test_a_call_without_a_name_breaks_the_answer() -> None:
    with pytest.raises(UpstreamBroken):
        read(added(0, {"type": "function_call", "call_id": "a"}))


def thought(**fields: Any) -> dict[str, Any]:
    return {"id": "rs_1", "type": "reasoning", "summary": [], **fields}


def test_a_summary_is_read_part_by_part_with_the_state_behind_it() -> None:
    summary = [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}]
    whole = thought(summary=summary, encrypted_content="ENC")
    assert read(
        delta("reasoning_summary_text", "a", summary_index=0),
        delta("reasoning_summary_text", "b", summary_index=1),
        done(0, whole),
        ended(whole),
    ) == [ReasoningDelta("a"), ReasoningDelta("\n\nb"), ReasoningDelta("", mark(OPENAI, "rs_1:ENC")), STOP]


def test_raw_thoughts_are_read_once_where_a_summary_follows() -> None:
    whole = thought(content=[{"type": "reasoning_text", "text": "raw"}], summary=[{"text": "short"}])
    assert read(
        delta("reasoning_text", "raw", content_index=0),
        delta("reasoning_summary_text", "short", summary_index=0),
        ended(whole),
    ) == [ReasoningDelta("raw"), STOP]


def test_a_refusal_is_read() -> None:
    item = {"type": "message", "content": [{"type": "refusal", "refusal": "I won't"}]}
    assert read(delta("refusal", "I"), ended(item)) == [RefusalDelta("I"), RefusalDelta(" won't"), STOP]


def test_probabilities_are_read() -> None:
    logprobs = [{"token": "Hi", "logprob": -0.5, "top_logprobs": [{"token": "Ho", "logprob": -2}]}]
    assert read(delta("output_text", "Hi", logprobs=logprobs), ended())[0] == TextDelta(
        "Hi", 0, [TokenProbability("Hi", -0.5, (("Ho", -2.0),))]
    )


@pytest.mark.parametrize(
    ("details", "reason"),
    [({"reason": "max_output_tokens"}, "length"), ({"reason": "content_filter"}, "content_filter"), (None, "length")],
)
def test_an_incomplete_answer_says_why(details: Any, reason: Any) -> None:
    assert read(ended(status="incomplete", incomplete_details=details)) == [Finish(reason)]


def test_the_answer_is_cut_at_a_stop_string_and_nobody_waits_for_more() -> None:
    reader = ResponseReader(Request(sampling=Sampling(stop=("END",))))
    assert reader.read(delta("output_text", "one E")) == [TextDelta("one ")]
    assert reader.read(delta("output_text", "ND two")) == [Finish("stop", "END")]
    assert reader.done
    assert reader.read(delta("output_text", "three")) == []
    assert reader.end() == []


def test_what_was_held_back_for_a_stop_string_comes_at_the_end() -> None:
    request = Request(sampling=Sampling(stop=("END",)))
    assert read(delta("output_text", "one E"), ended(message("one E")), request=request) == [
        TextDelta("one "),
        TextDelta("E"),
        STOP,
    ]


@pytest.mark.parametrize(
    ("event", "failure"),
    [
        (ended(status="failed", error={"code": "server_error", "message": "died"}), ("died", 502, "server_error")),
        (
            ended(status="failed", error={"code": "rate_limit_exceeded", "message": "slow"}),
            ("slow", 429, "rate_limit_exceeded"),
        ),
        ({"type": "error", "code": None, "message": "flat", "param": None}, ("flat", 502, None)),
        ({"type": "error", "error": {"type": "server_error", "message": "nested"}}, ("nested", 500, None)),
        ({"error": {"message": "bare", "code": 503}}, ("bare", 503, None)),
        (ended(status="failed", error=None), ("the target failed without saying why", 502, None)),
        (ended(status="cancelled"), ("the target failed without saying why", 502, None)),
    ],
)
def test_a_failure_is_read_in_every_form(event: Any, failure: tuple[str, int, str | None]) -> None:
    assert read(event) == [Failure(*failure)]


def test_a_stream_without_an_end_is_a_failure() -> None:
    assert isinstance(read(delta("output_text", "Hi"))[-1], Failure)


def test_unknown_events_and_an_end_mark_are_passed_over() -> None:
    assert read("[DONE]", {"type": "response.web_search_call.searching"}, 7, ended(message("x"))) == [
        TextDelta("x"),
        STOP,
    ]


def test_a_whole_answer_is_read() -> None:
    answer = responses.read_answer(
        response(thought(summary=[{"text": "hm"}]), message("Hi"), function("a"), usage=USAGE), Request()
    )
    parts: list[Part] = [Reasoning("hm"), Text("Hi"), ToolCall("a", "f", "{}")]
    assert answer == Answer([Choice(parts, "tool_calls")], NEUTRAL_USAGE, "up")


def test_a_whole_answer_is_cut_at_a_stop_string() -> None:
    request = Request(sampling=Sampling(stop=("END",)))
    answer = responses.read_answer(response(message("one END two"), function("a")), request)
    assert answer.choices == [Choice([Text("one ")], "stop", "END")]


def test_an_answer_without_a_status_counts_as_complete() -> None:
    answer = responses.read_answer({"output": [message("Hi")]}, Request())
    assert answer.choices == [Choice([Text("Hi")], "stop")]


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"choices": []},
        response(status="in_progress"),
        response(status="failed", error={"message": "x"}),
        {"error": {"message": "no"}},
    ],
)
def test_what_is_no_finished_response_breaks_the_answer(body: Any) -> None:
    with pytest.raises(UpstreamBroken):
        responses.read_answer(body, Request())


def test_text_is_written_in_the_one_legal_order() -> None:
    events = write([TextDelta("Hi"), TextDelta(" there"), STOP, UsageReport(NEUTRAL_USAGE)])
    assert kinds(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in events] == list(range(10))
    assert events[0]["response"]["status"] == "in_progress"
    assert events[0]["response"]["usage"] is None
    assert {event["item_id"] for event in events if "item_id" in event} == {events[2]["item"]["id"]}
    whole = events[-1]["response"]
    assert whole["id"] == events[0]["response"]["id"]
    assert whole["status"] == "completed"
    assert whole["usage"] == USAGE
    assert whole["output"] == [events[-2]["item"]]
    assert whole["output"][0]["content"] == [
        {"type": "output_text", "text": "Hi there", "annotations": [], "logprobs": []}
    ]


def test_the_response_begins_before_there_is_anything_to_say() -> None:
    writer = ResponseWriter(Request())
    assert kinds(writer.write([])) == ["created", "in_progress"]
    assert kinds(writer.write([])) == []


def test_calls_are_written_one_after_the_other_even_where_they_were_interleaved() -> None:
    events = write(
        [
            CallStart(0, "a", "f"),
            CallStart(1, "b", "g"),
            CallArguments(1, '{"y":'),
            CallArguments(0, '{"x":1}'),
            CallArguments(1, "2}"),
            Finish("tool_calls"),
        ]
    )
    one = ["output_item.added", "function_call_arguments.delta"]
    end = ["function_call_arguments.done", "output_item.done"]
    assert kinds(events)[2:-1] == [*one, *end, *one, one[1], *end]
    output = events[-1]["response"]["output"]
    assert [(item["call_id"], item["name"], item["arguments"]) for item in output] == [
        ("a", "f", '{"x":1}'),
        ("b", "g", '{"y":2}'),
    ]
    assert [event["output_index"] for event in events if event["type"].endswith("item.added")] == [0, 1]
    assert events[-1]["response"]["status"] == "completed"


def test_a_call_without_arguments_has_an_empty_object() -> None:
    events = write([CallStart(0, "a", "f"), Finish("tool_calls")])
    assert kinds(events)[3:5] == ["function_call_arguments.delta", "function_call_arguments.done"]
    assert events[4]["arguments"] == "{}"


def test_signatures_of_gemini_are_carried_by_thoughts() -> None:
    said: list[StreamEvent] = [TextDelta("Hi"), TextDelta("", signature="SIG1")]
    calls: list[StreamEvent] = [CallStart(0, "a", "f", signature="SIG2"), CallStart(1, "b", "f"), Finish("tool_calls")]
    output = write([ReasoningDelta("hm"), *said, *calls])[-1]["response"]["output"]
    assert [(item["type"], item.get("encrypted_content")) for item in output] == [
        ("reasoning", None),
        ("message", None),
        ("reasoning", "mooltiproxy:gemini.text:SIG1"),
        ("reasoning", "mooltiproxy:gemini.call:SIG2"),
        ("function_call", None),
        ("function_call", None),
    ]


def test_thoughts_are_a_summary_for_clients_that_ask_for_one() -> None:
    request = Request(reasoning=ReasoningOptions(show=True))
    events = write([ReasoningDelta("hm"), TextDelta("x"), STOP], request)
    assert kinds(events)[2:7] == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
    ]
    item = events[-1]["response"]["output"][0]
    assert item["summary"] == [{"type": "summary_text", "text": "hm"}]
    assert "content" not in item


def test_thoughts_are_the_models_own_text_for_others() -> None:
    events = write([ReasoningDelta("hm"), STOP])
    assert kinds(events)[3:6] == ["content_part.added", "reasoning_text.delta", "reasoning_text.done"]
    item = events[-1]["response"]["output"][0]
    assert item["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert item["summary"] == []


def test_opaque_state_ends_a_thought_and_is_read_again() -> None:
    thoughts = [
        ReasoningDelta("a"),
        ReasoningDelta("", mark(ANTHROPIC, "SIG")),
        ReasoningDelta("b", mark(OPENAI, "ENC")),
    ]
    output = write([*thoughts, STOP])[-1]["response"]["output"]
    assert [item["encrypted_content"] for item in output] == ["mooltiproxy:anthropic:SIG", "ENC"]
    (turn,) = responses.read_request({"input": output}).turns
    assert turn.parts == [Reasoning("a", mark(ANTHROPIC, "SIG")), Reasoning("b", mark(OPENAI, "ENC"))]


def test_a_refusal_is_a_part_of_the_message() -> None:
    events = write([TextDelta("Sorry."), RefusalDelta("no"), STOP])
    assert kinds(events)[8:10] == ["refusal.delta", "refusal.done"]
    assert events[8]["content_index"] == 1
    (item,) = events[-1]["response"]["output"]
    assert item["content"][1] == {"type": "refusal", "refusal": "no"}


def test_probabilities_are_written_with_bytes_in_items_only() -> None:
    events = write([TextDelta("é", 0, [TokenProbability("é", -0.5, (("e", -1.0),))]), STOP])
    told = {"token": "é", "logprob": -0.5, "top_logprobs": [{"token": "e", "logprob": -1.0}]}
    assert events[4]["logprobs"] == events[5]["logprobs"] == [told]
    kept = events[-1]["response"]["output"][0]["content"][0]["logprobs"][0]
    assert kept["bytes"] == [195, 169]


@pytest.mark.parametrize(("reason", "word"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_a_cut_answer_is_incomplete(reason: Any, word: str) -> None:
    events = write([TextDelta("Hi"), Finish(reason)])
    assert events[-1]["type"] == "response.incomplete"
    whole = events[-1]["response"]
    assert (whole["status"], whole["incomplete_details"]) == ("incomplete", {"reason": word})
    assert whole["output"][0]["status"] == "incomplete"


def test_an_empty_answer_is_complete_and_empty() -> None:
    events = write([STOP])
    assert kinds(events) == ["created", "in_progress", "completed"]
    assert events[-1]["response"]["output"] == []


def test_usage_that_nobody_told_is_null() -> None:
    assert write([STOP])[-1]["response"]["usage"] is None
    assert write([STOP, UsageReport(Usage(answer=3))])[-1]["response"]["usage"] is None


def test_what_follows_the_end_of_an_answer_and_other_answers_are_left_out() -> None:
    events = write([TextDelta("other", index=1), TextDelta("a"), STOP, TextDelta("b"), Finish("stop", index=1)])
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "a"


def test_an_unfinished_answer_cannot_be_ended() -> None:
    writer = ResponseWriter(Request())
    writer.write([TextDelta("Hi")])
    with pytest.raises(UpstreamBroken):
        writer.end()


def test_the_response_repeats_the_request() -> None:
    body = {
        "model": "m1",
        "input": "x",
        "instructions": "Be brief.",
        "temperature": 0.5,
        "metadata": {"a": "b"},
        "store": True,
        "text": {"format": {"type": "json_object"}},
        "reasoning": {"effort": "low"},
        "tools": [{"type": "function", "name": "f"}, {"type": "web_search"}],
        "tool_choice": "none",
    }
    whole = responses.write_answer(Answer([Choice([Text("Hi")], "stop")]), responses.read_request(body))
    assert {
        name: whole[name] for name in ("model", "instructions", "temperature", "metadata", "text", "tool_choice")
    } == {name: body[name] for name in ("model", "instructions", "temperature", "metadata", "text", "tool_choice")}
    assert whole["store"] is False
    assert whole["reasoning"] == {"effort": "low", "summary": None}
    assert whole["tools"] == [
        {"type": "function", "name": "f", "strict": True, "parameters": None},
        {"type": "web_search"},
    ]
    assert (whole["previous_response_id"], whole["parallel_tool_calls"]) == (None, True)
    assert "output_text" not in whole


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UpstreamBroken("died"), "server_error"),
        (UpstreamError("slow", status=429), "rate_limit_exceeded"),
        (BadRequest("no"), "invalid_prompt"),
        (UpstreamError("long", status=400, code="context_length_exceeded"), "context_length_exceeded"),
    ],
)
def test_a_broken_stream_ends_with_the_failed_response(error: ProxyError, code: str) -> None:
    writer = ResponseWriter(Request())
    begun = writer.write([TextDelta("Hi"), CallStart(0, "a", "f")])
    (event,) = writer.fail(dialect.write_stream_error(error, "req-1"))
    assert event["type"] == "response.failed"
    assert event["sequence_number"] == len(begun)
    whole = event["response"]
    assert whole["id"] == begun[0]["response"]["id"]
    assert (whole["status"], whole["error"]) == ("failed", {"code": code, "message": str(error)})
    assert [item["type"] for item in whole["output"]] == ["message"]


def test_a_stream_that_breaks_before_its_first_event_begins_all_the_same() -> None:
    events = ResponseWriter(Request()).fail(dialect.write_stream_error(UpstreamBroken("died"), "req-1"))
    assert kinds(events) == ["created", "in_progress", "failed"]


ANSWERS = [
    Answer([Choice([Text("Hi")], "stop")], NEUTRAL_USAGE, "m1"),
    Answer([Choice([Reasoning("hm", mark(OPENAI, "rs_1:E")), Text("Hi"), ToolCall("a", "f", "{}")], "tool_calls")]),
    Answer([Choice([ToolCall("a", "f", "{}"), ToolCall("b", "f", '{"x":1}')], "tool_calls")]),
    Answer([Choice([Refusal("no")], "stop")]),
    Answer([Choice([Text("Hi")], "length")]),
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_is_the_same_after_a_round_trip(answer: Answer) -> None:
    request = Request(model="m1")
    body = orjson.loads(orjson.dumps(responses.write_answer(answer, request)))
    for item in body["output"]:
        if item["type"] == "reasoning":
            item.update(id="rs_1", encrypted_content="E")
    again = responses.read_answer(body, request)
    assert (again.choices, again.usage) == (answer.choices, answer.usage)


STREAM = b"".join(
    encode_named_sse(event)
    for event in write(
        [
            ReasoningDelta("hm"),
            TextDelta("Grüße"),
            CallStart(0, "a", "f"),
            CallArguments(0, '{"x":"é"}'),
            Finish("tool_calls"),
            UsageReport(NEUTRAL_USAGE),
        ]
    )
)


def events_of(chunks: list[bytes]) -> list[StreamEvent]:
    decoder = SSEDecoder()
    data = [event for chunk in chunks for event in decoder.feed(chunk)] + decoder.end()
    return read(*map(parse_event, data))


def test_a_stream_cut_at_every_byte_gives_the_same_events() -> None:
    whole = events_of([STREAM])
    assert events_of([STREAM[at : at + 1] for at in range(len(STREAM))]) == whole
    assert all(events_of([STREAM[:at], STREAM[at:]]) == whole for at in range(0, len(STREAM), 7))
    assert answer_of(whole).choices == [
        Choice([Reasoning("hm"), Text("Grüße"), ToolCall("a", "f", '{"x":"é"}')], "tool_calls")
    ]


PIECES = st.one_of(
    st.builds(TextDelta, st.text(max_size=3)),
    st.builds(ReasoningDelta, st.text(max_size=3), st.none(), st.sampled_from([None, "E"])),
    st.builds(RefusalDelta, st.text(max_size=3)),
    st.builds(CallStart, st.integers(0, 2), st.just("a"), st.just("f")),
    st.builds(CallArguments, st.integers(0, 2), st.sampled_from(["", "{}", '{"a":', "1}"])),
)


@given(st.lists(PIECES, max_size=12), st.sampled_from(["stop", "length", "tool_calls"]))
def test_no_events_can_make_an_illegal_stream(pieces: list[StreamEvent], reason: Any) -> None:
    events = write([*pieces, Finish(reason)])
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    open_item: dict[str, Any] | None = None
    index = 0
    for event in events[2:-1]:
        if event["type"] == "response.output_item.added":
            assert open_item is None
            assert event["output_index"] == index
            open_item = event["item"]
        elif event["type"] == "response.output_item.done":
            assert open_item is not None
            assert event["item"]["id"] == open_item["id"]
            open_item, index = None, index + 1
        else:
            assert open_item is not None
            assert event["item_id"] == open_item["id"]
    assert open_item is None
    assert len(events[-1]["response"]["output"]) == index


CHAT_STREAM = (
    b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":'
    b'{"name":"f","arguments":"{}"}}]}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
    b"data: [DONE]\n\n"
)
TO_CHAT = DialectTranslation(responses.endpoint, chat.endpoint, {}, "")
FROM_CHAT = DialectTranslation(chat.endpoint, responses.endpoint, {}, "")


def asked(**fields: Any) -> dict[str, Any]:
    return {"model": "m1", "input": "Say hi", **fields}


def parsed(data: bytes) -> list[Any]:
    decoder = SSEDecoder()
    return [parse_event(event) for event in [*decoder.feed(data), *decoder.end()]]


def test_a_chat_stream_becomes_named_events_without_an_end_mark() -> None:
    answer = TO_CHAT.request(asked(stream=True), NOWHERE).answer("text/event-stream", {})
    assert answer is not None
    data = answer.feed(CHAT_STREAM) + answer.end()
    assert data.startswith(b"event: response.created\ndata: {")
    assert b"[DONE]" not in data
    events = parsed(data)
    assert kinds(events)[-1] == "completed"
    assert [item["type"] for item in events[-1]["response"]["output"]] == ["reasoning", "message", "function_call"]
    assert events[-1]["response"]["usage"]["total_tokens"] == 5


def test_a_chat_stream_is_gathered_for_a_client_without_stream() -> None:
    answer = TO_CHAT.request(asked(), NOWHERE).answer("text/event-stream", {})
    assert answer is not None
    answer.feed(CHAT_STREAM)
    whole = orjson.loads(answer.end())
    assert (whole["object"], whole["status"], whole["model"]) == ("response", "completed", "m1")
    assert whole["output"][1]["content"][0]["text"] == "Hi"


def test_a_chat_that_breaks_off_ends_as_a_failed_response() -> None:
    translated = TO_CHAT.request(asked(stream=True), NOWHERE)
    answer = translated.answer("text/event-stream", {})
    assert answer is not None
    answer.feed(b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n')
    with pytest.raises(UpstreamBroken) as caught:
        answer.end()
    error = dialect.write_stream_error(caught.value, "req-1")
    assert kinds(parsed(answer.fail(error))) == ["failed"]
    assert kinds(parsed(translated.fail(error))) == ["created", "in_progress", "failed"]


def test_a_response_stream_becomes_chunks() -> None:
    body = {"model": "m1", "messages": [{"role": "user", "content": "Say hi"}], "stream": True}
    answer = FROM_CHAT.request(body, NOWHERE).answer("text/event-stream", {})
    assert answer is not None
    events = parsed(answer.feed(STREAM) + answer.end())
    assert events[-1] == "[DONE]"
    assert events[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert "".join(event["choices"][0]["delta"].get("content") or "" for event in events[:-1]) == "Grüße"


def test_a_whole_response_becomes_a_chat_completion() -> None:
    body = {"model": "m1", "messages": [{"role": "user", "content": "Say hi"}]}
    answer = FROM_CHAT.request(body, NOWHERE).answer("application/json", {})
    assert answer is not None
    answer.feed(orjson.dumps(response(message("Hi"), usage=USAGE)))
    whole = orjson.loads(answer.end())
    assert whole["choices"][0]["message"]["content"] == "Hi"
    assert whole["usage"]["completion_tokens_details"] == {"reasoning_tokens": 6}


def test_a_whole_chat_completion_is_replayed_as_a_stream_of_events() -> None:
    answer = TO_CHAT.request(asked(stream=True), NOWHERE).answer("application/json", {})
    assert answer is not None
    answer.feed(b'{"choices":[{"index":0,"message":{"content":"Hi"},"finish_reason":"length"}]}')
    events = parsed(answer.end())
    assert kinds(events)[-1] == "incomplete"


def test_a_stream_of_an_answer_is_written_as_the_answer_is() -> None:
    answer = ANSWERS[1]
    streamed = write(stream_of(answer))[-1]["response"]
    whole = responses.write_answer(answer, Request(model="m1"))
    assert [item["type"] for item in streamed["output"]] == [item["type"] for item in whole["output"]]
