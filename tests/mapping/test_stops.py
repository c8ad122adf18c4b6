from hypothesis import given
from hypothesis import strategies as st

from mooltiproxy.mapping.stops import StopCutter, cut_at_stop


def test_text_is_cut_at_the_first_stop() -> None:
    assert cut_at_stop("one END two STOP", ["STOP", "END"]) == ("one ", "END")


def test_text_without_a_stop_is_whole() -> None:
    assert cut_at_stop("one EN", ["END"]) == ("one EN", None)


def test_what_may_begin_a_stop_is_held_back() -> None:
    cutter = StopCutter(["\n### HUMAN:"])
    assert cutter.feed("Hello\n##") == "Hello"
    assert cutter.feed("# HUMAN: you") == ""
    assert cutter.found == "\n### HUMAN:"
    assert cutter.feed("more") == ""


def test_what_turns_out_to_be_no_stop_is_released() -> None:
    cutter = StopCutter(["END"])
    assert cutter.feed("aE") == "a"
    assert cutter.feed("x") == "Ex"
    assert cutter.feed("EN") == ""
    assert cutter.flush() == "EN"


def test_of_two_stops_that_end_together_the_longer_counts() -> None:
    assert cut_at_stop("a\n### B", ["### B", "\n### B"]) == ("a", "\n### B")


def test_without_stops_nothing_is_held_back() -> None:
    assert StopCutter([""]).feed("abc") == "abc"


@given(st.text("ab\n", max_size=12), st.lists(st.text("ab\n", min_size=1, max_size=3), max_size=3), st.integers(1, 4))
def test_the_result_does_not_depend_on_the_pieces(text: str, stops: list[str], size: int) -> None:
    cutter = StopCutter(stops)
    streamed = "".join(cutter.feed(text[at : at + size]) for at in range(0, len(text), size))
    if cutter.found is None:
        streamed += cutter.flush()
    assert (streamed, cutter.found) == cut_at_stop(text, stops)
    assert not any(stop in streamed for stop in stops)


def test_a_stop_of_one_character_is_found_and_nothing_is_held() -> None:
    cutter = StopCutter(["|"])
    assert cutter.feed("ab") == "ab"
    assert cutter.feed("c|d") == "c"
    assert cutter.found == "|"
