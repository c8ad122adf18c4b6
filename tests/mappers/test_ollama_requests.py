from typing import Any

import orjson
import pytest

from mappers.ollama import chat, generate
from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.dialect import Answered
from mooltiproxy.mapping.neutral import (
    Audio,
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

HELLO = [{"role": "user", "content": "Hello"}]
TURNS = [Turn("user", [Text("Hello")])]
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
JPEG = "/9j/4AAQSkZJRgABAQAAAQABAAA="
GIF = "R0lGODlhAQABAAAAACw="
WEBP = "UklGRh4AAABXRUJQVlA4TBEAAAA="
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = Tool("weather", "Weather of a city", SCHEMA)
SEARCH = Tool("search", None, SCHEMA)


def read(messages: Any = None, **fields: Any) -> Request:
    return chat.read_request({"model": "m1", "messages": messages or HELLO, **fields})


def write(request: Request) -> dict[str, Any]:
    return chat.write_request(request, {}).body


def asked(**fields: Any) -> Request:
    return Request(model="m1", turns=list(TURNS), **fields)


def dropped(**fields: Any) -> tuple[str, ...]:
    return chat.write_request(asked(**fields), {}).dropped


def wrong(body: dict[str, Any], read_request: Any = chat.read_request) -> str | None:
    with pytest.raises(BadRequest) as caught:
        read_request({"model": "m1", **body})
    return caught.value.param


def refused(request: Request, write_request: Any = chat.write_request) -> str | None:
    with pytest.raises(BadRequest) as caught:
        write_request(request, {})
    return caught.value.param


def options(**sampling: Any) -> Any:
    return write(asked(sampling=Sampling(**sampling))).get("options")


WHOLE: dict[str, Any] = {
    "model": "m1:latest",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is this?", "images": [PNG]},
        {
            "role": "assistant",
            "content": "",
            "thinking": "Ask somebody.",
            "tool_calls": [
                {"id": "call_a", "function": {"index": 0, "name": "weather", "arguments": {"city": "Paris"}}},
                {"id": "call_b", "function": {"index": 1, "name": "weather", "arguments": {"city": "Rome"}}},
            ],
        },
        {"role": "tool", "tool_name": "weather", "tool_call_id": "call_b", "content": "30"},
        {"role": "tool", "tool_name": "weather", "tool_call_id": "call_a", "content": "20"},
    ],
    "tools": [{"type": "function", "function": {"name": "weather", "description": "Weather", "parameters": SCHEMA}}],
    "stream": False,
    "options": {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 30,
        "min_p": 0.1,
        "typical_p": 0.7,
        "repeat_penalty": 1.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "num_predict": 64,
        "seed": 7,
        "stop": ["END"],
        "num_ctx": 8192,
        "use_mmap": False,
    },
    "format": SCHEMA,
    "think": "high",
    "keep_alive": "10m",
    "truncate": False,
    "shift": True,
    "logprobs": True,
    "top_logprobs": 3,
}


def test_a_request_is_read_and_written_without_a_change() -> None:
    written = chat.write_request(chat.read_request(WHOLE), {})
    assert written.body == WHOLE
    assert written.dropped == ()


@pytest.mark.parametrize("think", [True, False, "low", "medium", "high", "max"])
def test_think_is_read_and_written_without_a_change(think: Any) -> None:
    assert write(read(think=think))["think"] == think


@pytest.mark.parametrize("keep_alive", ["5m", "-1m", 0, 300, 1.5])
def test_keep_alive_is_kept(keep_alive: Any) -> None:
    request = read(keep_alive=keep_alive)
    assert request.keep_alive == keep_alive
    assert write(request)["keep_alive"] == keep_alive


def test_a_field_of_this_api_alone_is_named_for_others() -> None:
    request = read(keep_alive="5m", truncate=True, options={"num_ctx": 4096, "mirostat": 1})
    assert request.extra == {"keep_alive": "5m", "truncate": True, "options.num_ctx": 4096, "options.mirostat": 1}


def test_a_request_streams_unless_it_says_otherwise() -> None:
    assert read().stream
    assert read(stream=None).stream
    assert not read(stream=False).stream


