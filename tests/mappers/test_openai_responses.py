from typing import Any

import pytest

from mappers.openai import chat, responses
from mooltiproxy.errors import BadRequest
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
from mooltiproxy.mapping.signatures import ANTHROPIC, GEMINI_CALL, GEMINI_TEXT, OPENAI, mark

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
STRICT = {**SCHEMA, "required": ["city"], "additionalProperties": False}
TOOL = {"type": "function", "name": "f", "parameters": SCHEMA}
PIXEL = "iVBORw0KGgo="


def read(input: Any = "Say hi", **fields: Any) -> Request:
    return responses.read_request({"model": "m1", "input": input, **fields})


def refused(input: Any = "Say hi", **fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        read(input, **fields)
    return caught.value


def turns(*items: Any, **fields: Any) -> list[Turn]:
    return read(list(items), **fields).turns


def written(*turns: Turn, **fields: Any) -> dict[str, Any]:
    request = Request(model="m1", turns=list(turns) or [Turn("user", [Text("Say hi")])], **fields)
    return responses.write_request(request, {}).body


def dropped(request: Request) -> tuple[str, ...]:
    return responses.write_request(request, {}).dropped


def items(*parts: Part) -> list[dict[str, Any]]:
    written_items: list[dict[str, Any]] = written(Turn("assistant", list(parts)))["input"]
    return written_items


def call(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": name, "name": "f", "arguments": "{}", **fields}


def result(name: str, output: Any = "ok") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": name, "output": output}


def allowed(mode: str, *tools: dict[str, Any]) -> dict[str, Any]:
    return {"type": "allowed_tools", "mode": mode, "tools": list(tools)}


def test_a_whole_request_is_read() -> None:
    request = read(
        [{"role": "user", "content": [{"type": "input_text", "text": "Say hi"}]}],
        instructions="Be brief.",
        temperature=0.5,
        top_p=0.9,
        max_output_tokens=64.0,
        stream=True,
        user="u",
        store=False,
    )
    assert request == Request(
        model="m1",
        turns=[Turn("system", [Text("Be brief.")]), Turn("user", [Text("Say hi")])],
        sampling=Sampling(temperature=0.5, top_p=0.9, max_tokens=64),
        stream=True,
        user="u",
        repeats={"instructions": "Be brief.", "temperature": 0.5, "top_p": 0.9, "max_output_tokens": 64.0, "user": "u"},
    )


def test_a_plain_text_is_a_message_of_the_user() -> None:
    assert read("Say hi").turns == [Turn("user", [Text("Say hi")])]


def test_nulls_everywhere_are_as_good_as_nothing() -> None:
    names = (
        "background conversation include instructions max_output_tokens max_tool_calls metadata parallel_tool_calls "
        "previous_response_id prompt reasoning service_tier store stream stream_options temperature text tool_choice "
        "tools top_logprobs top_p truncation user"
    )
    assert read(**dict.fromkeys(names.split())) == read()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"background": True}, "background"),
    ],
)
def test_what_needs_a_memory_is_refused_with_a_way_out(fields: dict[str, Any], param: str) -> None:
    error = refused(**fields)
    assert error.param == param
    assert "stores nothing" in str(error)


def test_a_reference_to_an_item_is_refused_with_a_way_out() -> None:
    assert "`store: false`" in str(refused([{"type": "item_reference", "id": "msg_1"}]))


def test_background_may_be_false() -> None:
    assert read(background=False) == read()


