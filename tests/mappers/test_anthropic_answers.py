"""Whole answers, token counts, models and errors of Anthropic's API, both ways."""

from typing import Any

import pytest

from mappers.anthropic import dialect, messages, models
from mappers.openai import chat
from mooltiproxy.errors import BadRequest, Forbidden, NotFound, ProxyError, Unauthorized, UpstreamBroken, UpstreamError
from mooltiproxy.mapping.neutral import (
    NOWHERE,
    Answer,
    Asked,
    Choice,
    CountAnswer,
    FinishReason,
    ModelInfo,
    ModelsAnswer,
    ModelsRequest,
    Part,
    Reasoning,
    Refusal,
    Request,
    Sampling,
    Text,
    ToolCall,
    Usage,
)
from mooltiproxy.mapping.signatures import REDACTED, mark

TEXT = {"type": "text", "text": "Hi"}
CALL = {"type": "tool_use", "id": "t1", "name": "get", "input": {"city": "Paris"}}
COUNTS = {"input_tokens": 5, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 9}


def read(*content: Any, stop: tuple[str, ...] = (), **fields: Any) -> Answer:
    body = {"type": "message", "content": list(content), "stop_reason": "end_turn", **fields}
    return messages.endpoint.read_answer(body, Request(model="m1", sampling=Sampling(stop=stop)))  # type: ignore[no-any-return]


def write(*parts: Part, finish: FinishReason = "stop", usage: Usage | None = None, **fields: Any) -> dict[str, Any]:
    answer = Answer([Choice(list(parts), finish, **fields)], usage)
    return messages.endpoint.write_answer(answer, Request(model="m1"))  # type: ignore[no-any-return]


def test_a_whole_answer_is_read() -> None:
    answer = read(TEXT, usage=COUNTS, model="claude", stop_sequence=None)
    assert answer == Answer([Choice([Text("Hi")], "stop")], Usage(12, 9, 4, 3), "claude")


def test_a_whole_answer_is_written() -> None:
    written = write(Text("Hi"), usage=Usage(12, 9, 4, 3, reasoning=2))
    assert written.pop("id").startswith("msg_")
    assert written == {
        "type": "message",
        "role": "assistant",
        "model": "m1",
        "content": [TEXT],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {**COUNTS, "output_tokens_details": {"thinking_tokens": 2}},
    }


def test_an_answer_that_is_read_and_written_is_the_same() -> None:
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m1",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "opaque"},
            {"type": "thinking", "thinking": "", "signature": "c2ln2"},
            TEXT,
            CALL,
            {**CALL, "id": "t2", "input": {}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": COUNTS,
    }
    answer = messages.endpoint.read_answer(body, Request(model="m1"))
    assert {**messages.endpoint.write_answer(answer, Request(model="m1")), "id": "msg_1"} == body


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("tool_use", "stop"),
        ("something_new", "stop"),
        (None, "stop"),
    ],
)
def test_why_an_answer_without_calls_ended_is_read(word: str | None, finish: str) -> None:
    assert read(TEXT, stop_reason=word).choices[0].finish == finish


@pytest.mark.parametrize(
    ("finish", "word"), [("stop", "end_turn"), ("length", "max_tokens"), ("tool_calls", "end_turn")]
)
def test_why_an_answer_without_calls_ended_is_written(finish: FinishReason, word: str) -> None:
    assert write(Text("Hi"), finish=finish)["stop_reason"] == word


def test_calls_end_an_answer_whatever_the_word() -> None:
    assert read(CALL).choices[0].finish == "tool_calls"
    assert write(ToolCall("t1", "get", '{"city":"Paris"}'))["stop_reason"] == "tool_use"


def test_a_stop_string_is_told() -> None:
    assert read(TEXT, stop_reason="stop_sequence", stop_sequence="END").choices[0].stop_string == "END"
    written = write(Text("Hi"), stop_string="END")
    assert (written["stop_reason"], written["stop_sequence"]) == ("stop_sequence", "END")


def test_a_stop_string_that_the_target_was_not_told_is_cut() -> None:
    (choice,) = read({"type": "text", "text": "One\n\nTwo"}, CALL, stop=("\n\n",)).choices
    assert choice == Choice([Text("One")], "stop", "\n\n")


def test_a_turn_that_the_target_paused_is_no_answer() -> None:
    with pytest.raises(UpstreamBroken, match="paused"):
        read(TEXT, stop_reason="pause_turn")


