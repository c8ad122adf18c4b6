from typing import Any

import pytest

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.prompt import DEFAULT_SYSTEM
from prompters.llama2_chat import llama2_chat


def says(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def test_a_conversation_has_the_form_of_llama_2() -> None:
    messages = [says("system", "S"), says("user", " U1 "), says("assistant", " A1 "), says("user", "U2")]
    prompt, stops = llama2_chat(messages)
    assert prompt == "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\n U1 [/INST] A1 </s><s>[INST] U2 [/INST]"
    assert stops == ["[INST]"]


def test_without_a_system_message_the_default_one_is_used() -> None:
    assert llama2_chat([says("user", "U")])[0] == f"<s>[INST] <<SYS>>\n{DEFAULT_SYSTEM}\n<</SYS>>\n\nU [/INST]"


def test_only_a_system_message_is_an_empty_question() -> None:
    assert llama2_chat([says("system", "S")])[0] == "<s>[INST] <<SYS>>\nS\n<</SYS>> [/INST]"


def test_two_questions_in_a_row_are_one() -> None:
    prompt, _ = llama2_chat([says("system", "S"), says("user", "U1"), says("user", "U2")])
    assert prompt == "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nU1\n\nU2 [/INST]"


def test_a_later_system_message_stands_before_the_next_question() -> None:
    later = [says("system", "T"), says("user", "U2")]
    assert llama2_chat([says("user", "U1"), says("assistant", "A1"), *later])[0].endswith("[INST] T\n\nU2 [/INST]")


def test_a_last_answer_is_gone_on_with() -> None:
    prompt, _ = llama2_chat([says("system", "S"), says("user", "U"), says("assistant", "It is")])
    assert prompt.endswith("U [/INST] It is")


def test_an_empty_conversation_is_refused() -> None:
    with pytest.raises(BadRequest):
        llama2_chat([])
