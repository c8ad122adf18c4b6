"""Streams of the Responses API as targets send them (platform.openai.com/docs/api-reference/responses-streaming,
November 2026). A whole response is read like the last event of a stream, which holds all of it."""

from collections.abc import Mapping
from typing import Any

from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping.gather import UNFINISHED
from mooltiproxy.mapping.ids import new_id
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
from mooltiproxy.mapping.stops import StopCutter
from mooltiproxy.mapping.tool_names import tools_renamed
from mooltiproxy.mapping.upstream_errors import CONTEXT_OVERFLOW, failure_in

from .chat_stream import read_finish_of, read_logprobs
from .common import NAMES, count_in
from .messages import arguments_text
from .responses_items import carried_state

ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_STATUS = {"rate_limit_exceeded": 429, "invalid_prompt": 400, CONTEXT_OVERFLOW: 400}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _listed(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


class _Item:
    """What was read of one output item: its texts by kind and part, and the number and arguments of its call."""

    def __init__(self) -> None:
        self.texts: dict[tuple[str, int], int] = {}
        self.call: int | None = None
        self.arguments = ""
        self.thinks_in: str | None = None
        self.has_state = False

    def rest(self, kind: str, part: int, whole: str) -> str:
        """What of a whole text has not come as deltas."""
        known = self.texts.get((kind, part), 0)
        self.texts[kind, part] = max(known, len(whole))
        return whole[known:]


class ResponseReader:
    """Reads a target's events. What its closing events tell again is left out, what only they tell is read there."""

    def __init__(self, request: Request) -> None:
        self.done = False
        self._names = tools_renamed(request, NAMES)
        self._cutter = StopCutter(request.sampling.stop)
        self._items: dict[int, _Item] = {}
        self._calls: list[_Item] = []
        self._over = False
        self._readers = {
            "response.output_item.added": self._item_added,
            "response.output_item.done": self._item_done,
            "response.output_text.delta": self._text,
            "response.refusal.delta": self._refusal,
            "response.reasoning_summary_text.delta": self._summary,
            "response.reasoning_text.delta": self._thought,
            "response.function_call_arguments.delta": self._arguments,
        }

    def read(self, event: Any) -> list[StreamEvent]:
        """Neutral events of one event; those of unknown types, and texts (`[DONE]`), are passed over."""
        if self.done or self._over or not isinstance(event, dict):
            return []
        kind = event.get("type")
        if kind in ENDS:
            return self._end(_mapping(event.get("response")), kind.removeprefix("response."))
        if kind == "error" or kind is None and event.get("error"):
            self._over = True
            return [_failure(_mapping(event.get("error")) or event)]
        reader = self._readers.get(_string(kind))
        return reader(event) if reader else []

    def end(self) -> list[StreamEvent]:
        """A `Failure` unless the response has ended."""
        if self.done or self._over:
            return []
        self._over = True
        return [Failure(UNFINISHED)]

    def whole(self, response: Any) -> list[StreamEvent]:
        """The events of a whole response; a `Failure` for what is none, or has not ended."""
        if not isinstance(response, dict) or "output" not in response:
            return [failure_in(response) or Failure("the target's answer is no response")]
        status = _string(response.get("status")) or "completed"
        if f"response.{status}" not in ENDS:
            return [Failure(UNFINISHED)]
        return self._end(response, status)

    def _item_of(self, event: Mapping[str, Any]) -> _Item:
        index = event.get("output_index")
        return self._items.setdefault(index if isinstance(index, int) else 0, _Item())

    def _item_added(self, event: Mapping[str, Any]) -> list[StreamEvent]:
        item = _mapping(event.get("item"))
        known = self._item_of(event)
        return self._begin_call(known, item) if item.get("type") == "function_call" else []

    def _begin_call(self, known: _Item, item: Mapping[str, Any]) -> list[StreamEvent]:
        if known.call is not None:
            return []
        name = _string(item.get("name"))
        if not name:
            raise UpstreamBroken("the target's answer has a tool call without a name")
        known.call = len(self._calls)
        self._calls.append(known)
        identifier = _string(item.get("call_id")) or _string(item.get("id")) or new_id("call_")
        return [CallStart(known.call, identifier, self._names.get(name, name))]

    def _item_done(self, event: Mapping[str, Any]) -> list[StreamEvent]:
        item = _mapping(event.get("item"))
        known = self._item_of(event)
        kind = item.get("type")
        if kind == "function_call":
            begun_now = self._begin_call(known, item)
            rest = arguments_text(item.get("arguments"))[len(known.arguments) :]
            return [*begun_now, *self._more_arguments(known, rest)]
        if kind == "reasoning":
            return self._whole_thought(known, item)
        return self._whole_message(known, item) if kind == "message" else []

    def _whole_message(self, known: _Item, item: Mapping[str, Any]) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        for number, part in enumerate(_listed(item.get("content"))):
            kind = part.get("type")
            if kind == "output_text":
                rest = known.rest(kind, number, _string(part.get("text")))
                events += self._said(rest, part.get("logprobs")) if rest else []
            elif kind == "refusal":
                rest = known.rest(kind, number, _string(part.get("refusal")))
                events += [RefusalDelta(rest)] if rest else []
        return events

    def _whole_thought(self, known: _Item, item: Mapping[str, Any]) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        for place in ("summary", "content"):
            for number, part in enumerate(_listed(item.get(place))):
                events += self._thinks(known, place, number, _string(part.get("text")), whole=True)
        state = carried_state(item)
        if state and not known.has_state:
            known.has_state = True
            events.append(ReasoningDelta("", state))
        return events

    def _text(self, event: Mapping[str, Any]) -> list[StreamEvent]:
        text = self._delta(event, "output_text", "content_index")
        return self._said(text, event.get("logprobs"))

    def _delta(self, event: Mapping[str, Any], kind: str, index: str) -> str:
        """The text of a delta, counted as read."""
        text = _string(event.get("delta"))
        number = event.get(index)
        texts = self._item_of(event).texts
        place = (kind, number if isinstance(number, int) else 0)
        texts[place] = texts.get(place, 0) + len(text)
        return text

    def _said(self, text: str, logprobs: Any) -> list[StreamEvent]:
        """More of the answer, cut at the stop strings: the API has none of its own."""
        passed = self._cutter.feed(text)
        probabilities = read_logprobs({"content": logprobs})
        events: list[StreamEvent] = [TextDelta(passed, 0, probabilities)] if passed or probabilities else []
        if self._cutter.found is not None:
            self.done = True
            events.append(Finish("stop", self._cutter.found))
        return events

    def _refusal(self, event: Mapping[str, Any]) -> list[StreamEvent]:
        text = self._delta(event, "refusal", "content_index")
        return [RefusalDelta(text)] if text else []

    def _summary(self, event: Mapping[str, Any]) -> list[StreamEvent]:
        return self._thought_delta(event, "summary", "summary_index")

    def _thought(self, event: Mapping[str, Any]) -> list[StreamEvent]:
        return self._thought_delta(event, "content", "content_index")

    def _thought_delta(self, event: Mapping[str, Any], place: str, index: str) -> list[StreamEvent]:
        number = event.get(index)
        text = _string(event.get("delta"))
        return self._thinks(self._item_of(event), place, number if isinstance(number, int) else 0, text, whole=False)

    def _thinks(self, known: _Item, place: str, number: int, text: str, *, whole: bool) -> list[StreamEvent]:
        """More of a thought: of its summary or of its own words, whichever comes first, since both tell the same."""
        known.thinks_in = known.thinks_in or place
        if known.thinks_in != place or not text:
            return []
        is_new = (place, number) not in known.texts
        if whole:
            text = known.rest(place, number, text)
        else:
            known.texts[place, number] = known.texts.get((place, number), 0) + len(text)
        gap = "\n\n" if is_new and number > 0 else ""
        return [ReasoningDelta(gap + text)] if text else []

    def _arguments(self, event: Mapping[str, Any]) -> list[StreamEvent]:
        return self._more_arguments(self._item_of(event), _string(event.get("delta")))

    def _more_arguments(self, known: _Item, text: str) -> list[StreamEvent]:
        if not text or known.call is None:
            return []
        known.arguments += text
        return [CallArguments(known.call, text)]

    def _end(self, response: Mapping[str, Any], status: str) -> list[StreamEvent]:
        self._over = True
        if status in ("failed", "cancelled"):
            return [_failure(_mapping(response.get("error")))]
        events: list[StreamEvent] = []
        for index, item in enumerate(_listed(response.get("output"))):
            events += [] if self.done else self._item_done({"output_index": index, "item": item})
        if not self.done:
            rest = self._cutter.flush()
            events += [TextDelta(rest)] if rest else []
            events.append(Finish(self._reason(response, status)))
        usage = read_usage(response.get("usage"))
        return [*events, UsageReport(usage)] if usage else events

    def _reason(self, response: Mapping[str, Any], status: str) -> FinishReason:
        reason: FinishReason = "stop"
        if status == "incomplete":
            details = _mapping(response.get("incomplete_details"))
            reason = "content_filter" if details.get("reason") == "content_filter" else "length"
        return read_finish_of(reason, self._calls[-1].arguments if self._calls else None)


def _failure(error: Mapping[str, Any]) -> Failure:
    """The failure that an error object reports, flat or nested, whatever its code."""
    failure = failure_in({"error": {**error, "message": _string(error.get("message"))}}) or Failure(UNFINISHED)
    return Failure(failure.message, _STATUS.get(failure.code or "", failure.status), failure.code)


def read_usage(value: Any) -> Usage | None:
    """A target's usage object; None where there is none."""
    if not isinstance(value, dict):
        return None
    return Usage(
        prompt=count_in(value, "input_tokens"),
        answer=count_in(value, "output_tokens"),
        cached=count_in(value.get("input_tokens_details"), "cached_tokens"),
        cache_written=count_in(value.get("input_tokens_details"), "cache_write_tokens"),
        reasoning=count_in(value.get("output_tokens_details"), "reasoning_tokens"),
    )
