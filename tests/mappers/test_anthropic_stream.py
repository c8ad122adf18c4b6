from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mappers.anthropic.stream import MessagesReader, MessagesWriter
from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping.framing import SSEDecoder, encode_named_sse, parse_event
from mooltiproxy.mapping.gather import answer_of, stream_of
from mooltiproxy.mapping.neutral import (
    Answer,
    CallArguments,
    CallStart,
    Choice,
    Failure,
    Finish,
    Part,
    Reasoning,
    ReasoningDelta,
    RefusalDelta,
    Request,
    Sampling,
    StreamEvent,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    Usage,
    UsageReport,
)
from mooltiproxy.mapping.signatures import ANTHROPIC, REDACTED, mark

TEXT = {"type": "text", "text": ""}
THINKING = {"type": "thinking", "thinking": "", "signature": ""}
START = {"type": "message_start", "message": {"usage": {"input_tokens": 12, "output_tokens": 1}}}
STOP = {"type": "message_stop"}
PING = {"type": "ping"}


def start(index: int, block: dict[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, **fields: str) -> dict[str, Any]:
    (name,) = fields
    kinds = {"partial_json": "input_json_delta"}
    return {
        "type": "content_block_delta",
        "index": index,
        "delta": {"type": kinds.get(name, f"{name}_delta"), **fields},
    }


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def call(identifier: str = "t1", name: str = "get", **fields: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": identifier, "name": name, "input": {}, **fields}


def last(reason: str | None = "end_turn", sequence: str | None = None, **usage: Any) -> dict[str, Any]:
    counts = usage or {"output_tokens": 3}
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": sequence}, "usage": counts}


def read(*events: Any, request: Request | None = None) -> list[StreamEvent]:
    reader = MessagesReader(request or Request())
    return [*(neutral for event in events for neutral in reader.read(event)), *reader.end()]


def write(*batches: Sequence[StreamEvent]) -> list[Any]:
    writer = MessagesWriter(Request(model="m1"))
    return [*(event for batch in batches for event in writer.write(batch)), *writer.end()]


def blocks(events: list[Any]) -> list[Any]:
    """The events between a message's start and end."""
    return [event for event in events if event["type"].startswith("content_block")]


def test_a_plain_stream_is_read() -> None:
    events = [START, start(0, TEXT), PING, delta(0, text="Hi"), delta(0, text=" there"), stop(0), last(), STOP]
    assert read(*events) == [
        TextDelta("Hi"),
        TextDelta(" there"),
        Finish("stop"),
        UsageReport(Usage(12, 3)),
    ]


def test_a_plain_stream_is_written() -> None:
    head, *events = write([TextDelta("Hi"), TextDelta(" there")], [Finish("stop"), UsageReport(Usage(12, 3))])
    assert head["message"].pop("id").startswith("msg_")
    assert head == {
        "type": "message_start",
        "message": {
            "type": "message",
            "role": "assistant",
            "model": "m1",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                "input_tokens": 0,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 0,
            },
        },
    }
    usage = {**head["message"]["usage"], "input_tokens": 12, "output_tokens": 3}
    assert events == [
        start(0, TEXT),
        delta(0, text="Hi"),
        delta(0, text=" there"),
        stop(0),
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage},
        STOP,
    ]


def test_the_message_starts_before_its_first_word_and_once() -> None:
    writer = MessagesWriter(Request(model="m1"))
    assert [event["type"] for event in writer.write([])] == ["message_start"]
    assert writer.write([]) == []


