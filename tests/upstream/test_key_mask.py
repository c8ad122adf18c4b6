import pytest

from mooltiproxy.upstream.key_mask import KeyMask

KEY = b"sk-abcsk-abd"
STARS = b"*" * len(KEY)


def masked(*pieces: bytes) -> bytes:
    mask = KeyMask(KEY)
    return b"".join([*(mask.feed(piece) for piece in pieces), mask.end()])


@pytest.mark.parametrize("at", range(1, 40))
def test_a_key_is_masked_wherever_the_text_is_cut(at: int) -> None:
    text = b"no: " + KEY + b", sk-abc, " + KEY + KEY
    expected = b"no: " + STARS + b", sk-abc, " + STARS + STARS
    assert masked(text[:at], text[at:]) == expected
    assert masked(*(text[one : one + 1] for one in range(len(text)))) == expected


def test_what_only_begins_like_the_key_comes_at_the_end() -> None:
    assert masked(b"it is sk-abcsk", b"") == b"it is sk-abcsk"


def test_nothing_is_held_back_that_cannot_be_a_key() -> None:
    assert KeyMask(KEY).feed(b"data: s\n\n") == b"data: s\n\n"


@pytest.mark.parametrize("key", [None, "", "short"])
def test_a_short_key_is_not_masked_since_it_may_be_a_word(key: str | None) -> None:
    assert KeyMask.of(key) is None
