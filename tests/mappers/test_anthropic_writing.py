"""Requests for targets that speak Anthropic's API, written."""

import copy
from typing import Any

import pytest

from mappers.anthropic import messages
from mappers.openai import chat
from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.dialect import Written
from mooltiproxy.mapping.neutral import (
    Audio,
    Document,
    Image,
    OutputFormat,
    Part,
    Reasoning,
    ReasoningOptions,
    Refusal,
    Request,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from mooltiproxy.mapping.signatures import ANTHROPIC, REDACTED, mark

PNG = "iVBORw0KGgoAAAANSUhEUg=="
GET = Tool("get", "Gets", {"type": "object", "properties": {}})


def request(**fields: Any) -> Request:
    return Request(**{"model": "m1", "turns": [Turn("user", [Text("Hi")])], **fields})


def write(**fields: Any) -> Written:
    return messages.write_request(request(**fields), {})


def body(**fields: Any) -> dict[str, Any]:
    return write(**fields).body


def spoken(*turns: Turn, **fields: Any) -> list[Any]:
    written: list[Any] = body(turns=list(turns), **fields)["messages"]
    return written


def user(*parts: Part) -> Turn:
    return Turn("user", list(parts))


def assistant(*parts: Part) -> Turn:
    return Turn("assistant", list(parts))


def refused(**fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        write(**fields)
    return caught.value


def test_a_plain_request_is_written() -> None:
    sampling = Sampling(temperature=0.5, top_p=0.9, top_k=40, stop=("END",), max_tokens=64)
    turns = [Turn("system", [Text("Be brief.")]), Turn("user", [Text("Say hi")])]
    assert write(turns=turns, sampling=sampling, user="u1", stream=True) == Written(
        {
            "model": "m1",
            "system": "Be brief.",
            "messages": [{"role": "user", "content": "Say hi"}],
            "max_tokens": 64,
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 40,
            "stop_sequences": ["END"],
            "metadata": {"user_id": "u1"},
            "stream": True,
        }
    )


def test_a_request_that_does_not_say_how_many_tokens_gets_a_number_unnamed() -> None:
    assert write().body["max_tokens"] == 4096
    assert write().dropped == ()
    assert messages.write_request(request(), {"max_tokens": 8192}).body["max_tokens"] == 8192


def test_more_tokens_than_the_model_can_are_lowered_and_named() -> None:
    written = messages.write_request(request(sampling=Sampling(max_tokens=100)), {"max_tokens": 50})
    assert (written.body["max_tokens"], written.dropped) == (50, ("clamped max_tokens 100->50",))


def test_a_temperature_above_one_is_clamped_and_not_scaled() -> None:
    written = write(sampling=Sampling(temperature=1.5))
    assert (written.body["temperature"], written.dropped) == (1, ("clamped temperature 1.5->1",))


def test_what_the_api_does_not_have_is_named() -> None:
    sampling = Sampling(
        seed=0,
        presence_penalty=1,
        frequency_penalty=1,
        repetition_penalty=1.1,
        min_p=0.1,
        typical_p=0.9,
        logit_bias={"1": 1},
    )
    written = write(sampling=sampling, keep_alive="5m", extra={"verbosity": "low", "store": True})
    assert written.body.keys() == {"model", "messages", "max_tokens"}
    assert sorted(written.dropped) == [
        "frequency_penalty",
        "keep_alive",
        "logit_bias",
        "min_p",
        "presence_penalty",
        "repetition_penalty",
        "seed",
        "store",
        "typical_p",
        "verbosity",
    ]


def test_values_that_do_nothing_are_not_worth_a_word() -> None:
    sampling = Sampling(presence_penalty=0, frequency_penalty=0, repetition_penalty=1, min_p=0, typical_p=1, n=1)
    assert write(sampling=sampling).dropped == ()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"sampling": Sampling(n=2)}, "n"),
        ({"sampling": Sampling(best_of=2)}, "best_of"),
        ({"sampling": Sampling(logprobs=True)}, "logprobs"),
        ({"output": OutputFormat("json")}, "response_format"),
        ({"output": OutputFormat("regex", "a+")}, "response_format"),
        ({"prompt": "Once", "turns": []}, "prompt"),
        ({"turns": [Turn("user", [Text(" ")])]}, "messages"),
        ({"turns": [Turn("user", [Audio("aGk=", "wav")])]}, "messages"),
        ({"turns": [Turn("user", [Image("image/tiff", "aGk=")])]}, "messages"),
        ({"turns": [Turn("user", [Image(file_id="file-of-openai")])]}, "messages"),
        ({"turns": [Turn("user", [Document("application/zip", "aGk=")])]}, "messages"),
        ({"turns": [Turn("assistant", [ToolCall("a", "get", '{"cut')])]}, "messages"),
        ({"turns": [Turn("system", [Image(url="https://x/a.png")]), Turn("user", [Text("Hi")])]}, "messages"),
    ],
)
def test_what_would_change_the_meaning_unseen_is_refused(fields: dict[str, Any], param: str) -> None:
    assert refused(**fields).param == param


