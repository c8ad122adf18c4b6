"""A word-level n-gram language model over one page of text, small enough to be made at start.

The next token is drawn from what followed the last one, two and three tokens in the text, longer matches counting more.
Paragraphs that share rare words with the prompt count more too, so an answer has to do with its question. A walk never
repeats a run of four tokens, hence it always ends.
"""

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

TEXT = Path(__file__).parent / "text.txt"
BOS, EOS, UNKNOWN = "<s>", "</s>", "<unk>"
SPECIAL = (UNKNOWN, BOS, EOS)
LONGEST_CONTEXT = 3
MOST_TOP_TOKENS = 5
LONGER_SHARE = 0.8
"""Of the probability, what the longest known context gets; the rest goes to the next shorter one, and so on."""
TOPIC = 3.0
"""Exponent of a paragraph's relevance: higher keeps closer to what the prompt asks for."""
FADING = 0.2
"""What a line of the prompt counts beside the line after it."""
UNASKED = 0.1
"""The relevance of a paragraph that shares nothing with the prompt; the highest is 1 more."""
PIECE = re.compile(r" ?\w+(?:['’-]\w+)*| ?[^\w\s]|\n+|\s")


@dataclass(frozen=True, slots=True)
class Token:
    """One token of an answer or a prompt; `logprob` is None where nothing came before it."""

    id: int
    text: str
    logprob: float | None = None
    special: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the walk: the token taken, and the likeliest tokens in falling order."""

    token: Token
    top: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is chosen. A `seed` of None takes the likeliest one (greedy); a filter of None is off."""

    seed: int | None = None
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0


Distribution = dict[str, float]


def pieces(text: str) -> list[str]:
    """Cut a text into tokens; joined again they are the text."""
    return PIECE.findall(text)


class LanguageModel:
    """The model; made once, used by any number of walks."""

    def __init__(self, text: str) -> None:
        paragraphs = [pieces(paragraph) for paragraph in text.strip().split("\n\n")]
        self._words = [Counter(map(_stem, paragraph)) for paragraph in paragraphs]
        self._rarity = _rarity(self._words)
        self._followers: dict[tuple[str, ...], list[tuple[str, int]]] = defaultdict(list)
        for number, paragraph in enumerate(paragraphs):
            self._learn(paragraph, number)
        known = (token for paragraph in paragraphs for token in (*paragraph, f" {paragraph[0]}"))
        self._ids = {token: number for number, token in enumerate(dict.fromkeys((*SPECIAL, *known)))}

    def _learn(self, paragraph: Sequence[str], number: int) -> None:
        tokens = [BOS, *paragraph, EOS]
        for position in range(1, len(tokens)):
            for length in range(1, min(LONGEST_CONTEXT, position) + 1):
                self._followers[_context(tokens[position - length : position])].append((tokens[position], number))

    def token(self, text: str, logprob: float | None = None) -> Token:
        """The token of this text; one that the model has never read has the id of `<unk>`."""
        return Token(self._ids.get(text, 0), text, logprob, text in SPECIAL)

    def walk(self, prompt: str, sampling: Sampling) -> Iterator[Step]:
        """What the model says after `prompt`, token by token; the last one is the special `</s>`."""
        chance = None if sampling.seed is None else random.Random(sampling.seed)
        relevance = self._relevance(prompt)
        context, glue = self._start(prompt)
        said: list[str] = []
        runs: set[tuple[str, ...]] = set()
        while not said or said[-1] != EOS:
            recent = (*context, *said)[-LONGEST_CONTEXT:]
            fresh = {
                token: weight
                for token, weight in self._next(recent, relevance).items()
                if _context((*recent, token)) not in runs
            }
            likely = _warp(fresh or {EOS: 1.0}, sampling, Counter(said))
            chosen = _choose(likely, chance)
            runs.add(_context((*recent, chosen)))
            said.append(chosen)
            yield self._step(chosen, likely, glue)
            glue = ""

    def _step(self, chosen: str, likely: Distribution, glue: str) -> Step:
        def token(text: str) -> Token:
            return self.token(text if text == EOS else glue + text, math.log(likely[text]))

        return Step(token(chosen), tuple(map(token, islice(likely, MOST_TOP_TOKENS))))

    def prefill(self, tokens: Sequence[str]) -> list[Token]:
        """The tokens of a prompt, with how likely the model finds each; the first has nothing before it."""
        level = [1.0] * len(self._words)
        result = [self.token(BOS)]
        for position, token in enumerate(tokens):
            weights = self._next((BOS, *tokens)[: position + 1][-LONGEST_CONTEXT:], level)
            share = weights.get(token, 0.0) / (sum(weights.values()) or 1.0)
            result.append(self.token(token, math.log(max(share, 1e-9))))
        return result

    def _start(self, prompt: str) -> tuple[tuple[str, ...], str]:
        """Where the walk starts: on the prompt's last words where the model knows them, else with a new paragraph."""
        line = pieces(prompt.rpartition("\n")[2])[-LONGEST_CONTEXT:]
        for length in range(len(line), 0, -1):
            if line[-1].strip().isalnum() and _context(line[-length:]) in self._followers:
                return tuple(line[-length:]), ""
        return (BOS,), "" if prompt[-1:].isspace() else " "

    def _next(self, recent: Sequence[str], relevance: Sequence[float]) -> Distribution:
        weights: Distribution = defaultdict(float)
        share = LONGER_SHARE
        for length in range(len(recent), 0, -1):
            followers = self._followers.get(_context(recent[-length:]))
            if followers is None:
                continue
            total = sum(relevance[number] for _, number in followers)
            for token, number in followers:
                weights[token] += share * relevance[number] / total
            share *= 1 - LONGER_SHARE
        return weights

    def _relevance(self, prompt: str) -> list[float]:
        """How much each paragraph has to do with the prompt, its last lines above all."""
        scores = [0.0] * len(self._words)
        for age, line in enumerate(reversed(prompt.split("\n"))):
            for word in set(map(_stem, pieces(line))):
                for number, words in enumerate(self._words):
                    scores[number] += words[word] * self._rarity.get(word, 0.0) * FADING**age
        highest = max(scores) or 1.0
        return [(UNASKED + score / highest) ** TOPIC for score in scores]


