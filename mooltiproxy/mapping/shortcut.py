"""Text of a stream copied from the target's events into the client's, where nothing but the text is new. No parsing.

Nearly all events of a stream are a few letters in a long wrapping that does not change. Once an event has been read
and written, and neither side has kept anything of it, the bytes around its text are known on both sides. Bytes that
are nothing but events in this wrapping are translated by a change of the wrapping. Everything else takes the long way.
"""

import re
from itertools import takewhile

import orjson

MAX_MISSES = 8
"""Wrappings in a row that never came again: the target puts something new into each event, so nobody looks any more."""


MAX_ROW = 64
MAX_BYTES = 16 * 1024
"""Events, and bytes, that are copied at once: so few are looked at again where one of them may not be."""


class VerbatimReader:
    """What a stream reader is, too, where text can be taken out of an event without reading the rest.

    `frame` is what the target's API puts before and after the data of such an event. `wrapping` are patterns of what
    stands in its data before and after the quoted text, for an API in which that changes with each event. `watched`
    are the characters that stop strings begin with.
    """

    frame: tuple[bytes, bytes] = (b"data: ", b"\n\n")
    wrapping: tuple[bytes, bytes] | None = None
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
    """The wrappings of one stream, learned from its events."""

    def __init__(self, reader: VerbatimReader) -> None:
        self._frame = reader.frame
        self._watched = reader.watched
        self._event = _pattern(reader.frame, *reader.wrapping) if reader.wrapping else None
        self._begin = self._end = self._opening = self._closing = b""
        self._known = False
        self._misses = 0

    def learn(self, data: bytes, text: str, written: bytes) -> None:
        """Look at an event that went the long way: its data, its text if that was all (else ""), what became of it."""
        self._known = False
        if not text or b"\\" in data or self._misses > MAX_MISSES:
            return
        self._misses += 1
        quoted = b'"%b"' % text.encode("utf-8", "replace")
        if data.count(quoted) == 1 and written.count(quoted) == 1:
            begin, _, end = data.partition(quoted)
            opening, _, closing = written.partition(quoted)
            self._begin, self._end = self._frame[0] + begin + b'"', b'"' + end + self._frame[1]
            self._opening, self._closing = opening + b'"', b'"' + closing
            self._known = True

    def end_of_event(self, data: bytes, start: int) -> int:
        """How far bytes should go the long way before the next look."""
        end = data.find(self._frame[1], start) if self._misses <= MAX_MISSES else -1
        return len(data) if end < 0 else end + len(self._frame[1])

    def copied(self, data: bytes, start: int) -> tuple[bytes, int]:
        """What the client gets for the events from `start` on that need not go the long way, and where they end."""
        if not self._known:
            return b"", start
        texts, ends = _matches(self._event, data, start) if self._event else (self._row(data, start), [])
        if texts and not self._may_be_copied(texts):
            texts = list(takewhile(lambda text: self._may_be_copied([text]), texts))
        if not texts:
            return b"", start
        self._misses = 0
        around = len(self._begin) + len(self._end)
        end = ends[len(texts) - 1] if ends else start + len(texts) * around + sum(map(len, texts))
        return self._opening + (self._closing + self._opening).join(texts) + self._closing, end

    def _row(self, data: bytes, at: int) -> list[bytes]:
        """The texts of events in the wrapping, as far as they follow one another."""
        begin, end = self._begin, self._end
        if not data.startswith(begin, at):
            return []
        texts = data[at + len(begin) : at + MAX_BYTES].split(end + begin)
        last, is_whole, _ = texts.pop().partition(end)
        return [*texts, last] if is_whole else texts

    def _may_be_copied(self, texts: list[bytes]) -> bool:
        """Whether all of this is some text as JSON has it between quotes, and nothing that needs a look.

        That is nothing in which a stop string may begin, and no line ends of Unicode, which would cut an event in two.
        """
        together = b" ".join(texts)
        if b'"' in together or not all(texts):
            return False
        try:
            visible = together.decode()
            if not visible.isprintable():
                return False
            if b"\\" in together:
                strings = orjson.loads(b'["' + b'","'.join(texts) + b'"]')
                if len(strings) != len(texts):  # one of them ends in half an escape
                    return False
                visible = "".join(strings)
        except ValueError:
            return False
        return self._watched.isdisjoint(visible)


def _pattern(frame: tuple[bytes, bytes], before: bytes, after: bytes) -> re.Pattern[bytes]:
    return re.compile(re.escape(frame[0]) + before + rb'"([^"]+)"' + after + re.escape(frame[1]))


def _matches(event: re.Pattern[bytes], data: bytes, at: int) -> tuple[list[bytes], list[int]]:
    """The texts of events that look like this, and where each of them ends."""
    texts: list[bytes] = []
    ends: list[int] = []
    while len(texts) < MAX_ROW and (found := event.match(data, at)):
        at = found.end()
        texts.append(found[1])
        ends.append(at)
    return texts, ends
