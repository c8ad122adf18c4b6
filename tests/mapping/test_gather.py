from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping.gather import answer_of, stream_of
from mooltiproxy.mapping.neutral import (
    Answer,
    Choice,
    Failure,
    Finish,
    Part,
    Reasoning,
    ReasoningDelta,
    Refusal,
    StreamEvent,
    Text,
    TextDelta,
    TokenProbability,
    ToolCall,
    Usage,
)

words = st.text(min_size=1, max_size=5)
some = st.none() | words
parts = st.one_of(
    st.builds(Text, words, st.none(), some),
    st.builds(Refusal, words),
    st.builds(Reasoning, words, some),
    st.builds(ToolCall, words, words, words, some),
)


def distinct(parts: Sequence[Part]) -> list[Part]:
    """Without neighbours of one kind, which a stream cannot tell apart."""
    kept: list[Part] = []
    for part in parts:
        if isinstance(part, ToolCall) or not kept or type(kept[-1]) is not type(part):
            kept.append(part)
    return kept


choices = st.builds(
    Choice,
    st.lists(parts, max_size=5).map(distinct),
    st.sampled_from(["stop", "length", "tool_calls", "content_filter"]),
    some,
)
answers = st.builds(Answer, st.lists(choices, min_size=1, max_size=3), st.none() | st.builds(Usage, st.integers(0)))


@given(answers)
def test_an_answer_made_a_stream_is_gathered_again(answer: Answer) -> None:
    assert answer_of(stream_of(answer)) == answer


def test_probabilities_survive_a_stream() -> None:
    logprobs = [TokenProbability("a", -0.5, (("a", -0.5), ("b", -1.0)))]
    answer = Answer([Choice([Text("a")], "stop", None, logprobs)])
    assert answer_of(stream_of(answer)) == answer


def test_a_stream_without_a_finish_is_no_answer() -> None:
    with pytest.raises(UpstreamBroken):
        answer_of([TextDelta("a")])
    with pytest.raises(UpstreamBroken):
        answer_of([])


def test_a_failed_stream_keeps_the_failures_status() -> None:
    with pytest.raises(UpstreamBroken) as caught:
        answer_of([TextDelta("a"), Failure("too busy", 429, "busy")])
    assert (str(caught.value), caught.value.status, caught.value.code) == ("too busy", 429, "busy")


def test_interleaved_choices_are_sorted() -> None:
    texts: list[StreamEvent] = [TextDelta("b", 1), TextDelta("a", 0), TextDelta("B", 1)]
    gathered = answer_of([*texts, Finish("stop", None, 1), Finish("length")])
    assert gathered == Answer([Choice([Text("a")], "length"), Choice([Text("bB")], "stop")])


def test_thoughts_that_vendor_state_closes_stay_apart() -> None:
    thoughts: list[Part] = [Reasoning("a", "sig"), Reasoning("", "data"), Reasoning("b", "sig2")]
    answer = Answer([Choice(thoughts, "stop")])
    assert answer_of(stream_of(answer)) == answer


def test_a_signature_behind_a_thought_belongs_to_it() -> None:
    pieces: list[StreamEvent] = [ReasoningDelta("a"), ReasoningDelta("b"), ReasoningDelta("", "sig"), Finish("stop")]
    assert answer_of(pieces).choices[0].parts == [Reasoning("ab", "sig")]
