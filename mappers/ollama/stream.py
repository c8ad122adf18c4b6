"""Streams of chat and generate, both ways: one JSON object a line, the last one with `done`."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping.gather import UNFINISHED
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
    ToolCall,
    Usage,
    UsageReport,
)
from mooltiproxy.mapping.upstream_errors import failure_in

from .lines import (
    Layout,
    ending,
    read_calls,
    read_finish,
    read_logprobs,
    read_usage,
    text_of,
    write_calls,
    write_logprobs,
)
from .messages import arguments_object

_ContentEvent = TextDelta | RefusalDelta | ReasoningDelta | CallStart | CallArguments | Finish


class Reader:
    """Reads a target's lines; the last one may hold text and calls too."""

    def __init__(self, layout: Layout, request: Request) -> None:
        self.done = False
        self._layout = layout
        self._calls = 0
        self._echo = (request.prompt or "") if request.echo else ""
        self._over = False

    def read(self, event: Any) -> list[StreamEvent]:
        """Neutral events of one line; raises UpstreamBroken for a call without a name."""
        if self._over or not isinstance(event, dict):
            return []
        failure = failure_in(event)
        if failure:
            self._over = True
            return [failure]
        events = self._content(event)
        if event.get("done"):
            self._over = True
            events += [Finish(read_finish(event, has_calls=self._calls > 0)), UsageReport(read_usage(event))]
        return events

    def end(self) -> list[StreamEvent]:
        """A `Failure` where no line said that the answer is complete."""
        if self._over:
            return []
        self._over = True
        return [Failure(UNFINISHED)]

    def _content(self, line: Mapping[str, Any]) -> list[StreamEvent]:
        content = self._layout.content_of(line) or {}
        thought = text_of(content, "thinking")
        events: list[StreamEvent] = [ReasoningDelta(thought)] if thought else []
        echo, self._echo = self._echo, ""
        text = echo + text_of(content, self._layout.text)
        logprobs = read_logprobs(line)
        if text or logprobs:
            events.append(TextDelta(text, 0, logprobs))
        for call in read_calls(content):
            events += [CallStart(self._calls, call.id, call.name), CallArguments(self._calls, call.arguments)]
            self._calls += 1
        return events


class Writer:
    """Writes a client's lines: text and thoughts as they come, calls once they are whole, the end when all is known.

    The API has no place for a second answer: only the first is written.
    """

    def __init__(self, layout: Layout, request: Request) -> None:
        self._layout = layout
        self._request = request
        self._calls: dict[int, tuple[CallStart, list[str]]] = {}
        self._calls_written = 0
        self._finish: Finish | None = None
        self._usage: Usage | None = None
        self._first: int | None = None

    def write(self, events: Iterable[StreamEvent]) -> list[Any]:
        """The lines of these events, none for what comes behind the finish; raises UpstreamBroken for broken calls."""
        lines: list[Any] = []
        for event in events:
            if isinstance(event, UsageReport):
                self._usage = event.usage
            elif self._finish is None and not isinstance(event, Failure) and event.index == 0:
                lines += self._event(event)
        if self._first is None and self._finish is None and (lines or self._calls):
            self._first = time.monotonic_ns()
        return lines

    def end(self) -> list[Any]:
        """The last line; raises UpstreamBroken for an unfinished answer."""
        if self._finish is None:
            raise UpstreamBroken(UNFINISHED)
        end = ending(self._request, self._finish.reason, self._usage, self._first)
        return [{**self._layout.line(self._request), **end}]

    def _event(
        self, event: TextDelta | RefusalDelta | ReasoningDelta | CallStart | CallArguments | Finish
    ) -> list[Any]:
        if isinstance(event, CallStart):
            lines = self._take_calls(only_whole=True)
            self._calls[event.call] = (event, [])
            return lines
        if isinstance(event, CallArguments):
            return self._add_arguments(event)
        if isinstance(event, Finish):
            self._finish = event
            return self._take_calls()
        if isinstance(event, ReasoningDelta):
            return [self._layout.line(self._request, thinking=event.text)] if event.text else []
        logprobs = event.logprobs if isinstance(event, TextDelta) else None
        if not event.text and not logprobs:
            return []
        line = self._layout.line(self._request, event.text)
        return [{**line, "logprobs": write_logprobs(logprobs)} if logprobs else line]

    def _add_arguments(self, event: CallArguments) -> list[Any]:
        known = self._calls.get(event.call)
        if known is not None:
            known[1].append(event.text)
        elif event.text.strip():
            raise UpstreamBroken("the target went on with the arguments of a call that were complete")
        return []

    def _take_calls(self, *, only_whole: bool = False) -> list[Any]:
        """A line for the calls that wait. Targets may go on with an earlier call: only what is JSON is surely whole."""
        waiting = {number: _call(*parts) for number, parts in self._calls.items()}
        if only_whole:
            waiting = {number: call for number, call in waiting.items() if _is_whole(call)}
        for number in waiting:
            del self._calls[number]
        reason = self._finish.reason if self._finish else "tool_calls"
        calls = write_calls(list(waiting.values()), reason, self._calls_written)
        self._calls_written += len(calls)
        return [self._layout.line(self._request, tool_calls=calls)] if calls else []


def _call(start: CallStart, pieces: list[str]) -> ToolCall:
    return ToolCall(start.id, start.name, "".join(pieces))


def _is_whole(call: ToolCall) -> bool:
    return bool(call.arguments.strip()) and arguments_object(call.arguments) is not None