def _context(tokens: Sequence[str]) -> tuple[str, ...]:
    return tuple(token.strip(" ").casefold() for token in tokens)


def _stem(token: str) -> str:
    return token.strip().casefold().removesuffix("s")


def _rarity(paragraphs: Sequence[Counter[str]]) -> dict[str, float]:
    seen = Counter(word for words in paragraphs for word in words)
    return {word: math.log(len(paragraphs) / number) for word, number in seen.items()}


def _warp(weights: Distribution, sampling: Sampling, said: Counter[str]) -> Distribution:
    """Penalties, temperature and filters; the result is in falling order and sums to 1."""
    logs = {token: math.log(weight) for token, weight in _normal(weights).items()}
    for token in logs.keys() & said.keys():
        logs[token] = logs[token] * sampling.repetition_penalty - sampling.frequency_penalty * said[token]
    highest = max(logs.values())
    likely = _normal({token: math.exp((log - highest) / sampling.temperature) for token, log in logs.items()})
    likely = {token: weight for token, weight in likely.items() if weight > 0}
    if sampling.top_k is not None:
        likely = _normal(dict(islice(likely.items(), sampling.top_k)))
    if sampling.top_p is not None:
        likely = _normal(_mass(likely, sampling.top_p))
    if sampling.typical_p is not None:
        likely = _normal(_mass(_by_typicality(likely), sampling.typical_p))
    return likely


def _normal(weights: Distribution) -> Distribution:
    total = sum(weights.values())
    return {token: weight / total for token, weight in sorted(weights.items(), key=lambda item: (-item[1], item[0]))}


def _mass(likely: Distribution, mass: float) -> Distribution:
    """The first tokens that together reach `mass`, at least one."""
    kept: Distribution = {}
    for token, weight in likely.items():
        kept[token] = weight
        if sum(kept.values()) >= mass:
            break
    return kept


def _by_typicality(likely: Distribution) -> Distribution:
    """The same in order of how close a token's surprise is to the expected one (arXiv 2202.00666)."""
    expected = -sum(weight * math.log(weight) for weight in likely.values())
    return dict(sorted(likely.items(), key=lambda item: abs(-math.log(item[1]) - expected)))


def _choose(likely: Distribution, chance: random.Random | None) -> str:
    if chance is None:
        return next(iter(likely))
    return chance.choices(list(likely), list(likely.values()))[0]
