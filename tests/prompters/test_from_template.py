from typing import Any

import pytest

from mooltiproxy.errors import BadRequest, MappingError
from mooltiproxy.mapping.prompt import DEFAULT_SYSTEM
from prompters.from_template import fromTemplate

PIECES = {"preprompt": "<P>", "start": "<B>", "system": "<S>", "user": "\n<U>\n", "assistant": "<A>"}
CFG = {"template": PIECES}


def says(role: Any, content: Any, **fields: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **fields}


def test_each_message_stands_behind_its_piece() -> None:
    messages = [says("system", "s"), says("user", "u1"), says("assistant", "a1"), says("user", "u2")]
    assert fromTemplate(messages, CFG)[0] == "<P>s<B>\n<U>\nu1<A>a1\n<U>\nu2<A>"


def test_without_a_system_message_the_default_one_is_used() -> None:
    assert fromTemplate([says("user", "u")], CFG)[0] == f"<P>{DEFAULT_SYSTEM}<B>\n<U>\nu<A>"


def test_the_stops_are_the_users_piece_and_the_same_stripped() -> None:
    assert fromTemplate([says("user", "u")], CFG)[1] == ["\n<U>\n", "<U>"]
    assert fromTemplate([says("user", "u")], {"template": {"user": "<U>"}})[1] == ["<U>"]
    assert fromTemplate([says("user", "u")], {"template": {"user": " "}})[1] == []


def test_without_a_template_human_and_response_are_used() -> None:
    prompt, stops = fromTemplate([says("system", "s"), says("user", "u")])
    assert prompt == "s\n### HUMAN:\nu\n### RESPONSE:\n"
    assert stops == ["\n### HUMAN:\n", "### HUMAN:"]


def test_a_template_may_be_named() -> None:
    prompt, _ = fromTemplate([says("system", "s"), says("user", "u")], {"template": "FalconInstruct"})
    assert prompt == "s>>>QUESTION<<<u>>>ANSWER<<<"


def test_a_template_that_is_not_there_is_the_operators_mistake() -> None:
    with pytest.raises(MappingError, match="HumanResponse"):
        fromTemplate([says("user", "u")], {"template": "Nope"})


def test_a_later_system_message_has_a_piece_of_its_own() -> None:
    messages = [says("system", "s"), says("user", "u"), says("developer", "t")]
    assert fromTemplate(messages, CFG)[0] == "<P>s<B>\n<U>\nu<S>t<A>"


def test_only_a_system_message_is_enough() -> None:
    assert fromTemplate([says("system", "s")], CFG)[0] == "<P>s<B><A>"


def test_neighbours_of_one_role_are_joined() -> None:
    messages = [says("system", "s"), says("user", "u1"), says("user", "u2")]
    assert fromTemplate(messages, CFG)[0] == "<P>s<B>\n<U>\nu1\n\nu2<A>"


@pytest.mark.parametrize("role", ["tool", "function"])
def test_results_of_tools_are_the_users_words(role: str) -> None:
    messages = [
        says("system", "s"),
        says("user", "u"),
        says("assistant", None, tool_calls=[{"id": "c"}]),
        says(role, "sunny"),
    ]
    assert fromTemplate(messages, CFG)[0] == "<P>s<B>\n<U>\nu\n\nsunny<A>"


def test_text_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert fromTemplate([says("system", "s"), says("user", parts)], CFG)[0] == "<P>s<B>\n<U>\nab<A>"


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        ([says("robot", "x")], "messages[0].role"),
        ([says(["user"], "x")], "messages[0].role"),
        ([says("user", 5)], "messages[0].content"),
        ([says("user", [{"type": "image_url", "image_url": {"url": "x"}}])], "messages"),
    ],
)
def test_what_cannot_be_a_prompt_is_refused_by_name(messages: list[dict[str, Any]], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        fromTemplate(messages, CFG)
    assert caught.value.param == param
