"""Requests of Anthropic's clients, read."""

import base64
from typing import Any

import pytest

from mappers.anthropic import dialect, messages
from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.neutral import (
    Document,
    Image,
    OutputFormat,
    Part,
    Reasoning,
    ReasoningOptions,
    Request,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)

USER = [{"role": "user", "content": "Say hi"}]
CACHE = {"type": "ephemeral"}


def read(**fields: Any) -> Request:
    return messages.read_request({"model": "m1", "max_tokens": 64, "messages": USER, **fields})


def parts(*blocks: dict[str, Any], role: str = "user") -> list[Part]:
    return [part for turn in read(messages=[{"role": role, "content": list(blocks)}]).turns for part in turn.parts]


def refused(**fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        read(**fields)
    return caught.value


def test_a_whole_request_is_read() -> None:
    request = read(
        system="Be brief.",
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        stop_sequences=["END"],
        stream=True,
        metadata={"user_id": "u1"},
    )
    assert request == Request(
        model="m1",
        turns=[Turn("system", [Text("Be brief.")]), Turn("user", [Text("Say hi")])],
        sampling=Sampling(temperature=0.5, top_p=0.9, top_k=40, stop=("END",), max_tokens=64),
        stream=True,
        include_usage=True,
        user="u1",
    )


def test_nulls_everywhere_are_as_good_as_nothing() -> None:
    names = (
        "system temperature top_p top_k stop_sequences stream metadata tools tool_choice thinking output_config "
        "output_format cache_control container context_management service_tier speed"
    )
    assert read(**dict.fromkeys(names.split())) == read()


def test_the_number_of_tokens_may_be_left_out() -> None:
    assert messages.read_request({"model": "m1", "messages": USER}).sampling.max_tokens is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages[0].content[0].source"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"stop_sequences": [1]}, "stop_sequences"),
        ({"stream": "yes"}, "stream"),
        ({"system": [{"type": "image", "source": {"type": "url", "url": "https://x/a.png"}}]}, "system"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"tools": [{"name": "f", "input_schema": "x"}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "sometimes"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"thinking": {"type": "deep"}}, "thinking.type"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
    ],
)
def test_a_field_that_cannot_be_read_is_named(fields: dict[str, Any], param: str) -> None:
    assert refused(**fields).param == param


def test_a_system_of_blocks_is_one_turn() -> None:
    request = read(system=[{"type": "text", "text": "A"}, {"type": "text", "text": "B", "cache_control": CACHE}])
    assert request.turns[0] == Turn("system", [Text("A"), Text("B", {"cache_control": CACHE})])


def test_a_system_turn_inside_the_conversation_keeps_its_place() -> None:
    turns = read(messages=[*USER, {"role": "system", "content": "Now in French."}]).turns
    assert turns[1] == Turn("system", [Text("Now in French.")])


def test_where_caching_is_wished_for_is_named_once_and_kept() -> None:
    block = {"type": "text", "text": "Hi", "cache_control": CACHE}
    request = read(
        messages=[{"role": "user", "content": [block, block]}], tools=[{"name": "f", "cache_control": CACHE}]
    )
    assert list(request.extra) == ["cache_control"]
    assert request.turns[0].parts == [Text("Hi", {"cache_control": CACHE})] * 2


def test_results_stand_in_a_turn_of_their_own_before_the_text_beside_them() -> None:
    content = [
        {"type": "text", "text": "And?"},
        {"type": "tool_result", "tool_use_id": "t1", "content": "20"},
        {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "none"}], "is_error": True},
    ]
    assert read(messages=[{"role": "user", "content": content}]).turns == [
        Turn("tool", [ToolResult("t1", [Text("20")]), ToolResult("t2", [Text("none")], is_error=True)]),
        Turn("user", [Text("And?")]),
    ]


def test_a_result_may_be_empty_or_hold_an_image() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "aGk="}
    image = {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "image", "source": source}]}
    assert parts({"type": "tool_result", "tool_use_id": "t1"}, image) == [
        ToolResult("t1", []),
        ToolResult("t2", [Image("image/png", "aGk=")]),
    ]


def test_what_the_model_said_keeps_its_order() -> None:
    said = parts(
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "opaque"},
        {"type": "thinking", "thinking": "Unsigned.", "signature": ""},
        {"type": "text", "text": "I ask."},
        {"type": "tool_use", "id": "t1", "name": "get", "input": {"b": 1, "a": [1.5]}},
        role="assistant",
    )
    assert said == [
        Reasoning("Hm.", "mooltiproxy:anthropic:c2ln"),
        Reasoning("", "mooltiproxy:anthropic.redacted:opaque"),
        Reasoning("Unsigned."),
        Text("I ask."),
        ToolCall("t1", "get", '{"b":1,"a":[1.5]}'),
    ]


@pytest.mark.parametrize(
    ("source", "image"),
    [
        ({"type": "base64", "media_type": "image/PNG", "data": "aGk"}, Image("image/png", "aGk=")),
        ({"type": "url", "url": "https://x/a.png"}, Image(url="https://x/a.png")),
        ({"type": "url", "url": "data:image/gif;base64,aGk="}, Image("image/gif", "aGk=")),
        ({"type": "file", "file_id": "file_1"}, Image(file_id="file_1")),
    ],
)
def test_an_image_of_every_source_is_read(source: dict[str, str], image: Image) -> None:
    assert parts({"type": "image", "source": source}) == [image]


