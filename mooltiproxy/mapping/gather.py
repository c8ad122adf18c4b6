"""Between a stream and a whole answer: either can be made into the other."""

from typing import Any

from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping.neutral import (
    Answer,
    CallArguments,
    CallStart,
    Choice,
    Failure,
    Finish,
    Part,
    Reasoning,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
    StreamEvent,
    Text,
    TextDelta,
    TokenProbability,
    ToolCall,
    Usage,
    UsageReport,
)
from mooltiproxy.mapping.upstream_errors import failure_in

UNFINISHED = "the target's stream ended before its answer was complete"


def stream_of(answer: Answer) -> list[StreamEvent]:
    """A whole answer as the events of a stream: for a target that answers whole what was asked for as a stream."""
    events: list[StreamEvent] = []
    for index, choice in enumerate(answer.choices):
        events += _choice_events(index, choice)
    if answer.usage:
        events.append(UsageReport(answer.usage))
    return events


def _choice_events(index: int, choice: Choice) -> list[StreamEvent]:
    events: list[StreamEvent] = []
    calls = 0
    logprobs = choice.logprobs
    for part in choice.parts:
        if isinstance(part, Text):
            events.append(TextDelta(part.text, index, logprobs, part.signature))
            logprobs = None
        elif isinstance(part, Refusal):
            events.append(RefusalDelta(part.text, index))
        elif isinstance(part, Reasoning):
            events.append(ReasoningDelta(part.text, part.signature, index))
        elif isinstance(part, ToolCall):
            events.append(CallStart(calls, part.id, part.name, index, part.signature))
            events.append(CallArguments(calls, part.arguments, index))
            calls += 1
    events.append(Finish(choice.finish, choice.stop_string, index))
    return events


class _Gathered:
    """One choice while its stream is gathered; parts are kept in the order in which they began."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.calls: dict[int, ToolCall] = {}
        self.pieces: list[list[str]] = []
        self.logprobs: list[TokenProbability] = []
        self.finish: Finish | None = None

    def add(self, event: StreamEvent) -> None:
        if isinstance(event, TextDelta):
            self.logprobs += event.logprobs or ()
            if event.text or event.signature:
                self._extend(Text(event.text, signature=event.signature))
        elif isinstance(event, RefusalDelta):
            self._extend(Refusal(event.text))
        elif isinstance(event, ReasoningDelta):
            self._extend(Reasoning(event.text, event.signature))
        elif isinstance(event, CallStart):
            self.calls[event.call] = ToolCall(event.id, event.name, "", event.signature)
            self._begin(self.calls[event.call])
        elif isinstance(event, CallArguments):
            self._pieces_of(self.calls[event.call]).append(event.text)
        elif isinstance(event, Finish):
            self.finish = event

    def _begin(self, part: Part) -> None:
        self.parts.append(part)
        self.pieces.append([])

    def _pieces_of(self, part: Part) -> list[str]:
        return next(self.pieces[at] for at, known in enumerate(self.parts) if known is part)

    def _extend(self, part: Text | Refusal | Reasoning) -> None:
        last = self.parts[-1] if self.parts else None
        # A signature ends what it signs: what follows is another part, or neither would be accepted again.
        if type(last) is not type(part) or isinstance(last, Text | Reasoning) and last.signature:
            self._begin(part)
        elif isinstance(last, Text | Reasoning) and isinstance(part, Text | Reasoning):
            last.signature = part.signature
        self.pieces[-1].append(part.text)

    def choice(self) -> Choice:
        if self.finish is None:
            raise UpstreamBroken(UNFINISHED)
        for part, pieces in zip(self.parts, self.pieces, strict=True):
            if isinstance(part, ToolCall):
                part.arguments = "".join(pieces)
            elif isinstance(part, Text | Refusal | Reasoning):
                part.text = "".join(pieces)
        return Choice(self.parts, self.finish.reason, self.finish.stop_string, self.logprobs or None)


def answer_of(events: list[StreamEvent]) -> Answer:
    """A whole answer from a stream's events; raises UpstreamBroken when the stream failed or is unfinished."""
    choices: dict[int, _Gathered] = {}
    usage: Usage | None = None
    for event in events:
        if isinstance(event, UsageReport):
            usage = event.usage
        elif isinstance(event, Failure):
            raise failure_error(event)
        else:
            choices.setdefault(event.index, _Gathered()).add(event)
    if not choices:
        raise UpstreamBroken(UNFINISHED)
    return Answer([choices[index].choice() for index in sorted(choices)], usage)


def raise_failure(body: Any) -> None:
    """Raise UpstreamBroken if a whole answer with a good status is an error all the same."""
    failure = failure_in(body)
    if failure:
        raise failure_error(failure)


def failure_error(failure: Failure) -> UpstreamBroken:
    """The error that a failed stream ends with."""
    return UpstreamBroken(failure.message, code=failure.code, status=failure.status)
