from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mappers.openai.chat_stream import ChatReader, ChatWriter
from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping.framing import DONE
from mooltiproxy.mapping.gather import answer_of, stream_of
from mooltiproxy.mapping.neutral import (
    Answer,
    CallArguments,
    CallStart,
    Choice,
    Failure,
    Finish,
    Reasoning,
    ReasoningDelta,
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

USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


def chunk(
    delta: dict[str, Any] | None = None, finish: str | None = None, index: int = 0, **more: Any
) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta or {}, "finish_reason": finish}], **more}


def call(number: int | None = None, **fields: Any) -> dict[str, Any]:
    """A chunk with one fragment of a call."""
    function = {name: fields.pop(name) for name in ("name", "arguments") if name in fields}
    fragment = {**fields, "function": function}
    return chunk({"tool_calls": [fragment if number is None else {"index": number, **fragment}]})


def read(*events: Any, request: Request | None = None) -> list[StreamEvent]:
    reader = ChatReader(request or Request())
    return [*(neutral for event in events for neutral in reader.read(event)), *reader.end()]


def write(events: Sequence[StreamEvent], request: Request | None = None) -> list[Any]:
    writer = ChatWriter(request or Request(model="m1"))
    return [*writer.write(events), *writer.end()]


def deltas(chunks: list[Any]) -> list[Any]:
    return [one["choices"][0]["delta"] for one in chunks if one != DONE and one["choices"]]


def test_a_plain_stream_is_read() -> None:
    events = read(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hi"}),
        chunk({"content": " there"}),
        chunk({}, "stop"),
        {"choices": [], "usage": USAGE},
        DONE,
    )
    assert events == [TextDelta("Hi"), TextDelta(" there"), Finish("stop"), UsageReport(Usage(12, 3))]


def test_a_stream_needs_no_end_mark() -> None:
    assert read(chunk({"content": "Hi"}), chunk({}, "stop")) == [TextDelta("Hi"), Finish("stop")]


def test_an_end_mark_without_a_finish_is_a_failure() -> None:
    events = read(chunk({"content": "Hi"}), DONE)
    assert isinstance(events[-1], Failure)
    assert len(events) == 2


@pytest.mark.parametrize("events", [[], [chunk({"content": "Hi"})], [{"choices": [], "usage": USAGE}], [DONE]])
def test_a_stream_that_ends_without_a_finish_is_a_failure(events: list[Any]) -> None:
    assert isinstance(read(*events)[-1], Failure)


def test_one_unfinished_choice_of_two_is_a_failure() -> None:
    assert isinstance(read(chunk({"content": "a"}, "stop"), chunk({"content": "b"}, index=1), DONE)[-1], Failure)


@pytest.mark.parametrize(
    "event",
    [
        {"error": {"message": "upstream died", "type": "server_error"}},
        {"error": "upstream died"},
        {"error": {"message": "upstream died", "code": 500}},
    ],
)
def test_an_error_object_is_a_failure_and_the_last_word(event: Any) -> None:
    events = read(chunk({"content": "Hi"}), event, DONE, chunk({}, "stop"))
    assert events[0] == TextDelta("Hi")
    assert isinstance(events[1], Failure)
    assert events[1].message == "upstream died"
    assert len(events) == 2


def test_usage_may_come_before_the_finish_and_twice() -> None:
    events = read(chunk({"content": "a"}, usage=USAGE), chunk({}, "stop", usage=USAGE), {"choices": [], "usage": USAGE})
    assert events.count(UsageReport(Usage(12, 3))) == 3
    assert answer_of(events).usage == Usage(12, 3)


def test_texts_that_are_no_json_and_empty_deltas_say_nothing() -> None:
    empties = [chunk({"content": ""}), chunk({"content": None}), chunk(None), "keep going", chunk({"tool_calls": None})]
    assert read(*empties, chunk({}, "stop")) == [Finish("stop")]


def test_an_empty_finish_reason_is_none() -> None:
    assert read(chunk({"content": "a"}, ""), chunk({"content": "b"}, "stop")) == [
        TextDelta("a"),
        TextDelta("b"),
        Finish("stop"),
    ]


@pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
def test_thoughts_are_read_under_both_names(key: str) -> None:
    assert read(chunk({key: "Easy"}), chunk({"content": "4"}, "stop"))[0] == ReasoningDelta("Easy")


def test_a_refusal_is_read() -> None:
    assert read(chunk({"refusal": "No."}), chunk({}, "stop"))[0] == RefusalDelta("No.")


