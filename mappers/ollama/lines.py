"""The answers of chat and generate, whole or line by line: what stands in them and where."""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping.dialect import Answered, Reply
from mooltiproxy.mapping.framing import encode_ndjson
from mooltiproxy.mapping.gather import raise_failure
from mooltiproxy.mapping.ids import new_id
from mooltiproxy.mapping.neutral import (
    Answer,
    Choice,
    FinishReason,
    Part,
    Reasoning,
    Refusal,
    Request,
    Text,
    TokenProbability,
    ToolCall,
    Usage,
)

from .messages import arguments_object


@dataclass(frozen=True, slots=True)
class Layout:
    """Where an answer has its content: in an object of its own under `message`, or beside all else; text as `text`."""

    text: str
    message: str | None = None

    def content_of(self, line: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The object that holds text, thinking and calls; None where it is missing."""
        content = line.get(self.message) if self.message else line
        return content if isinstance(content, dict) else None

    def line(self, request: Request, text: str = "", **more: Any) -> dict[str, Any]:
        """A line or whole answer, without its end; every line has a time of its own."""
        created = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        head = {"model": request.model or "", "created_at": created}
        content = {self.text: text, **more}
        if self.message:
            content = {self.message: {"role": "assistant", **content}}
        return {**head, **content, "done": False}


CHAT = Layout("content", "message")
GENERATE = Layout("response")


def read_calls(content: Mapping[str, Any]) -> list[ToolCall]:
    """The calls of a line or whole answer; raises UpstreamBroken for one without a name.

    Older servers give no ids. One that is made here reaches a client that sends it back: it need not be the same twice.
    """
    calls = content.get("tool_calls")
    return [_read_call(call) for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def _read_call(call: Mapping[str, Any]) -> ToolCall:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise UpstreamBroken("the target's answer has a tool call without a name")
    arguments = function.get("arguments")
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments or {}).decode()
    identifier = call.get("id")
    made = identifier if isinstance(identifier, str) and identifier else new_id("call_")
    return ToolCall(made, function["name"], text)


def write_call(number: int, call: ToolCall) -> dict[str, Any]:
    """One entry of `tool_calls`; raises UpstreamBroken for arguments that are no JSON object."""
    arguments = arguments_object(call.arguments)
    if arguments is None:
        raise UpstreamBroken(f"the model called {call.name} with arguments that are no JSON object")
    return {"id": call.id, "function": {"index": number, "name": call.name, "arguments": arguments}}


def text_of(content: Mapping[str, Any], name: str) -> str:
    """A text of a line, empty where there is none."""
    text = content.get(name)
    return text if isinstance(text, str) else ""


def read_finish(line: Mapping[str, Any], *, has_calls: bool) -> FinishReason:
    """Why a line is the last. Calls end with `stop`, older servers give no reason; calls are always whole."""
    if has_calls:
        return "tool_calls"
    return "length" if line.get("done_reason") == "length" else "stop"


def read_usage(line: Mapping[str, Any]) -> Usage:
    """The counts of a last line: a server leaves out a count of 0."""
    counts = (line.get("prompt_eval_count"), line.get("eval_count"))
    prompt, answer = (count if isinstance(count, int) else 0 for count in counts)
    return Usage(prompt, answer)


def read_logprobs(line: Mapping[str, Any]) -> list[TokenProbability] | None:
    """The probabilities of a line's tokens, None where there are none."""
    tokens = line.get("logprobs")
    if not isinstance(tokens, list):
        return None
    return [_read_probability(token) for token in tokens if isinstance(token, dict)] or None


def _read_probability(token: Mapping[str, Any]) -> TokenProbability:
    top = token.get("top_logprobs")
    alternatives = [_read_token(one) for one in top if isinstance(one, dict)] if isinstance(top, list) else []
    return TokenProbability(*_read_token(token), tuple(alternatives))


def _read_token(token: Mapping[str, Any]) -> tuple[str, float]:
    return str(token.get("token", "")), float(token.get("logprob") or 0.0)


def write_logprobs(logprobs: Sequence[TokenProbability]) -> list[dict[str, Any]]:
    """The `logprobs` of a line."""
    return [
        {**_write_token(one.text, one.logprob), "top_logprobs": [_write_token(*other) for other in one.top]}
        for one in logprobs
    ]


def _write_token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def ending(request: Request, finish: FinishReason, usage: Usage | None, first: int | None) -> dict[str, Any]:
    """The fields that only a last line has. A count that nobody told is 0.

    `first` is the time of the first token, None where the answer came whole. Durations are nanoseconds as seen from
    here: up to the first token the prompt was read, and how much of that was loading is not known.
    """
    now = time.monotonic_ns()
    first = request.began if first is None else first
    return {
        "done": True,
        "done_reason": "length" if finish == "length" else "stop",
        "total_duration": max(now - request.began, 1),
        "load_duration": 1,
        "prompt_eval_count": (usage and usage.prompt) or 0,
        "prompt_eval_duration": max(first - request.began, 1),
        "eval_count": (usage and usage.answer) or 0,
        "eval_duration": max(now - first, 1),
    }


_NO_TIME = re.compile(r"[-+]?(0+(\.0*)?(ns|us|µs|ms|s|m|h)?)+")
"""A duration of nothing, as Go writes it: `0`, `0s`, `0h0m`."""


def loaded(layout: Layout, request: Request) -> Answered:
    """The answer to a request without a question, which loads a model, or unloads it if it is to stay for no time.

    The other APIs have no words for either: their servers load a model when it is asked something.
    """
    stay = request.keep_alive
    unload = bool(_NO_TIME.fullmatch(stay)) if isinstance(stay, str) else stay == 0
    end = {"done": True, "done_reason": "unload" if unload else "load"}
    return answered({**layout.line(request), **end}, request.extra, streamed=request.stream)


def answered(body: Mapping[str, Any], extra: Iterable[str], *, streamed: bool = False) -> Answered:
    """An answer that no target is needed for; what stood in the request beside the question comes to nothing."""
    media_type = "application/x-ndjson" if streamed else "application/json"
    return Answered(Reply(encode_ndjson(body) if streamed else orjson.dumps(body), media_type), tuple(sorted(extra)))


def read_answer(layout: Layout, body: Any, request: Request) -> Answer:
    """A target's whole answer; raises UpstreamBroken where it is none, or is an error with status 200."""
    raise_failure(body)
    content = layout.content_of(body) if isinstance(body, dict) else None
    if content is None or not isinstance(content.get(layout.text, ""), str):
        raise UpstreamBroken(f"the target's answer has no {layout.message or layout.text}")
    thought = text_of(content, "thinking")
    text = (request.prompt or "" if request.echo else "") + text_of(content, layout.text)
    calls = read_calls(content)
    parts: list[Part] = [*([Reasoning(thought)] if thought else []), *([Text(text)] if text else []), *calls]
    finish = read_finish(body, has_calls=bool(calls))
    return Answer([Choice(parts, finish, None, read_logprobs(body))], read_usage(body))


def write_answer(layout: Layout, answer: Answer, request: Request) -> dict[str, Any]:
    """A whole answer for a client; raises UpstreamBroken for a call that this API cannot say."""
    choice = answer.choices[0]
    text = "".join(part.text for part in choice.parts if isinstance(part, Text | Refusal))
    thought = "".join(part.text for part in choice.parts if isinstance(part, Reasoning))
    calls = [part for part in choice.parts if isinstance(part, ToolCall)]
    more: dict[str, Any] = {"thinking": thought} if thought else {}
    written = write_calls(calls, choice.finish)
    if written:
        more["tool_calls"] = written
    line = {**layout.line(request, text, **more), **ending(request, choice.finish, answer.usage, None)}
    return {**line, "logprobs": write_logprobs(choice.logprobs)} if choice.logprobs else line


def write_calls(calls: Sequence[ToolCall], finish: FinishReason, start: int = 0) -> list[dict[str, Any]]:
    """Entries of `tool_calls` from number `start` on; raises UpstreamBroken as `write_call` does.

    A last call that the limit of tokens cut off is left out: the reason given, `length`, says so.
    """
    if finish == "length" and calls and arguments_object(calls[-1].arguments) is None:
        calls = calls[:-1]
    return [write_call(start + number, call) for number, call in enumerate(calls)]
