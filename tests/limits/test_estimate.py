"""What requests are guessed to take: bounds that hold for whatever clients send."""

import base64
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from mooltiproxy.limits.estimate import (
    ANSWER,
    ATTACHMENT,
    LONGEST_ANSWER,
    MOST_ANSWERS,
    Estimate,
    answer_tokens,
    prompt_tokens,
    spoken_bytes,
)

PLACES = {"max_tokens": ("max_tokens", "options.num_predict"), "n": ("n",)}
TEXT = st.text(st.characters(codec="utf-8"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text("abcn", max_size=5), inner, max_size=5),
    max_leaves=30,
)


@given(JSON)
def test_a_body_never_takes_less_than_nothing_or_more_than_its_bytes(body: Any) -> None:
    assert 0 <= prompt_tokens(body) <= len(orjson.dumps(body))


@given(TEXT, TEXT)
def test_more_text_never_takes_less(one: str, other: str) -> None:
    def asked(*texts: str) -> int:
        return prompt_tokens({"messages": [{"role": "user", "content": text} for text in texts]})

    assert asked(one) <= asked(one, other)


@given(JSON, st.none() | st.integers(1, 10**6))
def test_an_answer_takes_something_and_not_without_end(body: Any, most: int | None) -> None:
    assert 1 <= answer_tokens(body, PLACES, most) <= LONGEST_ANSWER * MOST_ANSWERS


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.floats(1, 1e6))
def test_an_answer_fits_a_limit_where_its_prompt_does(prompt: int, answer: int, most: float) -> None:
    kept = Estimate(prompt, answer).within(most)
    assert kept.prompt == prompt
    assert 1 <= kept.answer <= answer
    assert prompt + kept.answer <= max(int(most), prompt + 1)


@given(TEXT)
def test_the_text_of_an_event_is_found_whatever_it_is(text: str) -> None:
    event = orjson.dumps({"choices": [{"delta": {"role": "assistant", "content": text}}]})
    assert spoken_bytes(event) == len(orjson.dumps(text)) - 2


def test_what_clients_say_of_the_answer_counts() -> None:
    assert answer_tokens({}, PLACES, None) == ANSWER
    assert answer_tokens({"max_tokens": 50, "n": 3}, PLACES, None) == 150
    assert answer_tokens({"options": {"num_predict": 7}}, PLACES, None) == 7
    assert answer_tokens({"max_tokens": 50}, PLACES, 20) == 20
    assert answer_tokens({"max_tokens": -1}, PLACES, None) == ANSWER


def test_an_attachment_counts_flat_however_it_is_sent() -> None:
    data = base64.b64encode(bytes(range(256)) * 400).decode()
    for part in ({"image_url": {"url": f"data:image/png;base64,{data}"}}, {"source": {"data": data}}):
        assert ATTACHMENT <= prompt_tokens({"content": [part]}) < ATTACHMENT + 50


def test_other_alphabets_take_more_tokens_a_letter() -> None:
    assert prompt_tokens("x" * 400) == 100
    assert prompt_tokens("海" * 400) == 300


def test_a_prompt_of_token_ids_is_as_many() -> None:
    assert prompt_tokens({"prompt": [1] * 700}) == 700
