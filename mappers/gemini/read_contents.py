"""Reads `contents` and `systemInstruction` (ai.google.dev/api/caching#Content) into turns."""

from typing import Any

import orjson

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.ids import stable_id
from mooltiproxy.mapping.media import standard_base64
from mooltiproxy.mapping.neutral import (
    Audio,
    Document,
    Image,
    Part,
    Reasoning,
    Role,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)

from .fields import ProtoFields
from .signatures import FIELD, thought_state
from .write_contents import response_of

_ROLES: dict[str, Role] = {"user": "user", "model": "assistant", "function": "user", "tool": "user"}
_KINDS = ("text", "inlineData", "fileData", "functionCall", "functionResponse")
_OWN_KINDS = ("executableCode", "codeExecutionResult", "toolCall", "toolResponse")
"""What nobody but the service's own tools writes."""
_AUDIO_FORMATS = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav"}


class ContentsReader:
    """Reads one request's conversation; `extra` gathers the fields of parts that have no place in a turn.

    Calls and results may lack ids: a call then gets one that is the same in every later request of the conversation,
    and a result belongs to the first call without a result that has its name.
    """

    def __init__(self) -> None:
        self.extra: dict[str, Any] = {}
        self._count = 0
        self._unanswered: list[ToolCall] = []

    def read(self, fields: ProtoFields) -> list[Turn]:
        """The turns, that of the system first; raises BadRequest for none and for what cannot be read."""
        turns = self._system(fields)
        contents = [turn for content in fields.objects("contents") for turn in self._turns(content)]
        if not contents:
            raise fields.wrong("contents", "at least one content with parts")
        return turns + _joined(contents)

    def _system(self, fields: ProtoFields) -> list[Turn]:
        instruction = fields.object("systemInstruction")
        if instruction is None:
            return []
        instruction.any("role")
        parts = [self._part(part) for part in instruction.objects("parts")]
        if not all(isinstance(part, Text) for part in parts):
            raise instruction.wrong("parts", "parts of text")
        return [Turn("system", parts)] if parts else []

    def _turns(self, content: ProtoFields) -> list[Turn]:
        """The turn of a content; results of functions make one of their own, before what the user says to them."""
        role = _ROLES.get(content.text("role") or "user")
        if role is None:
            raise content.wrong("role", "user or model")
        parts: list[Part] = []
        for part in content.objects("parts"):
            self._add(parts, part)
        self.extra.update(content.leftovers())
        results: list[Part] = [part for part in parts if isinstance(part, ToolResult)]
        others: list[Part] = [part for part in parts if not isinstance(part, ToolResult)]
        turns = [Turn("tool", results)] if results else []
        return [*turns, Turn(role, others)] if others else turns

    def _add(self, parts: list[Part], fields: ProtoFields) -> None:
        """Add a part; a signature without text, as streams end with, belongs to the text before it.

        What the service's own tools have left in a conversation is left out by name.
        """
        own = next((kind for kind in _OWN_KINDS if fields.any(kind) is not None), None)
        if own:
            self.extra[f"contents.{own}"] = None
            return
        part = self._part(fields)
        last = parts[-1] if parts else None
        if isinstance(part, Text) and not part.text:
            if part.signature and isinstance(last, Text) and not last.signature:
                last.signature = part.signature
            elif part.signature:
                parts.append(part)
        elif not (isinstance(part, Reasoning) and _goes_on(last, part)):
            parts.append(part)

    def _part(self, part: ProtoFields) -> Part:
        kinds = [kind for kind in _KINDS if part.any(kind) is not None]
        if len(kinds) != 1:
            raise BadRequest(f"{part.path}: expected one of {', '.join(_KINDS)}", param=part.path)
        thought = part.flag("thought")
        signature = _signature(part)
        read = self._read(kinds[0], part, signature)
        if isinstance(read, Text) and thought:
            read = Reasoning(read.text, thought_state(signature))
        self.extra.update(part.leftovers())
        return read

    def _read(self, kind: str, part: ProtoFields, signature: str | None) -> Part:
        if kind == "text":
            return Text(part.required_text("text"), signature=signature)
        fields = part.required_object(kind)
        if kind == "functionCall":
            return self._call(fields, signature)
        if kind == "functionResponse":
            return self._result(fields)
        read = _inline(fields) if kind == "inlineData" else _file(fields)
        self.extra.update(fields.leftovers())
        return read

    def _call(self, fields: ProtoFields, signature: str | None) -> ToolCall:
        name = fields.required_text("name")
        arguments = orjson.dumps(fields.plain("args") or {}).decode()
        identifier = fields.text("id") or stable_id("call_", self._count, name)
        self._count += 1
        call = ToolCall(identifier, name, arguments, signature)
        self._unanswered.append(call)
        return call

    def _result(self, fields: ProtoFields) -> ToolResult:
        name = fields.required_text("name")
        identifier = fields.text("id")
        response = fields.plain("response") or {}
        media = [_inline(part.required_object("inlineData")) for part in fields.objects("parts")]
        call = self._answered(identifier, name)
        text, is_error = _result_text(response)
        parts: list[Part] = [Text(text)] if text else []
        self.extra.update(fields.leftovers())
        known = call.id if call else identifier or stable_id("call_", self._count, name)
        return ToolResult(known, [*parts, *media], name, is_error)

    def _answered(self, identifier: str | None, name: str) -> ToolCall | None:
        by_id = [call for call in self._unanswered if call.id == identifier]
        by_name = [call for call in self._unanswered if call.name == name]
        call = next(iter(by_id or by_name or self._unanswered), None)
        if call is not None:
            self._unanswered.remove(call)
        return call