def test_leading_system_messages_are_joined() -> None:
    written = body(turns=[Turn("system", [Text("A")]), Turn("system", [Text("B")]), user(Text("Hi"))])
    assert written["system"] == "A\n\nB"


def test_a_later_system_message_stays_where_it_is() -> None:
    turns = (user(Text("Hi")), Turn("system", [Text("Now in French.")]), user(Text("Go on")))
    assert [message["role"] for message in spoken(*turns)] == ["user", "system", "user"]


def test_a_later_system_message_is_marked_for_models_that_know_no_such_turn() -> None:
    turns = (user(Text("Hi")), assistant(Text("Ho")), Turn("system", [Text("In French.")]), user(Text("Go on")))
    *_, last = spoken(*turns, model="claude-sonnet-4-5")
    assert last["role"] == "user"
    assert [block["text"] for block in last["content"]] == ["<system>\nIn French.\n</system>", "Go on"]


def test_a_marked_system_message_never_moves_behind_an_answer() -> None:
    turns = (user(Text("Hi")), Turn("system", [Text("In French.")]), assistant(Text("Salut")), user(Text("Go on")))
    first, *_ = spoken(*turns, model="claude-sonnet-4-5")
    assert [block["text"] for block in first["content"]] == ["Hi", "<system>\nIn French.\n</system>"]


def test_neighbours_of_one_role_become_one_message() -> None:
    (message,) = spoken(user(Text("One")), user(Text("Two")))
    assert [block["text"] for block in message["content"]] == ["One", "Two"]


def test_empty_texts_are_left_out_and_their_neighbours_meet() -> None:
    assert spoken(user(Text("One")), assistant(Text("")), user(Text("\n"), Text("Two"))) == [
        {"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": "Two"}]}
    ]


def test_a_conversation_that_begins_with_the_assistant_gets_a_first_turn_and_says_so() -> None:
    written = write(turns=[assistant(Text("Hello")), user(Text("Hi"))])
    assert written.body["messages"][0] == {"role": "user", "content": "."}
    assert written.dropped == ("clamped messages[0].role assistant->user",)


def test_an_answer_to_go_on_with_loses_the_whitespace_at_its_end() -> None:
    assert spoken(user(Text("Hi")), assistant(Text("Hello \n")))[-1]["content"] == "Hello"


def test_names_of_speakers_are_named() -> None:
    assert write(turns=[Turn("user", [Text("Hi")], "bob"), Turn("user", [Text("Ho")], "al")]).dropped == (
        "messages.name",
    )


