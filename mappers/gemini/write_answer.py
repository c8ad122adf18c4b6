"""Writes `GenerateContentResponse` (ai.google.dev/api/generate-content), whole and as the events of a stream."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping.gather import UNFINISHED
from mooltiproxy.mapping.ids import new_id
from mooltiproxy.mapping.neutral import (
    Answer,
    CallArguments,
    CallStart,
    Choice,
    Failure,
    Finish,
    FinishReason,
    Part,
    Reasoning,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
    Request,
    StreamEvent,
    Text,
    TextDelta,
    TokenProbability,
    ToolCall,
    Usage,
    UsageReport,
)

from .common import write_finish, write_logprobs, write_usage
from .signatures import signed, thought_for_client
from .write_contents import arguments_of

_NOTHING = {"text": ""}
"""SDKs expect a part even where there is nothing to say."""


def write_answer(answer: Answer, request: Request) -> dict[str, Any]:
    """A whole answer for a client; raises UpstreamBroken for a call whose arguments are no JSON object."""
    candidates = [_write_choice(index, choice) for index, choice in enumerate(answer.choices)]
    return _response(candidates, answer.usage, request.model or answer.model, new_id(""))


def _write_choice(index: int, choice: Choice) -> dict[str, Any]:
    parts = [written for part in choice.parts for written in _write_part(part, choice.finish)]
    return _candidate(index, parts or [_NOTHING], choice.logprobs, choice.finish)


def _write_part(part: Part, finish: FinishReason) -> list[dict[str, Any]]:
    if isinstance(part, ToolCall):
        return _write_call(part, finish)
    if isinstance(part, Reasoning):
        return _write_thought(part.text, part.signature)
    if isinstance(part, Text) and part.signature:
        return [signed({"text": part.text}, part.signature)]
    return [{"text": part.text}] if isinstance(part, Text | Refusal) and part.text else []


def _write_call(call: ToolCall, finish: FinishReason) -> list[dict[str, Any]]:
    """A call; one that was cut off by the limit of tokens is left out."""
    arguments = arguments_of(call.arguments)
    if arguments is None and finish == "length":
        return []
    if arguments is None:
        raise UpstreamBroken(f"the target called {call.name} with arguments that are no JSON object")
    part: dict[str, Any] = {"functionCall": {"id": call.id, "name": call.name, "args": arguments}}
    return [signed(part, call.signature)]


def _write_thought(text: str, signature: str | None) -> list[dict[str, Any]]:
    return [thought_for_client(text, signature)] if text or signature else []


def _candidate(
    index: int,
    parts: list[dict[str, Any]],
    logprobs: Sequence[TokenProbability] | None = None,
    finish: FinishReason | None = None,
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}}
    if finish is not None:
        candidate["finishReason"] = write_finish(finish)
    if logprobs:
        candidate["logprobsResult"] = write_logprobs(logprobs)
    return {**candidate, "index": index}


def _response(
    candidates: list[dict[str, Any]], usage: Usage | None, model: str | None, identifier: str
) -> dict[str, Any]:
    body: dict[str, Any] = {"candidates": candidates}
    counts = write_usage(usage)
    if counts:
        body["usageMetadata"] = counts
    if model:
        body["modelVersion"] = model
    return {**body, "responseId": identifier}


@dataclass(slots=True)
class _Written:
    """What is kept of one answer until its end: calls, since they go out whole, and how it ended.

    `thought` is the last piece of a thought. It waits for the next event, which may be the signature: SDKs pass over a
    part of a stream that has no text.
    """

    thought: str = ""
    calls: dict[int, ToolCall] = field(default_factory=dict)
    pieces: dict[int, list[str]] = field(default_factory=dict)
    finish: Finish | None = None

    def whole_calls(self) -> list[ToolCall]:
        """The calls with all of their arguments."""
        for number, call in self.calls.items():
            call.arguments = "".join(self.pieces[number])
        return list(self.calls.values())


class Writer:
    """Writes a client's stream: texts as they come; calls, finish reasons and usage in one last event."""

    def __init__(self, request: Request) -> None:
        self._model = request.model
        self._id = new_id("")
        self._answers: dict[int, _Written] = {}
        self._usage: Usage | None = None

    def write(self, events: Iterable[StreamEvent]) -> list[Any]:
        """The events of these; what comes behind an answer's finish is left out."""
        written = []
        for event in events:
            if isinstance(event, UsageReport):
                self._usage = event.usage
            elif not isinstance(event, Failure):
                answer = self._answers.setdefault(event.index, _Written())
                if answer.finish is None:
                    written += self._event(answer, event)
        return written

    def end(self) -> list[Any]:
        """The last event; raises UpstreamBroken for an unfinished answer and for arguments that are no JSON object."""
        if not self._answers:
            raise UpstreamBroken(UNFINISHED)
        candidates = [_last(index, self._answers[index]) for index in sorted(self._answers)]
        return [_response(candidates, self._usage, self._model, self._id)]

    def _event(
        self,
        answer: _Written,
        event: TextDelta | RefusalDelta | ReasoningDelta | CallStart | CallArguments | Finish,
    ) -> list[dict[str, Any]]:
        if isinstance(event, ReasoningDelta):
            return self._thought(answer, event)
        written = self._rest_of_thought(event.index, answer)
        if isinstance(event, Finish):
            answer.finish = event
        elif isinstance(event, CallStart):
            answer.calls[event.call] = ToolCall(event.id, event.name, "", event.signature)
            answer.pieces[event.call] = []
        elif isinstance(event, CallArguments):
            answer.pieces[event.call].append(event.text)
        else:
            written += self._text(event)
        return written

    def _thought(self, answer: _Written, event: ReasoningDelta) -> list[dict[str, Any]]:
        if event.signature:
            parts = _write_thought(answer.thought + event.text, event.signature)
            answer.thought = ""
            return [self._piece(_candidate(event.index, parts))]
        if not event.text:
            return []
        written = self._rest_of_thought(event.index, answer)
        answer.thought = event.text
        return written

    def _rest_of_thought(self, index: int, answer: _Written) -> list[dict[str, Any]]:
        parts = _write_thought(answer.thought, None)
        answer.thought = ""
        return [self._piece(_candidate(index, parts))] if parts else []

    def _piece(self, candidate: dict[str, Any]) -> dict[str, Any]:
        return _response([candidate], None, self._model, self._id)

    def _text(self, event: TextDelta | RefusalDelta) -> list[dict[str, Any]]:
        """The event of a piece of text; none for one that says nothing."""
        logprobs = event.logprobs if isinstance(event, TextDelta) else None
        if isinstance(event, TextDelta) and event.signature:
            parts = [signed({"text": event.text}, event.signature)]
        else:
            parts = [{"text": event.text}] if event.text or logprobs else []
        return [self._piece(_candidate(event.index, parts, logprobs))] if parts else []


def _last(index: int, answer: _Written) -> dict[str, Any]:
    if answer.finish is None:
        raise UpstreamBroken(UNFINISHED)
    reason = answer.finish.reason
    parts = [part for call in answer.whole_calls() for part in _write_call(call, reason)]
    return _candidate(index, parts or [_NOTHING], finish=reason)
