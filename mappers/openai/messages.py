"""Chat messages: OpenAI's list of messages and the neutral turns, both ways."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import orjson

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.fields import Fields
from mooltiproxy.mapping.ids import new_id
from mooltiproxy.mapping.media import data_url, split_data_url, standard_base64
from mooltiproxy.mapping.neutral import (
    Audio,
    Document,
    Image,
    Part,
    Reasoning,
    Refusal,
    Role,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)
from mooltiproxy.mapping.signatures import lost

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


_PLAIN_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}

_THOUGHTS = "messages.reasoning_content"
"""How the ledger calls thoughts in a history."""


class MessageReader:
    """Reads the messages of one request; `extra` gathers the fields of messages that have no place in a turn."""

    def __init__(self) -> None:
        self.extra: dict[str, Any] = {}
        self._function_ids: dict[str, str] = {}

    def read(self, fields: Fields) -> list[Turn]:
        """The turns of `messages`; raises BadRequest for none, an unknown role, or content that cannot be read."""
        turns = [
            _plain_turn(message) or self._turn(fields.inner(message, "messages", position))
            for position, message in enumerate(fields.items("messages") or ())
        ]
        if not turns:
            raise fields.wrong("messages", "at least one message")
        return turns

    def _turn(self, message: Fields) -> Turn:
        name = message.required_text("role")
        role = _ROLES.get(name)
        if role is None:
            raise message.wrong("role", f"one of {', '.join(_ROLES)}")
        if role == "tool":
            turn = Turn(role, [self._tool_result(message, is_function=name == "function")])
        elif role == "assistant":
            turn = Turn(role, self._assistant_parts(message), message.text("name"))
        else:
            turn = Turn(role, read_content(message, required=True), message.text("name"))
        self.extra.update(message.leftovers())
        return turn

    def _tool_result(self, message: Fields, *, is_function: bool) -> ToolResult:
        parts = read_content(message)
        if not is_function:
            return ToolResult(message.required_text("tool_call_id"), parts, message.text("name") or "")
        name = message.required_text("name")
        return ToolResult(self._function_ids.get(name, f"call_{name}"), parts, name)

    def _assistant_parts(self, message: Fields) -> list[Part]:
        thought = message.text(message.first("reasoning_content", "reasoning"))
        parts: list[Part] = [Reasoning(thought)] if thought else []
        parts += read_content(message)
        refusal = message.text("refusal")
        if refusal:
            parts.append(Refusal(refusal))
        parts += [_tool_call(call) for call in message.objects("tool_calls")]
        call = message.object("function_call")
        if call:
            parts.append(self._function_call(message, call))
        return parts

    def _function_call(self, message: Fields, call: Fields) -> ToolCall:
        """A call of the deprecated kind has no id: its name and place make one, which its result finds by name."""
        name = call.required_text("name")
        position = message.path.rpartition("[")[2].rstrip("]")
        identifier = f"call_{name}_{position}"
        self._function_ids[name] = identifier
        return ToolCall(identifier, name, arguments_text(call.any("arguments")))


def _plain_turn(message: Any) -> Turn | None:
    """The turn of a message that is a role and a text, as nearly all of a long conversation are; None for others."""
    if type(message) is dict and len(message) == 2:
        name, content = message.get("role"), message.get("content")
        if type(content) is str and content and type(name) is str and name in _PLAIN_ROLES:
            return Turn(_PLAIN_ROLES[name], [Text(content)])
    return None


def _tool_call(call: Fields) -> ToolCall:
    kind = call.text("type") or "function"
    if kind != "function":
        raise call.wrong("type", "function: calls of other kinds cannot be translated")
    function = call.required_object("function")
    arguments = arguments_text(function.any("arguments"))
    identifier = call.text("id") or new_id("call_")
    return ToolCall(identifier, function.required_text("name"), arguments, signature_in(call.any("extra_content")))


def signature_in(extra_content: Any) -> str | None:
    """Gemini's signature of a call, as Google's own OpenAI endpoint carries it (ai.google.dev/gemini-api/docs/openai):
    `{"google": {"thought_signature": ...}}`."""
    google = extra_content.get("google") if isinstance(extra_content, dict) else None
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    return signature if isinstance(signature, str) else None


def arguments_text(value: Any) -> str:
    """Arguments as JSON text, exactly as received; some servers send the object itself, or null."""
    if isinstance(value, str):
        return value
    return "" if value is None else orjson.dumps(value).decode()


def read_content(message: Fields, *, required: bool = False) -> list[Part]:
    """The parts of `content`, a string or a list of parts; raises BadRequest."""
    value = message.any("content")
    if isinstance(value, str):
        return [Text(value)] if value else []
    if value is None and not required:
        return []
    if not isinstance(value, list):
        raise message.wrong("content", "a string or a list of parts")
    return [_part(part) for part in message.objects("content")]


def _part(part: Fields) -> Part:
    kind = part.required_text("type")
    if kind == "text":
        return Text(part.required_text("text"))
    if kind == "refusal":
        return Refusal(part.required_text("refusal"))
    if kind == "image_url":
        return _image(part)
    if kind == "input_audio":
        audio = part.required_object("input_audio")
        return Audio(read_base64(audio, "data"), audio.required_text("format"))
    if kind == "file":
        return _file(part.required_object("file"))
    raise part.wrong("type", "one of text, image_url, input_audio, file, refusal")


def _image(part: Fields) -> Image:
    if isinstance(part.any("image_url"), str):
        return image_at(part, "image_url", None)
    image = part.required_object("image_url")
    return image_at(image, "url", image.text("detail"))


def image_at(fields: Fields, name: str, detail: str | None) -> Image:
    """The image of a field that holds a URL, which may be a data URL; raises BadRequest."""
    url = fields.required_text(name)
    media = read_data_url(fields, name, url)
    if media is None:
        return Image(url=url, detail=detail)
    return Image(media_type=media[0], data=media[1], detail=detail)


def _file(file: Fields) -> Document:
    name, file_id, data = file.text("filename"), file.text("file_id"), file.text("file_data")
    if file_id:
        return Document(file_id=file_id, name=name)
    if not data:
        raise file.wrong("file_data", "a data URL (or file_id)")
    media_type, content = read_data_url(file, "file_data", data) or ("application/pdf", read_base64(file, "file_data"))
    return Document(media_type=media_type, data=content, name=name)


def read_data_url(fields: Fields, name: str, url: str) -> tuple[str, str] | None:
    """Media type and base64 of a field that holds a data URL, None for any other URL; raises BadRequest."""
    try:
        return split_data_url(url)
    except ValueError as error:
        raise fields.wrong(name, "a data URL that holds base64") from error


def read_base64(fields: Fields, name: str) -> str:
    """Standard base64 of a field that holds it in whatever spelling; raises BadRequest."""
    try:
        return standard_base64(fields.required_text(name))
    except ValueError as error:
        raise fields.wrong(name, "base64") from error


NO_NAMES: Mapping[str, str] = MappingProxyType({})


def write_messages(
    turns: Sequence[Turn], dropped: list[str], names: Mapping[str, str] = NO_NAMES
) -> list[dict[str, Any]]:
    """The messages of a conversation; names what is left out in `dropped`, raises BadRequest for a part without a form.

    `names` are those of functions that the target is told another one for. A result's images cannot stand in a tool
    message: they follow in a user message behind the last result.
    """
    dropped += lost(turns)
    messages: list[dict[str, Any]] = []
    pending: list[Part] = []
    for turn in turns:
        results = [part for part in turn.parts if isinstance(part, ToolResult)]
        for result in results:
            messages.append(_tool_message(result))
            if result.is_error and "messages.is_error" not in dropped:
                dropped.append("messages.is_error")  # its text says so, as a rule
            pending += [part for part in result.parts if not isinstance(part, Text)]
        others = [part for part in turn.parts if not isinstance(part, ToolResult)]
        if results and not others:
            continue
        if pending:
            messages.append({"role": "user", "content": [_write_part(part) for part in pending]})
            pending = []
        messages.append(_message(turn, others, dropped, names))
    if pending:
        messages.append({"role": "user", "content": [_write_part(part) for part in pending]})
    return messages


def _tool_message(result: ToolResult) -> dict[str, Any]:
    text = "".join(part.text for part in result.parts if isinstance(part, Text))
    return {"role": "tool", "tool_call_id": result.call_id, "content": text}


def _message(turn: Turn, parts: Sequence[Part], dropped: list[str], names: Mapping[str, str]) -> dict[str, Any]:
    if turn.role == "assistant":
        message = {"role": "assistant", **_assistant_fields(parts, dropped, names)}
    else:
        message = {"role": "user" if turn.role == "tool" else turn.role, "content": _write_content(parts)}
    if turn.name:
        message["name"] = turn.name
    return message


def _assistant_fields(parts: Sequence[Part], dropped: list[str], names: Mapping[str, str]) -> dict[str, Any]:
    """History thoughts are left out: some servers refuse them, the others do not read them."""
    if any(isinstance(part, Reasoning) for part in parts) and _THOUGHTS not in dropped:
        dropped.append(_THOUGHTS)
    calls = [write_call(part, names) for part in parts if isinstance(part, ToolCall)]
    content = [part for part in parts if not isinstance(part, ToolCall | Reasoning | Refusal)]
    refusal = "".join(part.text for part in parts if isinstance(part, Refusal))
    fields: dict[str, Any] = {"content": _write_content(content) if content or not (calls or refusal) else None}
    if refusal:
        fields["refusal"] = refusal
    if calls:
        fields["tool_calls"] = calls
    return fields


def write_call(call: ToolCall, names: Mapping[str, str] = NO_NAMES) -> dict[str, Any]:
    """One entry of `tool_calls`."""
    function = {"name": names.get(call.name, call.name), "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def write_signature(signature: str | None) -> dict[str, Any]:
    """What a client's `tool_calls` entry has besides, so that the client brings the signature back."""
    return {"extra_content": {"google": {"thought_signature": signature}}} if signature else {}


