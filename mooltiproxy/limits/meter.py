"""Finds in a target's answer how many tokens it took: what it tells, or an estimate of what has arrived."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.limits.estimate import Estimate, spoken_bytes, tokens_of_bytes
from mooltiproxy.mapping.answers import STREAMING_MEDIA
from mooltiproxy.mapping.dialect import Dialect
from mooltiproxy.mapping.framing import Decoder
from mooltiproxy.mapping.neutral import Usage

log = logging.getLogger("mooltiproxy.limits")

MOST_READ = 1024 * 1024
"""Bytes of a whole answer that is read; the tokens of a longer one are estimated."""
MOST_TOLD = 10**9
"""Tokens that an answer is believed to have taken at most, of its prompt or of itself."""
MOST_HELD = 64 * 1024
"""Bytes of an unfinished event that are held back from the client."""
_END = b"\n\n"


class Meter:
    """Counts one answer; see `Exchange.meter`. `dialects` are those that the target may speak, the likeliest first."""

    def __init__(self, dialects: Sequence[Dialect], *, hides_usage: bool) -> None:
        self.hides_usage = hides_usage
        self.has_begun = False
        self._dialects = dialects
        self._forget()

    def _forget(self) -> None:
        self._is_good = False
        self._is_whole = False
        self._fields: Mapping[str, str] = {}
        self._decoder: Decoder | None = None
        self._pieces: list[bytes] | None = None
        self._size = 0
        self._spoken = 0
        self._usage = Usage()
        self._held = b""
        self._hides = False

    def begin(self, status: int, media_type: str, fields: Mapping[str, str]) -> None:
        """An answer begins."""
        self._forget()
        self.has_begun = True
        self._is_good = 200 <= status < 300
        self._fields = fields
        if not self._is_good or fields.get("content-encoding", "identity").lower() != "identity":
            return
        stream = STREAMING_MEDIA.get(media_type)
        if stream is not None:
            self._decoder = stream()
            self._hides = self.hides_usage and media_type == "text/event-stream"
        else:
            self._pieces = []

    def feed(self, data: bytes) -> bytes:
        """Look at some bytes of its body."""
        self._size += len(data)
        if self._decoder is not None:
            try:
                for event in self._decoder.feed(data):
                    self._look(event)
            except UpstreamBroken:  # an event without end: from here on nobody knows
                self._decoder = None
        elif self._pieces is not None and self._size <= MOST_READ:
            self._pieces.append(data)
        return self._shown(data) if self._hides else data

    def end(self) -> bytes:
        """The answer is complete."""
        self._is_whole = True
        if self._decoder is not None:
            for event in self._decoder.end():
                self._look(event)
        held, self._held = self._held, b""
        return b"" if held and self._is_only_usage(held) else held

    def used(self, estimate: Estimate) -> Estimate | None:
        """What was used: what the target has told, else what was expected of the request, and what has arrived of the
        answer. None where the target has refused or failed before it had begun."""
        if not self._is_good:
            return None
        if self._pieces is not None:
            self._read_whole(b"".join(self._pieces))
            self._pieces = None
        usage = self._usage
        spoken = tokens_of_bytes(self._spoken)
        told = usage.answer
        answer = told if told is not None and self._is_whole else max(told or 0, spoken)
        prompt = estimate.prompt if usage.prompt is None else usage.prompt
        return Estimate(min(max(prompt, 0), MOST_TOLD), min(max(answer, 0), MOST_TOLD))

    def _look(self, event: bytes) -> None:
        self._spoken += spoken_bytes(event)
        for dialect in self._dialects:
            if dialect.usage_mark in event and self._learn(dialect, _parsed(event)):
                return

    def _learn(self, dialect: Dialect, told: Any) -> bool:
        usage = _told_by(dialect, told, self._fields)
        if usage is None:
            return False
        if usage.prompt is not None:
            self._usage.prompt = usage.prompt
        if usage.answer is not None:
            self._usage.answer = usage.answer
        return True

    def _read_whole(self, data: bytes) -> None:
        told = _parsed(data) if self._size <= MOST_READ else None
        if not any(self._learn(dialect, told) for dialect in self._dialects if dialect.usage_mark in data):
            self._spoken += spoken_bytes(data)
        elif self._usage.answer is None and self._usage.prompt is None:
            self._spoken += spoken_bytes(data)

    def _shown(self, data: bytes) -> bytes:
        """What a client that did not ask for usage gets of this: whole events, but for the one that tells nothing else.
        The last event waits until it is whole."""
        data = self._held + data
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        whole, end, self._held = data.rpartition(_END)
        if len(self._held) > MOST_HELD:
            held, self._held, self._hides = self._held, b"", False
            return whole + end + held
        if not any(dialect.usage_mark in whole for dialect in self._dialects):
            return whole + end
        events = (event for event in whole.split(_END) if not self._is_only_usage(event))
        return b"".join(event + _END for event in events)

    def _is_only_usage(self, event: bytes) -> bool:
        """Whether an event, framed, has nothing but usage."""
        data = event.removeprefix(b"data:").strip()
        if b'"usage":null' in data or not data.startswith(b"{"):
            return False
        told = _parsed(data)
        if not isinstance(told, dict):
            return False
        rest = [value for value in told.values() if isinstance(value, list | dict) and value]
        usage = any(_told_by(dialect, told, self._fields) for dialect in self._dialects)
        return usage and len(rest) == 1


def _told_by(dialect: Dialect, told: Any, fields: Mapping[str, str]) -> Usage | None:
    """What a dialect reads; nothing where its function, which may be a user's, fails."""
    try:
        return dialect.read_usage(told, fields)
    except Exception:
        log.exception("read_usage of the dialect %s failed", dialect.name)
        return None


def _parsed(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
