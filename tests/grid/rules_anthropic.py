"""The rules by which fields of Anthropic's Messages API change on their way to targets of other APIs."""

import base64
from collections.abc import Mapping

from .ledger import Leaf, Rule, Sent
from .rules_openai import OPENAI, drawn, one_model, stop, streaming, structure

MODES = {
    **dict.fromkeys(OPENAI, {"auto": "auto", "any": "required", "none": "none"}),
    "gemini": {"auto": "AUTO", "any": "ANY", "none": "NONE"},
}


def media_type(leaf: Leaf, sent: Sent) -> bool:
    """Ollama's images have no types, and neither have documents that are sent as text."""
    return sent.target == "ollama" or leaf.value == "text/plain" or sent.has(leaf.value)


def document(leaf: Leaf, sent: Sent) -> bool:
    """The text of a document is sent as text, or as the bytes of a file."""
    return sent.has(leaf.value) or sent.has(base64.b64encode(leaf.value.encode()).decode())


def failed(leaf: Leaf, sent: Sent) -> bool:
    """A result that is an error; Gemini has an object for that."""
    return leaf.value is False or sent.says("is_error", True) or sent.target == "gemini" and _has_error(sent)


def _has_error(sent: Sent) -> bool:
    return any(isinstance(one, dict) and one.keys() == {"error"} for one in sent.leaves)


def choice(leaf: Leaf, sent: Sent) -> bool:
    """A choice among tools is a word of the target's, or made by what is offered; `auto` is every API's default."""
    if leaf.value == "tool" or sent.target == "anthropic":
        return True
    if sent.target in MODES:
        return sent.has(MODES[sent.target][leaf.value])
    return leaf.value == "auto" or leaf.value == "none" and "tools" not in sent.body


def serial(leaf: Leaf, sent: Sent) -> bool:
    """Several calls at once are every API's default."""
    said = sent.says("parallel_tool_calls", False) or sent.says("disable_parallel_tool_use", True)
    return leaf.value is False or said


def offered(leaf: Leaf, sent: Sent) -> bool:
    """A tool that may not be chosen need not be offered: APIs without a word for the choice make it that way."""
    choice = sent.asked.get("tool_choice", {}).get("type")
    return leaf.value is False or sent.has(leaf.value) or choice in ("none", "tool") and sent.target == "ollama"


def thinking(leaf: Leaf, sent: Sent) -> bool:
    """How much to think is a word, a level, a budget or a switch; a model that is to choose need not be told."""
    names = ("reasoning_effort", "reasoning", "think", "thinkingConfig", "thinking")
    return sent.asked["thinking"]["type"] == "adaptive" or any(name in _keys(sent) for name in names)


def _keys(sent: Sent) -> set[str]:
    return {name for one in sent.leaves if isinstance(one, dict) for name in one}


def shown(leaf: Leaf, sent: Sent) -> bool:
    """Whether to show thoughts: the other APIs do, but for Gemini, which must be asked."""
    return sent.target != "gemini" or sent.says("includeThoughts", True) is (leaf.value == "summarized")


def effort(leaf: Leaf, sent: Sent) -> bool:
    """A word for how much to think; it says nothing where thinking is off."""
    if sent.asked.get("thinking", {}).get("type") == "disabled":
        return True
    if sent.target == "gemini":
        return sent.says("thinkingLevel", {"max": "HIGH"}.get(leaf.value, leaf.value.upper()))
    return sent.has(leaf.value) or sent.target == "ollama" and sent.says("think", True)


def user(leaf: Leaf, sent: Sent) -> bool:
    """The name of a user has a place of its own."""
    return sent.says("user", leaf.value["user_id"]) or sent.says("user_id", leaf.value["user_id"])


RULES: Mapping[str, Rule] = {
    "model": one_model,
    "role": structure,
    "type": structure,
    "source.media_type": media_type,
    "source.data": document,
    "is_error": failed,
    "tool_choice.type": choice,
    "tool_choice.disable_parallel_tool_use": serial,
    "tools[].name": offered,
    "tools[].description": offered,
    "tools[].input_schema": offered,
    "tools[].strict": offered,
    "temperature": drawn,
    "top_p": drawn,
    "top_k": drawn,
    "thinking.type": thinking,
    "thinking.budget_tokens": thinking,
    "thinking.display": shown,
    "output_config.effort": effort,
    "stop_sequences[]": stop,
    "stream": streaming,
    "metadata": user,
}
OTHER_NAMES: Mapping[str, str] = {
    "messages[].content[].cache_control.type": "cache_control",
    "messages[].content[].content[].cache_control.type": "cache_control",
    "system[].cache_control.type": "cache_control",
    "tools[].cache_control.type": "cache_control",
    "messages[].content[].thinking": "messages.reasoning_content",
    "messages[].content[].signature": "messages.reasoning_content messages.signature",
    "messages[].content[].data": "messages.reasoning_content messages.signature",
    "messages[].content[].is_error": "messages.is_error messages.tool_calls",
    "messages[].content[].id": "messages.tool_calls",
    "messages[].content[].name": "messages.tool_calls",
    "messages[].content[].input": "messages.tool_calls",
    "messages[].content[].tool_use_id": "messages.tool_calls",
    "tool_choice.type": "tool_choice",
    "tool_choice.disable_parallel_tool_use": "parallel_tool_calls",
    "tools[].type": "tools.web_search_20250305",
    "tools[].name": "tools.web_search_20250305",
    "tools[].max_uses": "tools.web_search_20250305",
    "messages[].content[].title": "messages.filename",
    "metadata": "user",
    "thinking.type": "reasoning_effort",
    "thinking.budget_tokens": "reasoning_effort",
    "thinking.display": "reasoning_effort",
    "output_config.effort": "reasoning_effort",
}
"""What the ledger calls fields in other words than Anthropic's."""
