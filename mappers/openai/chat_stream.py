"""Streams of chat completions (platform.openai.com/docs/api-reference/chat-streaming), both ways."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping.ids import new_id
from mooltiproxy.mapping.neutral import (
    CallArguments,
    CallStart,
    Finish,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    Request,
    StreamEvent,
    TextDelta,
    TokenProbability,
    ToolCall,
)
from mooltiproxy.mapping.stops import StopCutter
from mooltiproxy.mapping.tool_names import tools_renamed

from .common import NAMES, read_finish, stop_string_of
from .messages import arguments_text, signature_in, write_signature
from .stream import ChoiceEvent, ChunkReader, ChunkWriter


def finish_of(reason: FinishReason, *, has_calls: bool) -> FinishReason:
    """The finish reason that the presence of calls implies: many servers say stop beside their calls."""
    if has_calls:
        return "tool_calls" if reason == "stop" else reason
    return "stop" if reason == "tool_calls" else reason


def read_finish_of(reason: FinishReason, last_arguments: str | None) -> FinishReason:
    """The same for an answer that is read, where a `length` behind calls that are whole means the calls, too."""
    if reason == "length" and last_arguments is not None and _is_json(last_arguments):
        return "tool_calls"
    return finish_of(reason, has_calls=last_arguments is not None)


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def calls_of(message: Mapping[str, Any], names: Mapping[str, str]) -> list[ToolCall]:
    """The calls of a whole message, the deprecated `function_call` included; `names` are those to be changed back."""
    raw = message.get("tool_calls")
    calls = [_read_call(call, names) for call in raw if isinstance(call, dict)] if isinstance(raw, list) else []
    function = message.get("function_call")
    if isinstance(function, dict) and not calls:
        calls.append(_read_call({"function": function}, names))
    return calls


def _read_call(call: Mapping[str, Any], names: Mapping[str, str]) -> ToolCall:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise UpstreamBroken("the target's answer has a tool call without a name")
    identifier = call.get("id")
    made = identifier if isinstance(identifier, str) and identifier else new_id("call_")
    signature = signature_in(call.get("extra_content"))
    name = names.get(function["name"], function["name"])
    return ToolCall(made, name, arguments_text(function.get("arguments")), signature)


def call_of_function(call: ToolCall) -> dict[str, str]:
    """A call in the deprecated form."""
    return {"name": call.name, "arguments": call.arguments}


def read_logprobs(value: Any) -> list[TokenProbability] | None:
    """The probabilities of an answer's tokens, None where there are none."""
    content = value.get("content") if isinstance(value, dict) else None
    if not isinstance(content, list):
        return None
    return [_read_probability(token) for token in content if isinstance(token, dict)] or None


def _read_probability(token: Mapping[str, Any]) -> TokenProbability:
    top = token.get("top_logprobs")
    alternatives = [one for one in top if isinstance(one, dict)] if isinstance(top, list) else []
    return TokenProbability(
        str(token.get("token", "")),
        float(token.get("logprob") or 0.0),
        tuple((str(one.get("token", "")), float(one.get("logprob") or 0.0)) for one in alternatives),
    )


def write_logprobs(logprobs: list[TokenProbability] | None) -> dict[str, Any] | None:
    """The `logprobs` of a choice."""
    if logprobs is None:
        return None
    return {"content": [_write_probability(token) for token in logprobs], "refusal": None}


def _write_probability(token: TokenProbability) -> dict[str, Any]:
    top = [_token(text, logprob) for text, logprob in token.top]
    return {**_token(token.text, token.logprob), "top_logprobs": top}


def _token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


@dataclass(slots=True)
class _Calls:
    """The calls of one choice so far: their ids, their arguments in pieces, and our number for a server's index."""

    ids: list[str] = field(default_factory=list)
    arguments: list[list[str]] = field(default_factory=list)
    by_index: dict[int, int] = field(default_factory=dict)


