"""Opaque state that vendors want back: signatures of thoughts, calls and texts, encrypted reasoning.

A vendor refuses what it has not made itself, and nothing in such a state tells whose it is. So in the neutral form, and
with every client of another API, a thought's state is marked: `mooltiproxy:gemini:...`. What comes back without a mark
is of the vendor whose API the client speaks. Targets get their own state without the mark, and never another's.

Gemini signs calls and texts, too. Where a client's API has a place for signatures in thoughts only, a thought carries
them: before the call, or behind the text.
"""

import base64
from collections.abc import Iterable, Sequence
from typing import Any

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.bodies import dumps, loads_request
from mooltiproxy.mapping.neutral import Part, Reasoning, Text, ToolCall, Turn

_MARK = "mooltiproxy:"
_BEGINS = (_MARK, base64.b64encode(_MARK.encode()).decode())
"""What marked states begin with, to Gemini's clients as well."""
_BEGIN_IN_JSON = tuple(f'"{begin}'.encode() for begin in _BEGINS)
_FIELDS = ("signature", "encrypted_content", "thoughtSignature", "thought_signature")
"""Where clients of the three APIs carry states."""

ANTHROPIC = "anthropic"
REDACTED = "anthropic.redacted"
"""Thoughts that Anthropic shows in no other way than encrypted."""
OPENAI = "openai"
GEMINI = "gemini"
GEMINI_CALL = "gemini.call"
GEMINI_TEXT = "gemini.text"


def mark(owner: str, state: str | None) -> str | None:
    """The state with the mark of its owner, unless it bears one already; None for no state."""
    return state and (state if is_marked(state) else f"{_MARK}{owner}:{state}")


def is_marked(state: str) -> bool:
    """Whether a state says whose it is."""
    return state.startswith(_MARK)


def own(owner: str, state: str | None) -> str | None:
    """The state as its owner made it; None where it is another's."""
    begin = f"{_MARK}{owner}:"
    return state.removeprefix(begin) if state and state.startswith(begin) else None


def shown(owner: str, state: str | None) -> str | None:
    """The state as a client of this owner's API gets it: another's keeps its mark."""
    return own(owner, state) or state


def call_carrier(call_signature: str) -> str | None:
    """The state of a thought that carries the signature of the call behind it."""
    return mark(GEMINI_CALL, call_signature)


def text_carrier(text_signature: str) -> str | None:
    """The state of a thought that carries the signature of the text before it."""
    return mark(GEMINI_TEXT, text_signature)


def carried(parts: Iterable[Part]) -> list[Part]:
    """The parts with the signatures of calls in thoughts, the one before a call if that bears no state of its own."""
    found: list[Part] = []
    for part in parts:
        if isinstance(part, ToolCall) and part.signature:
            before = found[-1] if found else None
            text = ""
            if isinstance(before, Reasoning) and not before.signature:
                text = before.text
                found.pop()
            found.append(Reasoning(text, call_carrier(part.signature)))
        found.append(part)
    return found


def restored(turns: Sequence[Turn]) -> list[Turn]:
    """The turns of a client's history with the signatures where they belong; turns that held nothing else are gone."""
    said: Text | None = None
    waiting: Reasoning | None = None
    for turn in turns:
        if turn.role != "assistant":
            said = waiting = None
        for part in turn.parts:
            if isinstance(part, Text):
                said = part
            elif isinstance(part, Reasoning):
                waiting = part if own(GEMINI_CALL, part.signature) else waiting
                signature = own(GEMINI_TEXT, part.signature)
                if said and signature:
                    said.signature, part.signature = signature, None
            elif isinstance(part, ToolCall) and waiting:
                part.signature, waiting.signature = own(GEMINI_CALL, waiting.signature), None
                waiting = None
    return [kept for turn in turns for kept in _kept(turn)]


def _kept(turn: Turn) -> list[Turn]:
    """The turn without thoughts that say nothing any more; none where it held nothing else."""
    parts = [part for part in turn.parts if not isinstance(part, Reasoning) or part.text or part.signature]
    if len(parts) == len(turn.parts):
        return [turn]
    return [Turn(turn.role, parts, turn.name)] if parts else []


def lost(turns: Iterable[Turn]) -> list[str]:
    """What to name as dropped for a target that takes no signatures of calls and texts, which all but Gemini are."""
    parts = [part for turn in turns for part in turn.parts]
    calls = any(isinstance(part, ToolCall) and part.signature for part in parts)
    texts = any(isinstance(part, Text) and part.signature for part in parts)
    return [*(["messages.tool_calls.signature"] if calls else []), *(["messages.signature"] if texts else [])]


def without_foreign(body: bytes) -> bytes:
    """A body that passes to a target of the client's own API, without the thoughts of other vendors' models: the same
    bytes where there are none, and where they are no JSON."""
    if not any(mark in body for mark in _BEGIN_IN_JSON):
        return body
    try:
        value = loads_request(body)
    except BadRequest:
        return body
    own_only = _own_only(value)
    return body if own_only == value else dumps(own_only)


def _own_only(value: Any) -> Any:
    """The value without marked thoughts in its lists, and without messages that held nothing else."""
    if isinstance(value, dict):
        return {name: _own_only(below) for name, below in value.items()}
    if not isinstance(value, list):
        return value
    kept = [(one, _own_only(one)) for one in value if not _is_foreign(one)]
    return [left for one, left in kept if left == one or [] not in (left.get("content"), left.get("parts"))]


def _is_foreign(value: Any) -> bool:
    states = [value.get(name) for name in _FIELDS] if isinstance(value, dict) else []
    return any(isinstance(state, str) and state.startswith(_BEGINS) for state in states)
