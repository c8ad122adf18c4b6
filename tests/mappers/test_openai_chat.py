from typing import Any

import pytest

from mappers.openai import chat
from mooltiproxy.errors import BadRequest, UpstreamBroken
from mooltiproxy.mapping.neutral import (
    Answer,
    Audio,
    Choice,
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
    TokenProbability,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
    Usage,
)

USER = [{"role": "user", "content": "Say hi"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
VENDOR = {"url": "https://api.openai.com/v1"}


def read(**fields: Any) -> Request:
    return chat.read_request({"model": "m1", "messages": USER, **fields})


def refused(**fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        read(**fields)
    return caught.value


def written(request: Request, **config: Any) -> dict[str, Any]:
    return chat.write_request(request, config).body


def test_a_whole_request_is_read() -> None:
    request = chat.read_request(
        {
            "model": "m1",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hi"}],
            "temperature": 0.5,
            "top_p": 0.9,
            "max_completion_tokens": 64.0,
            "stop": "END",
            "seed": 7,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )
    assert request == Request(
        model="m1",
        turns=[Turn("system", [Text("Be brief.")]), Turn("user", [Text("Say hi")])],
        sampling=Sampling(temperature=0.5, top_p=0.9, max_tokens=64, stop=("END",), seed=7),
        stream=True,
        include_usage=True,
    )


def test_nulls_everywhere_are_as_good_as_nothing() -> None:
    names = (
        "temperature top_p n stop seed presence_penalty frequency_penalty logit_bias logprobs top_logprobs stream "
        "stream_options tools tool_choice parallel_tool_calls response_format reasoning_effort user functions "
        "function_call max_tokens max_completion_tokens metadata"
    )
    assert read(**dict.fromkeys(names.split())) == read()


def test_what_has_no_place_is_named() -> None:
    request = read(store=True, metadata={"a": "b"}, service_tier="auto")
    assert chat.write_request(request, {}).dropped == ("metadata", "service_tier", "store")


def test_a_wish_for_a_search_without_options_is_named() -> None:
    assert chat.write_request(read(web_search_options={}), {}).dropped == ("web_search_options",)


def test_fields_of_local_servers_are_read() -> None:
    sampling = read(top_k=-1, min_p=0.1, typical_p=0.9, repeat_penalty=1.1).sampling
    assert sampling == Sampling(top_k=-1, min_p=0.1, typical_p=0.9, repetition_penalty=1.1)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": 5}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": {"type": "custom"}}, "tool_choice.type"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema",
        ),
        ({"modalities": ["text", "audio"]}, "modalities"),
    ],
)
def test_a_field_that_cannot_be_read_is_named(fields: dict[str, Any], param: str) -> None:
    assert refused(**fields).param == param


def test_every_kind_of_content_is_read_and_written_again() -> None:
    content = [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk=", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="}},
        {"type": "file", "file": {"file_id": "file-1"}},
    ]
    request = read(messages=[{"role": "user", "content": content}])
    assert request.turns[0].parts == [
        Text("Look"),
        Image(media_type="image/png", data="aGk=", detail="low"),
        Image(url="https://example.com/a.png"),
        Audio("aGk=", "wav"),
        Document(media_type="application/pdf", data="aGk=", name="a.pdf"),
        Document(file_id="file-1"),
    ]
    assert written(request)["messages"] == [{"role": "user", "content": content}]


def test_text_parts_become_one_string() -> None:
    parts = [{"type": "text", "text": "a\n"}, {"type": "text", "text": "b"}]
    assert written(read(messages=[{"role": "user", "content": parts}]))["messages"][0]["content"] == "a\nb"


