"""Messages: Ollama's list and the neutral turns, both ways."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.fields import Fields
from mooltiproxy.mapping.ids import stable_id
from mooltiproxy.mapping.media import image_type, standard_base64
from mooltiproxy.mapping.neutral import Image, Part, Reasoning, Refusal, Role, Text, ToolCall, ToolResult, Turn
from mooltiproxy.mapping.signatures import lost

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}


class MessageReader:
    """Reads the messages of one request; `extra` gathers the fields of messages that have no place in a turn.

    Calls and results may come without ids. A call's is then made of its place and name, so that it is the same in every
    later request of the conversation; a result belongs to the first call of that name that has none yet, else to the
    first call that has none.
    """

    def __init__(self) -> None:
        self.extra: dict[str, Any] = {}
        self._unanswered: list[ToolCall] = []

    def read(self, fields: Fields) -> list[Turn]:
        """The turns of `messages`; raises BadRequest for an unknown role or content that cannot be read."""
        return [self._turn(position, message) for position, message in enumerate(fields.objects("messages"))]

    def _turn(self, position: int, message: Fields) -> Turn:
        role = _ROLES.get(message.required_text("role").lower())
        if role is None:
            raise message.wrong("role", f"one of {', '.join(_ROLES)}")
        parts: list[Part] = [*read_images(message), *_texts(message.text("content"))]
        if role == "tool":
            parts = [self._result(position, message, parts)]
        if role == "assistant":
            thought = message.text("thinking")
            calls = self._calls(position, message)
            parts = [*([Reasoning(thought)] if thought else []), *parts, *calls]
        self.extra.update(message.leftovers())
        return Turn(role, parts)

    def _calls(self, position: int, message: Fields) -> list[ToolCall]:
        calls = []
        for number, call in enumerate(message.objects("tool_calls")):
            function = call.required_object("function")
            name = function.required_text("name")
            identifier = call.text("id") or stable_id("call_", position, number, name)
            arguments = orjson.dumps(function.plain("arguments") or {}).decode()
            calls.append(ToolCall(identifier, name, arguments))
        if calls:
            self._unanswered = list(calls)
        return calls

    def _result(self, position: int, message: Fields, parts: list[Part]) -> ToolResult:
        identifier = message.text("tool_call_id")
        name = message.text(message.first("tool_name", "name"))
        call = self._answered(identifier, name)
        if call is not None:
            self._unanswered.remove(call)
            return ToolResult(call.id, parts, name or call.name)
        return ToolResult(identifier or stable_id("call_", position, name), parts, name or "")

    def _answered(self, identifier: str | None, name: str | None) -> ToolCall | None:
        waiting = self._unanswered
        if identifier:
            return next((call for call in waiting if call.id == identifier), None)
        return next((call for call in waiting if call.name == name), waiting[0] if waiting else None)


def _texts(text: str | None) -> list[Part]:
    return [Text(text)] if text else []


def read_images(fields: Fields) -> list[Part]:
    """The images of a message or a prompt: bare base64, whose type its first bytes tell; raises BadRequest."""
    parts: list[Part] = []
    for value in fields.items("images") or []:
        try:
            data = standard_base64(value)
        except (ValueError, AttributeError) as error:
            raise fields.wrong("images", "a list of images in base64, without data: before it") from error
        parts.append(Image(image_type(data), data))
    return parts


class MessageWriter:
    """Writes the messages of one conversation; names what is left out in `dropped`.

    Content is one string and images stand beside it: their place within the text is lost.
    """

    def __init__(self, dropped: list[str]) -> None:
        self._dropped = dropped
        self._names: dict[str, str] = {}

    def write(self, turns: Sequence[Turn]) -> list[dict[str, Any]]:
        """The messages; raises BadRequest for a part without a form, and for arguments that are no JSON object."""
        self._dropped += lost(turns)
        return [message for turn in turns for message in self._messages(turn)]

    def _messages(self, turn: Turn) -> list[dict[str, Any]]:
        """One message for each result of a tool, one for all else."""
        messages = [self._tool_message(part) for part in turn.parts if isinstance(part, ToolResult)]
        others = [part for part in turn.parts if not isinstance(part, ToolResult)]
        if others or not messages:
            role = "user" if turn.role == "tool" else turn.role
            messages.append({"role": role, **self._content(others)})
        if turn.name:
            self._drop("messages.name")
        return messages

    def _tool_message(self, result: ToolResult) -> dict[str, Any]:
        name = result.name or self._names.get(result.call_id)
        named = {"tool_name": name} if name else {}
        if result.is_error:
            self._drop("messages.is_error")
        return {"role": "tool", **named, "tool_call_id": result.call_id, **self._content(result.parts)}

    def _content(self, parts: Sequence[Part]) -> dict[str, Any]:
        fields: dict[str, Any] = {"content": ""}
        calls: list[dict[str, Any]] = []
        for part in parts:
            if isinstance(part, Text | Refusal):
                fields["content"] += part.text
            elif isinstance(part, Reasoning):
                self._think(fields, part)
            elif isinstance(part, Image):
                fields.setdefault("images", []).append(self._image(part))
            elif isinstance(part, ToolCall):
                calls.append(self._call(len(calls), part))
            else:
                kind = type(part).__name__.lower()
                raise BadRequest(f"a message for this target cannot hold a part of the kind {kind}", param="messages")
        return {**fields, "tool_calls": calls} if calls else fields

    def _think(self, fields: dict[str, Any], thought: Reasoning) -> None:
        """Thoughts are sent back, templates decide what becomes of them; the vendor's state has no place."""
        if thought.text:
            fields["thinking"] = fields.get("thinking", "") + thought.text
        if thought.signature:
            self._drop("messages.signature")

    def _image(self, image: Image) -> str:
        if image.detail not in (None, "auto"):
            self._drop("messages.detail")
        return write_image(image)

    def _call(self, number: int, call: ToolCall) -> dict[str, Any]:
        self._names[call.id] = call.name
        arguments = arguments_object(call.arguments)
        if arguments is None:
            raise BadRequest(
                f"the arguments of the call of {call.name} are no JSON object, and this target takes nothing else",
                param="messages",
            )
        return {"id": call.id, "function": {"index": number, "name": call.name, "arguments": arguments}}

    def _drop(self, name: str) -> None:
        if name not in self._dropped:
            self._dropped.append(name)


def write_image(image: Image) -> str:
    """An image as bare base64; raises BadRequest for one whose bytes are elsewhere."""
    if image.data is None:
        raise BadRequest(
            "this target takes the bytes of an image: send it in base64 instead of an address or a file id",
            param="messages",
        )
    return image.data


def arguments_object(text: str) -> Mapping[str, Any] | None:
    """A call's arguments as an object, an empty text as an empty one; None where the text is no JSON object."""
    if not text.strip():
        return {}
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
