"""Text of a stream copied from the target's event into the client's, where nothing but the text is new. No parsing.

Nearly all events of a stream are a few letters in a long wrapping that does not change. Once an event has been read
and written, and neither side has kept anything of it, the bytes around its text are known on both sides. The next
event with the same wrapping is written by putting its text into the client's. Everything else takes the long way.
"""

import re
from collections.abc import Sequence
from itertools import takewhile

MAX_MISSES = 8
"""Wrappings in a row that never came again: the target puts something new into each event, so nobody looks any more."""

MAX_ROW = 64
"""Events that are copied at once."""


class VerbatimReader:
    """What a stream reader is, too, where text can be taken out of an event without reading the rest.

    `text_event` is what a target's event of nothing but text looks like, the text being its only group, where more of
    it changes each time than the text. `watched` are the characters that stop strings begin with.
    """

    text_event: re.Pattern[bytes] | None = None
    watched: frozenset[str] = frozenset()

    @property
    def verbatim(self) -> bool:
        """Whether the last text was passed on as it is, and so would be another one in the same place."""
        raise NotImplementedError


class VerbatimWriter:
    """What a stream writer is, too, where it writes text after text in the same way."""

    @property
    def verbatim(self) -> bool:
        """Whether another text would be written as the last one was, and nothing of it kept."""
        return True


class Shortcut:
    """The wrappings of one stream; its reader's `text_event` and `watched`."""

    def __init__(self, pattern: re.Pattern[bytes] | None, watched: frozenset[str]) -> None:
        self._pattern = pattern
        self._watched = watched
        self._known = False
        self._misses = 0
        self._before = self._after = self._opening = self._closing = b""

    def learn(self, event: bytes, text: str, written: bytes) -> None:
        """Look at an event that went the long way: its text if that was all, else "", and what became of it."""
        self._known = False
        if not text or self._misses > MAX_MISSES or b"\\" in event:
            return
        self._misses += 1
        quoted = b'"%b"' % text.encode("utf-8", "replace")
        if event.count(quoted) == 1 and written.count(quoted) == 1:
            before, _, after = event.partition(quoted)
            opening, _, closing = written.partition(quoted)
            self._before, self._after = before + b'"', b'"' + after
            self._opening, self._closing = opening + b'"', b'"' + closing
            self._known = True

    def copied(self, events: Sequence[bytes], start: int) -> tuple[bytes, int]:
        """What the client gets for the events from `start` on that need not go the long way, and their number."""
        texts = self._texts(events, start) if self._known else []
        if texts and not self._is_harmless(b" ".join(texts)):
            texts = list(takewhile(self._is_harmless, texts))
        if not texts:
            return b"", 0
        self._misses = 0
        return self._opening + (self._closing + self._opening).join(texts) + self._closing, len(texts)

    def _texts(self, events: Sequence[bytes], start: int) -> list[bytes]:
        """The texts, as JSON has them between its quotes, of a row of events that are nothing else."""
        before, after, pattern = self._before, self._after, self._pattern
        begin, end = len(before), -len(after)
        texts = []
        for event in events[start : start + MAX_ROW]:
            if pattern is not None:
                found = pattern.fullmatch(event)
                text = found[1] if found else b""
            elif event.startswith(before) and event.endswith(after):
                text = event[begin:end]
            else:
                break
            if not text or b'"' in text or b"\\" in text:
                break
            texts.append(text)
        return texts

    def _is_harmless(self, text: bytes) -> bool:
        """Whether text without quotes and escapes may be copied: no broken UTF-8, no control characters, which JSON
        forbids, no line ends of Unicode, which would cut an event in two, and nothing that a stop may begin with."""
        try:
            decoded = text.decode()
        except UnicodeDecodeError:
            return False
        return decoded.isprintable() and self._watched.isdisjoint(decoded)
