"""Log probabilities of an answer's tokens, which stand in its details, or in the events of its stream."""

from collections import deque
from collections.abc import Mapping
from typing import Any

from mooltiproxy.mapping.neutral import TokenProbability


class Probabilities:
    """Gives those of the tokens that a piece of text is made of; a stop string may hold text back, or cut it off."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[TokenProbability, int]] = deque()
        self._ahead = 0  # characters of tokens already told whose text is still to come

    def add(self, event: Mapping[str, Any], length: int) -> None:
        """Take an event of a stream, or what looks like one, whose token is a text of this many characters."""
        token, top = event.get("token"), event.get("top_tokens")
        if isinstance(token, dict):
            alternatives = [_pair(one) for one in top if isinstance(one, dict)] if isinstance(top, list) else []
            self._waiting.append((TokenProbability(*_pair(token), tuple(alternatives)), length))

    def of(self, length: int) -> list[TokenProbability] | None:
        """The probabilities of the next `length` characters; None where the tokens before have told them."""
        self._ahead -= length
        told = []
        while self._waiting and self._ahead < 0:
            probability, covered = self._waiting.popleft()
            told.append(probability)
            self._ahead += covered
        return told or None


def read_probabilities(details: Any, text: str, *, strip: bool) -> list[TokenProbability] | None:
    """Those of the tokens that a whole answer's `text` is made of, after it was cut, and stripped at its beginning."""
    tokens = details.get("tokens") if isinstance(details, dict) else None
    if not isinstance(tokens, list):
        return None
    tops = details.get("top_tokens") or []
    found = Probabilities()
    for at, token in enumerate(tokens):
        said = token_text(token)
        said = said.lstrip() if strip else said
        strip = strip and not said
        if said:
            found.add({"token": token, "top_tokens": tops[at] if at < len(tops) else None}, len(said))
    return found.of(len(text))


def token_text(token: Any, *, special: bool = False) -> str:
    """The text of a token; special tokens (the end of the text) are not meant to be read, unless they are asked for."""
    if not isinstance(token, dict) or token.get("special") and not special:
        return ""
    text = token.get("text")
    return text if isinstance(text, str) else ""


def _pair(token: Mapping[str, Any]) -> tuple[str, float]:
    return str(token.get("text", "")), float(token.get("logprob") or 0.0)