def test_a_tool_conversation_is_read_and_written_again() -> None:
    calls = [{"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}]
    messages = [
        *USER,
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_a", "content": "sunny"},
        {"role": "assistant", "content": "It is sunny."},
    ]
    request = read(messages=messages)
    assert request.turns[1].parts == [ToolCall("call_a", "weather", '{"city": "Rome"}')]
    assert request.turns[2] == Turn("tool", [ToolResult("call_a", [Text("sunny")])])
    assert written(request)["messages"] == messages


def test_an_image_in_a_tools_result_follows_in_a_user_message() -> None:
    result = ToolResult("call_a", [Text("see"), Image(media_type="image/png", data="aGk=")])
    request = Request(turns=[Turn("tool", [result]), Turn("user", [Text("and?")])])
    assert [message["role"] for message in written(request)["messages"]] == ["tool", "user", "user"]


@pytest.mark.parametrize("part", [Image(file_id="file-1"), Document(url="https://example.com/a.pdf"), Reasoning("x")])
def test_a_part_without_a_form_is_refused_by_the_name_of_its_field(part: Part) -> None:
    with pytest.raises(BadRequest) as caught:
        written(Request(turns=[Turn("user", [part])]))
    assert caught.value.param == "messages"


def test_that_a_result_is_an_error_is_dropped_by_name() -> None:
    failed = Turn("tool", [ToolResult("a", [Text("no such city")], is_error=True)])
    assert chat.write_request(Request(model="m1", turns=[failed, failed]), {}).dropped == ("messages.is_error",)


def test_results_inside_a_user_turn_come_first() -> None:
    request = Request(turns=[Turn("user", [ToolResult("call_a", [Text("sunny")]), Text("Thanks")])])
    assert written(request)["messages"] == [
        {"role": "tool", "tool_call_id": "call_a", "content": "sunny"},
        {"role": "user", "content": "Thanks"},
    ]


def test_the_developer_role_is_system() -> None:
    request = read(messages=[{"role": "developer", "content": "x"}, *USER])
    assert request.turns[0].role == "system"
    assert written(request)["messages"][0]["role"] == "system"


def test_history_thoughts_are_read_and_not_sent() -> None:
    for key in ("reasoning_content", "reasoning"):
        request = read(messages=[*USER, {"role": "assistant", "content": "hi", key: "hm"}, *USER])
        assert request.turns[1].parts == [Reasoning("hm"), Text("hi")]
        result = chat.write_request(request, {})
        assert result.body["messages"][1] == {"role": "assistant", "content": "hi"}
        assert result.dropped == ("messages.reasoning_content",)


def test_a_refusal_in_the_history_is_kept() -> None:
    messages = [*USER, {"role": "assistant", "content": None, "refusal": "No."}, *USER]
    assert written(read(messages=messages))["messages"] == messages


def test_a_name_on_a_message_is_kept_and_other_keys_are_named() -> None:
    request = read(messages=[{"role": "user", "content": "x", "name": "Ann", "cache_control": {"type": "ephemeral"}}])
    result = chat.write_request(request, {})
    assert result.body["messages"][0]["name"] == "Ann"
    assert result.dropped == ("messages[0].cache_control",)


def test_deprecated_functions_become_tools() -> None:
    functions = [{"name": "weather", "parameters": SCHEMA}]
    request = read(functions=functions, function_call={"name": "weather"})
    assert request.tools == [Tool("weather", schema=SCHEMA)]
    assert request.tool_choice == ToolChoice("required", ("weather",))
    assert request.parallel_tool_calls is False
    assert request.functions_api


def test_the_result_of_a_deprecated_function_finds_its_call() -> None:
    request = read(
        messages=[
            *USER,
            {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": "{}"}},
            {"role": "function", "name": "weather", "content": "sunny"},
        ]
    )
    call, result = request.turns[1].parts[0], request.turns[2].parts[0]
    assert isinstance(call, ToolCall) and isinstance(result, ToolResult)
    assert call.id == result.call_id
    assert result.name == "weather"


def test_a_client_of_functions_gets_a_function_call() -> None:
    request = read(functions=[{"name": "weather"}])
    answer = chat.write_answer(Answer([Choice([ToolCall("c1", "weather", "{}")], "tool_calls")]), request)
    assert answer["choices"][0]["message"]["function_call"] == {"name": "weather", "arguments": "{}"}
    assert "tool_calls" not in answer["choices"][0]["message"]
    assert answer["choices"][0]["finish_reason"] == "function_call"


def test_tools_are_read_and_written_again() -> None:
    tools = [
        {"type": "function", "function": {"name": "a", "description": "A", "parameters": SCHEMA, "strict": True}},
        {"type": "function", "function": {"name": "b"}},
    ]
    body = written(read(tools=tools, parallel_tool_calls=False))
    assert body["tools"] == tools
    assert body["parallel_tool_calls"] is False


@pytest.mark.parametrize(
    ("value", "choice"),
    [
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ({"type": "function", "function": {"name": "a"}}, ToolChoice("required", ("a",))),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "auto",
                    "tools": [
                        {"type": "function", "function": {"name": "a"}},
                        {"type": "function", "function": {"name": "b"}},
                    ],
                },
            },
            ToolChoice("auto", ("a", "b")),
        ),
    ],
)
def test_the_choice_of_tools_is_read_and_written_again(value: Any, choice: ToolChoice) -> None:
    request = read(tools=[{"type": "function", "function": {"name": "a"}}], tool_choice=value)
    assert request.tool_choice == choice
    assert written(request)["tool_choice"] == value


@pytest.mark.parametrize(
    ("value", "output"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, OutputFormat("json")),
        ({"type": "json"}, OutputFormat("json")),
        ({"type": "json_object", "schema": SCHEMA}, OutputFormat("schema", SCHEMA)),
        ({"type": "regex", "value": "a+"}, OutputFormat("regex", "a+")),
        (
            {"type": "json_schema", "json_schema": {"name": "w", "strict": True, "schema": SCHEMA}},
            OutputFormat("schema", SCHEMA, "w", True),
        ),
    ],
)
def test_every_response_format_is_read(value: Any, output: OutputFormat | None) -> None:
    assert read(response_format=value).output == output