def _write_content(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    """One string where all is text, since many servers take nothing else."""
    texts = [part.text for part in parts if isinstance(part, Text)]
    if len(texts) == len(parts):
        return "".join(texts)
    return [_write_part(part) for part in parts]


def _write_part(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if isinstance(part, Image):
        return {"type": "image_url", "image_url": _write_image(part)}
    if isinstance(part, Audio):
        return {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
    if isinstance(part, Document):
        return {"type": "file", "file": _write_file(part)}
    kind = type(part).__name__.lower()
    raise BadRequest(f"a message for this target cannot hold a part of the kind {kind}", param="messages")


def _write_image(image: Image) -> dict[str, Any]:
    if image.data is None and image.url is None:
        raise BadRequest("this target takes images as base64 or by URL, not by a file id", param="messages")
    url = data_url(image.media_type or "image/png", image.data) if image.data is not None else image.url
    return {"url": url} if image.detail is None else {"url": url, "detail": image.detail}


def _write_file(document: Document) -> dict[str, Any]:
    if document.file_id:
        return {"file_id": document.file_id}
    if document.data is None:
        raise BadRequest("this target takes files as base64 or by a file id, not by URL", param="messages")
    data = data_url(document.media_type or "application/pdf", document.data)
    return {"filename": document.name or "file", "file_data": data}