def _joined(turns: list[Turn]) -> list[Turn]:
    """The turns, an answer in one: SDKs keep a streamed one as a content for each of its pieces."""
    joined: list[Turn] = []
    for turn in turns:
        last = joined[-1] if joined else None
        if last is None or turn.role != "assistant" or last.role != "assistant":
            joined.append(turn)
            continue
        for part in turn.parts:
            if not _goes_on(last.parts[-1], part):
                last.parts.append(part)
    return joined


def _goes_on(last: Part | None, part: Part) -> bool:
    """Whether the part is the next piece of the last one, which then has it; a signature ends what it signs."""
    for kind in (Text, Reasoning):
        if isinstance(last, kind) and isinstance(part, kind) and not last.signature:
            last.text += part.text
            last.signature = part.signature
            return True
    return False


def _signature(part: ProtoFields) -> str | None:
    """The signature in the one spelling of base64: SDKs send it back in another than they got it in."""
    if part.text(FIELD) is None:
        return None
    return _base64(part, FIELD) or None


def _base64(fields: ProtoFields, name: str) -> str:
    try:
        return standard_base64(fields.required_text(name))
    except ValueError as error:
        raise fields.wrong(name, "base64") from error


def _inline(blob: ProtoFields) -> Part:
    media_type = blob.required_text("mimeType").lower()
    data = _base64(blob, "data")
    kind, _, subtype = media_type.partition("/")
    if kind == "image":
        return Image(media_type=media_type, data=data)
    if kind == "audio":
        subtype = subtype.partition(";")[0]
        return Audio(data, _AUDIO_FORMATS.get(subtype, subtype))
    return Document(media_type=media_type, data=data, name=blob.text("displayName"))


def _file(file: ProtoFields) -> Part:
    media_type, url = file.text("mimeType"), file.required_text("fileUri")
    if media_type is not None and media_type.startswith("image/"):
        return Image(media_type=media_type, url=url)
    return Document(media_type=media_type, url=url, name=file.text("displayName"))


def _result_text(response: dict[str, Any]) -> tuple[str, bool]:
    """What a function returned, as text, and whether that is an error.

    `{"result": text}`, `{"output": text}` (the API's own word) and `{"error": text}` are the ways to send text where an
    object is wanted.
    """
    if not response:
        return "", False
    is_error = response.keys() == {"error"}
    text = response.get("error" if is_error else "output" if response.keys() == {"output"} else "result")
    wrapped = {"error" if is_error else "result": text}
    if len(response) == 1 and isinstance(text, str) and response_of(text, is_error=is_error) == wrapped:
        return text, is_error
    return orjson.dumps(response).decode(), is_error