@pytest.mark.parametrize(
    ("input", "param"),
    [
        (None, "input"),
        ([], "input"),
        (7, "input"),
        (["x"], "input[0]"),
        ([{"role": "robot", "content": "x"}], "input[0].role"),
        ([{"role": "user", "content": 7}], "input[0].content"),
        ([{"role": "user", "content": [{"type": "hologram"}]}], "input[0].content[0].type"),
        ([{"type": "item_reference", "id": "msg_1"}], "input[0].type"),
        ([{"id": "msg_1"}], "input[0].type"),
        ([{"type": "compaction", "encrypted_content": "x"}], "input[0].type"),
        ([{"type": "function_call", "name": "f", "arguments": "{}"}], "input[0].call_id"),
        ([{"type": "function_call_output", "call_id": "a"}], "input[0].output"),
    ],
)
def test_input_that_cannot_be_read_is_refused_by_name(input: Any, param: str) -> None:
    assert refused(input).param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"n": 2}, "n"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"tools": [{"name": "f"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [TOOL], "tool_choice": "maybe"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "mcp", "server_label": "x"}}, "tool_choice.type"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"include": 7}, "include"),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    assert refused(**fields).param == param


def test_system_and_developer_messages_are_read_where_they_stand() -> None:
    read_turns = turns({"role": "user", "content": "a"}, {"role": "developer", "content": "b"}, instructions="c")
    assert [(turn.role, turn.parts) for turn in read_turns] == [
        ("system", [Text("c")]),
        ("user", [Text("a")]),
        ("system", [Text("b")]),
    ]


def test_images_and_files_are_read_in_every_form() -> None:
    content = [
        {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"},
        {"type": "input_image", "image_url": "https://a.example/x.png", "detail": "low"},
        {"type": "input_image", "file_id": "file_1"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,QQ=="},
        {"type": "input_file", "file_url": "https://a.example/x.pdf"},
        {"type": "input_file", "file_id": "file_2"},
        {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}},
    ]
    assert turns({"role": "user", "content": content})[0].parts == [
        Image(media_type="image/png", data=PIXEL),
        Image(url="https://a.example/x.png", detail="low"),
        Image(file_id="file_1"),
        Document(media_type="application/pdf", data="QQ==", name="a.pdf"),
        Document(url="https://a.example/x.pdf"),
        Document(file_id="file_2"),
        Audio("QQ==", "wav"),
    ]


def test_the_items_of_one_answer_are_one_turn_and_each_result_is_another() -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]}
    said = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
    text = {"type": "output_text", "text": "Look", "annotations": [], "logprobs": []}
    read_turns = turns(
        {"role": "user", "content": "go"},
        thought,
        {**said, "content": [text]},
        call("a", id="fc_1", status="completed"),
        call("b"),
        result("a"),
        result("b", [{"type": "input_text", "text": "fine"}]),
    )
    assert read_turns == [
        Turn("user", [Text("go")]),
        Turn("assistant", [Reasoning("hm"), Text("Look"), ToolCall("a", "f", "{}"), ToolCall("b", "f", "{}")]),
        Turn("tool", [ToolResult("a", [Text("ok")])]),
        Turn("tool", [ToolResult("b", [Text("fine")])]),
    ]


def test_two_messages_of_the_model_are_two_turns() -> None:
    said = [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert turns(*said) == [Turn("assistant", [Text("a")]), Turn("assistant", [Text("b")])]


def test_what_the_model_says_between_calls_stays_in_their_turn() -> None:
    (turn,) = turns(call("a"), {"role": "assistant", "content": "and"}, call("b"))
    assert turn.parts == [ToolCall("a", "f", "{}"), Text("and"), ToolCall("b", "f", "{}")]


def test_thoughts_are_read_from_summary_or_content_with_their_state() -> None:
    raw = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "raw"}]}
    sealed = {"type": "reasoning", "summary": [{"text": "a"}, {"text": "b"}], "encrypted_content": "ENC"}
    signed = {"type": "reasoning", "summary": [], "encrypted_content": "mooltiproxy:anthropic:SIG"}
    (turn,) = turns(raw, sealed, signed)
    assert turn.parts == [
        Reasoning("raw"),
        Reasoning("a\n\nb", mark(OPENAI, "ENC")),
        Reasoning("", mark(ANTHROPIC, "SIG")),
    ]


