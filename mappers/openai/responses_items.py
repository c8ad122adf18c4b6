"""Input items of the Responses API (platform.openai.com/docs/api-reference/responses, November 2026) and the neutral
turns, both ways."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import orjson

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.fields import Fields
from mooltiproxy.mapping.ids import new_id
from mooltiproxy.mapping.media import data_url
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
from mooltiproxy.mapping.signatures import OPENAI, lost, mark, own, restored

from .messages import arguments_text, image_at, read_base64, read_data_url

_ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_STORED = {
    "item_reference": "an item with its content, as clients send it with `store: false`",
    "compaction": "the items that it stands for",
}
"""Items that stand for what only the server that made them can read, and what is wanted in their place: without it the
conversation is another."""


class ItemReader:
    """Reads `instructions` and `input` of one request; `extra` gathers what has no place in a turn."""

    def __init__(self) -> None:
        self.extra: dict[str, Any] = {}
        self._turns: list[Turn] = []
        self._readers: dict[str, Callable[[Fields], None]] = {
            "message": self._message,
            "function_call": self._function_call,
            "custom_tool_call": self._custom_call,
            "function_call_output": self._output,
            "custom_tool_call_output": self._output,
            "reasoning": self._reasoning,
        }

    def read(self, fields: Fields) -> list[Turn]:
        """The turns of the conversation; raises BadRequest for none, or for items that cannot be read."""
        instructions = fields.text("instructions")
        if instructions:
            self._turns.append(Turn("system", [Text(instructions)]))
        value = fields.any("input")
        if isinstance(value, str):
            self._turns.append(Turn("user", [Text(value)]))
        elif isinstance(value, list):
            for item in fields.objects("input"):
                self._item(item)
        else:
            raise fields.wrong("input", "a string or a list of items")
        if not self._turns:
            raise fields.wrong("input", "at least one item")
        return restored(self._turns)

    def _item(self, item: Fields) -> None:
        kind = item.text("type") or ("message" if item.any("role") is not None else "item_reference")
        if kind in _STORED:
            raise item.wrong("type", f"{_STORED[kind]}: the proxy stores nothing that {kind} could mean")
        reader = self._readers.get(kind)
        if reader is None:
            self.extra[f"input.{kind}"] = item.path
            return
        item.any("id")
        item.any("status")
        reader(item)
        self.extra.update(item.leftovers())

    def _message(self, item: Fields) -> None:
        role = _ROLES.get(item.required_text("role"))
        if role is None:
            raise item.wrong("role", f"one of {', '.join(_ROLES)}")
        parts = self._content(item, "content")
        if role == "assistant":
            self._assistant(parts)
        else:
            self._turns.append(Turn(role, parts))

    def _reasoning(self, item: Fields) -> None:
        summary = [part.required_text("text") for part in item.objects("summary")]
        content = [part.required_text("text") for part in item.objects("content")]
        state = mark(OPENAI, item.text("encrypted_content") or None)
        self._assistant([Reasoning("\n\n".join(summary or content), state)])

    def _function_call(self, item: Fields) -> None:
        arguments = arguments_text(item.any("arguments"))
        self._call(ToolCall(item.required_text("call_id"), item.required_text("name"), arguments))

    def _custom_call(self, item: Fields) -> None:
        """A call whose input is free text: the nearest that a function can be given is an object that holds it."""
        arguments = orjson.dumps({"input": item.text("input") or ""}).decode()
        self._call(ToolCall(item.required_text("call_id"), item.required_text("name"), arguments))

    def _output(self, item: Fields) -> None:
        result = ToolResult(item.required_text("call_id"), self._content(item, "output"), item.text("name") or "")
        self._turns.append(Turn("tool", [result]))

    def _content(self, item: Fields, name: str) -> list[Part]:
        value = item.any(name)
        if isinstance(value, str):
            return [Text(value)] if value else []
        if not isinstance(value, list):
            raise item.wrong(name, "a string or a list of parts")
        parts = []
        for part in item.objects(name):
            parts.append(_read_part(part))
            part.first("annotations", "logprobs")  # told about an answer, not to a model
            self.extra.update(part.leftovers())
        return parts

    def _assistant(self, parts: list[Part]) -> None:
        """What a model says behind its own text is another turn, unless calls wait there for their results."""
        last = self._last_assistant()
        if last is None or any(isinstance(part, Text | Refusal) for part in last) and not _has_calls(last):
            self._turns.append(Turn("assistant", parts))
        else:
            last += parts

    def _call(self, call: ToolCall) -> None:
        """All calls of one answer are one turn: the results follow behind the last."""
        last = self._last_assistant()
        if last is None:
            self._turns.append(Turn("assistant", [call]))
        else:
            last.append(call)

    def _last_assistant(self) -> list[Part] | None:
        return self._turns[-1].parts if self._turns and self._turns[-1].role == "assistant" else None


def _has_calls(parts: Iterable[Part]) -> bool:
    return any(isinstance(part, ToolCall) for part in parts)


def _read_part(part: Fields) -> Part:
    kind = part.required_text("type")
    if kind in ("input_text", "output_text", "text"):
        return Text(part.required_text("text"))
    if kind == "refusal":
        return Refusal(part.required_text("refusal"))
    if kind == "input_image":
        return _read_image(part)
    if kind == "input_file":
        return _read_file(part)
    if kind == "input_audio":
        audio = part.object("input_audio") or part
        return Audio(read_base64(audio, "data"), audio.required_text("format"))
    raise part.wrong("type", "one of input_text, input_image, input_file, output_text, refusal")


def _read_image(part: Fields) -> Image:
    detail, file_id = part.text("detail"), part.text("file_id")
    detail = None if detail == "auto" else detail
    return Image(file_id=file_id, detail=detail) if file_id else image_at(part, "image_url", detail)


def _read_file(part: Fields) -> Document:
    name, file_id, url, data = (part.text(field) for field in ("filename", "file_id", "file_url", "file_data"))
    if file_id:
        return Document(file_id=file_id, name=name)
    if url:
        return Document(url=url, name=name)
    if not data:
        raise part.wrong("file_data", "a data URL (or file_id, or file_url)")
    media_type, content = read_data_url(part, "file_data", data) or ("application/pdf", read_base64(part, "file_data"))
    return Document(media_type=media_type, data=content, name=name)


def write_items(turns: Sequence[Turn], dropped: list[str], names: Mapping[str, str]) -> dict[str, Any]:
    """`instructions` (the system text that the conversation begins with, if any) and `input`, which is never empty.

    Names what is left out in `dropped`; raises BadRequest for a part that has no form here. `names` are those of
    functions that the target is told another one for.
    """
    body: dict[str, Any] = {}
    if len(turns) > 1 and turns[0].role == "system" and all(isinstance(part, Text) for part in turns[0].parts):
        body["instructions"] = _joined(turns[0].parts)
        turns = turns[1:]
    dropped += lost(turns)
    if any(turn.name for turn in turns):
        dropped.append("messages.name")
    if any(isinstance(part, ToolResult) and part.is_error for turn in turns for part in turn.parts):
        dropped.append("messages.is_error")
    body["input"] = [item for turn in turns for item in _turn_items(turn, dropped, names)]
    return body


def _turn_items(turn: Turn, dropped: list[str], names: Mapping[str, str]) -> list[dict[str, Any]]:
    if turn.role == "assistant":
        return _assistant_items(turn.parts, dropped, names)
    items = [_result_item(part) for part in turn.parts if isinstance(part, ToolResult)]
    others = [part for part in turn.parts if not isinstance(part, ToolResult)]
    if others or not items:
        role = "user" if turn.role == "tool" else turn.role
        items.append({"type": "message", "role": role, "content": _write_content(others)})
    return items


def _result_item(result: ToolResult) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": result.call_id, "output": _write_content(result.parts)}


def _assistant_items(parts: Sequence[Part], dropped: list[str], names: Mapping[str, str]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for is_said, group in groupby(parts, lambda part: isinstance(part, Text | Refusal)):
        if is_said:
            items.append(_said_item(list(group)))
        else:
            items += [item for part in group for item in _own_item(part, dropped, names)]
    return items


def _said_item(parts: Sequence[Part]) -> dict[str, Any]:
    """A message of the model; the short form where it is text alone, since the long one must name an id."""
    if all(isinstance(part, Text) for part in parts):
        return {"type": "message", "role": "assistant", "content": _joined(parts)}
    content: list[dict[str, Any]] = [
        {"type": "refusal", "refusal": part.text}
        if isinstance(part, Refusal)
        else {"type": "output_text", "text": _joined([part]), "annotations": []}
        for part in parts
    ]
    identity = {"type": "message", "id": new_id("msg_"), "status": "completed", "role": "assistant"}
    return {**identity, "content": content}


def _own_item(part: Part, dropped: list[str], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """A call or a thought; a thought only with the state of this API, since others' are refused."""
    if isinstance(part, ToolCall):
        name, arguments = names.get(part.name, part.name), part.arguments or "{}"
        return [{"type": "function_call", "call_id": part.id, "name": name, "arguments": arguments}]
    if not isinstance(part, Reasoning):
        raise _no_form(part)
    sealed = own(OPENAI, part.signature)
    if not sealed:
        dropped.append("messages.reasoning_content")
        return []
    item: dict[str, Any] = {"type": "reasoning"}
    identifier, separator, state = sealed.partition(":")
    if separator:
        item["id"] = identifier
    item["summary"] = [{"type": "summary_text", "text": part.text}] if part.text else []
    item["encrypted_content"] = state if separator else sealed
    return [item]