class ChatReader(ChunkReader):
    """Reads a target's chunks; fragments of calls may lack index or id, or hold a whole call."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._names = tools_renamed(request, NAMES)
        self._calls: dict[int, _Calls] = {}

    def _choice(self, index: int, cutter: StopCutter, choice: Mapping[str, Any]) -> list[StreamEvent]:
        raw = choice.get("delta")
        delta: Mapping[str, Any] = raw if isinstance(raw, dict) else {}
        events = self._texts(cutter, index, delta, read_logprobs(choice.get("logprobs")))
        if cutter.found is not None:
            return [*events, Finish("stop", cutter.found, index)]
        if "tool_calls" in delta or "function_call" in delta:
            events += self._fragments(self._calls.setdefault(index, _Calls()), index, delta)
        reason = read_finish(choice.get("finish_reason"))
        if reason:
            rest = cutter.flush()
            events += [TextDelta(rest, index)] if rest else []
            known = self._calls.get(index)
            last = "".join(known.arguments[-1]) if known and known.arguments else None
            finish = read_finish_of(reason, last)
            if finish != reason:
                self._repairs.add("finish_reason")
            events.append(Finish(finish, stop_string_of(choice), index))
        return events

    def _texts(
        self, cutter: StopCutter, index: int, delta: Mapping[str, Any], logprobs: list[TokenProbability] | None
    ) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if thought and isinstance(thought, str):
            events.append(ReasoningDelta(thought, index=index))
        content = delta.get("content")
        text = cutter.feed(content) if isinstance(content, str) and content else ""
        if text or logprobs:
            events.append(TextDelta(text, index, logprobs))
        refusal = delta.get("refusal")
        if refusal and isinstance(refusal, str):
            events.append(RefusalDelta(refusal, index))
        return events

    def _fragments(self, known: _Calls, index: int, delta: Mapping[str, Any]) -> list[StreamEvent]:
        fragments = delta.get("tool_calls")
        events: list[StreamEvent] = []
        for fragment in fragments if isinstance(fragments, list) else ():
            if isinstance(fragment, dict):
                if not isinstance(fragment.get("index"), int):
                    self._repairs.add("call_index")
                events += self._fragment(known, index, fragment)
        function = delta.get("function_call")
        if isinstance(function, dict):
            events += self._fragment(known, index, {"index": 0, "function": function})
        return events

    def _fragment(self, known: _Calls, index: int, fragment: Mapping[str, Any]) -> list[StreamEvent]:
        raw = fragment.get("function")
        function: Mapping[str, Any] = raw if isinstance(raw, dict) else {}
        number = _call_number(known, fragment)
        events: list[StreamEvent] = []
        if number == len(known.ids):
            call = _read_call({**fragment, "function": {"name": function.get("name")}}, self._names)
            if call.id != fragment.get("id"):
                self._repairs.add("call_id")
            known.ids.append(call.id)
            known.arguments.append([])
            events.append(CallStart(number, call.id, call.name, index, call.signature))
        text = arguments_text(function.get("arguments"))
        if text:
            known.arguments[number].append(text)
            events.append(CallArguments(number, text, index))
        return events


def _call_number(known: _Calls, fragment: Mapping[str, Any]) -> int:
    """Which call a fragment belongs to, the count of calls for a new one.

    By `index` where there is one. Without, a fragment whose id is new or that names a function begins a call.
    """
    index = fragment.get("index")
    if isinstance(index, int):
        return known.by_index.setdefault(index, len(known.ids))
    identifier = fragment.get("id")
    if identifier in known.ids:
        return known.ids.index(identifier)
    function = fragment.get("function")
    names = isinstance(function, dict) and bool(function.get("name"))
    return len(known.ids) if identifier or names or not known.ids else len(known.ids) - 1


class ChatWriter(ChunkWriter):
    """Writes a client's chunks: the role first in every choice, the finish last."""

    def __init__(self, request: Request) -> None:
        super().__init__(request, "chatcmpl-", "chat.completion.chunk")
        self._calls: dict[int, bool] = {}

    def _event(self, event: ChoiceEvent) -> list[dict[str, Any]]:
        choices = []
        if event.index not in self._calls:
            self._calls[event.index] = False
            choices.append(_choice_of(event.index, {"role": "assistant", "content": ""}))
        if isinstance(event, TextDelta):
            if event.text or event.logprobs:
                choices.append(_choice_of(event.index, {"content": event.text}, event.logprobs))
        elif isinstance(event, Finish):
            choices.append(_choice_of(event.index, {}, finish=self._finish_word(event)))
        else:
            delta = self._delta(event)
            if delta:
                choices.append(_choice_of(event.index, delta))
        return choices

    def _finish_word(self, finish: Finish) -> str:
        reason = finish_of(finish.reason, has_calls=self._calls[finish.index])
        return "function_call" if reason == "tool_calls" and self._request.functions_api else reason

    def _delta(self, event: RefusalDelta | ReasoningDelta | CallStart | CallArguments) -> dict[str, Any]:
        """The fields of one chunk; none for an event that says nothing."""
        if isinstance(event, CallStart | CallArguments):
            return self._call_delta(event)
        if not event.text:
            return {}
        return {"refusal" if isinstance(event, RefusalDelta) else "reasoning_content": event.text}

    def _call_delta(self, event: CallStart | CallArguments) -> dict[str, Any]:
        function: dict[str, Any]
        if isinstance(event, CallStart):
            self._calls[event.index] = True
            function = {"name": event.name, "arguments": ""}
            fragment = {"index": event.call, "id": event.id, "type": "function", "function": function}
            fragment.update(write_signature(event.signature))
        else:
            function = {"arguments": event.text}
            fragment = {"index": event.call, "function": function}
        if self._request.functions_api:
            return {"function_call": function} if event.call == 0 else {}
        return {"tool_calls": [fragment]}


def _choice_of(
    index: int, delta: dict[str, Any], logprobs: list[TokenProbability] | None = None, finish: str | None = None
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": write_logprobs(logprobs), "finish_reason": finish}
