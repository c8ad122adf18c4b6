"""Streams of the Messages API, both ways: a message of numbered blocks, opened, filled and closed one after another."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping.gather import UNFINISHED
from mooltiproxy.mapping.ids import new_id
from mooltiproxy.mapping.neutral import (
    CallArguments,
    CallStart,
    Failure,
    Finish,
    ReasoningDelta,
    RefusalDelta,
    Request,
    StreamEvent,
    TextDelta,
    Usage,
    UsageReport,
)
from mooltiproxy.mapping.sequence import CallSequence
from mooltiproxy.mapping.shortcut import VerbatimReader, VerbatimWriter
from mooltiproxy.mapping.signatures import ANTHROPIC, REDACTED, call_carrier, mark, own, shown
from mooltiproxy.mapping.stops import StopCutter
from mooltiproxy.mapping.tool_names import tools_renamed
from mooltiproxy.mapping.upstream_errors import failure_in

from ..openai.chat_stream import finish_of, read_finish_of
from .common import (
    NAMES,
    parsed_arguments,
    read_stop_reason,
    read_usage,
    write_stop_reason,
    write_usage,
)
from .options import unsent_stops

Event = dict[str, Any]


@dataclass(slots=True)
class _ReadBlock:
    """A block of a target's answer until it is closed. `call` is the number of a tool call."""

    kind: str
    call: int = -1
    arguments: list[str] = field(default_factory=list)
    input: Any = None
    signature: str = ""