def test_a_schema_gets_a_name_and_no_strictness_of_ours() -> None:
    body = written(Request(turns=[Turn("user", [Text("x")])], output=OutputFormat("schema", SCHEMA)))
    assert body["response_format"] == {"type": "json_schema", "json_schema": {"name": "output", "schema": SCHEMA}}


def test_a_regular_expression_cannot_be_asked_of_openai() -> None:
    with pytest.raises(BadRequest) as caught:
        written(Request(turns=[Turn("user", [Text("x")])], output=OutputFormat("regex", "a+")))
    assert caught.value.param == "response_format"


@pytest.mark.parametrize(
    ("options", "effort"),
    [
        (ReasoningOptions("minimal"), "minimal"),
        (ReasoningOptions(budget=0), "none"),
        (ReasoningOptions(budget=1024), "low"),
        (ReasoningOptions(budget=8192), "medium"),
        (ReasoningOptions(budget=20000), "high"),
    ],
)
def test_a_budget_becomes_an_effort(options: ReasoningOptions, effort: str) -> None:
    request = Request(turns=[Turn("user", [Text("x")])], reasoning=options)
    assert written(request)["reasoning_effort"] == effort


def test_local_servers_get_their_fields_and_openai_does_not() -> None:
    request = read(top_k=40, min_p=0.1, max_tokens=5)
    assert written(request)["top_k"] == 40
    assert written(request)["max_tokens"] == 5
    vendor = chat.write_request(request, VENDOR)
    assert "top_k" not in vendor.body
    assert vendor.body["max_completion_tokens"] == 5
    assert vendor.dropped == ("top_k", "min_p")


def test_usage_is_always_asked_for_in_streams() -> None:
    assert written(read(stream=True))["stream_options"] == {"include_usage": True}
    assert "stream" not in written(read())


def test_more_than_four_stops_are_cut_by_us() -> None:
    request = Request(turns=[Turn("user", [Text("x")])], sampling=Sampling(stop=("a", "b", "c", "d", "E")))
    assert written(request)["stop"] == ["a", "b", "c", "d"]
    answer = chat.read_answer({"choices": [{"message": {"content": "xyEz"}, "finish_reason": "length"}]}, request)
    assert answer.choices == [Choice([Text("xy")], "stop", "E")]


def target_answer(message: dict[str, Any], finish: str | None = "stop", **fields: Any) -> Answer:
    body = {"choices": [{"index": 0, "message": message, "finish_reason": finish}], **fields}
    return chat.read_answer(body, Request())


def test_an_answer_is_read() -> None:
    usage = {
        "prompt_tokens": 12,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    answer = target_answer({"role": "assistant", "content": "Hi", "refusal": None}, usage=usage, model="m1")
    assert answer == Answer([Choice([Text("Hi")], "stop")], Usage(12, 3, cached=4, reasoning=2), "m1")


@pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
def test_thoughts_of_an_answer_are_read_under_both_names(key: str) -> None:
    assert target_answer({"content": "4", key: "Easy"}).choices[0].parts == [Reasoning("Easy"), Text("4")]


def test_the_presence_of_calls_decides_the_finish() -> None:
    call = {"id": "c1", "function": {"name": "a", "arguments": "{}"}}
    assert target_answer({"tool_calls": [call]}, "stop").choices[0].finish == "tool_calls"
    assert target_answer({"tool_calls": [call]}, "length").choices[0].finish == "tool_calls"
    assert target_answer({"content": "x"}, "tool_calls").choices[0].finish == "stop"


def test_a_cut_call_keeps_length() -> None:
    call = {"id": "c1", "function": {"name": "a", "arguments": '{"ci'}}
    assert target_answer({"tool_calls": [call]}, "length").choices[0].finish == "length"


@pytest.mark.parametrize("word", ["abort", "eos_token", "", None])
def test_an_unknown_finish_is_a_stop(word: str | None) -> None:
    assert target_answer({"content": "x"}, word).choices[0].finish == "stop"


def test_a_call_without_an_id_gets_one_and_arguments_may_be_an_object() -> None:
    call = target_answer({"tool_calls": [{"function": {"name": "a", "arguments": {"x": 1}}}]}).choices[0].parts[0]
    assert isinstance(call, ToolCall)
    assert call.id.startswith("call_")
    assert call.arguments == '{"x":1}'


@pytest.mark.parametrize("body", [{}, [], {"choices": []}, {"choices": None}, "text", {"choices": ["a"]}])
def test_an_answer_without_choices_is_the_targets_fault(body: Any) -> None:
    with pytest.raises(UpstreamBroken):
        chat.read_answer(body, Request())


def test_an_error_with_status_200_is_an_error() -> None:
    with pytest.raises(UpstreamBroken) as caught:
        chat.read_answer({"error": {"message": "loading", "code": 503}}, Request())
    assert (str(caught.value), caught.value.status) == ("loading", 503)


def test_an_answer_is_written() -> None:
    parts: list[Part] = [Reasoning("Easy"), Text("4")]
    usage = Usage(12, 3, cached=4, cache_written=1, reasoning=2)
    answer = chat.write_answer(Answer([Choice(parts, "stop")], usage, "real-name"), Request(model="m1"))
    assert answer["id"].startswith("chatcmpl-")
    assert isinstance(answer.pop("created"), int)
    answer.pop("id")
    assert answer == {
        "object": "chat.completion",
        "model": "m1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "4", "refusal": None, "reasoning_content": "Easy"},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 12,
            "completion_tokens": 3,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
    }


def test_a_message_with_calls_has_null_content() -> None:
    answer = chat.write_answer(Answer([Choice([ToolCall("c1", "a", "{}")], "stop")]), Request())
    choice = answer["choices"][0]
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "a", "arguments": "{}"}
    assert choice["finish_reason"] == "tool_calls"


