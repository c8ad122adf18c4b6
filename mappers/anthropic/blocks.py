"""Content blocks of the Messages API read into the parts of neutral turns."""

import base64
from collections.abc import Mapping
from typing import Any

import orjson

from mooltiproxy.mapping.fields import Fields
from mooltiproxy.mapping.media import split_data_url, standard_base64
from mooltiproxy.mapping.neutral import (
    Document,
    Image,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)
from mooltiproxy.mapping.signatures import ANTHROPIC, REDACTED, mark, restored

NATIVE: Mapping[str, tuple[str, ...]] = {
    "text": ("cache_control", "citations"),
    "image": ("cache_control", "transformations"),
    "document": ("cache_control", "citations", "context"),
    "tool_use": ("cache_control", "caller", "toolset_name"),
    "tool_result": ("cache_control", "toolset_name"),
    "tool": ("cache_control", "allowed_callers", "defer_loading", "eager_input_streaming", "input_examples"),
}
"""Fields of blocks and tools that no other dialect knows."""

_SERVER_BLOCKS = (
    "server_tool_use",
    "web_search_tool_result",
    "web_fetch_tool_result",
    "code_execution_tool_result",
    "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result",
    "tool_search_tool_result",
    "mcp_tool_use",
    "mcp_tool_result",
    "container_upload",
    "browser_state",
)
"""What the vendor's own tools leave in a conversation: nothing of it means anything to another server."""


