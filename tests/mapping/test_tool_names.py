"""Names of tools that a target does not take."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mappers import anthropic, gemini, openai
from mappers.anthropic.common import NAMES as ANTHROPIC
from mappers.gemini.names import FUNCTIONS as GEMINI
from mappers.openai.common import NAMES as OPENAI
from mooltiproxy.mapping.dialect import Dialect, Endpoint
from mooltiproxy.mapping.neutral import CallStart, Request, Text, Tool, ToolCall, ToolChoice, Turn
from mooltiproxy.mapping.tool_names import NameRule, renamed

LONG = "x" * 200
RULES = [ANTHROPIC, GEMINI, OPENAI]
rules = pytest.mark.parametrize("rule", RULES)


@rules
def test_legal_names_stay_as_they_are(rule: NameRule) -> None:
    assert renamed(["get_weather", "get-time", "_", "a" * 64], rule) == {}


@pytest.mark.parametrize(
    ("name", "made"),
    [("a.b", "a_b"), ("a:b c", "a_b_c"), (LONG, "x" * 64), ("", "_"), ("wétter", "w_tter"), ("天気", "__")],
)
def test_illegal_names_are_made_legal(name: str, made: str) -> None:
    assert renamed([name], OPENAI) == {name: made}


def test_what_an_api_takes_is_its_own_affair() -> None:
    assert renamed(["a.b:c", "1st", "天气"], GEMINI) == {"1st": "_1st", "天气": "__"}


def test_no_two_names_become_one() -> None:
    assert renamed(["a.b", "a_b", "a:b"], OPENAI) == {"a.b": "a_b_2", "a:b": "a_b_3"}
    assert renamed([LONG + "1", LONG + "2"], OPENAI) == {LONG + "1": "x" * 64, LONG + "2": "x" * 62 + "_2"}


@rules
@given(names=st.lists(st.text("ab._-:1é ", max_size=70), max_size=8))
def test_all_names_are_legal_and_can_be_told_apart(rule: NameRule, names: list[str]) -> None:
    made = renamed(names, rule)
    asked = [made.get(name, name) for name in names]
    assert all(rule.legal.fullmatch(name) for name in asked)
    assert len(set(asked)) == len(set(names))


def request() -> Request:
    history = [Turn("user", [Text("Hi")]), Turn("assistant", [ToolCall("c1", "a b!", "{}")])]
    tools = [Tool("a b!"), Tool("a_b_"), Tool(LONG)]
    return Request(model="m", turns=history, tools=tools, tool_choice=ToolChoice("auto", ("a b!", LONG)))


def endpoints(dialect: Dialect) -> list[Endpoint]:
    return [one for one in dialect.endpoints if one.kind == "chat"]


TARGETS = [
    pytest.param(one, id=f"{dialect.name} {one.label}")
    for dialect in (openai.dialect, anthropic.dialect, gemini.dialect)
    for one in endpoints(dialect)
]


@pytest.mark.parametrize("target", TARGETS)
def test_no_target_hears_of_an_illegal_name(target: Endpoint) -> None:
    text = str(target.write_request(request(), {}).body)
    assert "a b!" not in text
    assert "x" * 129 not in text
    assert len(re.findall(r"'a_b__2'", text)) >= 2  # the tool and its call, where the choice has no names


def answers(target: Endpoint) -> list[Any]:
    """A whole answer and an event of a stream, both of which call `a_b__2`."""
    chat = {"id": "c2", "type": "function", "function": {"name": "a_b__2", "arguments": "{}"}}
    item = {"type": "function_call", "call_id": "c2", "name": "a_b__2", "arguments": "{}"}
    block = {"type": "tool_use", "id": "c2", "name": "a_b__2", "input": {}}
    part = {
        "content": {"parts": [{"functionCall": {"id": "c2", "name": "a_b__2", "args": {}}}]},
        "finishReason": "STOP",
    }
    return {
        "/v1/chat/completions": [
            {"choices": [{"message": {"tool_calls": [chat]}, "finish_reason": "tool_calls"}]},
            {"choices": [{"delta": {"tool_calls": [{"index": 0, **chat}]}}]},
        ],
        "/v1/responses": [
            {"status": "completed", "output": [item]},
            {"type": "response.output_item.added", "output_index": 0, "item": item},
        ],
        "/v1/messages": [
            {"content": [block], "stop_reason": "tool_use"},
            {"type": "content_block_start", "index": 0, "content_block": block},
        ],
    }.get(target.paths[0], [{"candidates": [part]}, {"candidates": [part]}])


@pytest.mark.parametrize("target", TARGETS)
def test_answers_and_streams_call_tools_by_the_clients_names(target: Endpoint) -> None:
    whole, event = answers(target)
    asked = request()
    assert target.read_answer(whole, asked).choices[0].parts == [ToolCall("c2", "a b!", "{}")]
    assert target.stream_reader is not None
    events = target.stream_reader(asked).read(event)
    assert [one.name for one in events if isinstance(one, CallStart)] == ["a b!"]
