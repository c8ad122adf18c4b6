from typing import Any

import orjson
import pytest

from mappers.gemini import chat, dialect, write_error
from mappers.gemini.read_answer import Reader
from mappers.gemini.write_answer import Writer
from mooltiproxy.errors import BadRequest, NotFound, ProxyError, Unauthorized, UpstreamBroken, UpstreamTimeout
from mooltiproxy.mapping.framing import SSEDecoder, encode_sse, parse_event
from mooltiproxy.mapping.gather import UNFINISHED, answer_of, stream_of
from mooltiproxy.mapping.neutral import (
    Answer,
    CallArguments,
    CallStart,
    Choice,
    Failure,
    Finish,
    FinishReason,
    Part,
    Reasoning,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
    Request,
    Sampling,
    StreamEvent,
    Text,
    TextDelta,
    TokenProbability,
    Tool,
    ToolCall,
    Usage,
    UsageReport,
)
from mooltiproxy.mapping.signatures import GEMINI, mark

USAGE = {"promptTokenCount": 12, "candidatesTokenCount": 3, "totalTokenCount": 15}


def body(*parts: dict[str, Any], finish: str | None = "STOP", **fields: Any) -> dict[str, Any]:
    """An answer, or an event of a stream, with one candidate."""
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [{**candidate, **fields}], "usageMetadata": USAGE, "modelVersion": "m1"}


def call(name: str, identifier: str | None = None, **arguments: Any) -> dict[str, Any]:
    known = {"id": identifier} if identifier else {}
    return {"functionCall": {**known, "name": name, "args": arguments}}


def read(given: Any, request: Request | None = None) -> Answer:
    return chat.read_answer(given, request or Request(model="m1"))  # type: ignore[no-any-return]


def streamed(*events: Any, request: Request | None = None) -> list[StreamEvent]:
    reader = Reader(request or Request())
    found = [*(neutral for event in events for neutral in reader.read(event)), *reader.end()]
    return [event for event in found if not isinstance(event, UsageReport)]


def write(*parts: Part, finish: FinishReason = "stop", **fields: Any) -> dict[str, Any]:
    """The candidate that is written for one choice."""
    written = chat.write_answer(Answer([Choice(list(parts), finish, **fields)]), Request(model="m1"))
    candidate: dict[str, Any] = written["candidates"][0]
    return candidate


def stream(*events: StreamEvent) -> list[Any]:
    writer = Writer(Request(model="m1"))
    return [*writer.write(events), *writer.end()]


def parts_of(event: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = event["candidates"][0]["content"]["parts"]
    return found


def test_a_whole_answer_is_read() -> None:
    answer = read(body({"text": "Hi"}, {"text": " there"}))
    assert answer == Answer([Choice([Text("Hi there")], "stop")], Usage(12, 3), "m1")


def test_thoughts_calls_and_signatures_are_read() -> None:
    answer = read(
        body(
            {"text": "Hm.", "thought": True},
            {"text": "Wait"},
            {**call("f", "a1", city="Paris"), "thoughtSignature": "c2ln"},
            call("f", "b1", city="Rome"),
        )
    )
    assert answer.choices[0] == Choice(
        [
            Reasoning("Hm."),
            Text("Wait"),
            ToolCall("a1", "f", '{"city":"Paris"}', "c2ln"),
            ToolCall("b1", "f", '{"city":"Rome"}'),
        ],
        "tool_calls",
    )


def test_calls_without_ids_get_different_ones() -> None:
    first, second = read(body(call("f"), call("f"))).choices[0].parts
    assert isinstance(first, ToolCall)
    assert isinstance(second, ToolCall)
    assert first.id.startswith("call_")
    assert first.id != second.id


def test_names_that_were_replaced_come_back_as_the_clients() -> None:
    found = read(body(call("_1_a", "c1")), Request(tools=[Tool("1 a")])).choices[0].parts
    assert found == [ToolCall("c1", "1 a", "{}")]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("BLOCKLIST", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("SPII", "content_filter"),
        ("SOMETHING_NEW", "stop"),
        (None, "stop"),
    ],
)
def test_finish_reasons_are_read(word: str | None, reason: str) -> None:
    assert read(body({"text": "Hi"}, finish=word)).choices[0].finish == reason


@pytest.mark.parametrize("word", ["MALFORMED_FUNCTION_CALL", "OTHER", "MISSING_THOUGHT_SIGNATURE"])
def test_an_answer_that_the_target_gave_up_is_an_error(word: str) -> None:
    with pytest.raises(UpstreamBroken, match=f"{word}.: it went wrong"):
        read(body(finish=word, finishMessage="it went\nwrong"))


