"""Counts of tokens: OpenAI's own endpoint both ways, and vLLM's /tokenize."""

from typing import Any

import pytest

from mappers.openai import count
from mooltiproxy.errors import BadRequest, UpstreamBroken, UpstreamError
from mooltiproxy.mapping.neutral import NOWHERE, CountAnswer, Request, Text, Tool, ToolChoice, Turn

REQUEST: dict[str, Any] = {
    "model": "m",
    "instructions": "Be brief.",
    "input": [{"type": "message", "role": "user", "content": "Hi"}],
    "tools": [{"type": "function", "name": "get", "parameters": None, "strict": False}],
    "tool_choice": "auto",
    "reasoning": {"effort": "low"},
    "text": {"format": {"type": "json_object"}},
}


def test_what_counts_as_input_is_told_and_nothing_else() -> None:
    asked = count.endpoint.read_request({**REQUEST, "temperature": 1, "max_output_tokens": 9}, NOWHERE)
    written = count.write_request(asked, {})
    assert written.body == {**REQUEST, "tool_choice": "auto"}
    assert written.dropped == ()


def test_fields_without_a_home_are_named() -> None:
    asked = count.endpoint.read_request({**REQUEST, "field_of_tomorrow": 1}, NOWHERE)
    assert count.write_request(asked, {}).dropped == ("field_of_tomorrow",)


def test_a_count_is_read_and_written() -> None:
    body = {"object": "response.input_tokens", "input_tokens": 12}
    assert count.read_answer(body, Request()) == CountAnswer(12)
    assert count.write_answer(CountAnswer(12), Request()) == body


@pytest.mark.parametrize("body", [None, [], {}, {"input_tokens": None}, {"error": {"message": "broken"}}])
def test_an_answer_without_a_count_is_broken(body: Any) -> None:
    with pytest.raises(UpstreamBroken):
        count.read_answer(body, Request())


def test_vllm_is_told_the_messages_and_tools_by_legal_names() -> None:
    turns = [Turn("system", [Text("Be brief.")]), Turn("user", [Text("Hi")])]
    asked = Request("m", turns, tools=[Tool("a.b")], tool_choice=ToolChoice("required", ("a.b",)))
    written = count.write_tokenize_request(asked, {})
    assert written.body == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "tools": [{"type": "function", "function": {"name": "a_b"}}],
        "add_generation_prompt": True,
    }


def test_vllms_count_is_read() -> None:
    body = {"count": 3, "max_model_len": 4096, "tokens": [1, 2, 3]}
    assert count.read_tokenize_answer(body, Request()) == CountAnswer(3)


def test_a_tokenize_of_another_kind_is_no_counter() -> None:
    with pytest.raises(UpstreamError, match="cannot count") as caught:
        count.read_tokenize_answer({"tokens": []}, Request())
    assert caught.value.status == 404


def test_a_bare_prompt_is_refused() -> None:
    for write in (count.write_request, count.write_tokenize_request):
        with pytest.raises(BadRequest):
            write(Request(prompt="Hi"), {})