class BlockReader:
    """Reads the messages of one request; `extra` gathers the fields and blocks that have no neutral form."""

    def __init__(self) -> None:
        self.extra: dict[str, Any] = {}

    def system(self, fields: Fields) -> list[Turn]:
        """The `system` field as one turn, or none; raises BadRequest."""
        parts = self.content(fields, "system")
        if any(not isinstance(part, Text) for part in parts):
            raise fields.wrong("system", "a string or a list of text blocks")
        return [Turn("system", parts)] if parts else []

    def messages(self, fields: Fields) -> list[Turn]:
        """The turns of `messages`, tool results in turns of their own; raises BadRequest for what cannot be read."""
        turns = [turn for message in fields.objects("messages") for turn in self._turns(message)]
        if not turns:
            raise fields.wrong("messages", "at least one message with content")
        return restored(turns)

    def _turns(self, message: Fields) -> list[Turn]:
        role = message.required_text("role")
        if role not in ("user", "assistant", "system"):
            raise message.wrong("role", "one of user, assistant, system")
        if message.any("content") is None:
            raise message.wrong("content", "a string or a list of blocks")
        parts = self.content(message, "content")
        self.extra.update(message.leftovers())
        if role == "system":
            return [Turn("system", parts)] if parts else []
        if role == "assistant":
            return [Turn("assistant", parts)] if parts else []
        results: list[Part] = [part for part in parts if isinstance(part, ToolResult)]
        others: list[Part] = [part for part in parts if not isinstance(part, ToolResult)]
        turns = [Turn("tool", results)] if results else []
        return [*turns, Turn("user", others)] if others else turns

    def content(self, fields: Fields, name: str) -> list[Part]:
        """The parts of a field that is a string or a list of blocks; empty texts are left out."""
        value = fields.any(name)
        if isinstance(value, str):
            return [Text(value)] if value else []
        return [part for block in fields.objects(name) for part in self._parts(block)]

    def native(self, block: Fields, kind: str) -> dict[str, Any] | None:
        """The fields that only this dialect knows; each is noted once, by its name alone."""
        known: dict[str, Any] | None = None
        for name in NATIVE[kind]:
            value = block.any(name)
            if value is not None:
                known = {**(known or {}), name: value}
                self.extra.setdefault(name, None)
        return known

    def _parts(self, block: Fields) -> list[Part]:
        kind = block.required_text("type")
        if kind in _SERVER_BLOCKS:
            self.extra[f"messages.{kind}"] = None
            return []
        part = self._part(block, kind)
        self.extra.update(block.leftovers())
        return [] if isinstance(part, Text) and not part.text else [part]

    def _part(self, block: Fields, kind: str) -> Part:
        if kind == "text":
            return Text(block.required_text("text"), self.native(block, kind))
        if kind == "thinking":
            return Reasoning(block.required_text("thinking"), mark(ANTHROPIC, block.text("signature") or None))
        if kind == "redacted_thinking":
            return Reasoning("", mark(REDACTED, block.required_text("data")))
        if kind == "tool_use":
            return self._tool_use(block)
        if kind == "tool_result":
            return self._tool_result(block)
        if kind == "image":
            return self._image(block)
        if kind == "document":
            return self._document(block)
        if kind == "search_result":
            return self._search_result(block)
        if kind == "tool_reference":
            return Text(block.required_text("tool_name"))
        raise block.wrong("type", "a kind of block that the proxy knows (text, image, document, tool_use ...)")

    def _tool_use(self, block: Fields) -> ToolCall:
        arguments = orjson.dumps(block.plain("input") or {}).decode()
        native = self.native(block, "tool_use")
        return ToolCall(block.required_text("id"), block.required_text("name"), arguments, native=native)

    def _tool_result(self, block: Fields) -> ToolResult:
        return ToolResult(
            block.required_text("tool_use_id"),
            self.content(block, "content"),
            is_error=block.flag("is_error") or False,
            native=self.native(block, "tool_result"),
        )

    def _image(self, block: Fields) -> Image:
        source = block.required_object("source")
        native = self.native(block, "image")
        kind = source.required_text("type")
        if kind == "base64":
            return Image(_media_type(source), _base64(source), native=native)
        if kind == "file":
            return Image(file_id=source.required_text("file_id"), native=native)
        if kind != "url":
            raise source.wrong("type", "one of base64, url, file")
        url = source.required_text("url")
        data = _data_url(source, url)
        return Image(*data, native=native) if data else Image(url=url, native=native)

    def _document(self, block: Fields) -> Document:
        source = block.required_object("source")
        native = self.native(block, "document")
        name = block.text("title")
        kind = source.required_text("type")
        if kind == "base64":
            return Document(_media_type(source), _base64(source), name=name, native=native)
        if kind == "url":
            return Document(url=source.required_text("url"), name=name, native=native)
        if kind == "file":
            return Document(file_id=source.required_text("file_id"), name=name, native=native)
        if kind == "text":
            source.text("media_type")
            return _text_document(source.required_text("data"), name, native)
        if kind != "content":
            raise source.wrong("type", "one of base64, text, content, url, file")
        return self._content_document(source, name, native)

    def _content_document(self, source: Fields, name: str | None, native: dict[str, Any] | None) -> Document:
        """A document of blocks: its text for everybody, the blocks themselves for a target of the same dialect."""
        parts = self.content(source, "content")
        texts = [part.text for part in parts if isinstance(part, Text)]
        if len(texts) != len(parts):
            raise source.wrong("content", "text: a document that holds images cannot be translated")
        blocks = {"type": "content", "content": source.any("content")}
        return _text_document("\n".join(texts), name, {**(native or {}), "source": blocks})

    def _search_result(self, block: Fields) -> Text:
        """A source that the client has looked up, as the text that a model would read."""
        parts = self.content(block, "content")
        texts = [part.text for part in parts if isinstance(part, Text)]
        lines = [block.required_text("title"), block.required_text("source"), *texts]
        native = self.native(block, "text")
        return Text("\n".join(lines), native and {name: native[name] for name in native if name != "citations"} or None)


def _text_document(text: str, name: str | None, native: Mapping[str, Any] | None) -> Document:
    return Document("text/plain", base64.b64encode(text.encode()).decode(), name=name, native=native)


def _media_type(source: Fields) -> str:
    return source.required_text("media_type").lower()


def _base64(source: Fields) -> str:
    try:
        return standard_base64(source.required_text("data"))
    except ValueError as error:
        raise source.wrong("data", "base64") from error


def _data_url(source: Fields, url: str) -> tuple[str, str] | None:
    try:
        return split_data_url(url)
    except ValueError as error:
        raise source.wrong("url", "a URL, or a data URL that holds base64") from error
