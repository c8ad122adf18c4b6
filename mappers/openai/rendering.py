"""A conversation as one prompt, for targets that take nothing else: what of a request a prompter gets to see."""

from collections.abc import Mapping
from typing import Any

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.chat_template import RESERVED, ChatTemplate, TargetTemplate
from mooltiproxy.mapping.dialect import Config
from mooltiproxy.mapping.neutral import Request, ToolCall
from mooltiproxy.mapping.offered import offered_tools
from mooltiproxy.mapping.prompt import pieces_of, render_pieces, without_bos
from mooltiproxy.mapping.spoken import spoken_in

from .chat import effort_of, function_fields
from .messages import write_messages
from .tools import nested

_THINKING = ("reasoning_effort", "enable_thinking", "thinking")
"""What templates call the wish for thoughts."""

_VARIABLES = ("chat_template_kwargs", "template_vars")
"""What vLLM and llama.cpp, and TabbyAPI call the variables of a request's template."""


def rendered(request: Request, config: Config, dropped: list[str]) -> str:
    """The prompt of a conversation, without the token that the target's tokenizer puts before it.

    `config["render"]` makes it, else the pieces of `config["template"]`; the template's stops stay with the request.
    Names in `dropped` what has no place in the prompt, and takes out of it what has. Raises BadRequest, TemplateNeeded.
    """
    template = config.get("template")
    messages = write_messages(request.turns, dropped)
    render = config.get("render")
    if render is None:
        prompt, stops = render_pieces(messages, pieces_of(config))
    elif isinstance(template, ChatTemplate | TargetTemplate):
        prompt, stops = render(messages, dropped=dropped, **_said(request, dropped))
        request.continues = _continues(request)
        _listen(request, template.known if isinstance(template, TargetTemplate) else template, prompt, dropped)
    else:
        prompt, stops = render(messages)
    _name_lost(request, template, messages, dropped)
    request.template_stops = tuple(stops)
    if config.get("keep_bos"):
        return prompt
    return without_bos(prompt, template.bos if isinstance(template, ChatTemplate | TargetTemplate) else "")


def _said(request: Request, dropped: list[str]) -> dict[str, Any]:
    """What a template may use of the request besides its messages."""
    said: dict[str, Any] = {}
    variables: dict[str, Any] = {}
    effort = effort_of(request.reasoning)
    if effort:
        thinks = effort != "none"
        variables |= {"reasoning_effort": effort, "enable_thinking": thinks, "thinking": thinks}
    for name in _VARIABLES:
        if request.extra.get(name) is not None:
            variables.update(_variables(name, request.extra[name]))
            _take_out(name, dropped)
    documents = request.extra.get("documents")
    if isinstance(documents, list) and all(isinstance(one, dict) for one in documents):
        said["documents"] = documents
        _take_out("documents", dropped)
    request.tools = offered_tools(request, dropped) if request.tools else []
    if request.tools:
        said["tools"] = [nested("function", {"name": tool.name, **function_fields(tool)}) for tool in request.tools]
    return said | ({"variables": variables} if variables else {})


def _listen(request: Request, template: ChatTemplate, prompt: str, dropped: list[str]) -> None:
    """Lay down how the answer is to be read, and take from the request what the prompt has said.

    Raises BadRequest where tools were taught whose calls nobody could tell from text.
    """
    spoken = spoken_in(template.source, prompt)
    if request.tools and not spoken.has_calls:
        message = f"tools: how a model with the chat template {template.name} writes its calls is not known"
        raise BadRequest(message, param="tools")
    if request.reasoning and any(name in template.source for name in _THINKING):
        request.reasoning = None
    if not (request.tools or spoken.has_thoughts):
        return
    request.spoken = spoken
    if request.sampling.logprobs:
        dropped.append("logprobs")
        request.sampling.logprobs = request.sampling.top_logprobs = None


def _variables(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise BadRequest(f"{name}: expected an object", param=name)
    wrong = sorted(RESERVED & value.keys())
    if wrong:
        raise BadRequest(f"{name}.{wrong[0]}: this is not for a client to set", param=name)
    return value


def _take_out(name: str, dropped: list[str]) -> None:
    if name in dropped:
        dropped.remove(name)


def _continues(request: Request) -> bool:
    """Whether the last words are the assistant's: the answer goes on with them."""
    last = request.turns[-1] if request.turns else None
    return last is not None and last.role == "assistant" and not any(isinstance(part, ToolCall) for part in last.parts)


def _name_lost(request: Request, template: Any, messages: list[dict[str, Any]], dropped: list[str]) -> None:
    known = template.known if isinstance(template, TargetTemplate) else template
    keeps_calls = isinstance(known, ChatTemplate) and known.knows_tools
    if not keeps_calls and any("tool_calls" in message for message in messages):
        dropped.append("messages.tool_calls")
    if any(turn.name for turn in request.turns):
        dropped.append("messages.name")


def strips(request: Request) -> bool:
    """Whether whitespace at the beginning of the answer is the template's doing, and not the client's words."""
    return request.prompt is None and not request.continues