@pytest.mark.parametrize(
    ("source", "document"),
    [
        (
            {"type": "base64", "media_type": "application/pdf", "data": "aGk="},
            Document("application/pdf", "aGk=", name="A"),
        ),
        ({"type": "text", "media_type": "text/plain", "data": "hi"}, Document("text/plain", "aGk=", name="A")),
        ({"type": "url", "url": "https://x/a.pdf"}, Document(url="https://x/a.pdf", name="A")),
        ({"type": "file", "file_id": "file_1"}, Document(file_id="file_1", name="A")),
    ],
)
def test_a_document_of_every_source_is_read(source: dict[str, str], document: Document) -> None:
    assert parts({"type": "document", "title": "A", "source": source}) == [document]


def test_a_document_of_blocks_is_its_text() -> None:
    source = {"type": "content", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": "Two"}]}
    (document,) = parts({"type": "document", "source": source})
    assert isinstance(document, Document)
    assert base64.b64decode(document.data or "") == b"One\nTwo"


def test_a_search_result_is_read_as_text() -> None:
    block = {
        "type": "search_result",
        "title": "T",
        "source": "https://x",
        "content": [{"type": "text", "text": "Found."}],
    }
    assert parts(block) == [Text("T\nhttps://x\nFound.")]


def test_what_the_vendors_own_tools_left_behind_is_named() -> None:
    used = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
    request = read(messages=[*USER, {"role": "assistant", "content": [used, {"type": "text", "text": "Found."}]}])
    assert list(request.extra) == ["messages.server_tool_use"]
    assert request.turns[1].parts == [Text("Found.")]


def test_tools_are_read() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool = {"name": "get", "description": "Gets", "input_schema": schema, "strict": True, "type": "custom"}
    assert read(tools=[tool]).tools == [Tool("get", "Gets", schema, True)]


def test_the_vendors_own_tools_are_set_aside_and_named() -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    request = read(tools=[{"name": "get", "input_schema": {"type": "object"}}, search])
    assert [tool.name for tool in request.tools] == ["get"]
    assert list(request.extra) == ["tools.web_search_20250305"]


def test_the_vendors_own_tools_alone_are_refused() -> None:
    assert refused(tools=[{"type": "web_search_20250305", "name": "web_search"}]).param == "tools"


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, ToolChoice("auto")),
        ({"type": "none"}, ToolChoice("none")),
        ({"type": "any"}, ToolChoice("required")),
        ({"type": "tool", "name": "get"}, ToolChoice("required", ("get",))),
    ],
)
def test_a_choice_among_tools_is_read(choice: dict[str, str], expected: ToolChoice) -> None:
    assert read(tool_choice=choice).tool_choice == expected


@pytest.mark.parametrize(("serial", "parallel"), [(True, False), (False, True), (None, None)])
def test_parallel_calls_are_allowed_or_not(serial: bool | None, parallel: bool | None) -> None:
    assert read(tool_choice={"type": "auto", "disable_parallel_tool_use": serial}).parallel_tool_calls is parallel


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, ReasoningOptions(budget=2048)),
        ({"thinking": {"type": "adaptive"}}, ReasoningOptions()),
        ({"thinking": {"type": "adaptive", "display": "summarized"}}, ReasoningOptions(show=True)),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, ReasoningOptions(show=False)),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}, ReasoningOptions("high")),
        ({"thinking": {"type": "disabled"}}, ReasoningOptions("none")),
        ({"output_config": {"effort": "low"}}, ReasoningOptions("low")),
        ({}, None),
    ],
)
def test_how_much_to_think_is_read(fields: dict[str, Any], expected: ReasoningOptions | None) -> None:
    assert read(**fields).reasoning == expected


@pytest.mark.parametrize("name", ["output_config", "output_format"])
def test_a_schema_is_read_under_its_present_and_its_former_name(name: str) -> None:
    output = {"type": "json_schema", "schema": {"type": "object"}}
    fields: dict[str, Any] = {name: {"format": output} if name == "output_config" else output}
    assert read(**fields).output == OutputFormat("schema", {"type": "object"})


@pytest.mark.parametrize("kind", ["create", "continue"])
def test_a_conversation_that_the_server_should_keep_is_refused_in_the_words_that_make_clients_send_it_all(
    kind: str,
) -> None:
    error = refused(thread={"type": kind})
    details = {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
    assert dialect.write_error(error, "r")["error"]["details"] == details


def test_what_has_no_place_is_named() -> None:
    request = read(
        context_management={"edits": []},
        container="c1",
        brand_new=1,
        metadata={"user_id": "u", "more": 1},
        messages=[{"role": "user", "content": [{"type": "text", "text": "Hi", "mood": "good"}], "mood": "good"}],
    )
    assert sorted(request.extra) == [
        "brand_new",
        "container",
        "context_management",
        "messages[0].content[0].mood",
        "messages[0].mood",
        "metadata.more",
    ]
