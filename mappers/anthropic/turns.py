"""Neutral turns written as the `system` and `messages` of the Messages API, which is strict about their order."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.media import image_type
from mooltiproxy.mapping.neutral import (
    Document,
    Image,
    Native,
    Part,
    Reasoning,
    Refusal,
    Request,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)
from mooltiproxy.mapping.signatures import ANTHROPIC, REDACTED, lost, own
from mooltiproxy.mapping.tool_names import renamed_tools

from .blocks import NATIVE
from .common import NAMES, SYSTEM_TURNS, call_ids, parsed_arguments, version_of

IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")

Block = dict[str, Any]
Message = dict[str, Any]


def write_conversation(request: Request, dropped: list[str]) -> dict[str, Any]:
    """The fields `system` and `messages`; names in `dropped` what is left out, raises BadRequest for what cannot be."""
    turns = [_with_text(turn) for turn in request.turns]
    leading = next((at for at, turn in enumerate(turns) if turn.role != "system"), len(turns))
    version = version_of(request.model)
    dropped += lost(request.turns)
    messages = _Messages(request, dropped, system_turns=version is None or version >= SYSTEM_TURNS)
    for turn in turns[leading:]:
        messages.add(turn)
    written = {"messages": messages.finished()}
    system = _system([turn for turn in turns[:leading] if turn.parts])
    return {"system": system, **written} if system else written


def _with_text(turn: Turn) -> Turn:
    """The turn without texts of nothing but whitespace, which the API refuses."""
    parts = [part for part in turn.parts if not isinstance(part, Text | Refusal) or part.text.strip()]
    return turn if len(parts) == len(turn.parts) else Turn(turn.role, parts, turn.name)


def _system(turns: Sequence[Turn]) -> str | list[Block]:
    """Several system messages become one text; blocks stay blocks."""
    if all(len(turn.parts) == 1 and isinstance(turn.parts[0], Text) and not turn.parts[0].native for turn in turns):
        return "\n\n".join(_plain_text(turn) for turn in turns)
    return [_text_block(part) for turn in turns for part in _texts(turn)]


def _texts(turn: Turn) -> list[Text]:
    texts = [part for part in turn.parts if isinstance(part, Text)]
    if len(texts) != len(turn.parts):
        raise BadRequest("a system message for this target can hold text only", param="messages")
    return texts


def _plain_text(turn: Turn) -> str:
    return "".join(part.text for part in _texts(turn))


class _Messages:
    """Gathers messages: neighbours of one role become one, and results come first in theirs."""

    def __init__(self, request: Request, dropped: list[str], *, system_turns: bool) -> None:
        self._names = renamed_tools(request, NAMES)
        self._ids = call_ids(request)
        self._dropped = dropped
        self._system_turns = system_turns
        self._messages: list[Message] = []
        self._pending: list[Block] = []

    def add(self, turn: Turn) -> None:
        """Add a turn behind the others."""
        if turn.name:
            self._drop("messages.name")
        if turn.role == "assistant":
            if self._pending:
                self._append("user", [])
            self._append("assistant", self._blocks(turn.parts))
        elif turn.role != "system":
            self._append("user", self._blocks(turn.parts))
        elif self._system_turns:
            self._append("system", [_text_block(part) for part in _texts(turn)])
        elif turn.parts:
            self._drop("messages.system")
            self._pending.append(_block("text", None, text=f"<system>\n{_plain_text(turn)}\n</system>"))

    def finished(self) -> list[Message]:
        """The messages; raises BadRequest where there are none."""
        self._append("user", [])
        if not self._messages:
            raise BadRequest("messages: this target needs at least one message with text in it", param="messages")
        if self._messages[0]["role"] == "assistant":
            self._drop("clamped messages[0].role assistant->user")
            self._messages.insert(0, {"role": "user", "content": [_block("text", None, text=".")]})
        for message in self._messages:
            if len(message["content"]) > 1:
                message["content"] = _results_first(message["content"])
        _strip_prefill(self._messages[-1])
        return [{**message, "content": _content(message["content"])} for message in self._messages]

    def _append(self, role: str, blocks: list[Block]) -> None:
        """Put blocks behind the others; a user's message begins with the system texts that wait for it."""
        if role == "user" and self._pending:
            blocks, self._pending = [*self._pending, *blocks], []
        if not blocks:
            return
        if not self._messages or self._messages[-1]["role"] != role:
            self._messages.append({"role": role, "content": []})
        self._messages[-1]["content"] += blocks

    def _drop(self, name: str) -> None:
        if name not in self._dropped:
            self._dropped.append(name)

    def _blocks(self, parts: Sequence[Part]) -> list[Block]:
        if len(parts) == 1:  # nearly every message of a long conversation
            return self._block(parts[0])
        return [block for part in parts for block in self._block(part)]

    def _block(self, part: Part) -> list[Block]:
        """The block of a part; none for a thought that the target would not know as its own."""
        if isinstance(part, Text):
            return [_text_block(part)]
        if isinstance(part, Refusal):
            return [_block("text", None, text=part.text)]
        if isinstance(part, Reasoning):
            return self._thought(part)
        if isinstance(part, ToolCall):
            return [self._call(part)]
        if isinstance(part, ToolResult):
            return [self._result(part)]
        if isinstance(part, Image):
            return [self._image(part)]
        if isinstance(part, Document):
            return [_document(part)]
        raise BadRequest("this target takes no audio", param="messages")

    def _call(self, call: ToolCall) -> Block:
        name, identifier = self._names.get(call.name, call.name), self._ids.get(call.id, call.id)
        return _block("tool_use", call.native, id=identifier, name=name, input=_input(call))

    def _thought(self, thought: Reasoning) -> list[Block]:
        signature, secret = own(ANTHROPIC, thought.signature), own(REDACTED, thought.signature)
        if signature:
            return [{"type": "thinking", "thinking": thought.text, "signature": signature}]
        if secret:
            return [{"type": "redacted_thinking", "data": secret}]
        self._drop("messages.reasoning_content")
        return []

    def _result(self, result: ToolResult) -> Block:
        fields: dict[str, Any] = {"tool_use_id": self._ids.get(result.call_id, result.call_id)}
        parts = [part for part in result.parts if not isinstance(part, Text) or part.text.strip()]
        if parts:
            fields["content"] = _content(self._blocks(parts))
        if result.is_error:
            fields["is_error"] = True
        return _block("tool_result", result.native, **fields)

    def _image(self, image: Image) -> Block:
        if image.detail:
            self._drop("messages.detail")
        return _block("image", image.native, source=_image_source(image))