def test_a_refusal_is_read() -> None:
    assert turns({"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]})[0].parts == [Refusal("no")]


def test_signatures_of_gemini_are_read_from_the_thoughts_that_carry_them() -> None:
    said = {"type": "message", "role": "assistant", "content": "Hi"}
    thought: dict[str, Any] = {"type": "reasoning", "summary": []}
    of_text, of_call = ({**thought, "encrypted_content": mark(kind, kind)} for kind in (GEMINI_TEXT, GEMINI_CALL))
    (spoken, called) = turns(said, of_text, of_call, call("a"), call("b"))
    assert spoken.parts == [Text("Hi", signature=GEMINI_TEXT)]
    assert called.parts == [ToolCall("a", "f", "{}", GEMINI_CALL), ToolCall("b", "f", "{}")]


def test_a_custom_call_becomes_one_with_an_object() -> None:
    custom = {"type": "custom_tool_call", "call_id": "a", "name": "patch", "input": 'say "x"'}
    output = {"type": "custom_tool_call_output", "call_id": "a", "output": "done"}
    assert turns(custom, output) == [
        Turn("assistant", [ToolCall("a", "patch", '{"input":"say \\"x\\""}')]),
        Turn("tool", [ToolResult("a", [Text("done")])]),
    ]


def test_items_of_hosted_tools_are_left_out_by_name() -> None:
    request = read([{"role": "user", "content": "x"}, {"type": "web_search_call", "id": "ws_1", "status": "completed"}])
    assert list(request.extra) == ["input.web_search_call"]
    assert len(request.turns) == 1


def test_a_strict_schema_makes_a_strict_function_where_nothing_is_said() -> None:
    tools = [{**TOOL, "parameters": parameters} for parameters in (SCHEMA, STRICT)]
    assert [tool.strict for tool in read(tools=tools).tools] == [False, True]
    assert [tool.strict for tool in read(tools=[{**tool, "strict": True} for tool in tools]).tools] == [True, True]


@pytest.mark.parametrize(
    "loose",
    [
        {"type": "array", "items": {"type": "object", "properties": {}}},
        {**STRICT, "properties": {"city": SCHEMA}},
        {**STRICT, "required": []},
    ],
)
def test_a_schema_is_strict_only_as_a_whole(loose: dict[str, Any]) -> None:
    assert read(tools=[{**TOOL, "parameters": loose}]).tools[0].strict is False


@pytest.mark.parametrize(
    ("value", "choice"),
    [
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ({"type": "function", "name": "f"}, ToolChoice("required", ("f",))),
        (allowed("auto", {"type": "function", "name": "f"}), ToolChoice("auto", ("f",))),
        (allowed("required", {"type": "function", "name": "f"}, {"type": "mcp"}), ToolChoice("required", ("f",))),
        (allowed("auto", {"type": "web_search"}), ToolChoice("none")),
    ],
)
def test_a_tool_choice_is_read(value: Any, choice: ToolChoice) -> None:
    assert read(tools=[TOOL], tool_choice=value).tool_choice == choice


def test_a_required_choice_among_hosted_tools_is_refused() -> None:
    assert refused(tools=[TOOL], tool_choice=allowed("required", {"type": "web_search"})).param == "tool_choice.tools"


def test_formats_are_read() -> None:
    schema = {"type": "json_schema", "name": "w", "schema": SCHEMA, "strict": True}
    assert read(text={"format": {"type": "text"}}).output is None
    assert read(text={"format": {"type": "json_object"}}).output == OutputFormat("json")
    assert read(text={"format": schema}).output == OutputFormat("schema", SCHEMA, "w", True)


def test_reasoning_is_read_as_effort_and_the_wish_to_see_it() -> None:
    assert read(reasoning={"effort": "low"}).reasoning == ReasoningOptions(effort="low")
    assert read(reasoning={"summary": "auto"}).reasoning == ReasoningOptions(show=True)
    assert read(reasoning={"effort": None}).reasoning is None


def test_logprobs_are_asked_for_by_include() -> None:
    request = read(include=["message.output_text.logprobs", "reasoning.encrypted_content"], top_logprobs=3)
    assert (request.sampling.logprobs, request.sampling.top_logprobs) == (True, 3)
    assert not request.extra


def test_what_has_no_place_is_kept_to_be_named() -> None:
    request = read(
        [{"role": "assistant", "content": "x", "phase": "commentary"}],
        include=["file_search_call.results"],
        metadata={"a": "b"},
        store=True,
        text={"verbosity": "low", "format": {"type": "json_schema", "schema": {}, "description": "d"}},
        reasoning={"effort": "low", "context": "auto"},
        truncation="auto",
        tools=[{**TOOL, "defer_loading": True}],
    )
    assert sorted(request.extra) == [
        "include.file_search_call.results",
        "input[0].phase",
        "metadata",
        "reasoning.context",
        "store",
        "text.format.description",
        "text.verbosity",
        "tools[0].defer_loading",
        "truncation",
    ]


def test_the_defaults_of_what_has_no_place_are_not_named() -> None:
    assert not read(store=False, truncation="disabled", stream_options={"include_obfuscation": False}).extra


CODEX = {
    "model": "m1",
    "instructions": "You are a coding agent.",
    "input": [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Sandbox: read-only"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "List the files"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "ls"}], "encrypted_content": None},
        {"type": "function_call", "name": "shell", "arguments": '{"command":["ls"]}', "call_id": "call_1"},
        {"type": "function_call_output", "call_id": "call_1", "output": '{"output":"a.py"}'},
    ],
    "tools": [
        {"type": "function", "name": "shell", "strict": False, "parameters": SCHEMA, "description": "Run"},
        {"type": "web_search", "external_web_access": True},
        {"type": "namespace", "name": "mcp", "description": "d", "tools": [{"type": "function", "name": "g"}]},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "0199",
    "client_metadata": {"x-codex-installation-id": "1"},
    "text": {"verbosity": "medium"},
}


def test_codex_is_translated_to_chat_with_its_hosted_tools_left_out_by_name() -> None:
    result = chat.write_request(responses.read_request(CODEX), {})
    assert result.body == {
        "model": "m1",
        "messages": [
            {"role": "system", "content": "You are a coding agent."},
            {"role": "system", "content": "Sandbox: read-only"},
            {"role": "user", "content": "List the files"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "shell", "arguments": '{"command":["ls"]}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": '{"output":"a.py"}'},
        ],
        "tools": [
            {
                "type": "function",
                "function": {"name": "shell", "description": "Run", "parameters": SCHEMA, "strict": False},
            }
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning_effort": "medium",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert result.dropped == (
        "client_metadata",
        "prompt_cache_key",
        "text.verbosity",
        "tools.namespace",
        "tools.web_search",
        "messages.reasoning_content",
    )


def test_a_request_is_written_field_by_field() -> None:
    body = written(
        Turn("system", [Text("Be brief.")]),
        Turn("user", [Text("Say hi")]),
        sampling=Sampling(temperature=0.5, top_p=0.9, max_tokens=64, logprobs=True, top_logprobs=2),
        tools=[Tool("f", "does f", SCHEMA)],
        tool_choice=ToolChoice("required", ("f",)),
        parallel_tool_calls=False,
        output=OutputFormat("schema", SCHEMA, None, False),
        reasoning=ReasoningOptions(effort="low", show=True),
        stream=True,
        user="u",
    )
    assert body == {
        "model": "m1",
        "instructions": "Be brief.",
        "input": [{"type": "message", "role": "user", "content": "Say hi"}],
        "temperature": 0.5,
        "top_p": 0.9,
        "max_output_tokens": 64,
        "top_logprobs": 2,
        "include": ["message.output_text.logprobs", "reasoning.encrypted_content"],
        "tools": [{"type": "function", "name": "f", "description": "does f", "parameters": SCHEMA, "strict": False}],
        "tool_choice": {"type": "function", "name": "f"},
        "parallel_tool_calls": False,
        "text": {"format": {"type": "json_schema", "name": "output", "schema": SCHEMA, "strict": False}},
        "reasoning": {"effort": "low", "summary": "auto"},
        "store": False,
        "user": "u",
        "stream": True,
    }


def test_only_the_first_system_text_becomes_instructions() -> None:
    body = written(Turn("system", [Text("a")]), Turn("system", [Text("b")]), Turn("user", [Text("c")]))
    assert body["instructions"] == "a"
    assert [item["role"] for item in body["input"]] == ["system", "user"]


def test_a_turn_of_the_model_is_written_item_by_item() -> None:
    assert items(Text("Look"), ToolCall("a", "f", '{"x":1}'), ToolCall("b", "f", "")) == [
        {"type": "message", "role": "assistant", "content": "Look"},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": '{"x":1}'},
        {"type": "function_call", "call_id": "b", "name": "f", "arguments": "{}"},
    ]


def test_a_refusal_is_written_in_the_long_form() -> None:
    (item,) = items(Text("Sorry."), Refusal("no"))
    assert item["content"] == [
        {"type": "output_text", "text": "Sorry.", "annotations": []},
        {"type": "refusal", "refusal": "no"},
    ]
    assert item["id"].startswith("msg_")
    assert item["status"] == "completed"


def test_a_thought_is_written_with_the_state_and_id_it_came_with() -> None:
    assert items(Reasoning("hm", mark(OPENAI, "rs_1:ENC")), Reasoning("", mark(OPENAI, "ENC"))) == [
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "hm"}],
            "encrypted_content": "ENC",
        },
        {"type": "reasoning", "summary": [], "encrypted_content": "ENC"},
    ]


def test_a_thought_without_state_is_left_out_by_name() -> None:
    request = Request(turns=[Turn("assistant", [Reasoning("hm"), Text("x")])])
    result = responses.write_request(request, {})
    assert result.body["input"] == [{"type": "message", "role": "assistant", "content": "x"}]
    assert result.dropped == ("messages.reasoning_content",)


def test_opaque_state_is_asked_for_where_the_model_thinks() -> None:
    encrypted = "reasoning.encrypted_content"
    assert "include" not in written()
    assert "include" not in written(reasoning=ReasoningOptions(effort="none"))
    assert written(reasoning=ReasoningOptions(effort="low"))["include"] == [encrypted]
    assert written(Turn("assistant", [Reasoning("", mark(OPENAI, "x"))]))["include"] == [encrypted]


def test_that_a_result_is_an_error_is_dropped_by_name() -> None:
    failed = Turn("tool", [ToolResult("a", [Text("no such city")], is_error=True)])
    assert responses.write_request(Request(model="m1", turns=[failed]), {}).dropped == ("messages.is_error",)


def test_results_are_written_with_their_images() -> None:
    image = Image(media_type="image/png", data=PIXEL)
    turn = Turn("tool", [ToolResult("a", [Text("see"), image]), ToolResult("b", [Text("x")]), Text("and?")])
    assert written(turn)["input"] == [
        {
            "type": "function_call_output",
            "call_id": "a",
            "output": [
                {"type": "input_text", "text": "see"},
                {"type": "input_image", "detail": "auto", "image_url": f"data:image/png;base64,{PIXEL}"},
            ],
        },
        {"type": "function_call_output", "call_id": "b", "output": "x"},
        {"type": "message", "role": "user", "content": "and?"},
    ]


def test_images_and_files_are_written_in_every_form() -> None:
    parts: list[Part] = [
        Image(url="https://a.example/x.png", detail="low"),
        Image(file_id="file_1"),
        Document(media_type="application/pdf", data="QQ==", name="a.pdf"),
        Document(url="https://a.example/x.pdf"),
        Document(file_id="file_2"),
    ]
    assert written(Turn("user", parts))["input"][0]["content"] == [
        {"type": "input_image", "detail": "low", "image_url": "https://a.example/x.png"},
        {"type": "input_image", "detail": "auto", "file_id": "file_1"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,QQ=="},
        {"type": "input_file", "file_url": "https://a.example/x.pdf"},
        {"type": "input_file", "file_id": "file_2"},
    ]


@pytest.mark.parametrize("turn", [Turn("user", [Audio("QQ==", "wav")]), Turn("assistant", [Image(url="x")])])
def test_a_part_without_a_form_is_refused(turn: Turn) -> None:
    with pytest.raises(BadRequest):
        written(turn)


def test_more_than_one_answer_is_refused() -> None:
    with pytest.raises(BadRequest) as caught:
        written(sampling=Sampling(n=2))
    assert caught.value.param == "n"


@pytest.mark.parametrize("kind", ["regex", "grammar"])
def test_a_format_without_a_form_is_refused(kind: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        written(output=OutputFormat(kind, "x"))
    assert caught.value.param == "response_format"


def test_sampling_that_the_api_does_not_have_is_left_out_by_name() -> None:
    sampling = Sampling(
        top_k=1,
        min_p=0.1,
        typical_p=0.1,
        repetition_penalty=1.1,
        presence_penalty=1,
        frequency_penalty=1,
        seed=1,
        logit_bias={"1": 1},
        best_of=2,
        stop=("END",),
    )
    names = "top_k min_p typical_p repetition_penalty presence_penalty frequency_penalty seed logit_bias best_of"
    result = responses.write_request(Request(sampling=sampling, keep_alive="5m"), {})
    assert result.dropped == (*names.split(), "keep_alive")
    assert sorted(result.body) == ["input", "store"]


def test_few_tokens_are_clamped_to_what_the_api_takes() -> None:
    result = responses.write_request(Request(sampling=Sampling(max_tokens=5)), {})
    assert result.body["max_output_tokens"] == 16
    assert result.dropped == ("clamped max_tokens 5->16",)


def test_fields_of_other_dialects_are_left_out_by_name() -> None:
    assert dropped(Request(extra={"service_tier": "standard_only", "top_a": 1})) == ("service_tier", "top_a")


def test_a_subset_of_tools_is_written_as_allowed_tools() -> None:
    choice = ToolChoice("auto", ("f", "g"))
    assert written(tools=[Tool("f"), Tool("g")], tool_choice=choice)["tool_choice"] == {
        "type": "allowed_tools",
        "mode": "auto",
        "tools": [{"type": "function", "name": "f"}, {"type": "function", "name": "g"}],
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"instructions": "Be brief.", "temperature": 0.5, "top_p": 0.9, "max_output_tokens": 64, "stream": True},
        {"tools": [{**TOOL, "description": "d", "strict": True}], "tool_choice": "required"},
        {"tools": [{**TOOL, "strict": False}], "parallel_tool_calls": False, "max_tool_calls": 3},
        {"text": {"format": {"type": "json_object"}, "verbosity": "low"}},
        {"text": {"format": {"type": "json_schema", "name": "w", "schema": STRICT, "strict": True}}},
        {"reasoning": {"effort": "low", "summary": "detailed", "context": "auto"}},
        {"reasoning": {"summary": "auto"}},
        {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
        {"metadata": {"a": "b"}, "service_tier": "flex", "safety_identifier": "s", "prompt_cache_key": "k"},
        {"truncation": "auto", "prompt_cache_retention": "24h", "user": "u"},
    ],
)
def test_what_the_api_knows_is_the_same_after_a_round_trip(fields: dict[str, Any]) -> None:
    conversation: list[dict[str, Any]] = [
        {"type": "message", "role": "user", "content": "go"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "rs_1:ENC"},
        call("a"),
        result("a"),
        {"type": "message", "role": "assistant", "content": "done"},
    ]
    body = {"model": "m1", "input": conversation, "store": False, "include": ["reasoning.encrypted_content"], **fields}
    again = responses.write_request(responses.read_request(body), {})
    body["input"] = [
        {**item, "encrypted_content": "ENC"} if item["type"] == "reasoning" else item for item in conversation
    ]
    body["include"] = sorted({*body["include"], "reasoning.encrypted_content"})
    assert again.body == body
    assert again.dropped == ()


def test_a_system_message_alone_is_input_since_there_must_be_some() -> None:
    body = written(Turn("system", [Text("Be brief.")]))
    assert body["input"] == [{"type": "message", "role": "system", "content": "Be brief."}]
    assert "instructions" not in body
