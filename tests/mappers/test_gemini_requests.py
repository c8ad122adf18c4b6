from typing import Any

import pytest

from mappers.gemini import chat, chat_stream
from mappers.gemini.schema import json_schema
from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.neutral import (
    Asked,
    Audio,
    Document,
    Image,
    OutputFormat,
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

M1 = Asked(model="m1")
USER = [{"role": "user", "parts": [{"text": "Say hi"}]}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SUBSET = {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}, "required": ["city"]}
PNG = "iVBORw0KGgo="
FILE = "https://generativelanguage.googleapis.com/v1beta/files/abc"


def read(**fields: Any) -> Request:
    request: Request = chat.read_request({"contents": USER, **fields}, M1)
    return request


def configured(**fields: Any) -> Request:
    return read(generationConfig=fields)


def refused(**fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        read(**fields)
    return caught.value


def parts(*given: dict[str, Any], role: str = "user") -> Request:
    request: Request = chat.read_request({"contents": [{"role": role, "parts": list(given)}]}, M1)
    return request


def test_a_whole_request_is_read() -> None:
    body = {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": USER,
        "generationConfig": {
            "temperature": 0.5,
            "topP": 0.9,
            "topK": 40,
            "candidateCount": 2,
            "maxOutputTokens": 64,
            "stopSequences": ["END"],
            "seed": 7,
            "presencePenalty": 0.1,
            "frequencyPenalty": 0.2,
            "responseLogprobs": True,
            "logprobs": 3,
        },
    }
    assert chat.read_request(body, M1) == Request(
        model="m1",
        turns=[Turn("system", [Text("Be brief.")]), Turn("user", [Text("Say hi")])],
        sampling=Sampling(
            temperature=0.5,
            top_p=0.9,
            top_k=40,
            seed=7,
            presence_penalty=0.1,
            frequency_penalty=0.2,
            stop=("END",),
            max_tokens=64,
            n=2,
            logprobs=True,
            top_logprobs=3,
            model_defaults=True,
        ),
    )


def test_snake_case_is_as_good_as_camel_case() -> None:
    camel = read(
        systemInstruction={"parts": [{"text": "Be brief."}]},
        generationConfig={"maxOutputTokens": 5, "thinkingConfig": {"thinkingBudget": 7}},
        toolConfig={"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
        tools=[{"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"my_name": 1}}]}],
    )
    snake = chat.read_request(
        {
            "system_instruction": {"parts": {"text": "Be brief."}},
            "contents": {"parts": {"text": "Say hi"}},
            "generation_config": {"max_output_tokens": 5, "thinking_config": {"thinking_budget": 7}},
            "tool_config": {"function_calling_config": {"mode": "any", "allowed_function_names": ["f"]}},
            "tools": {"function_declarations": {"name": "f", "parameters_json_schema": {"my_name": 1}}},
        },
        M1,
    )
    assert snake == camel


def test_nulls_are_as_good_as_nothing() -> None:
    names = "systemInstruction generationConfig tools toolConfig safetySettings cachedContent labels"
    assert read(**dict.fromkeys(names.split())) == read()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"contents": []}, "contents"),
        ({"contents": [{"role": "system", "parts": [{"text": "a"}]}]}, "contents[0].role"),
        ({"contents": [{"parts": [{}]}]}, "contents[0].parts[0]"),
        ({"contents": [{"parts": [{"executableCode": {"code": "1"}}]}]}, "contents"),
        ({"contents": [{"parts": [{"text": 1}]}]}, "contents[0].parts[0].text"),
        ({"generationConfig": {"temperature": 3}}, "generationConfig.temperature"),
        ({"generationConfig": {"seed": 2**31}}, "generationConfig.seed"),
        ({"generationConfig": {"candidateCount": 9}}, "generationConfig.candidateCount"),
        ({"generationConfig": {"responseModalities": ["IMAGE"]}}, "generationConfig.responseModalities"),
        ({"generationConfig": {"responseMimeType": "text/x.enum"}}, "generationConfig.responseMimeType"),
        ({"tools": [{"googleSearch": {"timeRangeFilter": {}}}]}, "tools"),
        ({"tools": [{"code_execution": {}}]}, "tools"),
        ({"cachedContent": "cachedContents/x"}, "cachedContent"),
        ({"toolConfig": {"functionCallingConfig": {"mode": "SOME"}}}, "toolConfig.functionCallingConfig.mode"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_name(fields: dict[str, Any], param: str) -> None:
    assert refused(**fields).param == param


def test_a_budget_with_a_level_is_refused() -> None:
    thinking = {"thinkingBudget": 1, "thinkingLevel": "LOW"}
    error = refused(generationConfig={"thinkingConfig": thinking})
    assert error.param == "generationConfig.thinkingConfig.thinkingBudget"


def test_what_has_no_place_can_be_named() -> None:
    request = read(
        safetySettings=[{"category": "X"}],
        generationConfig={"mediaResolution": "MEDIA_RESOLUTION_LOW", "thinkingConfig": {"thinkingBudget": -1}},
        contents=[{"parts": [{"text": "a", "videoMetadata": {"fps": 1}}]}],
    )
    assert sorted(request.extra) == [
        "contents[0].parts[0].videoMetadata",
        "generationConfig.mediaResolution",
        "generationConfig.thinkingConfig.thinkingBudget",
        "safetySettings",
    ]
    assert request.reasoning == ReasoningOptions(show=False)


def test_the_path_says_how_an_answer_is_streamed() -> None:
    assert not chat.read_request({"contents": USER}, M1).stream
    events = chat_stream.read_request({"contents": USER}, Asked(model="m1", query={"alt": "sse"}))
    array = chat_stream.read_request({"contents": USER}, M1)
    assert (events.stream, events.framing) == (True, "sse")
    assert (array.stream, array.framing) == (True, "json_array")


def test_media_are_read_in_either_spelling_of_base64() -> None:
    request = parts(
        {"inlineData": {"mimeType": "image/PNG", "data": "-_-_"}},
        {"inline_data": {"mime_type": "audio/mpeg", "data": "AAA"}},
        {"inlineData": {"mimeType": "application/pdf", "data": PNG, "displayName": "a.pdf"}},
        {"fileData": {"mimeType": "image/png", "fileUri": FILE}},
        {"fileData": {"fileUri": "gs://bucket/a.mp4"}},
    )
    assert request.turns[0].parts == [
        Image(media_type="image/png", data="+/+/"),
        Audio("AAA=", "mp3"),
        Document(media_type="application/pdf", data=PNG, name="a.pdf"),
        Image(media_type="image/png", url=FILE),
        Document(url="gs://bucket/a.mp4"),
    ]


def test_thoughts_and_signatures_are_read() -> None:
    request = parts(
        {"text": "Hm.", "thought": True, "thoughtSignature": "YS1i_w"},
        {"text": "Four", "thought": False},
        {"text": "", "thoughtSignature": "c2ln"},
        {"functionCall": {"id": "c1", "name": "f", "args": {"a": 1}}, "thoughtSignature": "c2ln"},
        role="model",
    )
    assert request.turns == [
        Turn(
            "assistant",
            [
                Reasoning("Hm.", "mooltiproxy:gemini:YS1i/w=="),
                Text("Four", signature="c2ln"),
                ToolCall("c1", "f", '{"a":1}', "c2ln"),
            ],
        )
    ]


def test_the_pieces_of_a_streamed_answer_are_one_turn() -> None:
    """Google's SDKs keep a content for each piece; the signature of a thought stands in its last one."""
    pieces: list[dict[str, Any]] = [
        {"text": "Let ", "thought": True},
        {"text": "me see.", "thought": True, "thoughtSignature": "YS1i"},
        {"text": "Another.", "thought": True},
        {"text": "Fo"},
        {"text": "ur"},
        {"text": "", "thoughtSignature": "c2ln"},
        {"text": "!"},
        {"functionCall": {"id": "c1", "name": "f", "args": {}}},
    ]
    contents = [{"role": "model", "parts": [piece]} for piece in pieces]
    turn = Turn(
        "assistant",
        [
            Reasoning("Let me see.", "mooltiproxy:gemini:YS1i"),
            Reasoning("Another."),
            Text("Four", signature="c2ln"),
            Text("!"),
            ToolCall("c1", "f", "{}"),
        ],
    )
    assert chat.read_request({"contents": contents}, M1).turns == [turn]
    assert parts(*pieces[:3], role="model").turns == [Turn("assistant", turn.parts[:2])]


def called(*names: str, **ids: str) -> dict[str, Any]:
    return {"role": "model", "parts": [{"functionCall": {**named(name, ids), "args": {}}} for name in names]}


def returned(*names: str, **ids: str) -> dict[str, Any]:
    results = [{"functionResponse": {**named(name, ids), "response": {"of": name}}} for name in names]
    return {"role": "user", "parts": results}


def named(name: str, ids: dict[str, str]) -> dict[str, str]:
    return {"name": name, "id": ids[name]} if name in ids else {"name": name}


def ids_of(*contents: dict[str, Any]) -> tuple[list[str], list[str]]:
    request = chat.read_request({"contents": [*USER, *contents]}, M1)
    every = [part for turn in request.turns for part in turn.parts]
    calls = [part.id for part in every if isinstance(part, ToolCall)]
    return calls, [part.call_id for part in every if isinstance(part, ToolResult)]


def test_calls_without_ids_get_some_that_stay_the_same() -> None:
    first, _ = ids_of(called("f", "g"))
    later, results = ids_of(called("f", "g"), returned("f", "g"), called("f"), returned("f"))
    assert later[:2] == first
    assert len(set(later)) == 3
    assert results == later


def test_results_without_ids_belong_to_the_calls_of_their_name() -> None:
    calls, results = ids_of(called("f", "g", f="a1"), returned("g", "f"))
    assert calls[0] == "a1"
    assert results == [calls[1], "a1"]


def test_results_with_ids_belong_to_the_calls_of_those() -> None:
    body = [called("f"), called("f")]
    for number, content in enumerate(body):
        content["parts"][0]["functionCall"]["id"] = f"c{number}"
    back = returned("f", "f")
    for number, part in enumerate(back["parts"]):
        part["functionResponse"]["id"] = f"c{1 - number}"
    assert ids_of(*body, back)[1] == ["c1", "c0"]


@pytest.mark.parametrize(
    ("response", "text", "is_error"),
    [
        ({"result": "sunny"}, "sunny", False),
        ({"output": "sunny", "unit": "sky"}, '{"output":"sunny","unit":"sky"}', False),
        ({"error": "no such city"}, "no such city", True),
        ({"c": 20}, '{"c":20}', False),
        ({"result": '{"c":20}'}, '{"result":"{\\"c\\":20}"}', False),
        ({"error": {"code": 1}}, '{"error":{"code":1}}', True),
        ({"result": 42}, '{"result":42}', False),
    ],
)
def test_what_a_function_returned_is_read_and_written_again(response: Any, text: str, is_error: bool) -> None:
    result = {"functionResponse": {"id": "c1", "name": "f", "response": response}}
    body = {"contents": [*USER, called("f", f="c1"), {"role": "user", "parts": [result]}]}
    request = chat.read_request(body, M1)
    assert request.turns[-1] == Turn("tool", [ToolResult("c1", [Text(text)], "f", is_error)])
    assert chat.write_request(request, {}).body == body


def test_an_output_that_is_a_text_is_what_a_function_returned() -> None:
    result = {"functionResponse": {"id": "c1", "name": "f", "response": {"output": "sunny"}}}
    body = {"contents": [*USER, called("f", f="c1"), {"role": "user", "parts": [result]}]}
    assert chat.read_request(body, M1).turns[-1] == Turn("tool", [ToolResult("c1", [Text("sunny")], "f")])


def test_results_stand_before_what_the_user_says_to_them() -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": PNG}}
    result = {"functionResponse": {"name": "f", "response": {"result": "x"}, "parts": [image]}}
    request = parts({"text": "So?"}, result)
    assert [turn.role for turn in request.turns] == ["tool", "user"]
    returned_parts = request.turns[0].parts[0]
    assert isinstance(returned_parts, ToolResult)
    assert returned_parts.parts == [Text("x"), Image(media_type="image/png", data=PNG)]


def test_functions_are_read_with_either_kind_of_schema() -> None:
    declarations = [
        {"name": "a", "description": "A", "parameters": SUBSET},
        {"name": "b", "parametersJsonSchema": SCHEMA},
        {"name": "c", "behavior": "BLOCKING"},
    ]
    request = read(tools=[{"functionDeclarations": declarations[:1]}, {"functionDeclarations": declarations[1:]}])
    assert request.tools == [Tool("a", "A", SCHEMA), Tool("b", None, SCHEMA), Tool("c")]
    assert list(request.extra) == ["tools[1].functionDeclarations[1].behavior"]


@pytest.mark.parametrize(
    ("calling", "choice"),
    [
        ({"mode": "AUTO"}, ToolChoice("auto")),
        ({"mode": "ANY"}, ToolChoice("required")),
        ({"mode": "NONE"}, ToolChoice("none")),
        ({"mode": "ANY", "allowedFunctionNames": ["f"]}, ToolChoice("required", ("f",))),
        ({"mode": "VALIDATED", "allowedFunctionNames": ["f"]}, ToolChoice("auto", ("f",))),
        ({"mode": "MODE_UNSPECIFIED"}, None),
    ],
)
def test_the_modes_of_calling_are_read(calling: dict[str, Any], choice: ToolChoice | None) -> None:
    assert read(toolConfig={"functionCallingConfig": calling}).tool_choice == choice


def test_formats_are_read() -> None:
    assert configured(responseMimeType="text/plain").output is None
    assert configured(responseMimeType="application/json").output == OutputFormat("json")
    schema = OutputFormat("schema", SCHEMA)
    assert configured(responseMimeType="application/json", responseJsonSchema=SCHEMA).output == schema
    assert configured(responseMimeType="application/json", response_schema=SUBSET).output == schema


def test_a_schema_of_googles_subset_becomes_json_schema() -> None:
    subset = {
        "type": "OBJECT",
        "property_ordering": ["min_items", "b"],
        "properties": {
            "min_items": {"type": "ARRAY", "items": {"type": "INTEGER", "format": "int32"}, "min_items": "1"},
            "b": {"type": "STRING", "format": "enum", "enum": ["x"], "nullable": True, "example": "x"},
            "c": {"any_of": [{"type": "NUMBER"}, {"type": "BOOLEAN"}], "nullable": True},
        },
    }
    assert json_schema(subset) == {
        "type": "object",
        "properties": {
            "min_items": {"type": "array", "items": {"type": "integer", "format": "int32"}, "minItems": 1},
            "b": {"type": ["string", "null"], "enum": ["x", None]},
            "c": {"anyOf": [{"type": "number"}, {"type": "boolean"}, {"type": "null"}]},
        },
    }


@pytest.mark.parametrize(
    ("thinking", "options"),
    [
        ({"includeThoughts": True, "thinkingBudget": 1024}, ReasoningOptions(None, 1024, True)),
        ({"thinkingBudget": 0}, ReasoningOptions(None, 0, False)),
        ({"thinkingLevel": "HIGH"}, ReasoningOptions("high", None, False)),
        ({"thinkingLevel": "xhigh"}, ReasoningOptions("xhigh", None, False)),
        ({"thinkingLevel": "THINKING_LEVEL_UNSPECIFIED"}, ReasoningOptions(show=False)),
    ],
)
def test_thinking_is_read(thinking: dict[str, Any], options: ReasoningOptions) -> None:
    assert configured(thinkingConfig=thinking).reasoning == options


FULL: dict[str, Any] = {
    "systemInstruction": {"parts": [{"text": "Be"}, {"text": " brief."}]},
    "contents": [
        {"role": "user", "parts": [{"text": "Look"}, {"inlineData": {"mimeType": "image/png", "data": PNG}}]},
        {"role": "user", "parts": [{"fileData": {"mimeType": "image/png", "fileUri": FILE}}]},
        {
            "role": "model",
            "parts": [
                {"text": "Hm.", "thought": True},
                {"text": "Wait", "thoughtSignature": "c2ln"},
                {
                    "functionCall": {"id": "a1", "name": "f.x", "args": {"b": 1.0, "a": None}},
                    "thoughtSignature": "YQ==",
                },
                {"functionCall": {"id": "b1", "name": "f.x", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "a1", "name": "f.x", "response": {"c": 20}}},
                {"functionResponse": {"id": "b1", "name": "f.x", "response": {"error": "no"}}},
                {"text": "Go on"},
            ],
        },
    ],
    "tools": [{"functionDeclarations": [{"name": "f.x", "description": "F", "parametersJsonSchema": SCHEMA}]}],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f.x"]}},
    "generationConfig": {
        "temperature": 2,
        "topP": 0.9,
        "topK": 40,
        "candidateCount": 2,
        "maxOutputTokens": 64,
        "stopSequences": ["a", "b", "c", "d", "e"],
        "seed": -7,
        "presencePenalty": -1,
        "frequencyPenalty": 1,
        "responseLogprobs": True,
        "logprobs": 3,
        "responseMimeType": "application/json",
        "responseJsonSchema": SCHEMA,
        "thinkingConfig": {"thinkingLevel": "XHIGH", "includeThoughts": True},
    },
}


def test_a_request_read_and_written_again_is_the_same() -> None:
    written = chat.write_request(chat.read_request(FULL, Asked(model="gemini-3-pro")), {})
    body = written.body
    merged = {**FULL["contents"][0], "parts": FULL["contents"][0]["parts"] + FULL["contents"][1]["parts"]}
    assert body == {**FULL, "contents": [merged, *FULL["contents"][2:]]}
    assert written.dropped == ()
    assert written.path == "/v1beta/models/gemini-3-pro:generateContent"


def test_googles_own_tools_beside_functions_are_named() -> None:
    tools = [{"functionDeclarations": [{"name": "f"}]}, {"google_search": {}}, {"codeExecution": {}}]
    request = read(tools=tools)
    assert [tool.name for tool in request.tools] == ["f"]
    assert request.extra.keys() == {"tools.googleSearch", "tools.codeExecution"}


def test_what_googles_own_tools_left_behind_is_named() -> None:
    code = {"executableCode": {"language": "PYTHON", "code": "1"}}
    parts = [code, {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}, {"text": "It is 1."}]
    request = read(contents=[*USER, {"role": "model", "parts": parts}])
    assert request.turns[-1].parts == [Text("It is 1.")]
    assert request.extra.keys() == {"contents.executableCode", "contents.codeExecutionResult"}
