"""Calls and thoughts that models write as text."""

import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooltiproxy.mapping.gather import answer_of
from mooltiproxy.mapping.neutral import Finish, Reasoning, StreamEvent, Text, Tool, ToolCall
from mooltiproxy.mapping.spoken import Spoken, parser_for, spoken_in

TOOLS = [
    Tool("f", None, {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}}),
    Tool("g", None, {"type": "object", "properties": {"list": {"type": "array"}, "flag": {"type": "boolean"}}}),
]
F: tuple[str, Any] = ("f", {"a": 1, "b": "x"})
G: tuple[str, Any] = ("g", {})
THINK = ("<think>", "</think>")
DEEPSEEK = "<｜tool▁calls▁begin｜>{}<｜tool▁calls▁end｜>"
DEEPSEEK_CALL = "<｜tool▁call▁begin｜>{}<｜tool▁call▁end｜>"

WRITTEN: list[tuple[str, str, list[tuple[str, Any]]]] = [
    ("hermes", '<tool_call>\n{"name": "f", "arguments": {"a": 1, "b": "x"}}\n</tool_call>', [F]),
    (
        "hermes",
        '<tool_call>{"name": "f", "arguments": {"a": 1, "b": "x"}}</tool_call>\n'
        '<tool_call>{"name": "g", "arguments": {}}</tool_call>',
        [F, G],
    ),
    ("hermes", '<tool_call>\n{"name": "f", "arguments": "{\\"a\\": 1, \\"b\\": \\"x\\"}"}', [F]),
    (
        "qwen3-coder",
        "<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\nx\n</parameter>\n</function>\n</tool_call>",
        [F],
    ),
    (
        "qwen3-coder",
        "<tool_call><function=g><parameter=list>[1, 2]</parameter><parameter=flag>True</parameter></function>"
        "</tool_call>",
        [("g", {"list": [1, 2], "flag": True})],
    ),
    (
        "glm",
        "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n<arg_key>b</arg_key>\n<arg_value>x</arg_value>\n"
        "</tool_call>",
        [F],
    ),
    ("llama3", '{"name": "f", "parameters": {"a": 1, "b": "x"}}', [F]),
    (
        "llama3",
        '<|python_tag|>{"name": "f", "parameters": {"a": 1, "b": "x"}}; {"name": "g", "parameters": {}}',
        [F, G],
    ),
    ("pythonic", '[f(a=1, b="x"), g()]', [F, G]),
    ("pythonic", '<|python_start|>[f(a=1, b="x")]<|python_end|>', [F]),
    ("mistral", '[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1, "b": "x"}, "id": "123456789"}]', [F]),
    ("mistral", '[TOOL_CALLS]f[ARGS]{"a": 1, "b": "x"}[TOOL_CALLS]g[ARGS]{}', [F, G]),
    ("mistral", '[TOOL_CALLS]f[CALL_ID]123456789[ARGS]{"a": 1, "b": "x"}</s>', [F]),
    (
        "deepseek",
        DEEPSEEK.format(DEEPSEEK_CALL.format('function<｜tool▁sep｜>f\n```json\n{"a": 1, "b": "x"}\n```')),
        [F],
    ),
    (
        "deepseek",
        DEEPSEEK.format(
            DEEPSEEK_CALL.format('f<｜tool▁sep｜>{"a": 1, "b": "x"}') + DEEPSEEK_CALL.format("g<｜tool▁sep｜>{}")
        ),
        [F, G],
    ),
    (
        "kimi",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>"
        '{"a": 1, "b": "x"}<|tool_call_end|><|tool_calls_section_end|>',
        [F],
    ),
    (
        "command",
        '<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "f", "parameters": {"a": 1, "b": "x"}}]<|END_ACTION|>',
        [F],
    ),
    ("gemma", '<|tool_call>call:f{a:1,b:<|"|>x<|"|>}<tool_call|>', [F]),
    (
        "gemma",
        '<|tool_call>call:g{list:[1,<|"|>two, }<|"|>,{k:null}],flag:true}<tool_call|>',
        [("g", {"list": [1, "two, }", {"k": None}], "flag": True})],
    ),
    (
        "granite",
        '<|tool_call|>[{"name": "f", "arguments": {"a": 1, "b": "x"}}, {"name": "g", "arguments": {}}]',
        [F, G],
    ),
]
written = pytest.mark.parametrize(("syntax", "text", "calls"), WRITTEN)


