import base64

import orjson
import pytest

from mooltiproxy.mapping.neutral import Part, Reasoning, Text, ToolCall, Turn
from mooltiproxy.mapping.signatures import (
    ANTHROPIC,
    GEMINI,
    GEMINI_CALL,
    GEMINI_TEXT,
    OPENAI,
    carried,
    lost,
    mark,
    own,
    restored,
    shown,
    without_foreign,
)


def said(*parts: Part) -> Turn:
    return Turn("assistant", list(parts))


def test_a_mark_says_whose_a_state_is() -> None:
    marked = mark(GEMINI, "c2ln")
    assert marked == "mooltiproxy:gemini:c2ln"
    assert (own(GEMINI, marked), own(ANTHROPIC, marked), own(GEMINI_CALL, marked)) == ("c2ln", None, None)
    assert (shown(GEMINI, marked), shown(OPENAI, marked)) == ("c2ln", marked)


def test_a_marked_state_keeps_its_mark() -> None:
    assert mark(ANTHROPIC, mark(GEMINI, "c2ln")) == "mooltiproxy:gemini:c2ln"


@pytest.mark.parametrize("state", [None, "c2ln", "anthropic:c2ln"])
def test_a_state_without_a_mark_is_nobodys(state: str | None) -> None:
    assert own(ANTHROPIC, state) is None


def test_no_state_gets_no_mark() -> None:
    assert mark(ANTHROPIC, None) is None


def test_a_signed_call_has_its_signature_in_a_thought_before_it() -> None:
    parts = carried([Text("Hi"), ToolCall("a", "f", "{}", "SIG"), ToolCall("b", "f", "{}")])
    assert parts[1] == Reasoning("", mark(GEMINI_CALL, "SIG"))
    assert [type(part) for part in parts] == [Text, Reasoning, ToolCall, ToolCall]


def test_the_thought_before_a_call_carries_its_signature_unless_it_has_a_state_of_its_own() -> None:
    call = ToolCall("a", "f", "{}", "SIG")
    assert carried([Reasoning("Hm."), call]) == [Reasoning("Hm.", mark(GEMINI_CALL, "SIG")), call]
    assert len(carried([Reasoning("Hm.", mark(GEMINI, "own")), call])) == 3


def test_signatures_go_back_to_the_call_behind_and_to_the_text_before() -> None:
    signed = mark(GEMINI_CALL, "S1")
    turns = [
        said(Text("Hi")),
        said(Reasoning("", mark(GEMINI_TEXT, "S2"))),
        said(Reasoning("Hm.", signed), ToolCall("a", "f", "{}"), ToolCall("b", "f", "{}")),
    ]
    assert restored(turns) == [
        said(Text("Hi", signature="S2")),
        said(Reasoning("Hm."), ToolCall("a", "f", "{}", "S1"), ToolCall("b", "f", "{}")),
    ]


def test_each_step_of_a_turn_gets_its_own_signature() -> None:
    steps = [said(Reasoning("", mark(GEMINI_CALL, f"S{at}")), ToolCall(f"c{at}", "f", "{}")) for at in (1, 2)]
    turns = [steps[0], Turn("tool", []), steps[1]]
    assert [turn.parts[0].signature for turn in restored(turns) if turn.parts] == ["S1", "S2"]  # type: ignore[union-attr]


def test_a_carrier_without_what_it_signs_stays_a_thought() -> None:
    turns = [said(Reasoning("", mark(GEMINI_CALL, "S1"))), Turn("user", []), said(ToolCall("a", "f", "{}"))]
    assert restored(turns) == turns


def test_what_other_targets_do_not_take_is_named() -> None:
    assert lost([said(Text("Hi", signature="S1"), ToolCall("a", "f", "{}", "S2"))]) == [
        "messages.tool_calls.signature",
        "messages.signature",
    ]
    assert lost([said(Text("Hi"), ToolCall("a", "f", "{}"))]) == []


def passed(body: object) -> object:
    return orjson.loads(without_foreign(orjson.dumps(body)))


GEMINIS, CLAUDES = str(mark(GEMINI_CALL, "S1")), "c2ln"


def test_thoughts_of_others_are_taken_out_of_messages_that_pass() -> None:
    own = {"type": "thinking", "thinking": "Hm.", "signature": CLAUDES}
    call = {"type": "tool_use", "id": "a", "name": "f", "input": {"n": 1.0}}
    foreign = {"type": "thinking", "thinking": "", "signature": GEMINIS}
    asked = {"role": "user", "content": []}
    messages = [
        asked,
        {"role": "assistant", "content": [own, foreign, call]},
        {"role": "assistant", "content": [foreign]},
    ]
    assert passed({"messages": messages}) == {"messages": [asked, {"role": "assistant", "content": [own, call]}]}


def test_thoughts_of_others_are_taken_out_of_items_and_contents_that_pass() -> None:
    foreign = {"type": "reasoning", "summary": [], "encrypted_content": GEMINIS}
    own = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}
    assert passed({"input": [foreign, own]}) == {"input": [own]}
    inside = base64.b64encode(str(mark(ANTHROPIC, CLAUDES)).encode()).decode()
    parts = [{"text": "Hm.", "thought": True, "thoughtSignature": inside}, {"text": "Hi", "thoughtSignature": "c2ln"}]
    assert passed({"contents": [{"role": "model", "parts": parts}]}) == {
        "contents": [{"role": "model", "parts": parts[1:]}]
    }


@pytest.mark.parametrize(
    "body", [b'{"a": 1.0,  "b": "mooltiproxy: x"}', b'["mooltiproxy:', b'{"text": "mooltiproxy:x"}', b""]
)
def test_whatever_else_passes_is_not_touched(body: bytes) -> None:
    assert without_foreign(body) is body
