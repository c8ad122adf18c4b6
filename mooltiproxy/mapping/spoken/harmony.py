"""The messages of gpt-oss ("harmony"): thoughts, calls and the answer in channels.

Format after OpenAI's description of harmony (github.com/openai/harmony): an answer is a row of messages
`HEADER<|message|>CONTENT<|end|>`, the first of which begins with the channel, as the prompt has named the role.
"""

import re
from collections.abc import Sequence

import orjson

from mooltiproxy.mapping.neutral import StreamEvent, Tool
from mooltiproxy.mapping.spoken.steps import Gathered, Steps, begun

_MESSAGE = "<|message|>"
_ENDS = ("<|end|>", "<|return|>", "<|call|>", "<|start|>")
_RECIPIENT = re.compile(r"to=(?:functions\.)?([^\s<]+)")
_CHANNEL = re.compile(r"<\|channel\|>\s*([a-z]+)")


class HarmonyParser(Steps):
    """One answer. Thoughts and text come as they are written, calls once they are whole."""

    def __init__(self, tools: Sequence[Tool], index: int = 0) -> None:
        super().__init__(index)
        self._names = {tool.name for tool in tools}
        self._header: str | None = None
        self._arguments = Gathered(_ENDS)

    def end(self) -> list[StreamEvent]:
        """What was held back, when no more comes."""
        if self._header is None:
            # Without any mark it is no harmony: a server has taken the marks away.
            text, self._held = self._held, ""
            return self._told(text) if text and _CHANNEL.search(text) is None else []
        content, self._held = self._arguments.whole() + self._held, ""
        return self._content(content, is_whole=True)

    def _step(self, events: list[StreamEvent]) -> bool:
        if self._header is None:
            header, mark, rest = self._held.partition(_MESSAGE)
            if mark:
                self._header, self._held = header, rest
            return bool(mark)
        if self._recipient():
            return self._calling(events)
        found = [(at, mark) for mark in _ENDS if (at := self._held.find(mark)) >= 0]
        if found:
            at, mark = min(found)
            events += self._content(self._held[:at], is_whole=True)
            self._held = self._held[at + len(mark) :]
            self._header = None
            return True
        kept = begun(self._held, _ENDS)
        events += self._content(self._held[: len(self._held) - kept], is_whole=False)
        self._held = self._held[len(self._held) - kept :]
        return False

    def _calling(self, events: list[StreamEvent]) -> bool:
        """A call's arguments, until their end."""
        text, self._held = self._held, ""
        ended = self._arguments.add(text)
        if ended is None:
            return False
        before, _, self._held = ended
        events += self._content(before, is_whole=True)
        self._header = None
        return True

    def _recipient(self) -> str | None:
        found = _RECIPIENT.search(self._header or "")
        return found[1] if found else None

    def _content(self, text: str, *, is_whole: bool) -> list[StreamEvent]:
        recipient = self._recipient()
        if recipient is not None:
            return self._call(recipient, text) if is_whole else []
        channel = _CHANNEL.search(self._header or "")
        if channel is not None and channel[1] == "analysis":
            return self._thought(text)
        return self._told(text)

    def _call(self, name: str, text: str) -> list[StreamEvent]:
        try:
            arguments = orjson.loads(text.strip() or "{}")
        except orjson.JSONDecodeError:
            return self._told(text)
        if name not in self._names or not isinstance(arguments, dict):
            return self._told(text)
        return self._called(name, text.strip() or "{}")