def test_parallel_calls_are_read_by_their_index() -> None:
    events = read(
        call(0, id="call_a", type="function", name="weather", arguments=""),
        call(0, arguments='{"city"'),
        call(0, arguments=':"Paris"}'),
        call(1, id="call_b", type="function", name="weather", arguments=""),
        call(1, arguments='{"city":"Rome"}'),
        chunk({}, "tool_calls"),
        DONE,
    )
    assert answer_of(events).choices[0] == Choice(
        [ToolCall("call_a", "weather", '{"city":"Paris"}'), ToolCall("call_b", "weather", '{"city":"Rome"}')],
        "tool_calls",
    )


def test_a_whole_call_in_one_fragment_without_index_is_read() -> None:
    events = read(
        call(id="call_a", name="a", arguments="{}"), call(id="call_b", name="b", arguments="[]"), chunk({}, "stop")
    )
    assert answer_of(events).choices[0] == Choice(
        [ToolCall("call_a", "a", "{}"), ToolCall("call_b", "b", "[]")], "tool_calls"
    )


def test_fragments_without_index_are_joined_by_id_or_to_the_last() -> None:
    events = read(
        call(id="call_a", name="a", arguments='{"x'),
        call(id="call_a", name="a", arguments='":'),
        call(arguments="1}"),
        chunk({}, "stop"),
    )
    assert answer_of(events).choices[0].parts == [ToolCall("call_a", "a", '{"x":1}')]


def test_id_and_name_may_be_repeated_in_every_fragment() -> None:
    events = read(
        call(0, id="call_a", name="a", arguments='{"x":'),
        call(0, id="call_a", name="a", arguments="1}"),
        chunk({}, "stop"),
    )
    assert answer_of(events).choices[0].parts == [ToolCall("call_a", "a", '{"x":1}')]


def test_null_arguments_and_a_missing_id_are_read() -> None:
    events = read(call(0, name="a", arguments=None), call(0, arguments="{}"), chunk({}, "tool_calls"))
    start = events[0]
    assert isinstance(start, CallStart)
    assert start.id.startswith("call_")
    assert events[1:] == [CallArguments(0, "{}"), Finish("tool_calls")]


def test_indexes_that_begin_at_one_are_read() -> None:
    assert read(call(1, id="x", name="a", arguments="{}"), chunk({}, "stop"))[0] == CallStart(0, "x", "a")


def test_content_beside_an_empty_list_of_calls_is_content() -> None:
    assert read(chunk({"content": "a", "tool_calls": []}), chunk({}, "stop"))[0] == TextDelta("a")


def test_a_deprecated_function_call_is_read() -> None:
    events = read(
        chunk({"function_call": {"name": "a", "arguments": ""}}),
        chunk({"function_call": {"arguments": "{}"}}),
        chunk({}, "function_call"),
    )
    assert isinstance(events[0], CallStart)
    assert events[1:] == [CallArguments(0, "{}"), Finish("tool_calls")]


def test_a_length_behind_a_cut_call_stays_a_length() -> None:
    assert read(call(0, id="x", name="a", arguments='{"ci'), chunk({}, "length"))[-1] == Finish("length")
    assert read(call(0, id="x", name="a", arguments="{}"), chunk({}, "length"))[-1] == Finish("tool_calls")


def test_a_call_that_never_gets_a_name_is_the_targets_fault() -> None:
    with pytest.raises(UpstreamBroken):
        read(call(0, arguments="{}"))


def test_a_fifth_stop_is_cut_by_us_and_ends_the_stream() -> None:
    reader = ChatReader(Request(sampling=Sampling(stop=("a", "b", "c", "d", "END"))))
    assert reader.read(chunk({"content": "one E"})) == [TextDelta("one ")]
    assert reader.read(chunk({"content": "ND two"})) == [Finish("stop", "END")]
    assert reader.done
    assert reader.read(chunk({"content": "three"})) == []
    assert reader.end() == []


def test_probabilities_are_read_and_written_again() -> None:
    token = {"token": "H", "logprob": -0.5, "bytes": [72]}
    logprobs = {"content": [{**token, "top_logprobs": [token]}], "refusal": None}
    event = {"choices": [{"index": 0, "delta": {"content": "H"}, "logprobs": logprobs, "finish_reason": None}]}
    events = read(event, chunk({}, "stop"))
    assert events[0] == TextDelta("H", 0, [TokenProbability("H", -0.5, (("H", -0.5),))])
    assert write(events)[1]["choices"][0]["logprobs"] == logprobs


def test_a_stream_is_written_role_first_finish_last() -> None:
    chunks = write([TextDelta("Hi"), TextDelta(" there"), Finish("stop"), UsageReport(Usage(12, 3))])
    assert deltas(chunks) == [{"role": "assistant", "content": ""}, {"content": "Hi"}, {"content": " there"}, {}]
    assert [one["choices"][0]["finish_reason"] for one in chunks[:-1]] == [None, None, None, "stop"]
    assert chunks[-1] == DONE
    assert all("usage" not in one for one in chunks[:-1])