def test_to_a_target_it_is_always_said_whether_to_stream() -> None:
    assert write(asked())["stream"] is False
    assert write(asked(stream=True))["stream"] is True


@pytest.mark.parametrize("limit", [-1, -2, 0])
def test_no_limit_of_tokens_is_none(limit: int) -> None:
    assert read(options={"num_predict": limit}).sampling.max_tokens is None


def test_a_random_seed_is_none() -> None:
    assert read(options={"seed": -1}).sampling.seed is None


def test_nulls_are_absent() -> None:
    nulls = {"options": None, "format": None, "think": None, "keep_alive": None, "tools": None}
    assert read(**nulls) == read()
    assert read(options={"temperature": None, "stop": None}) == read()


def test_integral_floats_are_integers() -> None:
    assert read(options={"num_predict": 64.0}).sampling.max_tokens == 64


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"options": {"stop": "END"}}, "options.stop"),
        ({"options": {"temperature": "hot"}}, "options.temperature"),
        ({"options": []}, "options"),
        ({"format": "xml"}, "format"),
        ({"think": "much"}, "think"),
        ({"think": 1}, "think"),
        ({"keep_alive": True}, "keep_alive"),
        ({"stream": "yes"}, "stream"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "images": ["data:image/png;base64," + PNG]}]}, "messages[0].images"),
        ({"messages": [{"role": "user", "images": [1]}]}, "messages[0].images"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ],
)
def test_a_value_that_the_api_would_refuse_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    assert wrong({"messages": HELLO, **fields}) == param


def answered(body: dict[str, Any], reader: Any = chat.read_request) -> tuple[Any, Answered]:
    """The line that a request gets without a target, and all that is told of it."""
    with pytest.raises(Answered) as caught:
        reader({"model": "m1", **body})
    return orjson.loads(caught.value.reply.body), caught.value


@pytest.mark.parametrize("reader", [chat.read_request, generate.read_request])
@pytest.mark.parametrize("stay", ["5m", -1, 300, None, "10s", "1h0m"])
def test_a_request_without_a_question_is_told_that_the_model_is_loaded(reader: Any, stay: Any) -> None:
    line, told = answered({"keep_alive": stay}, reader)
    assert (line["model"], line["done"], line["done_reason"]) == ("m1", True, "load")
    assert told.reply.media_type == "application/x-ndjson"
    assert told.dropped == (() if stay is None else ("keep_alive",))


@pytest.mark.parametrize("stay", [0, 0.0, "0", "0s", "0h0m", "-0.0s"])
def test_one_that_lets_it_stay_for_no_time_is_told_that_it_is_unloaded(stay: Any) -> None:
    line, told = answered({"messages": [], "stream": False, "keep_alive": stay})
    assert line["done_reason"] == "unload"
    assert line["message"] == {"role": "assistant", "content": ""}
    assert told.reply.media_type == "application/json"
    assert answered({"prompt": "", "keep_alive": stay}, generate.read_request)[0]["response"] == ""


def test_roles_are_read_in_any_case() -> None:
    assert read([{"role": "User", "content": "Hello"}, {"role": "developer", "content": "x"}]).turns == [
        Turn("user", [Text("Hello")]),
        Turn("system", [Text("x")]),
    ]


@pytest.mark.parametrize(
    ("data", "media_type"),
    [(PNG, "image/png"), (JPEG, "image/jpeg"), (GIF, "image/gif"), (WEBP, "image/webp"), ("AAAA", None)],
)
def test_the_first_bytes_of_an_image_tell_its_type(data: str, media_type: str | None) -> None:
    (turn,) = read([{"role": "user", "content": "What?", "images": [data]}]).turns
    assert turn.parts == [Image(media_type, data), Text("What?")]


def test_calls_without_ids_get_the_same_ones_every_time() -> None:
    calls = [{"function": {"name": "weather", "arguments": {"city": city}}} for city in ("Paris", "Rome")]
    talk = [*HELLO, {"role": "assistant", "tool_calls": calls}]
    first, later = read(talk), read([*talk, {"role": "tool", "tool_name": "weather", "content": "20"}])
    ids = [part.id for part in first.turns[1].parts if isinstance(part, ToolCall)]
    assert first.turns == later.turns[:2]
    assert len(set(ids)) == 2
    assert later.turns[2].parts == [ToolResult(ids[0], [Text("20")], "weather")]


