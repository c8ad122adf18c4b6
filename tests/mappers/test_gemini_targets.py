"""What a Gemini-speaking target is asked."""

from typing import Any

import pytest

from mappers.gemini import chat
from mappers.gemini.signatures import SKIP
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
from mooltiproxy.mapping.signatures import GEMINI, OPENAI, mark

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
USER = Turn("user", [Text("Say hi")])
PNG = "iVBORw0KGgo="
OLD, NEW = "gemini-2.5-flash", "gemini-3-pro"


def written(*turns: Turn, model: str | None = OLD, **fields: Any) -> Written:
    return chat.write_request(Request(model=model, turns=list(turns) or [USER], **fields), {})


def contents(*turns: Turn, model: str = OLD) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = written(*turns, model=model).body["contents"]
    return found


def generation(model: str = OLD, **fields: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The generationConfig of these sampling fields, and what was dropped."""
    sent = written(model=model, sampling=Sampling(**fields))
    return sent.body.get("generationConfig", {}), sent.dropped


def refused(*turns: Turn, **fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        written(*turns, **fields)
    return caught.value


def user(*parts: Part) -> Turn:
    return Turn("user", list(parts))


@pytest.mark.parametrize("name", ["m1", "models/m1"])
def test_the_path_names_the_model_and_whether_to_stream(name: str) -> None:
    assert written(model=name).path == "/v1beta/models/m1:generateContent"
    assert written(model=name, stream=True).path == "/v1beta/models/m1:streamGenerateContent?alt=sse"


@pytest.mark.parametrize("name", [None, "", "..", "a/../b", "a?b", "a#b", "a b", "a%2f", "/a", "a\r\nb"])
def test_a_model_that_no_path_can_hold_is_refused(name: str | None) -> None:
    assert refused(model=name).param == "model"


def test_sampling_is_written_field_by_field() -> None:
    config, dropped = generation(
        temperature=0.5, top_p=0.9, top_k=40, seed=7, stop=("a",), max_tokens=64, n=2, logprobs=True, top_logprobs=3
    )
    assert config == {
        "temperature": 0.5,
        "topP": 0.9,
        "topK": 40,
        "candidateCount": 2,
        "maxOutputTokens": 64,
        "stopSequences": ["a"],
        "seed": 7,
        "responseLogprobs": True,
        "logprobs": 3,
    }
    assert dropped == ()


@pytest.mark.parametrize(
    ("fields", "config", "dropped"),
    [
        ({"temperature": 2.5}, {"temperature": 2}, "clamped temperature 2.5->2"),
        ({"presence_penalty": 2}, {"presencePenalty": 1.99}, "clamped presence_penalty 2->1.99"),
        ({"seed": 2**31 + 5}, {"seed": -(2**31) + 5}, "clamped seed 2147483653->-2147483643"),
        ({"min_p": 0.1}, {}, "min_p"),
        ({"typical_p": 0.1}, {}, "typical_p"),
        ({"repetition_penalty": 1.1}, {}, "repetition_penalty"),
        ({"logit_bias": {"1": 2}}, {}, "logit_bias"),
    ],
)
def test_what_is_out_of_bounds_is_clamped_and_what_is_unknown_dropped(
    fields: dict[str, Any], config: dict[str, Any], dropped: str
) -> None:
    assert generation(**fields) == (config, (dropped,))


@pytest.mark.parametrize("top_k", [0, -1])
def test_no_limit_of_tokens_to_choose_from_is_not_said(top_k: int) -> None:
    assert generation(top_k=top_k) == ({}, ())


def test_only_five_stops_are_sent() -> None:
    assert generation(stop=tuple("abcdefg"))[0] == {"stopSequences": list("abcde")}


@pytest.mark.parametrize(("name", "value"), [("n", 9), ("best_of", 2), ("max_tokens", 0)])
def test_what_would_change_the_answer_unseen_is_refused(name: str, value: int) -> None:
    assert refused(sampling=Sampling(**{name: value})).param == name  # type: ignore[arg-type]


def test_what_the_target_cannot_be_told_is_named() -> None:
    tools = [Tool("f", schema=SCHEMA, strict=True)]
    sent = written(tools=tools, parallel_tool_calls=False, user="me", keep_alive="5m", extra={"store": True, "a": 1})
    assert sent.dropped == ("a", "store", "tools.strict", "parallel_tool_calls", "user", "keep_alive")
    assert sent.body.keys() == {"contents", "tools"}


def test_formats_are_written() -> None:
    json = {"responseMimeType": "application/json"}
    assert written(output=OutputFormat("json")).body["generationConfig"] == json
    schema = OutputFormat("schema", SCHEMA, "city", True)
    assert written(output=schema).body["generationConfig"] == {**json, "responseJsonSchema": SCHEMA}
    assert refused(output=OutputFormat("regex", "a+")).param == "response_format"


@pytest.mark.parametrize(
    ("model", "options", "thinking", "dropped"),
    [
        (OLD, {"effort": "none"}, {"thinkingBudget": 0}, ()),
        (OLD, {"effort": "minimal"}, {"thinkingBudget": 512}, ()),
        (OLD, {"effort": "low"}, {"thinkingBudget": 1024}, ()),
        (OLD, {"effort": "medium"}, {"thinkingBudget": 8192}, ()),
        (OLD, {"effort": "max"}, {"thinkingBudget": 24576}, ()),
        (OLD, {"budget": 31999}, {"thinkingBudget": 24576}, ("31999->24576",)),
        ("gemini-2.5-pro", {"effort": "none"}, {"thinkingBudget": 128}, ("none->128",)),
        ("gemini-2.5-pro", {"budget": 31999}, {"thinkingBudget": 31999}, ()),
        (NEW, {"effort": "medium"}, {"thinkingLevel": "MEDIUM"}, ()),
        (NEW, {"effort": "xhigh"}, {"thinkingLevel": "XHIGH"}, ()),
        (NEW, {"budget": 2000}, {"thinkingBudget": 2000}, ()),
    ],
)
def test_thinking_is_a_budget_for_old_models_and_a_level_for_new_ones(
    model: str, options: dict[str, Any], thinking: dict[str, Any], dropped: tuple[str, ...]
) -> None:
    sent = written(model=model, reasoning=ReasoningOptions(**options, show=False))
    assert sent.body["generationConfig"] == {"thinkingConfig": thinking}
    assert sent.dropped == tuple(f"clamped reasoning_effort {entry}" for entry in dropped)


@pytest.mark.parametrize(
    ("options", "thinking"),
    [
        (ReasoningOptions(show=True), {"includeThoughts": True}),
        (ReasoningOptions(budget=99), {"thinkingBudget": 99, "includeThoughts": True}),
        (ReasoningOptions(budget=99, show=False), {"thinkingBudget": 99}),
        (ReasoningOptions(effort="none"), {"thinkingBudget": 0}),
    ],
)
def test_thoughts_are_asked_for_unless_the_client_wants_none(
    options: ReasoningOptions, thinking: dict[str, Any]
) -> None:
    assert written(reasoning=options).body["generationConfig"] == {"thinkingConfig": thinking}


@pytest.mark.parametrize(("effort", "level"), [("none", "minimal"), ("max", "high")])
def test_an_effort_that_new_models_do_not_know_is_clamped(effort: str, level: str) -> None:
    sent = written(model=NEW, reasoning=ReasoningOptions(effort=effort, show=False))
    assert sent.body["generationConfig"]["thinkingConfig"] == {"thinkingLevel": level.upper()}
    assert sent.dropped == (f"clamped reasoning_effort {effort}->{level}",)


def test_models_that_do_not_think_are_not_told_to() -> None:
    sent = written(model="gemini-2.0-flash", reasoning=ReasoningOptions(effort="high"))
    assert (list(sent.body), sent.dropped) == (["contents"], ("reasoning_effort",))


def test_an_effort_that_is_none_is_refused() -> None:
    assert refused(reasoning=ReasoningOptions(effort="huge")).param == "reasoning_effort"


@pytest.mark.parametrize(
    ("choice", "calling"),
    [
        (ToolChoice("auto"), {"mode": "AUTO"}),
        (ToolChoice("none"), {"mode": "NONE"}),
        (ToolChoice("required"), {"mode": "ANY"}),
        (ToolChoice("required", ("f",)), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
        (ToolChoice("auto", ("f",)), {"mode": "VALIDATED", "allowedFunctionNames": ["f"]}),
    ],
)
def test_choices_of_tools_are_written(choice: ToolChoice, calling: dict[str, Any]) -> None:
    body = written(tools=[Tool("f", "F", SCHEMA)], tool_choice=choice).body
    assert body["toolConfig"] == {"functionCallingConfig": calling}


@pytest.mark.parametrize("schema", [None, {}, {"type": "object"}, {"type": "object", "properties": {}}])
def test_a_function_without_parameters_has_no_schema(schema: dict[str, Any] | None) -> None:
    assert written(tools=[Tool("f", schema=schema)]).body["tools"] == [{"functionDeclarations": [{"name": "f"}]}]


def test_names_that_the_target_refuses_are_replaced_without_collisions() -> None:
    tools = [Tool("1 a"), Tool("_1_a"), Tool("x" * 70), Tool("x" * 69), Tool("a.b:c-d")]
    body = written(tools=tools, tool_choice=ToolChoice("required", ("1 a",))).body
    names = [function["name"] for function in body["tools"][0]["functionDeclarations"]]
    assert names == ["_1_a_2", "_1_a", "x" * 64, "x" * 62 + "_2", "a.b:c-d"]
    assert body["toolConfig"]["functionCallingConfig"]["allowedFunctionNames"] == ["_1_a_2"]


def test_leading_system_messages_are_the_instruction() -> None:
    body = written(Turn("system", [Text("Be brief.")]), Turn("system", [Text("Be kind.")]), USER).body
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief.\n\nBe kind."}]}
    assert body["contents"] == [{"role": "user", "parts": [{"text": "Say hi"}]}]


def test_a_later_system_message_stays_where_it_is_and_is_marked() -> None:
    sent = written(USER, Turn("assistant", [Text("Hi")]), Turn("system", [Text("Be kind.")]), user(Text("Go")))
    assert sent.body["contents"][2] == {
        "role": "user",
        "parts": [{"text": "<system>\nBe kind.\n</system>"}, {"text": "Go"}],
    }
    assert sent.dropped == ("messages.system",)


@pytest.mark.parametrize("turn", [Turn("assistant", [Text("Hi")]), Turn("system", [Text("Hi")])])
def test_a_conversation_begins_with_the_user(turn: Turn) -> None:
    sent = written(turn)
    assert sent.body["contents"][0] == {"role": "user", "parts": [{"text": "."}]}
    assert sent.dropped == ("clamped messages[0].role assistant->user",)


def test_neighbours_of_one_role_are_merged_and_empty_ones_left_out() -> None:
    turns = [user(Text("a")), user(Text("")), user(), Turn("assistant", []), user(Text("b"))]
    assert contents(*turns) == [{"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}]


def test_names_of_speakers_are_dropped_by_name() -> None:
    assert written(Turn("user", [Text("a")], "Ann"), Turn("user", [Text("b")], "Bob")).dropped == ("messages.name",)


def test_media_are_written() -> None:
    parts: list[Part] = [
        Image(media_type="image/webp", data=PNG),
        Image(data=PNG),
        Audio("AAA=", "wav"),
        Document(data=PNG),
        Image(media_type="image/png", url="gs://bucket/a.png"),
        Document(url="https://www.youtube.com/watch?v=x"),
    ]
    assert contents(user(*parts))[0]["parts"] == [
        {"inlineData": {"mimeType": "image/webp", "data": PNG}},
        {"inlineData": {"mimeType": "image/png", "data": PNG}},
        {"inlineData": {"mimeType": "audio/wav", "data": "AAA="}},
        {"inlineData": {"mimeType": "application/pdf", "data": PNG}},
        {"fileData": {"mimeType": "image/png", "fileUri": "gs://bucket/a.png"}},
        {"fileData": {"fileUri": "https://www.youtube.com/watch?v=x"}},
    ]


@pytest.mark.parametrize(
    "part",
    [
        Image(url="https://example.com/a.png"),
        Image(url="http://generativelanguage.googleapis.com/a"),
        Image(file_id="file-1"),
        Document(url="https://example.com/a.pdf"),
    ],
)
def test_media_that_the_target_cannot_read_are_refused(part: Part) -> None:
    assert refused(user(part)).param == "messages"


CALLS = Turn("assistant", [Text("Wait"), ToolCall("c1", "f", '{"a": 1}'), ToolCall("c2", "g", "")])


def test_calls_and_results_stand_opposite_each_other_in_order() -> None:
    second = Turn("tool", [ToolResult("c2", [Text("two")])])
    first = Turn("tool", [ToolResult("c1", [Text('{"one": 1}')])])
    assert contents(USER, CALLS, second, first, user(Text("So?")))[1:] == [
        {
            "role": "model",
            "parts": [
                {"text": "Wait"},
                {"functionCall": {"id": "c1", "name": "f", "args": {"a": 1}}},
                {"functionCall": {"id": "c2", "name": "g", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "c1", "name": "f", "response": {"one": 1}}},
                {"functionResponse": {"id": "c2", "name": "g", "response": {"result": "two"}}},
                {"text": "So?"},
            ],
        },
    ]


def test_a_failed_call_is_an_error_object() -> None:
    failed = Turn("tool", [ToolResult("c1", [Text("no such city")], is_error=True)])
    assert contents(USER, CALLS, failed)[2]["parts"][0]["functionResponse"]["response"] == {"error": "no such city"}


def test_a_result_without_its_call_needs_a_name() -> None:
    assert refused(USER, Turn("tool", [ToolResult("c9", [])])).param == "messages"
    named = contents(USER, Turn("tool", [ToolResult("c9", [Text("x")], "f")]))
    assert named[0]["parts"][0]["functionResponse"]["name"] == "f"


@pytest.mark.parametrize("arguments", ["{", "[1]", '"x"'])
def test_arguments_that_are_no_object_are_refused(arguments: str) -> None:
    assert refused(USER, Turn("assistant", [ToolCall("c1", "f", arguments)])).param == "messages"


def test_the_images_of_a_result_go_into_it_where_the_model_takes_them_there() -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": PNG}}
    result = Turn("tool", [ToolResult("c1", [Text("x"), Image(media_type="image/png", data=PNG)])])
    new, old = contents(USER, CALLS, result, model=NEW)[2], contents(USER, CALLS, result)[2]
    assert new["parts"][0]["functionResponse"]["parts"] == [image]
    assert "parts" not in old["parts"][0]["functionResponse"]
    assert old["parts"][1] == image


@pytest.mark.parametrize(("detail", "dropped"), [("high", ("messages.detail",)), ("auto", ()), (None, ())])
def test_how_closely_to_look_at_an_image_is_dropped_by_name(detail: str | None, dropped: tuple[str, ...]) -> None:
    assert written(user(Image(media_type="image/png", data=PNG, detail=detail))).dropped == dropped


def test_the_name_of_a_file_is_dropped_by_name() -> None:
    assert written(user(Document("application/pdf", data=PNG, name="a.pdf"))).dropped == ("messages.filename",)


def test_signatures_of_calls_and_texts_are_sent_back() -> None:
    turn = Turn("assistant", [Text("a", signature="YQ=="), ToolCall("c1", "f", "{}", "c2ln")])
    parts = contents(USER, turn, model=NEW)[1]["parts"]
    assert [part["thoughtSignature"] for part in parts] == ["YQ==", "c2ln"]


def test_the_first_call_of_a_group_without_a_signature_gets_the_value_that_skips_the_check() -> None:
    later = Turn("assistant", [ToolCall("c3", "f", "{}", "no base64!")])
    found = contents(USER, CALLS, Turn("tool", [ToolResult("c1", [])]), later, model="gemini-flash-latest")
    assert [part.get("thoughtSignature") for part in found[1]["parts"]] == [None, SKIP, None]
    assert found[3]["parts"][0]["thoughtSignature"] == SKIP
    for model in (OLD, "m1"):
        assert "thoughtSignature" not in contents(USER, CALLS, model=model)[1]["parts"][1]


def test_thoughts_go_back_with_their_own_signatures_and_without_another_vendors() -> None:
    thoughts: list[Part] = [Reasoning("Hm.", mark(GEMINI, "c2ln")), Reasoning("So.", mark(OPENAI, "x"))]
    sent = written(USER, Turn("assistant", [*thoughts, Text("4")]))
    signed = {"text": "Hm.", "thought": True, "thoughtSignature": "c2ln"}
    assert sent.body["contents"][1]["parts"] == [signed, {"text": "So.", "thought": True}, {"text": "4"}]
    assert sent.dropped == ("messages.signature",)


def test_a_refusal_is_text() -> None:
    assert contents(USER, Turn("assistant", [Refusal("No.")]))[1]["parts"] == [{"text": "No."}]