def carried_state(item: Mapping[str, Any]) -> str | None:
    """The state of a target's reasoning item: with its id, by which the target will check it."""
    identifier, state = item.get("id"), item.get("encrypted_content")
    if not isinstance(state, str) or not state:
        return None
    return mark(OPENAI, f"{identifier}:{state}" if isinstance(identifier, str) and identifier else state)


def _write_content(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    """One string where all is text, since some servers take nothing else."""
    if all(isinstance(part, Text) for part in parts):
        return _joined(parts)
    return [_write_part(part) for part in parts]


def _joined(parts: Iterable[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Text))


def _write_part(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "input_text", "text": part.text}
    if isinstance(part, Image):
        return {"type": "input_image", "detail": part.detail or "auto", **_write_image(part)}
    if isinstance(part, Document):
        return {"type": "input_file", **_write_file(part)}
    raise _no_form(part)


def _no_form(part: Part) -> BadRequest:
    kind = type(part).__name__.lower()
    return BadRequest(f"this target's API has no form for a part of the kind {kind}", param="messages")


def _write_image(image: Image) -> dict[str, Any]:
    if image.file_id:
        return {"file_id": image.file_id}
    return {"image_url": image.url if image.data is None else data_url(image.media_type or "image/png", image.data)}


def _write_file(document: Document) -> dict[str, Any]:
    if document.file_id:
        return {"file_id": document.file_id}
    if document.data is None:
        return {"file_url": document.url}
    data = data_url(document.media_type or "application/pdf", document.data)
    return {"filename": document.name or "file", "file_data": data}