def calls_of(*names: str) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"id": f"id_{name}", "function": {"name": name}} for name in names]}


def results_of(*messages: dict[str, Any]) -> list[str]:
    turns = read([*HELLO, calls_of("a", "b", "c"), *({"role": "tool", **message} for message in messages)]).turns
    return [part.call_id for turn in turns for part in turn.parts if isinstance(part, ToolResult)]


def test_results_without_ids_belong_to_calls_by_name_then_in_order() -> None:
    assert results_of({"tool_name": "b"}, {}, {"tool_name": "other"}) == ["id_b", "id_a", "id_c"]


def test_results_with_ids_belong_to_those_calls() -> None:
    assert results_of({"tool_call_id": "id_c"}, {"tool_call_id": "id_a"}, {"tool_name": "b"}) == [
        "id_c",
        "id_a",
        "id_b",
    ]


def test_a_result_of_no_call_keeps_its_id_or_gets_one() -> None:
    (turn,) = read([{"role": "tool", "tool_call_id": "x", "content": "1"}]).turns
    assert turn.parts == [ToolResult("x", [Text("1")])]
    (turn,) = read([{"role": "tool", "tool_name": "f", "content": "1"}]).turns
    assert isinstance(turn.parts[0], ToolResult)
    assert turn.parts[0].call_id.startswith("call_")


def test_fields_of_messages_without_a_home_are_named() -> None:
    assert read([{"role": "user", "content": "Hello", "mood": "good"}]).extra == {"messages[0].mood": "good"}


def test_the_promised_temperature_and_top_p_are_said_where_the_client_left_them_out() -> None:
    assert options() == {"temperature": 1.0, "top_p": 1.0}
    assert options(temperature=0) == {"temperature": 0, "top_p": 1.0}
    assert options(model_defaults=True) is None


def test_sampling_is_written_under_its_names_here() -> None:
    assert options(max_tokens=5, repetition_penalty=1.2, stop=("a", "b"), model_defaults=True) == {
        "num_predict": 5,
        "repeat_penalty": 1.2,
        "stop": ["a", "b"],
    }


@pytest.mark.parametrize(("name", "value"), [("n", 2), ("best_of", 2), ("max_tokens", 0)])
def test_what_would_change_the_answer_unseen_is_refused(name: str, value: Any) -> None:
    assert refused(asked(sampling=Sampling(**{name: value}))) == name


def test_log_probabilities_of_a_prompt_are_refused() -> None:
    request = Request("m1", prompt="Once", echo=True, sampling=Sampling(logprobs=True))
    assert refused(request, generate.write_request) == "logprobs"


def test_what_is_only_a_hint_is_dropped_by_name() -> None:
    assert dropped(user="u", sampling=Sampling(logit_bias={"1": 2})) == ("logit_bias", "user")


def test_more_alternatives_than_the_api_gives_are_clamped() -> None:
    request = asked(sampling=Sampling(logprobs=True, top_logprobs=25))
    written = chat.write_request(request, {})
    assert written.body["top_logprobs"] == 20
    assert written.dropped == ("clamped top_logprobs 25->20",)


def test_foreign_fields_never_leak() -> None:
    foreign = {"store": True, "truncate": "END", "options.num_ctx": "big", "keep_alive": "5m", "options.use_mmap": 1}
    written = chat.write_request(asked(extra=foreign), {})
    assert written.body == write(asked())
    assert written.dropped == tuple(sorted(foreign))


@pytest.mark.parametrize(
    ("reasoning", "think"),
    [
        (ReasoningOptions(effort="none"), False),
        (ReasoningOptions(effort="minimal"), "low"),
        (ReasoningOptions(effort="medium"), "medium"),
        (ReasoningOptions(effort="xhigh"), "max"),
        (ReasoningOptions(budget=0), False),
        (ReasoningOptions(budget=1024), "low"),
        (ReasoningOptions(budget=8192), "medium"),
        (ReasoningOptions(budget=30000), "high"),
        (ReasoningOptions(budget=-1, show=True), True),
        (ReasoningOptions(show=True), True),
    ],
)
def test_reasoning_becomes_think(reasoning: ReasoningOptions, think: Any) -> None:
    assert write(asked(reasoning=reasoning))["think"] == think