def test_a_blocked_prompt_is_an_answer_that_was_filtered() -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}}
    assert read(blocked) == Answer([Choice([], "content_filter")], Usage(4))
    assert streamed(blocked) == [Finish("content_filter")]


@pytest.mark.parametrize("given", [{}, {"candidates": []}, [], None, "text", {"promptFeedback": {}}])
def test_what_is_no_answer_is_an_error(given: Any) -> None:
    with pytest.raises(UpstreamBroken):
        read(given)


def test_an_error_with_status_200_is_an_error() -> None:
    with pytest.raises(UpstreamBroken) as caught:
        read([{"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}])
    assert (str(caught.value), caught.value.status) == ("overloaded", 503)


def test_a_picture_in_an_answer_is_not_lost_in_silence() -> None:
    with pytest.raises(UpstreamBroken, match="picture"):
        read(body({"inlineData": {"mimeType": "image/png", "data": "AAAA"}}))


def test_content_and_parts_may_be_missing() -> None:
    assert read({"candidates": [{"finishReason": "MAX_TOKENS"}]}).choices == [Choice([], "length")]
    assert read({"candidates": [{"content": {"role": "model"}}]}).choices == [Choice([], "stop")]


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        (USAGE, Usage(12, 3)),
        (
            {**USAGE, "thoughtsTokenCount": 6, "cachedContentTokenCount": 4, "toolUsePromptTokenCount": 8},
            Usage(20, 9, 4, None, 6),
        ),
        ({"promptTokenCount": 12, "thoughtsTokenCount": 6, "totalTokenCount": 18}, Usage(12, 6, reasoning=6)),
        ({"promptTokenCount": 12, "totalTokenCount": 12}, Usage(12)),
    ],
)
def test_usage_is_summed(counts: dict[str, int], usage: Usage) -> None:
    assert read({**body({"text": "Hi"}), "usageMetadata": counts}).usage == usage


def test_several_candidates_are_read_in_their_order() -> None:
    candidates = [
        {"index": 1, "content": {"parts": [{"text": "b"}]}, "finishReason": "STOP"},
        {"content": {"parts": [{"text": "a"}]}, "finishReason": "MAX_TOKENS"},
    ]
    answer = read({"candidates": candidates})
    assert answer.choices == [Choice([Text("a")], "length"), Choice([Text("b")], "stop")]


LOGPROBS = {
    "topCandidates": [
        {"candidates": [{"token": "Hi", "logProbability": -0.1}, {"token": "Ho", "logProbability": -2.0}]}
    ],
    "chosenCandidates": [{"token": "Hi", "logProbability": -0.1}],
}
PROBABILITIES = [TokenProbability("Hi", -0.1, (("Hi", -0.1), ("Ho", -2.0)))]


def test_log_probabilities_cross_both_ways() -> None:
    assert read(body({"text": "Hi"}, logprobsResult=LOGPROBS)).choices[0].logprobs == PROBABILITIES
    assert write(Text("Hi"), logprobs=PROBABILITIES)["logprobsResult"] == LOGPROBS
    assert stream(TextDelta("Hi", 0, PROBABILITIES), Finish("stop"))[0]["candidates"][0]["logprobsResult"] == LOGPROBS


def test_stops_beyond_those_that_the_target_takes_are_cut_by_us() -> None:
    request = Request(sampling=Sampling(stop=tuple("ABCDEF")))
    choice = read(body({"text": "one F two"}), request).choices[0]
    assert choice == Choice([Text("one ")], "stop", "F")
    reader = Reader(request)
    assert reader.read(body({"text": "one F two"}, finish=None))[:2] == [TextDelta("one "), Finish("stop", "F")]
    assert reader.done


def test_an_answer_read_and_written_again_is_the_same() -> None:
    given = {
        "candidates": [
            {
                "content": {
                    "parts": [
                        {"text": "Hm.", "thought": True, "thoughtSignature": "YQ=="},
                        {"text": "Wait"},
                        {**call("f", "a1", city="Paris"), "thoughtSignature": "c2ln"},
                        call("g", "b1"),
                    ],
                    "role": "model",
                },
                "finishReason": "STOP",
                "index": 0,
            }
        ],
        "usageMetadata": {**USAGE, "thoughtsTokenCount": 6, "cachedContentTokenCount": 4, "totalTokenCount": 21},
        "modelVersion": "m1",
    }
    written = chat.write_answer(read(given), Request(model="m1"))
    assert written.pop("responseId")
    assert written == given


@pytest.mark.parametrize(
    ("reason", "word"),
    [("stop", "STOP"), ("tool_calls", "STOP"), ("length", "MAX_TOKENS"), ("content_filter", "SAFETY")],
)
def test_finish_reasons_are_written(reason: FinishReason, word: str) -> None:
    assert write(Text("Hi"), finish=reason)["finishReason"] == word
    assert stream(Finish(reason))[-1]["candidates"][0]["finishReason"] == word


def test_an_empty_answer_has_an_empty_part() -> None:
    assert write()["content"] == {"parts": [{"text": ""}], "role": "model"}
    assert parts_of(stream(Finish("stop"))[0]) == [{"text": ""}]


def test_a_refusal_is_text() -> None:
    assert write(Refusal("No."))["content"]["parts"] == [{"text": "No."}]
    assert parts_of(stream(RefusalDelta("No."), Finish("stop"))[0]) == [{"text": "No."}]


def test_a_signature_that_is_no_base64_is_not_written() -> None:
    parts = write(Reasoning("Hm.", mark(GEMINI, "not base64!")), ToolCall("c1", "f", "{}", "*"))["content"]["parts"]
    assert parts == [{"text": "Hm.", "thought": True}, call("f", "c1")]


@pytest.mark.parametrize("arguments", ["{", "[]", "text"])
def test_arguments_that_are_no_object_are_an_error_and_never_empty_ones(arguments: str) -> None:
    with pytest.raises(UpstreamBroken, match="f with arguments"):
        write(ToolCall("c1", "f", arguments), finish="tool_calls")
    with pytest.raises(UpstreamBroken, match="f with arguments"):
        stream(CallStart(0, "c1", "f"), CallArguments(0, arguments), Finish("tool_calls"))


def test_a_call_that_the_limit_cut_off_is_left_out() -> None:
    candidate = write(Text("Wait"), ToolCall("c1", "f", '{"a'), finish="length")
    assert (candidate["content"]["parts"], candidate["finishReason"]) == ([{"text": "Wait"}], "MAX_TOKENS")


def test_counts_that_are_not_known_are_left_out() -> None:
    answer = Answer([Choice([], "stop")], Usage(prompt=4))
    assert chat.write_answer(answer, Request())["usageMetadata"] == {"promptTokenCount": 4}
    assert "usageMetadata" not in chat.write_answer(Answer([Choice([], "stop")]), Request())


def test_a_stream_is_read() -> None:
    events = streamed(
        body({"text": "Hm.", "thought": True}, finish=None),
        body({"text": "Hi"}, finish=None),
        body({**call("f", "a1", city="Paris"), "thoughtSignature": "c2ln"}, finish=None),
        body(call("f", "b1"), finish=None),
        {"candidates": [{"finishReason": "STOP", "index": 0}]},
    )
    assert events == [
        ReasoningDelta("Hm."),
        TextDelta("Hi"),
        CallStart(0, "a1", "f", signature="c2ln"),
        CallArguments(0, '{"city":"Paris"}'),
        CallStart(1, "b1", "f"),
        CallArguments(1, "{}"),
        Finish("tool_calls"),
    ]


def test_a_stream_of_an_old_model_has_a_finish_reason_in_every_event() -> None:
    assert streamed(body({"text": "Hi"}), body({"text": " there"})) == [
        TextDelta("Hi"),
        TextDelta(" there"),
        Finish("stop"),
    ]


def test_the_usage_of_a_stream_grows() -> None:
    reader = Reader(Request())
    first = reader.read({"usageMetadata": {"promptTokenCount": 12}})
    assert first == [UsageReport(Usage(12))]
    assert reader.read(body({"text": "Hi"}))[-1] == UsageReport(Usage(12, 3))


@pytest.mark.parametrize("events", [[], [{}], [body({"text": "Hi"}, finish=None)]])
def test_a_stream_that_ends_early_is_a_failure(events: list[Any]) -> None:
    assert streamed(*events)[-1] == Failure(UNFINISHED)


def test_an_error_in_a_stream_is_a_failure_and_its_last_event() -> None:
    error = {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}
    events = streamed(body({"text": "Hi"}, finish=None), error, body({"text": "more"}))
    assert events == [TextDelta("Hi"), Failure("overloaded", 503)]


def test_a_stream_cut_anywhere_gives_the_same_events() -> None:
    events = [
        body({"text": "Hé \u2028"}, finish=None),
        body(call("f", "a1", x="ö"), finish=None),
        {"candidates": [{"finishReason": "STOP"}]},
    ]
    data = b"".join(map(encode_sse, events)).replace(b"\n", b"\r\n")
    whole = streamed(*events)
    for cut in range(len(data)):
        decoder = SSEDecoder()
        pieces = [*decoder.feed(data[:cut]), *decoder.feed(data[cut:]), *decoder.end()]
        assert streamed(*map(parse_event, pieces)) == whole


def test_a_stream_is_written() -> None:
    events = stream(
        ReasoningDelta("Hm,"),
        ReasoningDelta(" hm."),
        ReasoningDelta("", mark(GEMINI, "c2ln")),
        TextDelta("Hi"),
        CallStart(0, "a1", "f", signature="YQ=="),
        CallStart(1, "b1", "g"),
        CallArguments(0, '{"city":'),
        CallArguments(1, "{}"),
        CallArguments(0, '"Paris"}'),
        Finish("tool_calls"),
        UsageReport(Usage(12, 9, reasoning=6)),
        TextDelta("too late"),
    )
    assert [parts_of(event) for event in events] == [
        [{"text": "Hm,", "thought": True}],
        [{"text": " hm.", "thought": True, "thoughtSignature": "c2ln"}],
        [{"text": "Hi"}],
        [{**call("f", "a1", city="Paris"), "thoughtSignature": "YQ=="}, call("g", "b1")],
    ]
    assert [event["candidates"][0].get("finishReason") for event in events] == [None, None, None, "STOP"]
    assert ["usageMetadata" in event for event in events] == [False, False, False, True]
    assert events[-1]["usageMetadata"] == {**USAGE, "thoughtsTokenCount": 6, "totalTokenCount": 21}
    assert len({event["responseId"] for event in events}) == 1
    assert {event["modelVersion"] for event in events} == {"m1"}


def test_a_streamed_thought_without_a_signature_is_whole_before_what_follows_it() -> None:
    for behind in (TextDelta("Hi"), Finish("stop")):
        first, second, *_ = stream(ReasoningDelta("Hm,"), ReasoningDelta(" hm."), behind, Finish("stop"))
        thoughts = [parts_of(first), parts_of(second)]
        assert thoughts == [[{"text": "Hm,", "thought": True}], [{"text": " hm.", "thought": True}]]


def test_events_that_say_nothing_are_not_written() -> None:
    assert len(stream(TextDelta(""), ReasoningDelta(""), Finish("stop"))) == 1


def test_an_unfinished_stream_cannot_be_ended() -> None:
    for events in ([], [TextDelta("Hi")], [Finish("stop"), TextDelta("b", 1)]):
        with pytest.raises(UpstreamBroken):
            stream(*events)


def test_several_answers_end_in_one_event() -> None:
    last = stream(TextDelta("a"), TextDelta("b", 1), Finish("stop", index=1), Finish("length"))[-1]
    ends = [(candidate["index"], candidate["finishReason"]) for candidate in last["candidates"]]
    assert ends == [(0, "MAX_TOKENS"), (1, "STOP")]


def test_whole_answers_and_streams_say_the_same() -> None:
    parts: list[Part] = [
        Reasoning("Hm.", mark(GEMINI, "c2ln")),
        Text("Hi", signature="YWE="),
        ToolCall("c1", "f", '{"a":1}', "YQ=="),
    ]
    answer = Answer([Choice(parts, "tool_calls")], Usage(1, 2))
    written = stream(*stream_of(answer))
    reader = Reader(Request())
    again = answer_of([*(neutral for event in written for neutral in reader.read(event)), *reader.end()])
    assert again == answer


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BadRequest("no", param="contents[0].role"), "INVALID_ARGUMENT"),
        (Unauthorized("no"), "UNAUTHENTICATED"),
        (NotFound("no"), "NOT_FOUND"),
        (ProxyError("no", status=413), "INVALID_ARGUMENT"),
        (ProxyError("no", status=429), "RESOURCE_EXHAUSTED"),
        (ProxyError("no"), "INTERNAL"),
        (UpstreamBroken("no"), "UNAVAILABLE"),
        (UpstreamTimeout("no"), "DEADLINE_EXCEEDED"),
    ],
)
def test_errors_have_googles_form(error: ProxyError, status: str) -> None:
    written = write_error(error, "r1")["error"]
    assert (written["code"], written["message"], written["status"]) == (error.status, "no", status)
    assert written["details"][0]["requestId"] == "r1"
    reasons = [detail.get("reason") for detail in written["details"]]
    assert ("API_KEY_INVALID" in reasons) == (error.status == 401)
    fields = [detail["fieldViolations"][0]["field"] for detail in written["details"] if "fieldViolations" in detail]
    assert fields == ([error.param] if error.param else [])
    orjson.dumps(written)


def test_the_probe_knows_its_own_kind() -> None:
    assert dialect.probe
    _, is_it = dialect.probe
    assert is_it(200, {"models": []})
    assert is_it(403, {"error": {"code": 403, "status": "PERMISSION_DENIED"}})
    assert not is_it(404, {"error": "not found"})
    assert not is_it(404, {"error": {"status": "NOT_FOUND"}})
    assert not is_it(200, {"object": "list", "data": []})
