"""The rules by which fields of OpenAI's chat completions change on their way to targets of other APIs."""

from collections.abc import Mapping

import orjson

from .ledger import Leaf, Rule, Sent

OPENAI = ("openai", "openai responses")
LOGPROBS = "message.output_text.logprobs"


def structure(leaf: Leaf, sent: Sent) -> bool:
    """A word that says what its neighbours are: the target's API has others, which its strict server reads."""
    return True


def default(value: object) -> Rule:
    """The value that does nothing may be left out; any other must be sent."""

    def is_default(leaf: Leaf, sent: Sent) -> bool:
        return bool(leaf.value == value) or sent.has(leaf.value)

    return is_default


def one_model(leaf: Leaf, sent: Sent) -> bool:
    """A TGI server has one model, which needs no name."""
    return sent.target == "tgi" or sent.has(leaf.value)


def drawn(leaf: Leaf, sent: Sent) -> bool:
    """TGI knows no shares of 0 and 1, and nothing about drawing tokens where it draws none."""
    if sent.target != "tgi":
        return sent.has(leaf.value)
    parameters = sent.body["parameters"]
    if sent.asked.get("temperature") == 0:
        return parameters["do_sample"] is False
    if leaf.place == "top_p" and leaf.value in (0, 1):
        return bool(parameters.get("top_p") == (0.01 if leaf.value == 0 else None))
    return sent.has(leaf.value)


def picture(leaf: Leaf, sent: Sent) -> bool:
    """A data URL is taken apart; Ollama's images have no types."""
    head, _, data = leaf.value.removeprefix("data:").partition(";base64,")
    return sent.has(leaf.value) or sent.has(data) and (sent.target == "ollama" or sent.has(head))


def sound(leaf: Leaf, sent: Sent) -> bool:
    """The format of a sound becomes a media type."""
    return sent.has(leaf.value) or sent.has(f"audio/{leaf.value}")


def label(leaf: Leaf, sent: Sent) -> bool:
    """The name of a schema is for people: an API without a place for it loses nothing."""
    return sent.target not in OPENAI or sent.has(leaf.value)


def detail(leaf: Leaf, sent: Sent) -> bool:
    """`auto` is what every API does."""
    return leaf.value == "auto" or sent.says("detail", leaf.value)


def flag(*names: str) -> Rule:
    """False is what a flag is where it is absent; the target may have another name for it."""

    def is_kept(leaf: Leaf, sent: Sent) -> bool:
        return leaf.value is False or any(sent.says(name, True) for name in names) or sent.has(LOGPROBS)

    return is_kept


def held(leaf: Leaf, sent: Sent) -> bool:
    """A schema that is to be followed in any case; the other APIs know none that need not."""
    return sent.target not in OPENAI or sent.says("strict", leaf.value)


def arguments(leaf: Leaf, sent: Sent) -> bool:
    """Arguments are a text or the object that it says."""
    return sent.has(leaf.value) or sent.has(orjson.loads(leaf.value))


MODES = {
    "anthropic": {"auto": {"type": "auto"}, "required": {"type": "any"}, "none": {"type": "none"}},
    "gemini": {"auto": {"mode": "AUTO"}, "required": {"mode": "ANY"}, "none": {"mode": "NONE"}},
}


def choice(leaf: Leaf, sent: Sent) -> bool:
    """A choice among tools is a word of the target's, or made by what is offered; `auto` is every API's default."""
    if sent.target in OPENAI:
        return sent.says("tool_choice", leaf.value)
    if sent.target in MODES:
        wanted = MODES[sent.target][leaf.value]
        found = sent.body.get("tool_choice") or sent.body.get("toolConfig", {}).get("functionCallingConfig", {})
        return bool(wanted.items() <= found.items())
    return leaf.value == "auto" or leaf.value == "none" and "tools" not in sent.body


def parallel(leaf: Leaf, sent: Sent) -> bool:
    """Several calls at once are every API's default; Anthropic says the contrary, and where tools are chosen."""
    if leaf.value is True or sent.asked.get("tool_choice") == "none":
        return True
    return sent.says("parallel_tool_calls", False) or sent.says("disable_parallel_tool_use", True)


def strict(leaf: Leaf, sent: Sent) -> bool:
    """A tool that is not offered is not strict either."""
    return leaf.value is False or sent.says("strict", True) or _limits(sent)


