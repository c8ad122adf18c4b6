"""Reads `GenerateContentResponse` (ai.google.dev/api/generate-content), whole and as the events of a stream.

A stream's events are answers of their own that hold what has been added: more text, whole function calls, the usage so
far. Nothing marks the end but that the last one of a candidate has a finish reason; old models have one in every event.
"""

from dataclasses import dataclass
from typing import Any

import orjson

from mooltiproxy.mapping.gather import UNFINISHED, answer_of
from mooltiproxy.mapping.ids import new_id
from mooltiproxy.mapping.neutral import (
    Answer,
    CallArguments,
    CallStart,
    Failure,
    Finish,
    ReasoningDelta,
    Request,
    StreamEvent,
    TextDelta,
    UsageReport,
)
from mooltiproxy.mapping.signatures import GEMINI, mark
from mooltiproxy.mapping.stops import StopCutter
from mooltiproxy.mapping.tool_names import tools_renamed
from mooltiproxy.mapping.upstream_errors import clean_message, failure_in

from .common import BROKEN, objects_of, read_finish, read_logprobs, read_usage
from .names import FUNCTIONS
from .signatures import FIELD
from .write_request import unsent_stops


@dataclass(slots=True)
class _Candidate:
    """One answer so far."""

    cutter: StopCutter
    calls: int = 0
    finish: Any = None


class Reader:
    """Reads one stream, or with `whole` the one event that a whole answer is."""

    def __init__(self, request: Request, *, whole: bool = False) -> None:
        self.done = False
        self._whole = whole
        self._stops = unsent_stops(request)
        self._expected = request.sampling.n or 1
        self._names = tools_renamed(request, FUNCTIONS)
        self._candidates: dict[int, _Candidate] = {}
        self._blocked = False
        self._over = False

    def read(self, event: Any) -> list[StreamEvent]:
        """Neutral events of one event; a text that is no JSON is passed over."""
        if self._over or self.done:
            return []
        failure = failure_in(event)
        if failure:
            return self._fail(failure)
        if not isinstance(event, dict):
            return []
        events: list[StreamEvent] = []
        for candidate in objects_of(event.get("candidates")):
            events += self._read(candidate)
        feedback = event.get("promptFeedback")
        self._blocked = self._blocked or (isinstance(feedback, dict) and bool(feedback.get("blockReason")))
        usage = read_usage(event.get("usageMetadata"))
        return [*events, UsageReport(usage)] if usage and not self._over else events

    def end(self) -> list[StreamEvent]:
        """The ends of all candidates; a `Failure` where one is not complete."""
        if self._over or self.done:
            return []
        self._over = True
        if not self._candidates:
            return [Finish("content_filter")] if self._blocked else [Failure(UNFINISHED)]
        events: list[StreamEvent] = []
        for index, candidate in self._candidates.items():
            if candidate.cutter.found is None:
                events += self._end(index, candidate)
        return events

    def _fail(self, failure: Failure) -> list[StreamEvent]:
        self._over = True
        return [failure]

    def _end(self, index: int, candidate: _Candidate) -> list[StreamEvent]:
        finish = read_finish(candidate.finish, has_calls=candidate.calls > 0)
        if finish is None and self._whole:
            finish = "tool_calls" if candidate.calls else "stop"
        if finish is None:
            return [Failure(UNFINISHED)]
        rest = candidate.cutter.flush()
        return [*([TextDelta(rest, index)] if rest else []), Finish(finish, index=index)]

    def _read(self, raw: dict[str, Any]) -> list[StreamEvent]:
        number = raw.get("index")
        index = number if isinstance(number, int) and number >= 0 else 0
        candidate = self._candidates.setdefault(index, _Candidate(StopCutter(self._stops)))
        if candidate.cutter.found is not None or self._over:
            return []
        reason = raw.get("finishReason")
        if reason in BROKEN:
            told = clean_message(str(raw.get("finishMessage") or ""))
            return self._fail(Failure(f"the target gave up its answer ({reason}){': ' if told else ''}{told}"))
        candidate.finish = reason or candidate.finish
        return self._parts(index, candidate, raw)

    def _parts(self, index: int, candidate: _Candidate, raw: dict[str, Any]) -> list[StreamEvent]:
        content = raw.get("content")
        parts = objects_of(content.get("parts")) if isinstance(content, dict) else []
        events: list[StreamEvent] = []
        for part in parts:
            events += self._part(index, candidate, part)
            if candidate.cutter.found is not None:
                return [*events, *self._stopped(index, candidate)]
        logprobs = read_logprobs(raw.get("logprobsResult"))
        if logprobs:
            texts = [event for event in events if isinstance(event, TextDelta)]
            if texts:
                texts[0].logprobs = logprobs
            else:
                events.append(TextDelta("", index, logprobs))
        return events

    def _stopped(self, index: int, candidate: _Candidate) -> list[StreamEvent]:
        """The end at a stop string that the target was not told: once all have ended, nobody waits for it."""
        self.done = sum(one.cutter.found is not None for one in self._candidates.values()) == self._expected
        return [Finish("stop", candidate.cutter.found, index)]

    def _part(self, index: int, candidate: _Candidate, part: dict[str, Any]) -> list[StreamEvent]:
        signature = part.get(FIELD)
        signature = signature if isinstance(signature, str) and signature else None
        call, text = part.get("functionCall"), part.get("text")
        if isinstance(call, dict):
            return self._call(index, candidate, call, signature)
        if "inlineData" in part:
            return self._fail(Failure("the target answered with a picture or speech, which cannot be translated"))
        if not isinstance(text, str):
            return []
        if part.get("thought") is True:
            return [ReasoningDelta(text, mark(GEMINI, signature), index)] if text or signature else []
        text = candidate.cutter.feed(text)
        return [TextDelta(text, index, signature=signature)] if text or signature else []

    def _call(
        self, index: int, candidate: _Candidate, call: dict[str, Any], signature: str | None
    ) -> list[StreamEvent]:
        name, identifier, arguments = call.get("name"), call.get("id"), call.get("args")
        if not isinstance(name, str) or not name:
            return self._fail(Failure("the target's answer has a function call without a name"))
        made = identifier if isinstance(identifier, str) and identifier else new_id("call_")
        number, candidate.calls = candidate.calls, candidate.calls + 1
        text = orjson.dumps(arguments).decode() if isinstance(arguments, dict) else "{}"
        return [
            CallStart(number, made, self._names.get(name, name), index, signature),
            CallArguments(number, text, index),
        ]


def read_answer(body: Any, request: Request) -> Answer:
    """A target's whole answer, or all events of a stream in a list; raises UpstreamBroken for what is neither."""
    reader = Reader(request, whole=True)
    bodies = body if isinstance(body, list) else [body]
    events = [event for one in bodies for event in reader.read(one)]
    answer = answer_of([*events, *reader.end()])
    version = bodies[-1].get("modelVersion") if bodies and isinstance(bodies[-1], dict) else None
    answer.model = version if isinstance(version, str) else None
    return answer
