"""Streams of the Responses API as clients get them (platform.openai.com/docs/api-reference/responses-streaming,
November 2026): every event has a type, by which it is named, and a number."""

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping.gather import UNFINISHED
from mooltiproxy.mapping.neutral import (
    CallArguments,
    CallStart,
    Failure,
    Finish,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    Request,
    StreamEvent,
    TextDelta,
    Usage,
    UsageReport,
)
from mooltiproxy.mapping.sequence import CallSequence
from mooltiproxy.mapping.signatures import OPENAI, call_carrier, shown, text_carrier
from mooltiproxy.mapping.upstream_errors import CONTEXT_OVERFLOW

from .responses_output import (
    REFUSED,
    SAID,
    SUMMARY,
    THOUGHT,
    CallItem,
    Event,
    MessageItem,
    ReasoningItem,
    Status,
    begun,
    write_usage,
)

_ERROR_CODES = {"rate_limit_error": "rate_limit_exceeded", "invalid_request_error": "invalid_prompt"}
"""The API's codes by the types of our errors."""


class ResponseWriter:
    """Writes a client's events: one item after the other, each begun, filled and ended, then the whole response."""

    def __init__(self, request: Request) -> None:
        self._response = begun(request)
        self._thought_style = SUMMARY if request.reasoning and request.reasoning.show else THOUGHT
        self._sequence = CallSequence()
        self._number = 0
        self._open: MessageItem | ReasoningItem | CallItem | None = None
        self._output: list[dict[str, Any]] = []
        self._finish: Finish | None = None
        self._usage: Usage | None = None

    def write(self, events: Iterable[StreamEvent]) -> list[Any]:
        """The events of these; the response begins with the first call. There is one answer: others are left out."""
        written = self._begin()
        mine = [event for event in events if isinstance(event, UsageReport | Failure) or event.index == 0]
        for event in self._sequence.feed(mine):
            written += self._event(event)
        return self._numbered(written)

    def end(self) -> list[Any]:
        """The event with the whole response; raises UpstreamBroken for an unfinished answer."""
        if self._finish is None:
            raise UpstreamBroken(UNFINISHED)
        reason = self._finish.reason
        status = _item_status(reason)
        whole = {**self._response, "status": status, "output": self._output, "usage": write_usage(self._usage)}
        if status == "completed":
            whole["completed_at"] = int(time.time())
        else:
            whole["incomplete_details"] = {"reason": "max_output_tokens" if reason == "length" else reason}
        return self._numbered([{"type": f"response.{status}", "response": whole}])

    def fail(self, event: Any) -> list[Any]:
        """The response with its error: clients that wait for the end of a response pass over a bare error event."""
        error = event["error"]
        is_overflow = error["code"] == CONTEXT_OVERFLOW
        code = CONTEXT_OVERFLOW if is_overflow else _ERROR_CODES.get(error["type"], "server_error")
        failed = {"code": code, "message": error["message"]}
        whole = {**self._response, "status": "failed", "error": failed, "output": self._output}
        return self._numbered([*self._begin(), {"type": "response.failed", "response": whole}])

    def _begin(self) -> list[Event]:
        if self._number:
            return []
        kinds = ("response.created", "response.in_progress")
        return [{"type": kind, "response": {**self._response}} for kind in kinds]

    def _numbered(self, events: list[Event]) -> list[Any]:
        for event in events:
            event["sequence_number"] = self._number
            self._number += 1
        return events

    def _event(self, event: StreamEvent) -> list[Event]:
        if isinstance(event, UsageReport):
            self._usage = event.usage
            return []
        if self._finish is not None:
            return []
        if isinstance(event, Finish):
            self._finish = event
            return self._end_item(_item_status(event.reason))
        if isinstance(event, TextDelta | RefusalDelta):
            return self._say(event)
        if isinstance(event, ReasoningDelta):
            return self._think(event)
        if isinstance(event, CallStart):
            return [*self._sign(event), *self._begin_item(CallItem(event.id, event.name))]
        return self._arguments(event) if isinstance(event, CallArguments) else []

    def _sign(self, event: CallStart) -> list[Event]:
        """The thought that carries the signature of a call, if that has one."""
        return self._think(ReasoningDelta("", call_carrier(event.signature))) if event.signature else []

    def _say(self, event: TextDelta | RefusalDelta) -> list[Event]:
        if isinstance(event, TextDelta) and event.signature:
            carrier = ReasoningDelta("", text_carrier(event.signature))
            return [*self._say(replace(event, signature=None)), *self._think(carrier)]
        if not event.text and not (isinstance(event, TextDelta) and event.logprobs):
            return []
        events: list[Event] = []
        item = self._open
        if not isinstance(item, MessageItem):
            item = MessageItem()
            events = self._begin_item(item)
        if isinstance(event, RefusalDelta):
            return events + item.add(REFUSED, event.text)
        return events + item.add(SAID, event.text, event.logprobs)

    def _think(self, event: ReasoningDelta) -> list[Event]:
        """Opaque state ends a thought."""
        state = shown(OPENAI, event.signature)
        if not event.text and not state:
            return []
        events: list[Event] = []
        item = self._open
        if not isinstance(item, ReasoningItem):
            item = ReasoningItem()
            events = self._begin_item(item)
        events += item.add(self._thought_style, event.text) if event.text else []
        if state:
            item.state = state
            events += self._end_item("completed")
        return events

    def _arguments(self, event: CallArguments) -> list[Event]:
        return self._open.add(event.text) if isinstance(self._open, CallItem) and event.text else []

    def _begin_item(self, item: MessageItem | ReasoningItem | CallItem) -> list[Event]:
        events = self._end_item("completed")
        self._open = item
        return [*events, item.begin(len(self._output))]

    def _end_item(self, status: Status) -> list[Event]:
        if self._open is None:
            return []
        events = self._open.finish(status)
        self._output.append(events[-1]["item"])
        self._open = None
        return events


def _item_status(reason: FinishReason) -> Status:
    return "incomplete" if reason in ("length", "content_filter") else "completed"