def test_every_result_of_a_turn_is_in_the_next_message_before_its_text() -> None:
    calls = assistant(Text("I ask."), ToolCall("a", "get", '{"x": 1}'), ToolCall("b", "get", ""))
    results = (Turn("tool", [ToolResult("a", [Text("1")])]), Turn("tool", [ToolResult("b", [], is_error=True)]))
    assert spoken(user(Text("Hi")), calls, *results, user(Text("So?")), tools=[GET])[1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I ask."},
                {"type": "tool_use", "id": "a", "name": "get", "input": {"x": 1}},
                {"type": "tool_use", "id": "b", "name": "get", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "1"},
                {"type": "tool_result", "tool_use_id": "b", "is_error": True},
                {"type": "text", "text": "So?"},
            ],
        },
    ]


def test_results_come_first_also_where_a_text_was_said_before_them() -> None:
    turns = (user(Text("Hi")), assistant(ToolCall("a", "get", "{}")), user(Text("Wait")))
    *_, last = spoken(*turns, Turn("tool", [ToolResult("a", [Text("1")])]), tools=[GET])
    assert [block["type"] for block in last["content"]] == ["tool_result", "text"]


def test_an_image_in_a_result_stays_in_it() -> None:
    turns = (user(Text("Hi")), assistant(ToolCall("a", "get", "{}")))
    *_, last = spoken(*turns, Turn("tool", [ToolResult("a", [Text("Look"), Image("image/png", PNG)])]), tools=[GET])
    assert [block["type"] for block in last["content"][0]["content"]] == ["text", "image"]


def test_illegal_ids_of_calls_are_made_legal_and_stay_linked() -> None:
    turns = (user(Text("Hi")), assistant(ToolCall("a.b", "get", "{}"), ToolCall("a_b", "get", "{}")))
    results = Turn("tool", [ToolResult("a.b", [Text("1")]), ToolResult("a_b", [Text("2")])])
    _, calls, last = spoken(*turns, results, tools=[GET])
    assert [block["id"] for block in calls["content"]] == ["a_b_2", "a_b"]
    assert [block["tool_use_id"] for block in last["content"]] == ["a_b_2", "a_b"]


def test_signed_thoughts_are_given_back_and_others_left_out_by_name() -> None:
    said = assistant(
        Reasoning("Hm.", mark(ANTHROPIC, "c2ln")), Reasoning("", mark(REDACTED, "opaque")), Reasoning("Own."), Text("4")
    )
    written = write(turns=[user(Text("2+2?")), said, user(Text("Sure?"))])
    assert written.body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "opaque"},
        {"type": "text", "text": "4"},
    ]
    assert written.dropped == ("messages.reasoning_content",)


def test_a_refusal_in_the_history_is_text() -> None:
    assert spoken(user(Text("Hi")), assistant(Refusal("No.")), user(Text("Why?")))[1]["content"] == "No."


@pytest.mark.parametrize(
    ("image", "source"),
    [
        (Image("image/png", PNG), {"type": "base64", "media_type": "image/png", "data": PNG}),
        (Image(data=PNG), {"type": "base64", "media_type": "image/png", "data": PNG}),
        (Image(url="https://x/a.png"), {"type": "url", "url": "https://x/a.png"}),
        (Image(file_id="file_1"), {"type": "file", "file_id": "file_1"}),
    ],
)
def test_an_image_of_every_kind_is_written(image: Image, source: dict[str, str]) -> None:
    assert spoken(user(image, Text("What?")))[0]["content"][0] == {"type": "image", "source": source}


def test_how_closely_to_look_at_an_image_is_named() -> None:
    assert write(turns=[user(Image("image/png", PNG, detail="low"))]).dropped == ("messages.detail",)


