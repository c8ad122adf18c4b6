from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mappers.ollama import dialect
from mappers.ollama.lines import CHAT, GENERATE, read_answer, write_answer
from mappers.ollama.stream import Reader, Writer
from mooltiproxy.errors import BadRequest, UpstreamBroken, UpstreamError
from mooltiproxy.mapping.framing import NDJSONDecoder, encode_ndjson, parse_event
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
    Refusal,
    RefusalDelta,
    Request,
    StreamEvent,
    Text,
    TextDelta,
    TokenProbability,
    ToolCall,
    Usage,
    UsageReport,
)

TIME = "2026-11-14T22:13:20.123456789Z"
DURATIONS = {"total_duration": 5, "load_duration": 1, "prompt_eval_duration": 1, "eval_duration": 3}
COUNTS = {"prompt_eval_count": 12, "eval_count": 3}
END = {"content": ""}
CALL = {"id": "call_a", "function": {"index": 0, "name": "weather", "arguments": {"city": "Paris"}}}
PROBABILITIES = [TokenProbability("Hi", -0.1, (("Hi", -0.1), ("Ho", -2.5)))]
WRITTEN_PROBABILITIES = [
    {
        "token": "Hi",
        "logprob": -0.1,
        "bytes": [72, 105],
        "top_logprobs": [
            {"token": "Hi", "logprob": -0.1, "bytes": [72, 105]},
            {"token": "Ho", "logprob": -2.5, "bytes": [72, 111]},
        ],
    }
]


def line(message: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "m1", "created_at": TIME, "message": {"role": "assistant", **message}, "done": False, **more}


