"""Where a body says what `models:` may set: for requests that pass to a target of the client's own API.

Nothing here changes an object that it was given: what is changed is replaced, from the top of the body down, so that
everything else can be sent as the client wrote it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Body = dict[str, Any]
Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Conversation:
    """Where the messages of a body stand, and how one is written.

    `messages` is their field, which may also hold one text, that of the user; `content` is the field of a message with
    its text or its parts, of which those of text have a `text`, and look like `part` besides. `system` is the field of
    the system prompt, empty where a message holds it; a message's `roles` are those of OpenAI's chats but for these.
    `is_list` says that texts must be lists of parts. Where `takes_messages` is False, there is one text and no more;
    where `takes_system` is, the system speaks first or as the user.
    """

    messages: str = "messages"
    content: str = "content"
    part: Mapping[str, Any] = field(default_factory=lambda: {"type": "text"})
    system: str = ""
    roles: Mapping[str, str] = field(default_factory=dict)
    is_list: bool = False
    takes_messages: bool = True
    takes_system: bool = True


@dataclass(frozen=True, slots=True)
class Form:
    """Where the settings stand in the bodies of one endpoint.

    `places` are by the names of the neutral form (`Sampling`, `Request`): every place in which a client may say it, or
    a part of it, `.` between the names of nested fields. `own` is below which field its servers take settings that only
    they know ("" for the body itself), None for nowhere. `spellings` are other names of fields of the body.
    `bare` is a field that makes a conversation a mere text, where it is true. `usage` is the place of a flag without
    which streams do not tell what was used; with it they do so in an event of its own.
    """

    places: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    own: str | None = None
    conversation: Conversation | None = None
    spellings: Mapping[str, str] = field(default_factory=dict)
    bare: str = ""
    usage: str = ""


def value_at(body: Any, place: str) -> Any:
    """The value at a place, None where there is none."""
    for name in place.split("."):
        body = body.get(name) if isinstance(body, dict) else None
    return body


def put_at(body: Body, place: str, value: Any) -> None:
    """Set a place of the body, whose inner objects are replaced; None takes the field away."""
    name, _, rest = place.partition(".")
    if rest:
        inner = body.get(name)
        copy = dict(inner) if isinstance(inner, dict) else {}
        put_at(copy, rest, value)
        if copy or name in body:
            body[name] = copy
    elif value is None:
        body.pop(name, None)
    else:
        body[name] = value


def respelled(body: Body, spellings: Mapping[str, str]) -> None:
    """Give fields of the body the names that places have."""
    for other, name in spellings.items():
        if other in body and name not in body:
            body[name] = body.pop(other)


def has_system(body: Body, form: Conversation) -> bool:
    """Whether the client sends a system prompt."""
    if form.system and body.get(form.system):
        return True
    return any(is_system(message) for message in messages_of(body, form))


def put_system(body: Body, form: Conversation, text: str) -> None:
    """Put text before the system prompt, or make it one."""
    if form.system:
        prompt = body.get(form.system)
        if isinstance(prompt, dict):
            parts = _list(prompt.get(form.content))
            body[form.system] = {**prompt, form.content: _before(text, parts, form) if parts else [_part(text, form)]}
        elif prompt or not form.is_list:
            body[form.system] = _before(text, prompt, form) if prompt else text
        else:
            body[form.system] = {form.content: [_part(text, form)]}
        return
    messages = messages_of(body, form)
    if messages and is_system(messages[0]):
        first = {**messages[0], form.content: _before(text, messages[0].get(form.content), form)}
        body[form.messages] = [first, *messages[1:]]
    else:
        body[form.messages] = [_message("system", text, form), *messages]


def _before(text: str, content: Any, form: Conversation) -> Any:
    """The content of a system prompt with text before it."""
    if isinstance(content, list):
        return [_part(f"{text}\n\n", form), *content]
    return f"{text}\n\n{content}" if content else text


def put_around(body: Body, form: Conversation, prefix: str, suffix: str, *, last_only: bool = False) -> None:
    """Put text before and behind the words of every message of the user, or of the last one."""
    value = body.get(form.messages)
    if isinstance(value, str):
        body[form.messages] = f"{prefix}{value}{suffix}" if value else value
    elif isinstance(value, list):
        first = _last_of_user(value, form) if last_only else 0
        around = [_surrounded(message, form, prefix, suffix) for message in value[first:]]
        body[form.messages] = [*value[:first], *around]


def _last_of_user(messages: list[Any], form: Conversation) -> int:
    """Where the user's last message is; behind all where there is none."""
    return next((at for at in reversed(range(len(messages))) if _is_users(messages[at], form)), len(messages))


def _is_users(message: Any, form: Conversation) -> bool:
    nobody = "user" if form.is_list else None  # Gemini's contents without a role are the user's
    return isinstance(message, dict) and message.get("role", nobody) == "user"


def _surrounded(message: Any, form: Conversation, prefix: str, suffix: str) -> Any:
    if not _is_users(message, form):
        return message
    content = message.get(form.content)
    if isinstance(content, str) and content:
        return {**message, form.content: f"{prefix}{content}{suffix}"}
    texts = list(_texts(content))
    if not texts:
        return message
    parts = list(_list(content))
    parts[texts[0]] = {**parts[texts[0]], "text": prefix + parts[texts[0]]["text"]}
    parts[texts[-1]] = {**parts[texts[-1]], "text": parts[texts[-1]]["text"] + suffix}
    return {**message, form.content: parts}


def _texts(content: Any) -> Iterator[int]:
    """The positions of the parts that are text."""
    for at, part in enumerate(_list(content)):
        if isinstance(part, dict) and isinstance(part.get("text"), str) and not part.get("thought"):
            yield at


def put_message(body: Body, form: Conversation, role: str, text: str, at: int | None) -> None:
    """Put a message among those of the conversation: before number `at`, counted without the leading system messages
    and from the end where it is negative; None is behind the last."""
    if role == "system" and not form.takes_system:
        role, text = "user", f"<system>\n{text}\n</system>"
    messages = messages_of(body, form)
    leading = next((at for at, message in enumerate(messages) if not is_system(message)), len(messages))
    position = position_of(at, len(messages) - leading) + leading
    body[form.messages] = [*messages[:position], _message(role, text, form), *messages[position:]]


def position_of(at: int | None, count: int) -> int:
    """Before which of so many messages number `at` is."""
    if at is None:
        return count
    return min(at, count) if at >= 0 else max(count + at, 0)


def holds_messages(body: Body, form: Conversation) -> bool:
    """Whether the messages are something to put others beside; what else a client sends is for the target to refuse."""
    return not form.takes_messages or isinstance(body.get(form.messages), list | str | None)


def messages_of(body: Body, form: Conversation) -> list[Any]:
    """The messages, one that is a mere text as the user's."""
    value = body.get(form.messages)
    if isinstance(value, str) and form.takes_messages:
        return [_message("user", value, form)]
    return _list(value)


def is_system(message: Any) -> bool:
    """Whether a message is the system's or the developer's."""
    return isinstance(message, dict) and message.get("role") in ("system", "developer")


def _message(role: str, text: str, form: Conversation) -> Message:
    return {"role": form.roles.get(role, role), form.content: [_part(text, form)] if form.is_list else text}


def _part(text: str, form: Conversation) -> dict[str, Any]:
    return {**form.part, "text": text}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
