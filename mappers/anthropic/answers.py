"""Whole answers of the Messages API, and of its token counter, both ways."""

from collections.abc import Mapping
from typing import Any

import orjson

from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping.gather import raise_failure
from mooltiproxy.mapping.ids import new_id
from mooltiproxy.mapping.neutral import (
    Answer,
    Choice,
    CountAnswer,
    Part,
    Reasoning,
    Refusal,
    Request,
    Text,
    ToolCall,
)
from mooltiproxy.mapping.signatures import ANTHROPIC, REDACTED, carried, mark, own, shown
from mooltiproxy.mapping.stops import StopCutter
from mooltiproxy.mapping.tool_names import tools_renamed

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


def read_answer(body: Any, request: Request) -> Answer:
    """A target's whole answer; raises UpstreamBroken where it is none, or is an error with status 200."""
    raise_failure(body)
    content = body.get("content") if isinstance(body, dict) else None
    if not isinstance(content, list):
        raise UpstreamBroken("the target's answer has no content")
    cutter = StopCutter(unsent_stops(request))
    names = tools_renamed(request, NAMES)
    parts = [part for block in content if isinstance(block, dict) for part in _read_block(block, cutter, names)]
    calls = [part.arguments for part in parts if isinstance(part, ToolCall)]
    reason = read_finish_of(read_stop_reason(body.get("stop_reason")) or "stop", calls[-1] if calls else None)
    stop = cutter.found
    choice = Choice(parts, "stop" if stop else reason, stop or _string(body.get("stop_sequence")))
    return Answer([choice], read_usage(body.get("usage")), _string(body.get("model")))


def _read_block(block: Mapping[str, Any], cutter: StopCutter, names: Mapping[str, str]) -> list[Part]:
    """The part of a block; none for kinds that we know nothing of, and none behind a stop string."""
    kind = block.get("type")
    if cutter.found is not None:
        return []
    if kind == "text":
        text = cutter.feed(_string(block.get("text")) or "")
        text += "" if cutter.found else cutter.flush()
        return [Text(text)] if text else []
    if kind == "thinking":
        return [Reasoning(_string(block.get("thinking")) or "", mark(ANTHROPIC, _string(block.get("signature"))))]
    if kind == "redacted_thinking":
        return [Reasoning("", mark(REDACTED, _string(block.get("data"))))]
    return [_read_call(block, names)] if kind == "tool_use" else []


def _read_call(block: Mapping[str, Any], names: Mapping[str, str]) -> ToolCall:
    name = _string(block.get("name"))
    if name is None:
        raise UpstreamBroken("the target's answer has a tool call without a name")
    arguments = block.get("input")
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments or {}).decode()
    return ToolCall(_string(block.get("id")) or new_id("toolu_"), names.get(name, name), text)


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def write_answer(answer: Answer, request: Request) -> dict[str, Any]:
    """A whole answer for a client; raises UpstreamBroken for a call whose arguments are no JSON object."""
    choice = answer.choices[0]
    return {
        "id": new_id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": request.model or answer.model or "",
        "content": [block for part in carried(choice.parts) for block in _write_part(part, choice)],
        **_write_end(choice),
        "usage": write_usage(answer.usage),
    }


def _write_end(choice: Choice) -> dict[str, str | None]:
    reason = finish_of(choice.finish, has_calls=any(isinstance(part, ToolCall) for part in choice.parts))
    if reason == "stop" and any(isinstance(part, Refusal) for part in choice.parts):
        reason = "content_filter"
    return write_stop_reason(reason, choice.stop_string)


def _write_part(part: Part, choice: Choice) -> list[dict[str, Any]]:
    if isinstance(part, Text | Refusal):
        return [{"type": "text", "text": part.text}] if part.text else []
    if isinstance(part, Reasoning):
        return _write_thought(part)
    return [_write_call(part)] if isinstance(part, ToolCall) and not _is_cut(part, choice) else []


def _write_thought(thought: Reasoning) -> list[dict[str, Any]]:
    """A thought; a signature that is not there is empty."""
    secret = own(REDACTED, thought.signature)
    if secret:
        return [{"type": "redacted_thinking", "data": secret}]
    signature = shown(ANTHROPIC, thought.signature) or ""
    return [{"type": "thinking", "thinking": thought.text, "signature": signature}] if thought.text or signature else []


def _is_cut(call: ToolCall, choice: Choice) -> bool:
    """Whether the token limit cut this call off: what there is of it cannot be said in a whole answer."""
    return choice.finish == "length" and parsed_arguments(call.arguments) is None


def _write_call(call: ToolCall) -> dict[str, Any]:
    arguments = parsed_arguments(call.arguments)
    if arguments is None:
        raise UpstreamBroken(f"the target called {call.name} with arguments that are no JSON object")
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}


def read_count(body: Any, request: Request) -> CountAnswer:
    """The number of tokens; raises UpstreamBroken where there is none."""
    raise_failure(body)
    tokens = body.get("input_tokens") if isinstance(body, dict) else None
    if not isinstance(tokens, int):
        raise UpstreamBroken("the target's answer has no input_tokens")
    return CountAnswer(tokens)


def write_count(answer: CountAnswer, request: Request) -> dict[str, Any]:
    """The number of tokens for a client."""
    return {"input_tokens": answer.tokens}