def last(message: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return line(message or END, **{"done": True, "done_reason": "stop", **DURATIONS, **COUNTS, **more})


def read(*events: Any, request: Request | None = None) -> list[StreamEvent]:
    reader = Reader(CHAT, request or Request())
    return [*(neutral for event in events for neutral in reader.read(event)), *reader.end()]


def written(*events: StreamEvent, request: Request | None = None) -> list[Any]:
    writer = Writer(CHAT, request or Request(model="m1"))
    return [*(one for event in events for one in writer.write([event])), *writer.end()]


def messages(lines: Sequence[Any]) -> list[Any]:
    return [{name: value for name, value in one["message"].items() if name != "role"} for one in lines]


def whole(message: dict[str, Any], **more: Any) -> Answer:
    return read_answer(CHAT, last(message, **more), Request())


def answered(*parts: Any, finish: Any = "stop", **more: Any) -> dict[str, Any]:
    return write_answer(CHAT, Answer([Choice(list(parts), finish, **more)], Usage(12, 3)), Request(model="m1"))


def test_a_whole_answer_is_read() -> None:
    assert whole({"content": "Hi", "thinking": "Greet."}) == Answer(
        [Choice([Reasoning("Greet."), Text("Hi")], "stop")], Usage(12, 3)
    )


def test_calls_are_read_whole_and_are_why_the_answer_ended() -> None:
    call = ToolCall("call_a", "weather", '{"city":"Paris"}')
    assert whole({"content": "", "tool_calls": [CALL]}).choices[0] == Choice([call], "tool_calls")


def test_calls_without_ids_get_one_each() -> None:
    nameless = {"function": {"name": "weather", "arguments": {}}}
    parts = whole({"content": "", "tool_calls": [nameless, nameless]}).choices[0].parts
    ids = [part.id for part in parts if isinstance(part, ToolCall)]
    assert len(set(ids)) == 2
    assert all(identifier.startswith("call_") for identifier in ids)


def test_counts_that_are_left_out_are_zero() -> None:
    body = line(END, done=True)
    assert read_answer(CHAT, body, Request()).usage == Usage(0, 0)


@pytest.mark.parametrize(
    ("more", "finish"),
    [({"done_reason": "length"}, "length"), ({"done_reason": None}, "stop"), ({"done_reason": "other"}, "stop")],
)
def test_done_reasons_are_read(more: dict[str, Any], finish: str) -> None:
    assert whole({"content": "Hi"}, **more).choices[0].finish == finish
    assert Finish(finish) in read(line({"content": "Hi"}), last(**more))


def test_probabilities_are_read_and_written() -> None:
    assert whole({"content": "Hi"}, logprobs=WRITTEN_PROBABILITIES).choices[0].logprobs == PROBABILITIES
    assert answered(Text("Hi"), logprobs=PROBABILITIES)["logprobs"] == WRITTEN_PROBABILITIES
    assert read(line({"content": "Hi"}, logprobs=WRITTEN_PROBABILITIES))[0] == TextDelta("Hi", 0, PROBABILITIES)
    assert written(TextDelta("Hi", 0, PROBABILITIES), Finish("stop"))[0]["logprobs"] == WRITTEN_PROBABILITIES


@pytest.mark.parametrize("body", [[], "x", {}, {"message": None, "done": True}, {"message": {"content": 1}}])
def test_what_is_no_answer_is_the_targets_fault(body: Any) -> None:
    with pytest.raises(UpstreamBroken):
        read_answer(CHAT, body, Request())


def test_an_error_in_place_of_an_answer_is_raised_with_its_status() -> None:
    with pytest.raises(UpstreamError, match="model 'x' not found") as caught:
        read_answer(CHAT, {"error": "model 'x' not found", "status": 404}, Request())
    assert caught.value.status == 404


def test_a_call_without_a_name_is_the_targets_fault() -> None:
    with pytest.raises(UpstreamBroken):
        whole({"content": "", "tool_calls": [{"function": {"arguments": {}}}]})


def test_a_generated_answer_is_read_and_the_prompt_repeated_where_the_client_wants_it() -> None:
    body = {"model": "m1", "response": "a time", "thinking": "Hm.", "done": True, **COUNTS, "context": [1, 2]}
    request = Request(prompt="Once upon ", echo=True)
    assert read_answer(GENERATE, body, request).choices[0].parts == [Reasoning("Hm."), Text("Once upon a time")]
    reader = Reader(GENERATE, request)
    events = [*reader.read({"response": "a", "done": False}), *reader.read({"response": " time", "done": True})]
    assert events[:2] == [TextDelta("Once upon a"), TextDelta(" time")]


def test_a_whole_answer_is_written() -> None:
    body = answered(Reasoning("Greet."), Text("Hi"))
    assert body.pop("created_at").endswith("Z")
    durations = {name: body.pop(name) for name in list(body) if name.endswith("_duration")}
    assert all(type(value) is int and value >= 1 for value in durations.values())
    assert durations.keys() == {"total_duration", "load_duration", "prompt_eval_duration", "eval_duration"}
    assert body == {
        "model": "m1",
        "message": {"role": "assistant", "content": "Hi", "thinking": "Greet."},
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 12,
        "eval_count": 3,
    }


def test_a_generated_answer_is_written() -> None:
    body = write_answer(GENERATE, Answer([Choice([Text("a time")], "length")]), Request(model="m1"))
    assert body["response"] == "a time"
    assert body["done_reason"] == "length"
    assert (body["prompt_eval_count"], body["eval_count"]) == (0, 0)
    assert "message" not in body


def test_calls_are_written_whole_and_the_answer_ends_with_stop() -> None:
    body = answered(ToolCall("call_a", "weather", '{"city": "Paris"}'), ToolCall("b", "now", ""), finish="tool_calls")
    assert body["message"]["tool_calls"] == [
        CALL,
        {"id": "b", "function": {"index": 1, "name": "now", "arguments": {}}},
    ]
    assert body["done_reason"] == "stop"


def test_a_refusal_is_text() -> None:
    assert answered(Refusal("No."), finish="content_filter")["message"]["content"] == "No."


@pytest.mark.parametrize("arguments", ["{", "[]", "Paris"])
def test_a_call_whose_arguments_are_no_object_is_the_targets_fault(arguments: str) -> None:
    with pytest.raises(UpstreamBroken, match="weather"):
        answered(ToolCall("a", "weather", arguments))
    with pytest.raises(UpstreamBroken, match="weather"):
        written(CallStart(0, "a", "weather"), CallArguments(0, arguments), Finish("tool_calls"))


def test_a_call_that_the_limit_cut_off_is_left_out() -> None:
    calls = [ToolCall("call_a", "weather", '{"city":"Paris"}'), ToolCall("b", "weather", '{"ci')]
    body = answered(*calls, finish="length")
    assert body["message"]["tool_calls"] == [CALL]
    assert body["done_reason"] == "length"


def test_a_stream_is_read() -> None:
    assert read(line({"content": "", "thinking": "Greet."}), line({"content": "Hi"}), last()) == [
        ReasoningDelta("Greet."),
        TextDelta("Hi"),
        Finish("stop"),
        UsageReport(Usage(12, 3)),
    ]


def test_text_and_calls_of_the_last_line_count() -> None:
    events = read(line({"content": "Hi"}), last({"content": " there", "tool_calls": [CALL]}))
    call = ToolCall("call_a", "weather", '{"city":"Paris"}')
    assert answer_of(events).choices[0] == Choice([Text("Hi there"), call], "tool_calls")


def test_calls_of_one_line_and_of_several_are_numbered() -> None:
    def call(name: str) -> dict[str, Any]:
        return {"id": name, "function": {"name": name, "arguments": {}}}

    events = read(line({"tool_calls": [call("a"), call("b")]}), line({"tool_calls": [call("c")]}), last())
    assert [event for event in events if isinstance(event, CallStart)] == [
        CallStart(0, "a", "a"),
        CallStart(1, "b", "b"),
        CallStart(2, "c", "c"),
    ]


def test_lines_that_say_nothing_are_passed_over() -> None:
    assert read(line({"content": ""}), {}, "text", [], line({"content": None}), last())[0] == Finish("stop")


@pytest.mark.parametrize("events", [[], [line({"content": "Hi"})]])
def test_a_stream_that_ends_without_its_last_line_is_a_failure(events: list[Any]) -> None:
    assert isinstance(read(*events)[-1], Failure)


def test_an_error_line_is_a_failure_and_the_last_word() -> None:
    events = read(line({"content": "Hi"}), {"error": "upstream died"}, last())
    assert events == [TextDelta("Hi"), Failure("upstream died")]


def test_what_follows_the_last_line_is_not_read() -> None:
    assert read(last(), line({"content": "more"}), last()) == [Finish("stop"), UsageReport(Usage(12, 3))]


def test_a_stream_is_written() -> None:
    lines = written(ReasoningDelta("Greet."), TextDelta("Hi"), Finish("length"), UsageReport(Usage(12, 3)))
    assert messages(lines) == [{"content": "", "thinking": "Greet."}, {"content": "Hi"}, {"content": ""}]
    assert [one["done"] for one in lines] == [False, False, True]
    assert lines[-1]["done_reason"] == "length"
    assert (lines[-1]["prompt_eval_count"], lines[-1]["eval_count"]) == (12, 3)
    assert all(one["model"] == "m1" for one in lines)
    times = [datetime.fromisoformat(one["created_at"]) for one in lines]
    assert times == sorted(times)


def test_a_generated_stream_is_written() -> None:
    writer = Writer(GENERATE, Request(model="m1"))
    lines = [*writer.write([ReasoningDelta("Hm."), TextDelta("Hi"), Finish("stop")]), *writer.end()]
    assert [(one["response"], one.get("thinking")) for one in lines] == [("", "Hm."), ("Hi", None), ("", None)]


def test_durations_are_measured_in_nanoseconds() -> None:
    request = Request(model="m1")
    request.began -= 3_000_000_000
    end = written(TextDelta("Hi"), Finish("stop"), request=request)[-1]
    durations = {name: value for name, value in end.items() if name.endswith("_duration")}
    assert all(type(value) is int and value >= 1 for value in durations.values())
    assert 3_000_000_000 <= end["prompt_eval_duration"] < 4_000_000_000
    assert end["eval_duration"] < 1_000_000_000
    assert end["total_duration"] >= end["prompt_eval_duration"] + end["eval_duration"] - 1


def test_an_answer_that_came_at_once_took_its_time_to_be_made() -> None:
    request = Request(model="m1")
    request.began -= 3_000_000_000
    writer = Writer(CHAT, request)
    (end,) = [writer.write([TextDelta("Hi"), Finish("stop")]), writer.end()][1]
    assert end["eval_duration"] >= 3_000_000_000


def test_arguments_in_pieces_become_one_line_for_each_call() -> None:
    lines = written(
        CallStart(0, "call_a", "weather"),
        CallArguments(0, '{"city":'),
        CallArguments(0, '"Paris"}'),
        CallStart(1, "b", "now"),
        Finish("tool_calls"),
    )
    assert messages(lines) == [
        {"content": "", "tool_calls": [CALL]},
        {"content": "", "tool_calls": [{"id": "b", "function": {"index": 1, "name": "now", "arguments": {}}}]},
        {"content": ""},
    ]
    assert lines[-1]["done_reason"] == "stop"


def test_calls_that_a_target_mixes_are_kept_apart() -> None:
    lines = written(
        CallStart(0, "a", "f"),
        CallArguments(0, '{"x":'),
        CallStart(1, "b", "g"),
        CallArguments(1, '{"y":2}'),
        CallArguments(0, "1}"),
        Finish("tool_calls"),
    )
    calls = [call["function"] for one in messages(lines) for call in one.get("tool_calls", ())]
    assert calls == [
        {"index": 0, "name": "f", "arguments": {"x": 1}},
        {"index": 1, "name": "g", "arguments": {"y": 2}},
    ]


def test_a_call_that_goes_on_after_it_was_whole_is_the_targets_fault() -> None:
    with pytest.raises(UpstreamBroken):
        written(CallStart(0, "a", "f"), CallArguments(0, "{}"), CallStart(1, "b", "g"), CallArguments(0, "{}"))


def test_empty_pieces_write_no_line() -> None:
    assert len(written(TextDelta(""), ReasoningDelta(""), RefusalDelta(""), Finish("stop"))) == 1


def test_only_the_first_of_several_answers_is_written() -> None:
    lines = written(TextDelta("a"), TextDelta("b", index=1), Finish("stop"), Finish("stop", index=1), TextDelta("c"))
    assert messages(lines) == [{"content": "a"}, {"content": ""}]


def test_an_unfinished_stream_is_not_ended() -> None:
    writer = Writer(CHAT, Request())
    writer.write([TextDelta("Hi")])
    with pytest.raises(UpstreamBroken):
        writer.end()


def test_line_separators_in_a_text_do_not_cut_its_line() -> None:
    (data,) = map(encode_ndjson, written(TextDelta("a\u2028b\u2029c"), Finish("stop"))[:1])
    assert data.decode().splitlines() == [data.decode().rstrip("\n")]
    assert orjson.loads(data)["message"]["content"] == "a\u2028b\u2029c"


def test_errors_are_one_text() -> None:
    error = BadRequest("it is wrong", param="x")
    assert dialect.write_error(error, "id") == {"error": "it is wrong"}
    assert dialect.write_stream_error(error, "id") == {"error": "it is wrong"}


def test_a_stream_cut_at_any_byte_gives_the_same_events() -> None:
    lines = [line({"content": "Grüße 😀"}), line({"content": "", "tool_calls": [CALL]}), last()]
    data = b"".join(orjson.dumps(one) + end for one, end in zip(lines, (b"\n", b"\r\n", b"\n"), strict=True))
    expected = read(*lines)
    for cut in range(len(data)):
        decoder, reader = NDJSONDecoder(), Reader(CHAT, Request())
        pieces = [*decoder.feed(data[:cut]), *decoder.feed(data[cut:]), *decoder.end()]
        assert [event for piece in pieces for event in reader.read(parse_event(piece))] == expected


PARTS = st.lists(
    st.one_of(
        st.builds(Text, st.text(min_size=1)),
        st.builds(Reasoning, st.text(min_size=1)),
        st.builds(ToolCall, st.uuids().map(str), st.sampled_from("fgh"), st.sampled_from(["{}", '{"a":1}'])),
    ),
    max_size=6,
)


@given(PARTS)
def test_what_is_written_is_read_back(parts: list[Any]) -> None:
    """Text and thoughts each become one, calls come last: the API does not keep their order."""
    finish: Any = "tool_calls" if any(isinstance(part, ToolCall) for part in parts) else "stop"
    answer = Answer([Choice(parts, finish)], Usage(12, 3))
    request = Request(model="m1")
    assert merged(read_answer(CHAT, write_answer(CHAT, answer, request), request)) == merged(answer)
    writer, reader = Writer(CHAT, request), Reader(CHAT, request)
    lines = [*(line for event in stream_of(answer) for line in writer.write([event])), *writer.end()]
    assert merged(answer_of([event for line in lines for event in reader.read(line)])) == merged(answer)


def merged(answer: Answer) -> Any:
    (choice,) = answer.choices
    texts = ["".join(part.text for part in choice.parts if isinstance(part, kind)) for kind in (Reasoning, Text)]
    calls = [part for part in choice.parts if isinstance(part, ToolCall)]
    return texts, calls, choice.finish, answer.usage