def test_a_start_that_is_written_late_knows_the_input() -> None:
    head, *_ = write([TextDelta("Hi"), Finish("stop"), UsageReport(Usage(12, 3, cached=2))])
    usage = head["message"]["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (10, 2, 0)


def test_an_empty_answer_has_no_blocks() -> None:
    assert [event["type"] for event in write([Finish("stop")])] == ["message_start", "message_delta", "message_stop"]


def test_two_parallel_calls_are_read() -> None:
    events = read(
        START,
        start(0, call("a")),
        delta(0, partial_json=""),
        delta(0, partial_json='{"city"'),
        delta(0, partial_json=': "Paris"}'),
        stop(0),
        start(1, call("b")),
        stop(1),
        last("tool_use"),
        STOP,
    )
    assert events[:-1] == [
        CallStart(0, "a", "get"),
        CallArguments(0, '{"city"'),
        CallArguments(0, ': "Paris"}'),
        CallStart(1, "b", "get"),
        CallArguments(1, "{}"),
        Finish("tool_calls"),
    ]


def test_two_parallel_calls_are_written_behind_the_text() -> None:
    events = write(
        [TextDelta("I ask."), CallStart(0, "a", "get")],
        [CallArguments(0, '{"city":')],
        [CallArguments(0, '"Paris"}'), CallStart(1, "b", "get"), CallArguments(1, "")],
        [Finish("stop")],
    )
    assert blocks(events) == [
        start(0, TEXT),
        delta(0, text="I ask."),
        stop(0),
        start(1, call("a")),
        delta(1, partial_json='{"city":'),
        delta(1, partial_json='"Paris"}'),
        stop(1),
        start(2, call("b")),
        stop(2),
    ]
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


def test_calls_that_come_mixed_are_put_in_order() -> None:
    events = write(
        [CallStart(0, "a", "get"), CallArguments(0, '{"x"'), CallStart(1, "b", "get"), CallArguments(1, '{"y"')],
        [CallArguments(0, ":1}"), CallArguments(1, ":2}"), TextDelta("Done."), Finish("tool_calls")],
    )
    assert blocks(events) == [
        start(0, call("a")),
        delta(0, partial_json='{"x"'),
        delta(0, partial_json=":1}"),
        stop(0),
        start(1, call("b")),
        delta(1, partial_json='{"y"'),
        delta(1, partial_json=":2}"),
        stop(1),
        start(2, TEXT),
        delta(2, text="Done."),
        stop(2),
    ]


def test_the_arguments_of_a_whole_call_are_not_lost() -> None:
    events = write([CallStart(0, "a", "get"), CallArguments(0, '{"x":1}')], [Finish("stop")])
    assert blocks(events) == [start(0, call("a")), delta(0, partial_json='{"x":1}'), stop(0)]


@pytest.mark.parametrize("pieces", [[], [""], ["null"], ["nu", "ll"], [" "]])
def test_no_arguments_have_no_deltas(pieces: list[str]) -> None:
    events = write([CallStart(0, "a", "get"), *(CallArguments(0, piece) for piece in pieces)], [Finish("stop")])
    assert blocks(events) == [start(0, call("a")), stop(0)]


@pytest.mark.parametrize("arguments", ['{"x"', "[1]", "get it", '{"x":1} and more'])
def test_arguments_that_are_no_object_break_the_stream(arguments: str) -> None:
    with pytest.raises(UpstreamBroken, match="get"):
        write([CallStart(0, "a", "get"), CallArguments(0, arguments), Finish("stop")])


def test_a_call_that_the_limit_cut_off_ends_as_it_is() -> None:
    events = write([CallStart(0, "a", "get"), CallArguments(0, '{"x"')], [Finish("length")])
    assert blocks(events)[-1] == stop(0)
    assert events[-2]["delta"]["stop_reason"] == "max_tokens"


def test_thoughts_are_read_with_what_their_vendor_wants_back() -> None:
    events = read(
        START,
        start(0, THINKING),
        delta(0, thinking="Hm"),
        delta(0, thinking="."),
        delta(0, signature="c2"),
        delta(0, signature="ln"),
        stop(0),
        start(1, {"type": "redacted_thinking", "data": "opaque"}),
        stop(1),
        start(2, TEXT),
        delta(2, text="4"),
        stop(2),
        last(),
    )
    assert answer_of(events).choices[0].parts == [
        Reasoning("Hm.", mark(ANTHROPIC, "c2ln")),
        Reasoning("", mark(REDACTED, "opaque")),
        Text("4"),
    ]


def test_thoughts_are_written_with_what_their_vendor_wants_back() -> None:
    events = write(
        [
            ReasoningDelta("Hm."),
            ReasoningDelta("", mark(ANTHROPIC, "c2ln")),
            ReasoningDelta("", mark(REDACTED, "opaque")),
            ReasoningDelta("More."),
            TextDelta("4"),
            Finish("stop"),
        ]
    )
    assert blocks(events) == [
        start(0, THINKING),
        delta(0, thinking="Hm."),
        delta(0, signature="c2ln"),
        stop(0),
        start(1, {"type": "redacted_thinking", "data": "opaque"}),
        stop(1),
        start(2, THINKING),
        delta(2, thinking="More."),
        stop(2),
        start(3, TEXT),
        delta(3, text="4"),
        stop(3),
    ]


def test_a_thought_that_is_not_shown_is_its_signature() -> None:
    events = read(START, start(0, THINKING), delta(0, signature="c2ln"), stop(0), last())
    assert events[0] == ReasoningDelta("", mark(ANTHROPIC, "c2ln"))
    assert blocks(write([ReasoningDelta("", mark(ANTHROPIC, "c2ln")), Finish("stop")])) == [
        start(0, THINKING),
        delta(0, signature="c2ln"),
        stop(0),
    ]


def test_a_refusal_is_text_and_the_reason_to_stop() -> None:
    events = write([RefusalDelta("No."), Finish("stop")])
    assert blocks(events)[1] == delta(0, text="No.")
    assert events[-2]["delta"]["stop_reason"] == "refusal"


def test_a_block_may_begin_before_the_one_before_it_is_closed() -> None:
    events = read(
        START,
        start(0, THINKING),
        delta(0, thinking="Hm."),
        delta(0, signature="c2ln"),
        start(1, TEXT),
        delta(1, text="4"),
        stop(0),
        stop(1),
        last(),
    )
    assert answer_of(events).choices[0].parts == [Reasoning("Hm.", mark(ANTHROPIC, "c2ln")), Text("4")]


def test_blocks_that_are_never_closed_are_whole_at_the_end() -> None:
    tool = {"type": "tool_use", "id": "a", "name": "get"}
    events = read(START, start(0, tool), start(1, {**tool, "id": "b", "input": {"x": 1}}), last("end_turn"))
    assert answer_of(events) == Answer(
        [Choice([ToolCall("a", "get", "{}"), ToolCall("b", "get", '{"x":1}')], "tool_calls")], Usage(12, 3)
    )


def test_what_a_block_begins_with_is_read() -> None:
    events = read(START, start(0, {**THINKING, "thinking": "Hm."}), stop(0), start(1, {**TEXT, "text": "4"}), last())
    assert events[:2] == [ReasoningDelta("Hm."), TextDelta("4")]


def test_a_call_without_an_id_gets_one_and_without_a_name_breaks_the_stream() -> None:
    (begun, *_) = read(START, start(0, {"type": "tool_use", "name": "get"}), last())
    assert isinstance(begun, CallStart)
    assert begun.id.startswith("toolu_")
    with pytest.raises(UpstreamBroken):
        read(START, start(0, {"type": "tool_use", "id": "a"}))


def test_a_tools_own_name_comes_back() -> None:
    (begun, *_) = read(start(0, call("a", "a_b")), request=Request(tools=[Tool("a.b")]))
    assert begun == CallStart(0, "a", "a.b")


def test_unknown_events_blocks_and_deltas_are_passed_over() -> None:
    events = read(
        "text",
        {"type": "weather"},
        start(0, {"type": "hologram"}),
        delta(0, citations="x"),
        delta(7, partial_json="{}"),
        stop(0),
        start(1, TEXT),
        {"type": "content_block_delta", "index": 1, "delta": None},
        delta(1, text="Hi"),
        last(),
    )
    assert events[0] == TextDelta("Hi")


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("refusal", "content_filter"),
        ("tool_use", "stop"),
        ("?", "stop"),
    ],
)
def test_why_a_stream_ended_is_read(word: str, finish: str) -> None:
    assert read(START, start(0, TEXT), stop(0), last(word))[0] == Finish(finish)  # type: ignore[arg-type]