def events(spoken: Spoken, pieces: list[str], tools: list[Tool] = TOOLS) -> tuple[list[StreamEvent], str]:
    """What comes of these pieces, and what the reason `stop` means then."""
    parser = parser_for(spoken, tools)
    found = [event for piece in pieces for event in parser.feed(piece)]
    return [*found, *parser.end()], parser.finish("stop")


def parts(spoken: Spoken, pieces: list[str], tools: list[Tool] = TOOLS) -> list[Any]:
    """The parts of the whole answer; ids aside."""
    found, reason = events(spoken, pieces, tools)
    answer = answer_of([*found, Finish(reason)])  # type: ignore[arg-type]
    return [
        (part.name, orjson.loads(part.arguments)) if isinstance(part, ToolCall) else part
        for part in answer.choices[0].parts
    ]


def cut(text: str, places: list[int]) -> list[str]:
    ends = sorted({place % (len(text) + 1) for place in places} | {len(text)})
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@written
def test_calls_are_found(syntax: str, text: str, calls: list[Any]) -> None:
    assert parts(Spoken(syntax), [text]) == calls
    assert events(Spoken(syntax), [text])[1] == "tool_calls"


@written
def test_calls_that_come_letter_by_letter_are_the_same(syntax: str, text: str, calls: list[Any]) -> None:
    assert parts(Spoken(syntax), list(text)) == calls


@written
def test_without_tools_it_is_all_text(syntax: str, text: str, calls: list[Any]) -> None:
    assert parts(Spoken(syntax), list(text), []) == [Text(text)]


@written
def test_a_tool_that_nobody_has_is_text(syntax: str, text: str, calls: list[Any]) -> None:
    assert parts(Spoken(syntax), list(text), [Tool("other")]) == [Text(text)]


@written
def test_a_call_that_breaks_off_is_text_or_the_whole_call(syntax: str, text: str, calls: list[Any]) -> None:
    for end in range(1, len(text)):
        found = parts(Spoken(syntax), [text[:end]])
        assert all(isinstance(part, Text) or part in calls for part in found)
        if not any(part in calls for part in found):
            assert "".join(part.text for part in found) == text[:end]


@written
def test_text_before_a_call_stays_and_the_blanks_between_go(syntax: str, text: str, calls: list[Any]) -> None:
    if not text.startswith(("{", "[f", "<|python")):
        assert parts(Spoken(syntax), list(f"Let me see.\n\n{text}\n")) == [Text("Let me see."), *calls]


@given(text=st.text("ab<>/{}\n tolcath_ink|", max_size=60), places=st.lists(st.integers(0, 100), max_size=5))
def test_text_without_calls_arrives_letter_by_letter(text: str, places: list[int]) -> None:
    for spoken in (Spoken("hermes"), Spoken("llama3"), Spoken("gemma")):
        found = parts(spoken, cut(text, places))
        assert "".join(part.text for part in found) == text


@given(
    thought=st.text("ab \n<", max_size=12),
    text=st.text("ab \n<", max_size=12),
    places=st.lists(st.integers(0, 100), max_size=6),
)
def test_a_thought_is_the_same_however_it_is_cut(thought: str, text: str, places: list[int]) -> None:
    whole = f"<think>{thought}</think>{text}"
    spoken = Spoken("hermes", THINK)
    assert parts(spoken, cut(whole, places)) == parts(spoken, [whole])


def test_a_thought_is_no_text_and_loses_the_newlines_around_it() -> None:
    found = parts(Spoken("hermes", THINK), ["<think>\nHm.\n</think>\n\nHi"])
    assert found == [Reasoning("Hm."), Text("Hi")]


def test_an_empty_thought_is_none() -> None:
    assert parts(Spoken(None, THINK), list("<think>\n\n</think>\n\nHi")) == [Text("Hi")]


def test_a_thought_that_the_prompt_has_begun_goes_on() -> None:
    assert parts(Spoken(None, THINK, begins_thinking=True), list("Hm.\n</think>\nHi")) == [Reasoning("Hm."), Text("Hi")]