@pytest.mark.parametrize("body", [None, [], {}, {"content": "Hi"}, {"choices": []}, "text"])
def test_what_is_no_answer_is_refused(body: Any) -> None:
    with pytest.raises(UpstreamBroken):
        messages.endpoint.read_answer(body, Request())


def test_an_error_with_status_200_is_an_error() -> None:
    with pytest.raises(UpstreamBroken, match="too busy") as caught:
        messages.endpoint.read_answer(
            {"type": "error", "error": {"type": "overloaded_error", "message": "too busy"}}, Request()
        )
    assert caught.value.status == 503


def test_a_call_without_input_or_id_is_read_all_the_same() -> None:
    (call,) = read({"type": "tool_use", "name": "get"}).choices[0].parts
    assert isinstance(call, ToolCall)
    assert (call.arguments, call.id[:6]) == ("{}", "toolu_")


def test_blocks_of_unknown_kinds_are_passed_over() -> None:
    assert read({"type": "hologram"}, None, TEXT).choices[0].parts == [Text("Hi")]


@pytest.mark.parametrize(("arguments", "expected"), [("", {}), ("null", {}), (' {"a": 1} ', {"a": 1})])
def test_the_arguments_of_a_call_become_an_object(arguments: str, expected: Any) -> None:
    assert write(ToolCall("t1", "get", arguments))["content"][0]["input"] == expected


@pytest.mark.parametrize("arguments", ['{"a', "[1]", "5", "get it"])
def test_arguments_that_are_no_object_break_the_answer(arguments: str) -> None:
    with pytest.raises(UpstreamBroken, match="get"):
        write(ToolCall("t1", "get", arguments))


def test_a_call_that_the_limit_cut_off_is_left_out() -> None:
    written = write(Text("I ask."), ToolCall("t1", "get", '{"a'), finish="length")
    assert [block["type"] for block in written["content"]] == ["text"]
    assert written["stop_reason"] == "max_tokens"


def test_an_unsigned_thought_is_written_with_an_empty_signature() -> None:
    assert write(Reasoning("Hm."), Text("4"))["content"][0] == {
        "type": "thinking",
        "thinking": "Hm.",
        "signature": "",
    }


def test_what_is_secret_of_a_thought_follows_it() -> None:
    kinds = [
        block["type"] for block in write(Reasoning("Summary."), Reasoning("", mark(REDACTED, "opaque")))["content"]
    ]
    assert kinds == ["thinking", "redacted_thinking"]


def test_a_refusal_is_text_and_says_so() -> None:
    written = write(Refusal("No."))
    assert (written["content"], written["stop_reason"]) == ([{"type": "text", "text": "No."}], "refusal")


def test_an_empty_answer_has_no_blocks() -> None:
    written = write()
    assert (written["content"], written["stop_reason"]) == ([], "end_turn")


def test_unknown_counts_are_zero_since_the_api_wants_numbers() -> None:
    assert set(write(Text("Hi"))["usage"].values()) == {0}


def test_cached_tokens_are_no_input_of_theirs_and_of_ours() -> None:
    answer = read(TEXT, usage={"input_tokens": 5, "cache_read_input_tokens": 100, "output_tokens": 1})
    assert answer.usage == Usage(prompt=105, answer=1, cached=100)
    usage = chat.write_answer(answer, Request(model="m1"))["usage"]
    assert (usage["prompt_tokens"], usage["prompt_tokens_details"]) == (105, {"cached_tokens": 100})