def test_a_stop_string_is_told_both_ways() -> None:
    assert read(START, last("stop_sequence", "END"))[0] == Finish("stop", "END")
    assert write([Finish("stop", "END")])[-2]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "END"}


def test_a_stop_string_that_the_target_was_not_told_ends_the_stream() -> None:
    reader = MessagesReader(Request(sampling=Sampling(stop=("\n\n",))))
    reader.read(START)
    reader.read(start(0, TEXT))
    assert reader.read(delta(0, text="One\n")) == [TextDelta("One")]
    assert reader.read(delta(0, text="\nTwo")) == [Finish("stop", "\n\n")]
    assert reader.done
    assert reader.read(delta(0, text="Three")) == []
    assert reader.end() == []


def test_text_that_was_held_back_for_a_stop_comes_at_the_blocks_end() -> None:
    request = Request(sampling=Sampling(stop=("\n\n",)))
    events = read(START, start(0, TEXT), delta(0, text="One\n"), stop(0), last(), request=request)
    assert events[:3] == [TextDelta("One"), TextDelta("\n"), Finish("stop")]


def test_counts_are_totals_and_the_last_ones_count() -> None:
    usage = {"input_tokens": 5, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 3, "output_tokens": 1}
    begin = {"type": "message_start", "message": {"usage": usage}}
    events = read(begin, last(None, output_tokens=2), last(output_tokens=9, input_tokens=None))
    assert events == [
        UsageReport(Usage(12, 2, 4, 3)),
        Finish("stop"),
        UsageReport(Usage(12, 9, 4, 3)),
    ]