def _results_first(blocks: list[Block]) -> list[Block]:
    """What is no result stands behind all results; else the order stays."""
    return sorted(blocks, key=lambda block: bool(block["type"] != "tool_result"))


def _block(kind: str, native: Native | None, **fields: Any) -> Block:
    own: Mapping[str, Any] = native or {}
    return {"type": kind, **fields, **{name: own[name] for name in NATIVE[kind] if name in own}}


def _text_block(part: Text) -> Block:
    if not part.native:
        return {"type": "text", "text": part.text}
    return _block("text", part.native, text=part.text)


def _content(blocks: list[Block]) -> str | list[Block]:
    """One plain text as a string, as most clients write it."""
    return blocks[0]["text"] if len(blocks) == 1 and blocks[0].keys() == {"type", "text"} else blocks


def _strip_prefill(message: Message) -> None:
    """The API refuses whitespace at the end of an answer that it is to go on with."""
    last = message["content"][-1]
    if message["role"] == "assistant" and last["type"] == "text":
        message["content"][-1] = {**last, "text": last["text"].rstrip()}


def _input(call: ToolCall) -> dict[str, Any]:
    arguments = parsed_arguments(call.arguments)
    if arguments is None:
        message = f"the arguments of the call {call.id} are no JSON object, and this target takes nothing else"
        raise BadRequest(message, param="messages")
    return arguments


def _image_source(image: Image) -> dict[str, str]:
    if image.data is not None:
        media_type = image.media_type or image_type(image.data) or "image/png"
        if media_type not in IMAGE_TYPES:
            known = ", ".join(IMAGE_TYPES)
            raise BadRequest(f"this target takes images of the types {known}, not {media_type}", param="messages")
        return {"type": "base64", "media_type": media_type, "data": image.data}
    if image.url is not None:
        return {"type": "url", "url": image.url}
    return _file_source(image.file_id)


def _file_source(file_id: str | None) -> dict[str, str]:
    if not file_id or file_id.startswith("file-"):
        raise BadRequest("this target does not know files of another vendor: send the file itself", param="messages")
    return {"type": "file", "file_id": file_id}


def _document(document: Document) -> Block:
    source = (document.native or {}).get("source") or _document_source(document)
    title = {"title": document.name} if document.name else {}
    return _block("document", document.native, source=source, **title)


def _document_source(document: Document) -> dict[str, str]:
    if document.data is not None:
        return _inline_document(document.media_type or "application/pdf", document.data)
    if document.url is not None:
        if document.media_type not in (None, "application/pdf"):
            raise BadRequest(f"this target reads PDFs by URL, not {document.media_type}", param="messages")
        return {"type": "url", "url": document.url}
    return _file_source(document.file_id)


def _inline_document(media_type: str, data: str) -> dict[str, str]:
    if media_type == "application/pdf":
        return {"type": "base64", "media_type": media_type, "data": data}
    if not media_type.startswith("text/"):
        raise BadRequest(f"this target takes documents as PDF or text, not {media_type}", param="messages")
    text = base64.b64decode(data).decode("utf-8", "replace")
    return {"type": "text", "media_type": "text/plain", "data": text}
