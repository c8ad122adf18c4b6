"""The prompter for chat templates: a model's own Jinja, or one of the built-in formats."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import orjson

from mooltiproxy.errors import BadRequest, MappingError
from mooltiproxy.mapping.chat_template import ChatTemplate, TargetTemplate, broken_up
from mooltiproxy.mapping.prompt import text_of

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_SYSTEM = ("system", "developer")
_LOST = "messages.control_tokens"
_JOIN = "\n\n"


def chat_template(
    messages: Sequence[Mapping[str, Any]], cfg: Mapping[str, Any] = MappingProxyType({})
) -> tuple[str, list[str]]:
    """Render a model's chat template (Jinja): a built-in format, a file, or the target's own.

    `cfg["template"]` is the compiled template. Of the request, `cfg` may hold `tools`, `documents` and `variables`.
    `control_tokens` says what becomes of words in messages that only the template should write: `break`, `refuse` or
    `keep`. A last message of the assistant is continued. Raises BadRequest.
    """
    template = _template(cfg)
    tools = list(cfg.get("tools") or ()) or None
    if tools and not template.knows_tools:
        raise BadRequest(f"tools: the chat template {template.name} knows no tools", param="tools")
    conversation = list(_prepared(messages, template))
    if not conversation:
        raise BadRequest("messages must not be empty", param="messages")
    given = [conversation, tools, cfg.get("documents"), cfg.get("variables") or {}]
    said, told, documents, variables = _guarded(given, template, cfg)
    prompt = _rendered(template, said, told, documents, variables)
    return prompt, list(template.facts.stops)


def _template(cfg: Mapping[str, Any]) -> ChatTemplate:
    template = cfg.get("template")
    if isinstance(template, TargetTemplate):
        return template.known
    if not isinstance(template, ChatTemplate):
        raise MappingError("chat_template needs a chat template: name one by `template:`")
    return template


def _rendered(
    template: ChatTemplate, messages: list[dict[str, Any]], tools: Any, documents: Any, variables: Mapping[str, Any]
) -> str:
    """The prompt. A template that needs a text where there are only calls gets an empty one."""
    last = messages[-1]
    goes_on = last["role"] == "assistant" and not last.get("tool_calls")

    def render(conversation: Sequence[Mapping[str, Any]]) -> str:
        return template.render(
            conversation, tools=tools, documents=documents, continue_final_message=goes_on, variables=variables
        )

    try:
        return render(messages)
    except BadRequest:
        if all("content" in message for message in messages):
            raise
        return render([{"content": "", **message} for message in messages])


def _prepared(messages: Sequence[Mapping[str, Any]], template: ChatTemplate) -> Iterator[dict[str, Any]]:
    """The messages as templates expect them, as far as the template can take them."""
    held: dict[str, Any] | None = None
    for position, message in enumerate(messages):
        opens = (
            all(one.get("role") in _SYSTEM for one in messages[:position]) if message.get("role") in _SYSTEM else False
        )
        plain = _plain(message, position, template, opens=opens)
        if plain is None:
            continue
        if held is not None and template.facts.alternates and _joins(held, plain):
            held["content"] = _JOIN.join((held["content"], plain["content"]))
            continue
        if held is not None:
            yield _with_parts(held, template)
        held = plain
    if held is not None:
        yield _with_parts(held, template)


def _joins(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two neighbours become one turn."""
    words = first["role"] == second["role"] in ("user", "assistant", "system")
    return words and not any("tool_calls" in one or "content" not in one for one in (first, second))


def _plain(message: Mapping[str, Any], position: int, template: ChatTemplate, *, opens: bool) -> dict[str, Any] | None:
    """One message; None for calls without a word, before a template that knows no tools."""
    role, text = _role(message, position, template, opens=opens), text_of(message, position)
    calls = [_call(call, template) for call in message.get("tool_calls") or ()]
    if calls and not template.knows_tools:
        calls = []
        if not text:
            return None
    plain: dict[str, Any] = {"role": role}
    if text or not calls:
        plain["content"] = text
    if calls:
        plain["tool_calls"] = calls
    if role == "tool" and message.get("tool_call_id"):
        plain["tool_call_id"] = _call_id(message["tool_call_id"], template)
    for name in ("name", "reasoning_content", "reasoning", "thinking"):
        if isinstance(message.get(name), str):
            plain[name] = message[name]
    return plain


def _role(message: Mapping[str, Any], position: int, template: ChatTemplate, *, opens: bool) -> str:
    """The role as the template knows it; `opens` says of a system text that nothing else stands before it."""
    role = message.get("role")
    if role not in _ROLES:
        where = f"messages[{position}].role"
        raise BadRequest(f"{where}: expected system, user, assistant or tool, got {role!r}", param=where)
    if role in ("tool", "function"):
        return "tool" if template.knows_tools else "user"
    if role == "developer" and not template.knows_developer:
        role = "system"
    later = role == "system" and not opens and template.facts.one_system
    return "user" if later else str(role)


def _call(call: Any, template: ChatTemplate) -> dict[str, Any]:
    """A call whose arguments are an object, where they are one: templates write them as JSON themselves."""
    function = dict(call.get("function") or {})
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        function["arguments"] = _parsed(arguments)
    return {"id": _call_id(call.get("id"), template), "type": "function", "function": function}


def _parsed(arguments: str) -> Any:
    try:
        value = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        return arguments
    return value if isinstance(value, dict) else arguments


def _call_id(value: Any, template: ChatTemplate) -> str:
    """An id; nine letters and digits where the template takes no other."""
    text = str(value or "")
    if not template.short_ids or (len(text) == 9 and text.isalnum()):
        return text
    return hashlib.sha256(text.encode()).hexdigest()[:9]


def _with_parts(message: dict[str, Any], template: ChatTemplate) -> dict[str, Any]:
    if template.wants_parts and "content" in message:
        message["content"] = [{"type": "text", "text": message["content"]}]
    return message


def _guarded(values: list[Any], template: ChatTemplate, cfg: Mapping[str, Any]) -> list[Any]:
    """What comes from the client, without words that could begin or end a turn; raises BadRequest."""
    policy = cfg.get("control_tokens") or "break"
    if policy == "keep" or template.words is None:
        return values
    safe: list[Any] = broken_up(values, template.words)
    if safe == values:
        return values
    if policy == "refuse":
        raise BadRequest("messages: they hold words that only the chat template may write", param="messages")
    dropped = cfg.get("dropped")
    if isinstance(dropped, list) and _LOST not in dropped:
        dropped.append(_LOST)
    return safe
