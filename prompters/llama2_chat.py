"""The prompter for Llama 2's chat models (their format: llama.com/docs, "Meta Llama 2")."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from mooltiproxy.mapping.prompt import plain_turns, split_system


def llama2_chat(
    messages: Sequence[Mapping[str, Any]], cfg: Mapping[str, Any] = MappingProxyType({})
) -> tuple[str, list[str]]:
    """Write Llama 2's format: [INST] questions, answers between them, the system text in the first question.

    The stop string is "[INST]". Raises BadRequest for a conversation that is empty or holds more than text.
    """
    system, turns = split_system(plain_turns(messages))
    pairs = _pairs(turns)
    question, answer = pairs[0]
    pairs[0] = (f"<<SYS>>\n{system}\n<</SYS>>\n\n{question}", answer)
    prompt = "".join(f"<s>[INST] {question.strip()} [/INST] {answer.strip()} </s>" for question, answer in pairs)
    # The last answer is the model's to write, or to go on with.
    return prompt.removesuffix(" </s>").rstrip(), ["[INST]"]


def _pairs(turns: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Questions with their answers, the last one empty; a later system text stands before the next question."""
    pairs: list[tuple[str, str]] = []
    asked: list[str] = []
    for role, text in turns:
        if role == "assistant":
            pairs.append(("\n\n".join(asked), text))
            asked = []
        else:
            asked.append(text)
    if asked or not pairs:
        pairs.append(("\n\n".join(asked), ""))
    return pairs
