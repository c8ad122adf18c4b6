"""How many tokens a request may take, before it is asked, and how many a text has of which nobody has told. Pure.

A token is about four letters of English, and about a character and a third of Chinese or Japanese, which have three
bytes each: so bytes of UTF-8 are counted, by four.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mooltiproxy.mapping.forms import value_at

BYTES = 4
"""Bytes of text for a token."""
ATTACHMENT = 1000
"""Tokens of an image or a file, whichever it is."""
ANSWER = 1000
"""Tokens of an answer for which no limit is said."""
LONGEST_ANSWER = 8192
"""Tokens that are kept for an answer at most: few answers are as long as they may be."""
MOST_ANSWERS = 128
_SMALLEST_ATTACHMENT = 1024
_BASE64 = re.compile(r"[A-Za-z0-9+/_=\r\n-]+")
_SPOKEN = re.compile(
    rb'"(?:content|text|response|thinking|reasoning|reasoning_content|arguments|partial_json|delta|refusal'
    rb'|generated_text)"\s*+:\s*+"([^"\\]*+(?:\\.[^"\\]*+)*+)(?:"|\Z)'
)
"""Where the APIs have what the model says, of an answer that is cut as well."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens of a request and of its answer."""

    prompt: int = 0
    answer: int = 0

    def within(self, most: float) -> "Estimate":
        """The same with less for the answer where both are more than this: so much never fits."""
        left = max(math.floor(most) - self.prompt, 0)
        return self if self.answer <= left else Estimate(self.prompt, max(left, 1))


def prompt_tokens(body: Any) -> int:
    """The tokens of a parsed body: of its texts, and a guess for each attachment in it."""
    tokens = 0.0
    left = [body]
    while left:
        value = left.pop()
        if isinstance(value, str):
            tokens += _tokens_of(value)
        elif isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list):
            numbers = sum(isinstance(one, int) for one in value)  # a prompt of token ids
            tokens += numbers
            if numbers < len(value):
                left += value
    return math.ceil(tokens)


def _tokens_of(text: str) -> float:
    if text.startswith("data:") or len(text) >= _SMALLEST_ATTACHMENT and _BASE64.fullmatch(text):
        return ATTACHMENT
    return (len(text) if text.isascii() else len(text.encode("utf-8", "replace"))) / BYTES


def answer_tokens(body: Any, places: Mapping[str, Sequence[str]], most: int | None) -> int:
    """The tokens that an answer may have, as a body says at these places (those of its endpoint's `Form`), and as
    the model's own settings allow."""
    asked = _number(body, places.get("max_tokens", ()))
    longest = min(asked if asked is not None else ANSWER, LONGEST_ANSWER, most if most is not None else LONGEST_ANSWER)
    answers = _number(body, places.get("n", ())) or 1
    return max(longest, 1) * min(max(answers, 1), MOST_ANSWERS)


def _number(body: Any, places: Sequence[str]) -> int | None:
    for place in places:
        value = value_at(body, place)
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            return int(min(value, 1e9))
    return None


def spoken_bytes(data: bytes) -> int:
    """The bytes of text in an event or an answer."""
    return sum(map(len, _SPOKEN.findall(data)))


def tokens_of_bytes(count: int) -> int:
    """The tokens of so many bytes of text."""
    return math.ceil(count / BYTES)