class MessagesReader(VerbatimReader):
    """Reads a target's events; a block may be left open, or begin before the one before it is closed."""

    frame = (b"event: content_block_delta\ndata: ", b"\n\n")

    def __init__(self, request: Request) -> None:
        self.done = False
        self._repairs = request.repairs
        self._cutter = StopCutter(unsent_stops(request))
        self.watched = self._cutter.firsts
        self._names = tools_renamed(request, NAMES)
        self._blocks: dict[Any, _ReadBlock] = {}
        self._calls = 0
        self._last_arguments: str | None = None
        self._usage: dict[str, Any] = {}
        self._finished = False
        self._over = False

    @property
    def verbatim(self) -> bool:
        """Whether no stop string has begun."""
        return self._cutter.idle

    def read(self, event: Any) -> list[StreamEvent]:
        """Neutral events of one event; those of kinds that we know nothing of are passed over."""
        if self._over or not isinstance(event, dict):
            return []
        failure = failure_in(event)
        if failure:
            self._over = True
            return [failure]
        kind = event.get("type")
        if kind == "content_block_delta":
            events = self._delta(event)
        elif kind == "content_block_start":
            events = self._start(event)
        elif kind == "content_block_stop":
            events = self._stop(event.get("index"))
        elif kind == "message_start":
            self._keep_usage(_object(event, "message").get("usage"))
            events = []
        else:
            events = self._message_delta(event) if kind == "message_delta" else []
        return self._cut(events) if self._cutter.found is not None else events

    def end(self) -> list[StreamEvent]:
        """A `Failure` unless a reason to stop has come."""
        if self._over or self._finished:
            return []
        self._over = True
        return [Failure(UNFINISHED)]

    def _cut(self, events: list[StreamEvent]) -> list[StreamEvent]:
        """The target does not know of a stop that we found: it would go on, so nobody waits for it."""
        self._over = self.done = True
        return [*(event for event in events if isinstance(event, TextDelta)), Finish("stop", self._cutter.found)]

    def _start(self, event: Event) -> list[StreamEvent]:
        content = _object(event, "content_block")
        kind = str(content.get("type"))
        events = [closing for index in self._open_thoughts() for closing in self._stop(index)]
        block = self._blocks[event.get("index")] = _ReadBlock(kind)
        if kind == "text":
            return events + self._text(content.get("text"))
        if kind == "thinking":
            block.signature = _string(content.get("signature"))
            return events + _thought(content.get("thinking"))
        if kind == "redacted_thinking":
            return [*events, ReasoningDelta("", mark(REDACTED, _string(content.get("data"))))]
        return events + self._start_call(block, content) if kind == "tool_use" else events

    def _open_thoughts(self) -> list[Any]:
        """A signature must follow its thought, also where the target begins the next block first."""
        return [index for index, block in self._blocks.items() if block.kind == "thinking"]

    def _start_call(self, block: _ReadBlock, content: Mapping[str, Any]) -> list[StreamEvent]:
        name = _string(content.get("name"))
        if not name:
            raise UpstreamBroken("the target's answer has a tool call without a name")
        block.call, block.input = self._calls, content.get("input")
        self._calls += 1
        return [CallStart(block.call, _string(content.get("id")) or new_id("toolu_"), self._names.get(name, name))]

    def _delta(self, event: Event) -> list[StreamEvent]:
        delta = _object(event, "delta")
        kind = delta.get("type")
        if kind == "text_delta":
            return self._text(delta.get("text"))
        if kind == "thinking_delta":
            return _thought(delta.get("thinking"))
        block = self._blocks.get(event.get("index"))
        if kind == "signature_delta" and block:
            block.signature += _string(delta.get("signature"))
        if kind == "input_json_delta" and block and block.call >= 0:
            return self._arguments(block, _string(delta.get("partial_json")))
        return []

    def _arguments(self, block: _ReadBlock, text: str) -> list[StreamEvent]:
        if not text:
            return []
        block.arguments.append(text)
        return [CallArguments(block.call, text)]

    def _text(self, value: Any) -> list[StreamEvent]:
        text = self._cutter.feed(_string(value))
        return [TextDelta(text)] if text else []

    def _stop(self, index: Any) -> list[StreamEvent]:
        """What is still to be said of a block at its end: arguments that came at its start, or a signature."""
        block = self._blocks.pop(index, None)
        if block is None:
            return []
        if block.call >= 0:
            whole = block.input if isinstance(block.input, str) else orjson.dumps(block.input or {}).decode()
            events = [] if block.arguments else self._arguments(block, whole)
            self._last_arguments = "".join(block.arguments)
            return events
        if block.signature:
            return [ReasoningDelta("", mark(ANTHROPIC, block.signature))]
        return self._held() if block.kind == "text" else []

    def _held(self) -> list[StreamEvent]:
        rest = self._cutter.flush()
        return [TextDelta(rest)] if rest else []

    def _message_delta(self, event: Event) -> list[StreamEvent]:
        self._keep_usage(event.get("usage"))
        usage = read_usage(self._usage)
        reports: list[StreamEvent] = [UsageReport(usage)] if usage else []
        try:
            reason = read_stop_reason(_object(event, "delta").get("stop_reason"))
        except UpstreamBroken as error:
            self._over = True
            return [Failure(str(error))]
        if reason is None or self._finished:
            return reports
        self._finished = True
        if self._blocks:
            self._repairs.add("block_end")
        closing = [last for index in list(self._blocks) for last in self._stop(index)] + self._held()
        stop = _string(_object(event, "delta").get("stop_sequence")) or None
        finish = read_finish_of(reason, self._last_arguments)
        if finish != reason:
            self._repairs.add("finish_reason")
        return [*closing, Finish(finish, stop), *reports]

    def _keep_usage(self, usage: Any) -> None:
        """Counts are totals so far: each report counts more than the ones before it, as far as it goes."""
        if isinstance(usage, dict):
            self._usage.update({name: value for name, value in usage.items() if value is not None})