def offered(leaf: Leaf, sent: Sent) -> bool:
    """A tool that may not be chosen need not be offered: APIs without a word for the choice make it that way."""
    return sent.has(leaf.value) or _limits(sent)


def _limits(sent: Sent) -> bool:
    choice = sent.asked.get("tool_choice")
    return sent.target not in OPENAI and (choice == "none" or isinstance(choice, dict))


def output(leaf: Leaf, sent: Sent) -> bool:
    """The kind of an answer's text: text needs no word, JSON has one, a schema speaks for itself."""
    words = {"ollama": "json", "gemini": "application/json", **dict.fromkeys(OPENAI, {"type": "json_object"})}
    wanted = words.get(sent.target)
    return leaf.value != "json_object" or sent.has(wanted)


def effort(leaf: Leaf, sent: Sent) -> bool:
    """How much to think is a word, a level, a budget or a switch."""
    if sent.target in OPENAI:
        return sent.says("reasoning_effort" if sent.target == "openai" else "effort", leaf.value)
    if sent.target == "ollama":
        levels = {"none": False, "minimal": "low", "xhigh": "max"}
        return sent.says("think", levels.get(leaf.value, leaf.value))
    if sent.target == "gemini":
        return sent.says("thinkingLevel", {"none": "MINIMAL", "max": "HIGH"}.get(leaf.value, leaf.value.upper()))
    if leaf.value == "none":
        return sent.says("thinking", {"type": "disabled"})
    return sent.says("effort", {"minimal": "low"}.get(leaf.value, leaf.value)) and "thinking" in sent.body


def streaming(leaf: Leaf, sent: Sent) -> bool:
    """Whether to stream is a field or another path."""
    asked = {"tgi": sent.path == "/generate_stream", "gemini": ":stream" in sent.path}
    return bool(asked.get(sent.target, sent.body.get("stream", False)) == leaf.value)


def counted(leaf: Leaf, sent: Sent) -> bool:
    """Usage is always asked for where it must be."""
    return sent.target != "openai" or sent.says("include_usage", True)


def limit(leaf: Leaf, sent: Sent) -> bool:
    """No alternatives beside the chosen token: that is what an API gives that is not asked for any."""
    return leaf.value == 0 or sent.has(leaf.value)


def stop(leaf: Leaf, sent: Sent) -> bool:
    """Responses has no stop strings: the proxy cuts the answer at them."""
    return sent.target == "openai responses" or sent.has(leaf.value)


def speaker(leaf: Leaf, sent: Sent) -> bool:
    """A name beside a message, for the API that has one."""
    return sent.target == "openai" and sent.says("name", leaf.value)


RULES: Mapping[str, Rule] = {
    "model": one_model,
    "role": structure,
    "type": structure,
    "content": default(None),
    "messages[].name": speaker,
    "image_url.url": picture,
    "image_url.detail": detail,
    "input_audio.format": sound,
    "file.file_data": picture,
    "function.arguments": arguments,
    "tools[].function.name": offered,
    "tools[].function.description": offered,
    "tools[].function.parameters": offered,
    "tools[].function.strict": strict,
    "tool_choice": choice,
    "tool_choice.allowed_tools.mode": structure,
    "parallel_tool_calls": parallel,
    "response_format.type": output,
    "json_schema.name": label,
    "json_schema.strict": held,
    "temperature": drawn,
    "top_p": drawn,
    "top_k": drawn,
    "typical_p": drawn,
    "n": default(1),
    "presence_penalty": default(0),
    "frequency_penalty": default(0),
    "reasoning_effort": effort,
    "stop": stop,
    "stop[]": stop,
    "stream": streaming,
    "include_usage": counted,
    "logprobs": flag("logprobs", "responseLogprobs", "details"),
    "top_logprobs": limit,
}
OTHER_NAMES: Mapping[str, str] = {
    "image_url.detail": "messages.detail",
    "file.filename": "messages.filename",
    "messages[].tool_calls[].id": "messages.tool_calls",
    "messages[].tool_calls[].function.name": "messages.tool_calls",
    "messages[].tool_calls[].function.arguments": "messages.tool_calls",
    "messages[].tool_call_id": "messages.tool_calls",
    "function.strict": "tools.strict",
    "max_completion_tokens": "max_tokens",
    "tool_choice": "tools",
    "tool_choice.function.name": "tools",
    "parallel_tool_calls": "tools",
}
"""What the ledger calls fields in other words than OpenAI's."""