def test_a_refusal_is_written_beside_the_content() -> None:
    message = chat.write_answer(Answer([Choice([Refusal("No.")], "stop")]), Request())["choices"][0]["message"]
    assert (message["content"], message["refusal"]) == (None, "No.")


def test_unknown_usage_is_left_out() -> None:
    assert "usage" not in chat.write_answer(Answer([Choice([], "stop")], Usage(answer=3)), Request())


def test_probabilities_are_read_and_written_again() -> None:
    token = {"token": "Hé", "logprob": -0.5, "bytes": [72, 195, 169]}
    logprobs = {"content": [{**token, "top_logprobs": [token]}], "refusal": None}
    body = {"choices": [{"message": {"content": "Hé"}, "finish_reason": "stop", "logprobs": logprobs}]}
    answer = chat.read_answer(body, Request())
    assert answer.choices[0].logprobs == [TokenProbability("Hé", -0.5, (("Hé", -0.5),))]
    assert chat.write_answer(answer, Request())["choices"][0]["logprobs"] == logprobs


def test_two_choices_are_two_choices() -> None:
    body = {
        "choices": [
            {"index": 1, "message": {"content": "b"}, "finish_reason": "length"},
            {"index": 0, "message": {"content": "a"}, "finish_reason": "stop"},
        ]
    }
    answer = chat.read_answer(body, Request())
    assert answer.choices == [Choice([Text("a")], "stop"), Choice([Text("b")], "length")]
    assert [choice["index"] for choice in chat.write_answer(answer, Request())["choices"]] == [0, 1]


def test_the_stop_string_is_kept_where_a_server_tells_it() -> None:
    body = {"choices": [{"message": {"content": "a"}, "finish_reason": "stop", "stop_reason": "END"}]}
    assert chat.read_answer(body, Request()).choices[0].stop_string == "END"


SIGNED = {"google": {"thought_signature": "c2ln"}}


def test_the_signature_of_a_call_is_read_from_history_and_named_as_dropped_towards_other_vendors() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": SIGNED}
    messages = [*USER, {"role": "assistant", "content": None, "tool_calls": [call]}]
    request = chat.read_request({"model": "m1", "messages": messages})
    assert request.turns[1].parts == [ToolCall("c1", "f", "{}", "c2ln")]
    sent = chat.write_request(request, {})
    assert "extra_content" not in sent.body["messages"][1]["tool_calls"][0]
    assert sent.dropped == ("messages.tool_calls.signature",)


def test_the_signature_of_a_call_goes_to_the_client() -> None:
    answer = Answer([Choice([ToolCall("c1", "f", "{}", "c2ln")], "tool_calls")])
    message = chat.write_answer(answer, read())["choices"][0]["message"]
    assert message["tool_calls"][0]["extra_content"] == SIGNED
    body = {"choices": [{"message": message, "finish_reason": "tool_calls"}]}
    assert chat.read_answer(body, read()).choices[0].parts == [ToolCall("c1", "f", "{}", "c2ln")]


@pytest.mark.parametrize("model", [None, ""])
def test_a_server_of_one_model_need_not_be_told_it_but_the_vendor_must(model: str | None) -> None:
    asked = Request(model, [Turn("user", [Text("Hi")])])
    assert "model" not in chat.write_request(asked, {"url": "http://127.0.0.1:8000"}).body
    with pytest.raises(BadRequest, match="models:") as caught:
        chat.write_request(asked, {"url": "https://api.openai.com"})
    assert caught.value.param == "model"