@pytest.mark.parametrize(
    ("document", "source"),
    [
        (
            Document("application/pdf", "aGk="),
            {"type": "base64", "media_type": "application/pdf", "data": "aGk="},
        ),
        (Document("text/markdown", "aGk="), {"type": "text", "media_type": "text/plain", "data": "hi"}),
        (Document(url="https://x/a.pdf"), {"type": "url", "url": "https://x/a.pdf"}),
        (Document(file_id="file_1"), {"type": "file", "file_id": "file_1"}),
    ],
)
def test_a_document_of_every_kind_is_written(document: Document, source: dict[str, str]) -> None:
    assert spoken(user(document))[0]["content"] == [{"type": "document", "source": source}]


def test_a_tool_without_arguments_has_an_object_of_nothing() -> None:
    assert body(tools=[Tool("get", strict=True)])["tools"] == [
        {"name": "get", "input_schema": {"type": "object", "properties": {}}, "strict": True}
    ]


def test_an_illegal_name_of_a_tool_is_made_legal_and_read_back() -> None:
    asked = request(tools=[Tool("a.b"), Tool("a_b")], tool_choice=ToolChoice("required", ("a.b",)))
    written = messages.write_request(asked, {}).body
    assert [tool["name"] for tool in written["tools"]] == ["a_b_2", "a_b"]
    assert written["tool_choice"] == {"type": "tool", "name": "a_b_2"}
    block = {"type": "tool_use", "id": "t", "name": "a_b_2", "input": {}}
    answer = messages.endpoint.read_answer({"content": [block], "stop_reason": "tool_use"}, asked)
    assert answer.choices[0].parts == [ToolCall("t", "a.b", "{}")]


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (None, None, None),
        (None, True, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice("auto"), None, {"type": "auto"}),
        (ToolChoice("none"), False, {"type": "none"}),
        (ToolChoice("required"), False, {"type": "any", "disable_parallel_tool_use": True}),
        (ToolChoice("required", ("get",)), None, {"type": "tool", "name": "get"}),
    ],
)
def test_a_choice_among_tools_is_written(choice: ToolChoice | None, parallel: bool | None, expected: Any) -> None:
    written = body(tools=[GET], tool_choice=choice, parallel_tool_calls=parallel)
    assert written.get("tool_choice") == expected


def test_a_choice_among_several_tools_leaves_out_the_others() -> None:
    tools = [Tool("a"), Tool("b"), Tool("c")]
    written = body(tools=tools, tool_choice=ToolChoice("required", ("a", "c")))
    assert [tool["name"] for tool in written["tools"]] == ["a", "c"]
    assert written["tool_choice"] == {"type": "any"}


def test_a_history_of_calls_needs_tools_even_where_none_may_be_called() -> None:
    turns = [user(Text("Hi")), assistant(ToolCall("a", "get", "{}")), Turn("tool", [ToolResult("a", [Text("1")])])]
    written = body(turns=turns)
    assert [tool["name"] for tool in written["tools"]] == ["get"]
    assert written["tool_choice"] == {"type": "none"}


def test_a_schema_is_written() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    written = write(output=OutputFormat("schema", schema, "city", True))
    assert written.body["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    assert written.dropped == ()


def test_the_vendor_gets_closed_objects_and_the_client_is_told() -> None:
    inner = {"type": "object", "properties": {"type": {"type": "string"}}, "default": {"type": "object"}}
    schema = {"type": "object", "properties": {"a": inner, "b": {"type": "object", "additionalProperties": True}}}
    before = copy.deepcopy(schema)
    written = write(model="claude-opus-4-6", output=OutputFormat("schema", schema))
    closed = written.body["output_config"]["format"]["schema"]
    assert schema == before
    assert closed["additionalProperties"] is False
    assert closed["properties"]["a"] == {**inner, "additionalProperties": False}
    assert closed["properties"]["b"] == {"type": "object", "additionalProperties": True}
    assert written.dropped == ("clamped response_format additionalProperties->false",)


def test_fields_of_the_same_dialect_come_back_where_they_were() -> None:
    cache = {"type": "ephemeral", "ttl": "1h"}
    asked = {
        "model": "m1",
        "max_tokens": 64,
        "system": [{"type": "text", "text": "A"}, {"type": "text", "text": "B", "cache_control": cache}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Read", "cache_control": cache},
                    {
                        "type": "document",
                        "source": {"type": "content", "content": [{"type": "text", "text": "One"}]},
                        "title": "T",
                        "context": "C",
                        "citations": {"enabled": True},
                    },
                ],
            },
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "t", "name": "get", "input": {}, "caller": {"type": "direct"}}],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "cache_control": cache}]},
        ],
        "tools": [
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 2},
            {"name": "get", "input_schema": {"type": "object"}, "defer_loading": True, "cache_control": cache},
        ],
        "thinking": {"type": "between_tools"},
        "cache_control": {"type": "ephemeral"},
        "context_management": {"edits": []},
        "container": "c1",
        "service_tier": "standard_only",
        "inference_geo": "eu",
    }
    assert messages.write_request(messages.read_request(asked), {}) == Written(asked)