def test_thoughts_are_counted() -> None:
    usage = {"input_tokens": 5, "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}}
    assert read(TEXT, usage=usage).usage == Usage(5, 9, reasoning=4)


def test_a_count_is_read_and_written() -> None:
    endpoint = messages.count_endpoint
    assert endpoint.read_answer({"input_tokens": 7}, Request()) == CountAnswer(7)
    assert endpoint.write_answer(CountAnswer(7), Request()) == {"input_tokens": 7}
    with pytest.raises(UpstreamBroken):
        endpoint.read_answer({"tokens": 7}, Request())


MODEL = {
    "type": "model",
    "id": "m1",
    "display_name": "m1",
    "created_at": "2023-11-14T22:13:20Z",
    "lifecycle": "active",
    "max_input_tokens": 200000,
    "max_tokens": 64000,
}
INFO = ModelInfo("m1", created=1700000000, context=200000, max_output=64000)


def test_models_are_read_and_written_again() -> None:
    page = {"data": [MODEL], "has_more": False, "first_id": "m1", "last_id": "m1"}
    answer = models.read_answer(page, ModelsRequest())
    assert answer == ModelsAnswer([INFO])
    assert models.write_answer(answer, ModelsRequest()) == page


def test_one_model_is_read_and_written_again() -> None:
    answer = models.read_answer(MODEL, ModelsRequest("m1"))
    assert answer == ModelsAnswer([INFO])
    assert models.write_answer(answer, ModelsRequest("m1")) == MODEL


def test_no_models_are_an_empty_page() -> None:
    empty = {"data": [], "has_more": False, "first_id": None, "last_id": None}
    assert models.write_answer(ModelsAnswer([]), ModelsRequest()) == empty


def test_a_model_of_unknown_age_is_from_1970() -> None:
    (model,) = models.write_answer(ModelsAnswer([ModelInfo("m1")]), ModelsRequest())["data"]
    assert model["created_at"] == "1970-01-01T00:00:00Z"


def test_a_model_that_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFound):
        models.write_answer(ModelsAnswer([INFO]), ModelsRequest("m2"))


def test_models_are_asked_for_on_one_page_and_one_by_its_name() -> None:
    assert models.write_request(models.read_request(None, NOWHERE), {}).path == "/v1/models?limit=1000"
    assert models.write_request(models.read_request(None, Asked(model="a/b")), {}).path == "/v1/models/a/b"


@pytest.mark.parametrize("name", ["..", "a/../b", "a?b", "a b", ""])
def test_a_name_that_would_lead_to_another_path_is_refused(name: str) -> None:
    with pytest.raises(BadRequest):
        models.write_request(ModelsRequest(name), {})


def test_an_error_has_anthropics_form() -> None:
    assert dialect.write_error(BadRequest("n: too many"), "req-1") == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "n: too many"},
        "request_id": "req-1",
    }
    assert dialect.write_stream_error(BadRequest("x"), "r") == dialect.write_error(BadRequest("x"), "r")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Unauthorized("no"), "authentication_error"),
        (Forbidden("no"), "permission_error"),
        (NotFound("no"), "not_found_error"),
        (UpstreamError("no", status=413), "request_too_large"),
        (UpstreamError("no", status=422), "invalid_request_error"),
        (UpstreamError("no", status=429), "rate_limit_error"),
        (UpstreamError("no", status=500), "api_error"),
        (UpstreamBroken("no"), "api_error"),
        (UpstreamError("no", status=503), "overloaded_error"),
        (UpstreamError("no", status=504), "timeout_error"),
    ],
)
def test_the_type_of_an_error_follows_its_status(error: ProxyError, kind: str) -> None:
    assert dialect.write_error(error, "r")["error"]["type"] == kind


def test_too_long_a_conversation_is_told_in_the_words_that_clients_look_for() -> None:
    error = BadRequest("maximum context length is 8192", code="context_length_exceeded")
    assert dialect.write_error(error, "r")["error"]["message"] == "prompt is too long: maximum context length is 8192"
    again = BadRequest("Prompt is too long", code="context_length_exceeded")
    assert dialect.write_error(again, "r")["error"]["message"] == "Prompt is too long"


@pytest.mark.parametrize(
    ("status", "body", "speaks"),
    [
        (200, {"data": [MODEL], "has_more": False, "first_id": "m1", "last_id": "m1"}, True),
        (401, {"type": "error", "error": {"type": "authentication_error", "message": "no"}}, True),
        (200, {"object": "list", "data": []}, False),
        (401, {"error": {"message": "no"}}, False),
        (404, None, False),
    ],
)
def test_a_server_of_this_api_is_known_by_its_list_of_models(status: int, body: Any, speaks: bool) -> None:
    assert dialect.probe is not None
    assert dialect.probe[1](status, body) is speaks


def test_what_a_model_can_is_read() -> None:
    told = {"image_input": {"supported": True}, "thinking": {"supported": False}, "batch": None}
    (known,) = models.read_answer({**MODEL, "capabilities": told}, ModelsRequest("m1")).models
    (unknown,) = models.read_answer(MODEL, ModelsRequest("m1")).models
    assert (known.capabilities, unknown.capabilities) == (("completion", "tools", "vision"), None)