def test_a_call_may_follow_a_thought() -> None:
    text = f"<think>\nHm.\n</think>\n\n{WRITTEN[0][1]}"
    assert parts(Spoken("hermes", THINK), list(text)) == [Reasoning("Hm."), F]


def test_what_is_already_certain_is_not_held_back() -> None:
    parser = parser_for(Spoken("hermes", THINK), TOOLS)
    assert [event for event in parser.feed("Hello <to")] != []
    assert parser.feed("day") != []


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>{</tool_call>",
        '<tool_call>{"name": 1, "arguments": {}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
        "<tool_call>" + "[" * 5000 + "</tool_call>",
    ],
)
def test_what_is_no_call_stays_text(text: str) -> None:
    assert parts(Spoken("hermes"), [text]) == [Text(text)]


@pytest.mark.parametrize(
    "text",
    [
        "[__import__('os').system('x')]",
        "[f(1)]",
        "[f(a=g())]",
        "[f(**{'a': 1})]",
        "[" * 3000,
        "[f(a=" + "-" * 9000 + "1)]",
        "[f(a={1: 2})]",
        "[f(a={1, 2})]",
        "[f(a=b'x')]",
        "[f(a=1" + "0" * 30 + ")]",
        '[f(b="\\ud800")]',
    ],
)
def test_pythonic_calls_are_names_and_literals_only(text: str) -> None:
    assert parts(Spoken("pythonic"), [text]) == [Text(text)]


def test_a_value_that_is_nested_too_deeply_is_text() -> None:
    text = "<|tool_call>call:f{a:" + "[" * 3000 + "]" * 3000 + "}<tool_call|>"
    assert parts(Spoken("gemma"), [text]) == [Text(text)]


@pytest.mark.parametrize(
    ("syntax", "opening", "mark"),
    [
        ("qwen3-coder", "<tool_call><function=f>", "<parameter=a>"),
        ("glm", "<tool_call>f", "<arg_key>"),
        ("deepseek", "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>"),
        ("kimi", "<|tool_calls_section_begin|>", "<|tool_call_begin|>"),
    ],
)
def test_a_model_that_repeats_itself_costs_little(syntax: str, opening: str, mark: str) -> None:
    text = opening + mark * 20_000 + ("</function></tool_call>" if syntax == "qwen3-coder" else "</tool_call>")
    begun = time.monotonic()
    assert parts(Spoken(syntax), [text]) == [Text(text)]
    assert time.monotonic() - begun < 2


HARMONY = Spoken(is_harmony=True)
ANALYSIS = "<|channel|>analysis<|message|>Hm.<|end|>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{ANALYSIS}<|start|>assistant<|channel|>final<|message|>Hi<|return|>", [Reasoning("Hm."), Text("Hi")]),
        ("<|channel|>final<|message|>Hi", [Text("Hi")]),
        (
            f"{ANALYSIS}<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>"
            '{"a": 1, "b": "x"}<|call|>',
            [Reasoning("Hm."), F],
        ),
        ("<|start|>assistant to=functions.g<|channel|>commentary json<|message|>{}<|call|>", [G]),
        ("<|channel|>commentary<|message|>I look.<|end|>", [Text("I look.")]),
        ("<|channel|>commentary to=functions.none<|message|>{}<|call|>", [Text("{}")]),
        ("plain words", [Text("plain words")]),
    ],
)
def test_the_messages_of_gpt_oss_are_told_apart(text: str, expected: list[Any]) -> None:
    assert parts(HARMONY, [text]) == expected
    assert parts(HARMONY, list(text)) == expected


@pytest.mark.parametrize(
    ("template", "prompt", "expected"),
    [
        ("... <tool_call> ... {%- if enable_thinking %}<think></think>", "", Spoken("hermes", THINK)),
        ("<tool_call><function=name>", "", Spoken("qwen3-coder")),
        ("{{ '[TOOL_CALLS]' }}", "", Spoken("mistral")),
        ("<｜Assistant｜><think> </think>", "...<｜Assistant｜><think>\n", Spoken(None, THINK, begins_thinking=True)),
        ("<|start|>system<|message|> <|channel|>analysis", "", Spoken(is_harmony=True)),
        ("<|im_start|>", "", Spoken()),
    ],
)
def test_a_template_tells_how_its_model_writes(template: str, prompt: str, expected: Spoken) -> None:
    assert spoken_in(template, prompt) == expected