@pytest.mark.parametrize("events", [[], [START], [START, start(0, TEXT), delta(0, text="Hi"), stop(0)], [START, STOP]])
def test_a_stream_that_ends_without_a_reason_is_a_failure(events: list[Any]) -> None:
    assert isinstance(read(*events)[-1], Failure)


def test_an_unfinished_answer_is_never_written_as_finished() -> None:
    with pytest.raises(UpstreamBroken):
        write([TextDelta("Hi")])


def test_an_error_in_the_stream_is_a_failure_and_its_end() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    events = read(START, start(0, TEXT), delta(0, text="Hi"), error, delta(0, text="more"))
    assert events == [TextDelta("Hi"), Failure("Overloaded", 503)]


def test_a_paused_turn_is_a_failure() -> None:
    assert isinstance(read(START, last("pause_turn"))[-1], Failure)


def test_what_comes_behind_the_finish_is_left_out_but_for_the_counts() -> None:
    events = write([Finish("stop"), TextDelta("more")], [UsageReport(Usage(1, 2))])
    assert blocks(events) == []
    assert events[-2]["usage"]["output_tokens"] == 2


def test_further_answers_are_left_out() -> None:
    events = write([TextDelta("One"), TextDelta("Two", 1), Finish("stop"), Finish("length", index=1)])
    assert blocks(events) == [start(0, TEXT), delta(0, text="One"), stop(0)]


words = st.text(min_size=1, max_size=5)
parts = st.one_of(
    st.builds(Text, words),
    st.builds(Reasoning, words, words.map(lambda state: mark(ANTHROPIC, state))),
    st.builds(Reasoning, st.just(""), words.map(lambda state: mark(REDACTED, state))),
    st.builds(ToolCall, words, words, st.sampled_from(['{"a":1}', "{}", '{"b":[true]}'])),
)


def merged(parts: Sequence[Part]) -> list[Part]:
    """With neighbours of text as one, which a stream cannot tell apart."""
    kept: list[Part] = []
    for part in parts:
        if isinstance(part, Text) and kept and isinstance(kept[-1], Text):
            kept[-1] = Text(kept[-1].text + part.text)
        else:
            kept.append(part)
    return kept


@given(st.lists(parts, max_size=6).map(merged))
def test_an_answer_that_is_written_and_read_again_is_the_same(said: list[Part]) -> None:
    finish = "tool_calls" if any(isinstance(part, ToolCall) for part in said) else "stop"
    answer = Answer([Choice(said, finish)], Usage(5, 9, 2, 1))  # type: ignore[arg-type]
    reader = MessagesReader(Request())
    events = [neutral for event in write(stream_of(answer)) for neutral in reader.read(event)]
    assert answer_of([*events, *reader.end()]) == answer


def test_a_stream_cut_at_every_byte_is_the_same_stream() -> None:
    signed = [start(0, THINKING), delta(0, thinking="Hm"), delta(0, signature="c2ln"), stop(0)]
    called = [start(1, call()), delta(1, partial_json='{"ä":'), delta(1, partial_json="1}"), stop(1)]
    events = [START, *signed, PING, *called, last("tool_use"), STOP]
    stream = b": hello\r\n\r\n" + b"".join(map(encode_named_sse, events)).replace(b"\n", b"\r\n")
    for at in range(len(stream)):
        decoder = SSEDecoder()
        pieces = [*decoder.feed(stream[:at]), *decoder.feed(stream[at:]), *decoder.end()]
        assert read(*map(parse_event, pieces)) == read(*events)