def test_all_chunks_share_id_time_and_model() -> None:
    chunks = write([TextDelta("Hi"), Finish("stop")])[:-1]
    assert {(one["id"], one["created"], one["model"], one["object"]) for one in chunks} == {
        (chunks[0]["id"], chunks[0]["created"], "m1", "chat.completion.chunk")
    }
    assert chunks[0]["id"].startswith("chatcmpl-")


def test_usage_is_its_own_last_chunk_where_asked_for() -> None:
    request = Request(stream=True, include_usage=True)
    chunks = write([UsageReport(Usage(1, 1)), TextDelta("Hi"), Finish("stop"), UsageReport(Usage(12, 3))], request)
    assert all(one["usage"] is None for one in chunks[:-2])
    assert chunks[-2]["choices"] == []
    assert chunks[-2]["usage"] == USAGE
    assert chunks[-1] == DONE


def test_unknown_usage_is_no_chunk() -> None:
    chunks = write([Finish("stop"), UsageReport(Usage(answer=3))], Request(include_usage=True))
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"


def test_calls_are_written_with_a_first_fragment_of_their_own() -> None:
    chunks = write([CallStart(0, "call_a", "a"), CallArguments(0, '{"x":'), CallArguments(0, "1}"), Finish("stop")])
    assert deltas(chunks)[1:4] == [
        {"tool_calls": [{"index": 0, "id": "call_a", "type": "function", "function": {"name": "a", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"x":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
    ]
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_client_of_functions_gets_function_calls() -> None:
    events: list[StreamEvent] = [CallStart(0, "c", "a"), CallArguments(0, "{}"), Finish("tool_calls")]
    chunks = write(events, Request(functions_api=True))
    assert deltas(chunks)[1:3] == [
        {"function_call": {"name": "a", "arguments": ""}},
        {"function_call": {"arguments": "{}"}},
    ]
    assert chunks[-2]["choices"][0]["finish_reason"] == "function_call"


def test_thoughts_and_refusals_are_written() -> None:
    chunks = write([ReasoningDelta("Hm"), RefusalDelta("No."), Finish("stop")])
    assert deltas(chunks)[1:3] == [{"reasoning_content": "Hm"}, {"refusal": "No."}]


def test_each_of_two_choices_begins_with_its_role() -> None:
    chunks = write([TextDelta("a", 0), TextDelta("b", 1), Finish("stop", None, 0), Finish("length", None, 1)])
    seen = [(one["choices"][0]["index"], one["choices"][0]["delta"].get("role")) for one in chunks[:-1]]
    assert seen == [(0, "assistant"), (0, None), (1, "assistant"), (1, None), (0, None), (1, None)]


def test_nothing_is_written_behind_a_finish() -> None:
    chunks = write([Finish("stop"), TextDelta("late"), Finish("length")])
    assert len(chunks) == 3


def test_an_unfinished_stream_is_never_closed_as_if_it_were_whole() -> None:
    unfinished: list[list[StreamEvent]] = [[], [TextDelta("Hi")], [Finish("stop"), TextDelta("b", 1)]]
    for events in unfinished:
        with pytest.raises(UpstreamBroken):
            write(events)


words = st.text(min_size=1, max_size=4)
whole_choices = st.builds(
    lambda thought, text, calls, finish: Choice(
        [*([Reasoning(thought)] if thought else []), *([Text(text)] if text else []), *calls],
        "tool_calls" if calls else finish,
    ),
    st.text(max_size=4),
    st.text(max_size=4),
    st.lists(st.builds(ToolCall, words, words, words), max_size=2, unique_by=lambda call: call.id),
    st.sampled_from(["stop", "length", "content_filter"]),
)


@given(st.lists(whole_choices, min_size=1, max_size=3), st.none() | st.builds(Usage, st.integers(0), st.integers(0)))
def test_what_is_written_is_read_again(choices: list[Choice], usage: Usage | None) -> None:
    answer = Answer(choices, usage)
    chunks = write(stream_of(answer), Request(include_usage=True))
    assert answer_of(read(*chunks, request=Request(sampling=Sampling(n=len(choices))))) == answer


def test_the_signature_of_a_call_crosses_both_ways() -> None:
    events: list[StreamEvent] = [
        CallStart(0, "c1", "f", signature="c2ln"),
        CallArguments(0, "{}"),
        Finish("tool_calls"),
    ]
    chunks = write(events)
    fragment = next(delta["tool_calls"][0] for delta in deltas(chunks) if "tool_calls" in delta)
    assert fragment["extra_content"] == {"google": {"thought_signature": "c2ln"}}
    assert read(*chunks) == events