def test_a_field_of_the_same_name_in_another_dialects_shape_is_named() -> None:
    extra = {"service_tier": "flex", "thinking": {"type": "enabled"}, "context_management": [], "citations": True}
    written = write(extra=extra)
    assert written.body.keys() == {"model", "messages", "max_tokens"}
    assert written.dropped == ("citations", "context_management", "service_tier", "thinking")


def test_a_count_is_asked_with_nothing_that_shapes_an_answer() -> None:
    asked = request(
        sampling=Sampling(temperature=2, max_tokens=5, seed=1),
        stream=True,
        user="u",
        tools=[GET],
        extra={"store": True},
    )
    written = messages.write_count_request(asked, {})
    assert written.body.keys() == {"model", "messages", "tools"}
    assert written.dropped == ("store",)


def test_a_chat_of_openais_clients_is_written_whole() -> None:
    asked = chat.read_request(
        {
            "model": "m1",
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}],
                },
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"id": "call_1", "type": "function", "function": {"name": "get", "arguments": "{}"}},
                        {"id": "call_2", "type": "function", "function": {"name": "get", "arguments": "{}"}},
                    ],
                },
                {"role": "tool", "tool_call_id": "call_1", "content": "1"},
                {"role": "tool", "tool_call_id": "call_2", "content": "2"},
            ],
            "tools": [{"type": "function", "function": {"name": "get"}}],
            "parallel_tool_calls": False,
            "reasoning_effort": "minimal",
        }
    )
    assert messages.write_request(asked, {}) == Written(
        {
            "model": "m1",
            "system": "Be brief.",
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
                    ],
                },
                {
                    "role": "assistant",
                    "content": [
                        {"type": "tool_use", "id": "call_1", "name": "get", "input": {}},
                        {"type": "tool_use", "id": "call_2", "name": "get", "input": {}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "call_1", "content": "1"},
                        {"type": "tool_result", "tool_use_id": "call_2", "content": "2"},
                    ],
                },
            ],
            "tools": [{"name": "get", "input_schema": {"type": "object", "properties": {}}}],
            "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
            "max_tokens": 4096,
            "thinking": {"type": "adaptive"},
            "output_config": {"effort": "low"},
        }
    )


def test_reasoning_options_alone_ask_for_thoughts_at_the_models_own_measure() -> None:
    assert body(reasoning=ReasoningOptions())["thinking"] == {"type": "adaptive"}


def test_a_file_by_url_that_is_no_pdf_is_refused() -> None:
    with pytest.raises(BadRequest, match="video/mp4"):
        write(turns=[user(Document("video/mp4", url="https://youtu.be/x"))])


def test_a_request_without_a_model_is_refused() -> None:
    for write_one in (messages.write_request, messages.write_count_request):
        with pytest.raises(BadRequest, match="models:") as caught:
            write_one(Request(turns=[user(Text("Hi"))]), {})
        assert caught.value.param == "model"