def _object(event: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = event.get(name)
    return value if isinstance(value, dict) else {}


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _thought(value: Any) -> list[StreamEvent]:
    text = _string(value)
    return [ReasoningDelta(text)] if text else []


class MessagesWriter(VerbatimWriter):
    """Writes a client's events: one block is open at a time, a new one only once the one before it is closed."""

    def __init__(self, request: Request) -> None:
        self._model = request.model or ""
        self._sequence = CallSequence()
        self._begun = False
        self._kind: str | None = None
        self._index = 0
        self._call = ""
        self._arguments: list[str] = []
        self._has_calls = False
        self._refused = False
        self._usage: Usage | None = None
        self._finish: Finish | None = None

    def write(self, events: Iterable[StreamEvent]) -> list[Any]:
        """The events for these, the message's own start before all others; what comes behind the finish is left out.

        Raises UpstreamBroken for a call whose arguments are no JSON object.
        """
        written: list[Event] = []
        for event in self._sequence.feed(event for event in events if _is_first_answer(event)):
            if isinstance(event, UsageReport):
                self._usage = event.usage
            elif self._finish is None:
                self._take(event, written)
        return [*self._start(), *written]

    def end(self) -> list[Any]:
        """The end of the message; raises UpstreamBroken for an unfinished answer."""
        finish = self._finish
        if finish is None:
            raise UpstreamBroken(UNFINISHED)
        reason = finish_of(finish.reason, has_calls=self._has_calls)
        if reason == "stop" and self._refused:
            reason = "content_filter"
        delta = write_stop_reason(reason, finish.stop_string)
        return [
            {"type": "message_delta", "delta": delta, "usage": write_usage(self._usage)},
            {"type": "message_stop"},
        ]

    def _start(self) -> list[Event]:
        """The start of the message, which clients want as soon as anything is known."""
        if self._begun:
            return []
        self._begun = True
        message: Event = {
            "id": new_id("msg_"),
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {**write_usage(self._usage), "output_tokens": 0},
        }
        return [{"type": "message_start", "message": message}]

    def _take(self, event: StreamEvent, written: list[Event]) -> None:
        if isinstance(event, TextDelta | RefusalDelta):
            self._refused = self._refused or isinstance(event, RefusalDelta)
            if event.text:
                self._add("text", {"type": "text_delta", "text": event.text}, written)
        elif isinstance(event, ReasoningDelta):
            self._take_thought(event, written)
        elif isinstance(event, CallStart):
            if event.signature:
                self._take_thought(ReasoningDelta("", call_carrier(event.signature)), written)
            self._open("tool_use", {"id": event.id, "name": event.name, "input": {}}, written)
            self._call, self._arguments, self._has_calls = event.name, [], True
        elif isinstance(event, CallArguments):
            self._take_arguments(event.text, written)
        elif isinstance(event, Finish):
            self._finish = event
            self._close(written)

    def _take_thought(self, event: ReasoningDelta, written: list[Event]) -> None:
        """A signature ends its block: more thoughts behind it are another's."""
        if event.text:
            self._add("thinking", {"type": "thinking_delta", "thinking": event.text}, written)
        secret = own(REDACTED, event.signature)
        if secret:
            self._open("redacted_thinking", {"data": secret}, written)
        elif event.signature:
            signature = shown(ANTHROPIC, event.signature)
            self._add("thinking", {"type": "signature_delta", "signature": signature}, written)
        if event.signature:
            self._close(written)

    def _take_arguments(self, text: str, written: list[Event]) -> None:
        """Arguments are held back until they are seen to begin an object: a server may send `null` for none."""
        begun = _begins_object(self._arguments)
        self._arguments.append(text)
        if not begun and _begins_object(self._arguments):
            text = "".join(self._arguments)
        elif not begun or not text:
            return
        self._add("tool_use", {"type": "input_json_delta", "partial_json": text}, written)

    def _add(self, kind: str, delta: Event, written: list[Event]) -> None:
        """A delta of the open block, or of a new one where that is of another kind."""
        if self._kind != kind:
            self._open(kind, _EMPTY[kind], written)
        written.append({"type": "content_block_delta", "index": self._index, "delta": delta})

    def _open(self, kind: str, fields: Event, written: list[Event]) -> None:
        self._close(written)
        self._kind = kind
        content = {"type": kind, **fields}
        written.append({"type": "content_block_start", "index": self._index, "content_block": content})

    def _close(self, written: list[Event]) -> None:
        """The end of the open block, if any. A call that the token limit cut off ends as it is."""
        if self._kind is None:
            return
        cut = self._finish is not None and self._finish.reason == "length"
        if self._kind == "tool_use" and parsed_arguments("".join(self._arguments)) is None and not cut:
            raise UpstreamBroken(f"the target called {self._call} with arguments that are no JSON object")
        written.append({"type": "content_block_stop", "index": self._index})
        self._kind = None
        self._index += 1


_EMPTY: Mapping[str, Event] = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}}


def _is_first_answer(event: StreamEvent) -> bool:
    """The API knows one answer to a request only."""
    return not isinstance(event, Failure) and (isinstance(event, UsageReport) or event.index == 0)


def _begins_object(arguments: Iterable[str]) -> bool:
    return next((text.lstrip() for text in arguments if text.strip()), "").startswith("{")