def test_an_unknown_effort_is_dropped() -> None:
    assert dropped(reasoning=ReasoningOptions(effort="enormous")) == ("reasoning_effort",)
    assert "think" not in write(asked())


def test_json_and_schemas_are_a_format_and_nothing_else_is() -> None:
    assert write(asked(output=OutputFormat("json")))["format"] == "json"
    assert write(asked(output=OutputFormat("schema", SCHEMA, "city", True)))["format"] == SCHEMA
    assert refused(asked(output=OutputFormat("regex", "a+"))) == "response_format"


def tools_of(**fields: Any) -> tuple[list[str], tuple[str, ...]]:
    written = chat.write_request(asked(tools=[WEATHER, SEARCH], **fields), {})
    return [tool["function"]["name"] for tool in written.body.get("tools", ())], written.dropped


@pytest.mark.parametrize(
    ("choice", "names", "lost"),
    [
        (None, ["weather", "search"], ()),
        (ToolChoice("auto"), ["weather", "search"], ()),
        (ToolChoice("none"), [], ()),
        (ToolChoice("required"), ["weather", "search"], ("tool_choice",)),
        (ToolChoice("required", ("search",)), ["search"], ("tool_choice",)),
        (ToolChoice("auto", ("weather",)), ["weather"], ()),
    ],
)
def test_a_choice_of_tools_becomes_what_is_offered(
    choice: ToolChoice | None, names: list[str], lost: tuple[str, ...]
) -> None:
    assert tools_of(tool_choice=choice) == (names, lost)


def test_a_choice_of_a_tool_that_is_not_there_is_refused() -> None:
    assert refused(asked(tools=[WEATHER], tool_choice=ToolChoice("required", ("other",)))) == "tool_choice"


def test_what_tools_cannot_be_told_is_named() -> None:
    assert dropped(tools=[WEATHER], parallel_tool_calls=False) == ("parallel_tool_calls",)
    assert dropped(tools=[WEATHER], parallel_tool_calls=True) == ()
    assert dropped(tools=[Tool("f", None, SCHEMA, True)]) == ("tools.strict",)


def test_a_tool_without_arguments_says_so() -> None:
    (tool,) = write(asked(tools=[Tool("now")]))["tools"]
    assert tool["function"]["parameters"] == {"type": "object", "properties": {}}


def messages_of(*turns: Turn) -> Any:
    return write(Request("m1", turns=list(turns)))["messages"]


def lost_of(*turns: Turn) -> tuple[str, ...]:
    return chat.write_request(Request("m1", turns=list(turns)), {}).dropped


def test_parts_become_one_string_with_the_images_beside_it() -> None:
    turn = Turn("user", [Text("What is "), Image("image/png", PNG), Text("this?")])
    assert messages_of(turn) == [{"role": "user", "content": "What is this?", "images": [PNG]}]


def test_an_image_whose_bytes_are_elsewhere_is_refused() -> None:
    for image in (Image(url="http://x/cat.png"), Image(file_id="file_1")):
        assert refused(Request("m1", turns=[Turn("user", [image])])) == "messages"


@pytest.mark.parametrize("part", [Audio("AAAA", "wav"), Document("application/pdf", "AAAA")])
def test_a_part_without_a_form_is_refused(part: Any) -> None:
    assert refused(Request("m1", turns=[Turn("user", [part])])) == "messages"


def test_the_detail_of_an_image_is_dropped_once() -> None:
    image = Image("image/png", PNG, detail="high")
    assert lost_of(Turn("user", [image, image])) == ("messages.detail",)
    assert lost_of(Turn("user", [Image("image/png", PNG, detail="auto")])) == ()


def test_a_result_gets_the_name_of_its_call_from_the_history() -> None:
    call = Turn("assistant", [ToolCall("call_a", "weather", "")])
    result = Turn("tool", [ToolResult("call_a", [Text("20")])])
    assert messages_of(call, result) == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "call_a", "function": {"index": 0, "name": "weather", "arguments": {}}}],
        },
        {"role": "tool", "tool_name": "weather", "tool_call_id": "call_a", "content": "20"},
    ]


