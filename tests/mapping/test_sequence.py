from itertools import permutations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooltiproxy.mapping.neutral import (
    CallArguments,
    CallStart,
    Finish,
    ReasoningDelta,
    StreamEvent,
    TextDelta,
    Usage,
    UsageReport,
)
from mooltiproxy.mapping.sequence import Braces, CallSequence

FIRST: list[StreamEvent] = [CallStart(0, "a", "f"), CallArguments(0, '{"x":'), CallArguments(0, "1}")]
SECOND: list[StreamEvent] = [CallStart(1, "b", "g"), CallArguments(1, '{"y":'), CallArguments(1, "2}")]
END = Finish("tool_calls")


def test_calls_that_come_one_after_the_other_pass_at_once() -> None:
    sequence = CallSequence()
    for event in [TextDelta("hi"), *FIRST, *SECOND, TextDelta("more"), END]:
        assert sequence.feed([event]) == [event]


def interleavings() -> list[list[StreamEvent]]:
    """The events of both calls in every order that keeps each call's own."""
    orders = sorted(set(permutations((0, 0, 0, 1, 1, 1))))
    made = []
    for order in orders:
        calls = [iter(FIRST), iter(SECOND)]
        made.append([next(calls[number]) for number in order])
    return made


@pytest.mark.parametrize("events", interleavings())
def test_interleaved_calls_come_out_one_after_the_other(events: list[StreamEvent]) -> None:
    first, second = (FIRST, SECOND) if events[0] is FIRST[0] else (SECOND, FIRST)
    sequence = CallSequence()
    row = [out for event in [*events, END] for out in sequence.feed([event])]
    assert row == [*first, *second, END]


def test_text_waits_for_the_end_of_a_call() -> None:
    sequence = CallSequence()
    assert sequence.feed([*FIRST[:2], TextDelta("t"), FIRST[2]]) == [*FIRST, TextDelta("t")]


def test_calls_without_arguments_end_with_the_answer() -> None:
    sequence = CallSequence()
    starts: list[StreamEvent] = [CallStart(0, "a", "f"), CallStart(1, "b", "f"), CallStart(2, "c", "f")]
    assert sequence.feed(starts) == starts[:1]
    assert sequence.feed([ReasoningDelta("hm")]) == []
    assert sequence.feed([END]) == [*starts[1:], ReasoningDelta("hm"), END]


def test_usage_does_not_wait() -> None:
    report = UsageReport(Usage(1, 2))
    assert CallSequence().feed([FIRST[0], TextDelta("t"), report]) == [FIRST[0], report]


def test_blanks_behind_a_whole_call_are_left_out() -> None:
    sequence = CallSequence()
    assert sequence.feed([*FIRST, SECOND[0], CallArguments(0, "\n")]) == [*FIRST, SECOND[0]]


@given(
    value=st.dictionaries(st.text('a"\\{}[]', max_size=5), st.text('a"\\{}[]', max_size=8)),
    places=st.lists(st.integers(0, 99)),
)
def test_a_whole_object_is_known_by_its_braces_however_it_is_cut(value: dict[str, str], places: list[int]) -> None:
    text = orjson.dumps(value).decode()
    ends = sorted({place % (len(text) + 1) for place in places} | {len(text)})
    braces = Braces()
    levels = []
    for start, end in zip([0, *ends], ends, strict=False):
        braces.add(text[start:end])
        levels.append(braces.level and end > 0)
    whole = [end == len(text) for end in ends]
    assert levels == whole
