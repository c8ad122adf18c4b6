"""How models write tool calls and thoughts, and which of these ways a chat template teaches them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mooltiproxy.mapping.spoken.calls import (
    SpokenCall,
    deepseek_calls,
    gemma_calls,
    json_calls,
    json_row,
    key_value_calls,
    kimi_calls,
    mistral_calls,
    python_calls,
    xml_calls,
)


@dataclass(frozen=True, slots=True)
class Syntax:
    """A way to write calls: from `opening` to `closing`, or to the end of the answer where that is empty.

    `begins` are the first characters of an answer that is nothing but calls, for models that mark them in no other way.
    `needs_end` where nothing but the closing mark tells that a call is whole.
    """

    read: Callable[[str], list[SpokenCall]]
    opening: str = ""
    closing: str = ""
    begins: tuple[str, ...] = ()
    needs_end: bool = False


@dataclass(frozen=True, slots=True)
class Spoken:
    """What a model writes into its text: calls in one of the ways of `SYNTAXES`, thoughts between two marks.

    `begins_thinking` where the prompt has opened the thought already. `is_harmony` for the messages of gpt-oss.
    """

    syntax: str | None = None
    thought: tuple[str, str] | None = None
    begins_thinking: bool = False
    is_harmony: bool = False

    @property
    def has_calls(self) -> bool:
        """Whether calls can be told from text."""
        return self.is_harmony or self.syntax is not None

    @property
    def has_thoughts(self) -> bool:
        """Whether thoughts can."""
        return self.is_harmony or self.thought is not None


SYNTAXES: Mapping[str, Syntax] = {
    "hermes": Syntax(json_calls, "<tool_call>", "</tool_call>"),
    "qwen3-coder": Syntax(xml_calls, "<tool_call>", "</tool_call>"),
    "glm": Syntax(key_value_calls, "<tool_call>", "</tool_call>", needs_end=True),
    "llama3": Syntax(json_row, begins=("{", "<|python_tag|>")),
    "pythonic": Syntax(python_calls, begins=("[", "<|python_start|>")),
    "mistral": Syntax(mistral_calls, "[TOOL_CALLS]", begins=('[{"name"',)),
    "deepseek": Syntax(deepseek_calls, "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
    "kimi": Syntax(kimi_calls, "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
    "command": Syntax(json_calls, "<|START_ACTION|>", "<|END_ACTION|>"),
    "gemma": Syntax(gemma_calls, "<|tool_call>", "<tool_call|>"),
    "granite": Syntax(json_calls, "<|tool_call|>"),
}
"""By the name of the family that made it known."""

_MARKS = (
    ("<function=", "qwen3-coder"),
    ("<arg_key>", "glm"),
    ("<tool_call>", "hermes"),
    ("[TOOL_CALLS]", "mistral"),
    ("<｜tool▁calls▁begin｜>", "deepseek"),
    ("<|tool_calls_section_begin|>", "kimi"),
    ("<|START_ACTION|>", "command"),
    ("<|tool_call>", "gemma"),
    ("<|tool_call|>", "granite"),
    ("<|python_start|>", "pythonic"),
    ("[func_name1(", "pythonic"),
    ("<|python_tag|>", "llama3"),
)
"""What a template that teaches a syntax has in it: the first that is found counts."""

_THOUGHTS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>thought\n", "<channel|>"),
)
_HARMONY = "<|channel|>"


def spoken_in(template: str, prompt: str) -> Spoken:
    """What a model with this chat template writes behind this prompt.

    A thought that the prompt has begun goes on in the answer: its end tells, never the answer.
    """
    if _HARMONY in template:
        return Spoken(is_harmony=True)
    syntax = next((name for mark, name in _MARKS if mark in template), None)
    thought = next((marks for marks in _THOUGHTS if marks[1] in template), None)
    begins = thought is not None and prompt.rstrip("\n").endswith(thought[0].rstrip("\n"))
    return Spoken(syntax, thought, begins)