def test_results_and_words_in_one_turn_become_messages_in_that_order() -> None:
    parts: list[Part] = [
        ToolResult("a", [Text("1")]),
        ToolResult("b", [Text("2"), Image("image/png", PNG)]),
        Text("And now?"),
    ]
    assert messages_of(Turn("user", parts)) == [
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": "2", "images": [PNG]},
        {"role": "user", "content": "And now?"},
    ]


@pytest.mark.parametrize("arguments", ['{"city"', "[]", "hello"])
def test_history_whose_arguments_are_no_object_is_refused(arguments: str) -> None:
    turn = Turn("assistant", [ToolCall("call_a", "weather", arguments)])
    assert refused(Request("m1", turns=[turn])) == "messages"


def test_state_of_other_vendors_is_dropped_by_name() -> None:
    parts: list[Part] = [Reasoning("Hm.", "sig"), ToolCall("a", "f", "{}", "sig")]
    turns = [Turn("assistant", parts, name="Bob"), Turn("tool", [ToolResult("a", [], is_error=True)])]
    names = ("messages.tool_calls.signature", "messages.signature", "messages.name", "messages.is_error")
    assert lost_of(*turns) == names
    assert messages_of(*turns)[0]["thinking"] == "Hm."


def test_a_prompt_is_not_for_the_chat_endpoint() -> None:
    assert refused(Request("m1", prompt="Once")) == "prompt"


def generated(**fields: Any) -> Request:
    return generate.read_request({"model": "m1", **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "Hello"},
        {"prompt": "Hello", "system": "Be brief.", "images": [PNG]},
        {"prompt": "def f(", "suffix": "return 1"},
        {"prompt": "<s>Hello", "raw": True},
    ],
)
def test_a_generate_request_is_read_and_written_without_a_change(fields: dict[str, Any]) -> None:
    body = {"model": "m1", **fields, "stream": True, "options": {"num_predict": 5}, "format": "json", "think": False}
    assert generate.write_request(generate.read_request(body), {}).body == body


def test_a_plain_prompt_is_a_conversation() -> None:
    request = generated(prompt="Hello", system="Be brief.", images=[PNG])
    assert request.prompt is None
    assert request.turns == [
        Turn("system", [Text("Be brief.")]),
        Turn("user", [Image("image/png", PNG), Text("Hello")]),
    ]


def test_a_raw_prompt_and_one_with_a_suffix_are_not() -> None:
    assert generated(prompt="Hello", raw=True).prompt == "Hello"
    assert generated(prompt="Hello", suffix="!").suffix == "!"


def test_a_suffix_beside_raw_is_named_as_the_server_does_not_read_it() -> None:
    request = generated(prompt="Hello", raw=True, suffix="!")
    assert request.suffix is None
    assert request.extra == {"suffix": "!"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"raw": True, "system": "x"}, "raw"),
        ({"raw": True, "template": "x"}, "raw"),
        ({"raw": True, "context": [1]}, "raw"),
        ({"raw": True, "images": [PNG]}, "images"),
        ({"template": "x"}, "template"),
        ({"context": [1, 2]}, "context"),
    ],
)
def test_what_only_one_model_can_understand_is_refused(fields: dict[str, Any], param: str) -> None:
    assert wrong({"prompt": "Hello", **fields}, generate.read_request) == param


def test_a_bare_prompt_is_asked_for_without_a_template() -> None:
    body = generate.write_request(Request(model="m1", prompt="Once upon"), {}).body
    assert body["prompt"] == "Once upon"
    assert body["raw"] is True
    assert "suffix" not in body


def test_a_conversation_of_several_turns_is_not_for_the_generate_endpoint() -> None:
    turns = [Turn("user", [Text("a")]), Turn("assistant", [Text("b")]), Turn("user", [Text("c")])]
    assert refused(Request("m1", turns=turns), generate.write_request) == "messages"
    assert refused(Request("m1", prompt="x", tools=[WEATHER]), generate.write_request) == "tools"


@pytest.mark.parametrize("model", [None, ""])
def test_a_request_without_a_model_is_refused(model: str | None) -> None:
    assert refused(Request(model, turns=list(TURNS))) == "model"
    assert refused(Request(model, prompt="x"), generate.write_request) == "model"
