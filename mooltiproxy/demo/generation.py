"""One generation: a request and the model in, TGI's stream events and answer out; no I/O.

Formats: the API document of TGI 3.3.6 (`docs/openapi.json`, January 2026).
"""

import random
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from mooltiproxy.demo.language_model import LanguageModel, Sampling, Step, Token, pieces
from mooltiproxy.demo.parameters import Parameters, Request, validate


class Generation:
    """A walk of the model that stops as TGI stops: at its end token, at a stop sequence, or for length."""

    def __init__(self, model: LanguageModel, request: Request, *, streams: bool, full_text: bool = False) -> None:
        """Validate the request (raises Invalid). `full_text` is the path's default of `return_full_text`."""
        tokens = pieces(request.inputs)
        self._room = validate(request, len(tokens) + 1, streams=streams)
        self.parameters = request.parameters
        self._prompt = tokens[-(self.parameters.truncate or len(tokens) + 1) :]
        self._model = model
        self._sampling = _sampling(self.parameters)
        wanted = self.parameters.return_full_text
        self._full_text = full_text if wanted is None else wanted
        self._inputs = request.inputs
        self._text = ""
        self.steps: list[Step] = []
        self.finish_reason: str | None = None

    @property
    def input_length(self) -> int:
        """Tokens of the prompt, the begin token included, after `truncate`."""
        whole = len(self._prompt) + 1
        return min(whole, self.parameters.truncate or whole)

    def run(self) -> Iterator[Step]:
        """The steps; after the last one `finish_reason` is set."""
        for step in self._model.walk("".join(self._prompt), self._sampling):
            self.steps.append(step)
            if not step.token.special:
                self._text += step.token.text
            self.finish_reason = self._ended(step.token)
            yield step
            if self.finish_reason:
                return

    def _ended(self, token: Token) -> str | None:
        if token.special:
            return "eos_token"
        if any(stop and self._text.endswith(stop) for stop in self.parameters.stop):  # only where a token ends
            return "stop_sequence"
        return "length" if len(self.steps) >= self._room else None

    @property
    def generated_text(self) -> str:
        """The text as answered: with the stop sequence that ended it, after the prompt where that was asked for."""
        return self._inputs + self._text if self._full_text else self._text

    def event(self, step: Step) -> dict[str, Any]:
        """The stream event of a step that was just taken."""
        last = self.finish_reason is not None
        event: dict[str, Any] = {"index": len(self.steps), "token": asdict(step.token)}
        if self.parameters.top_n_tokens:
            event["top_tokens"] = self._top(step)
        event["generated_text"] = self.generated_text if last else None
        event["details"] = (
            {**self._ending(), "input_length": self.input_length} if last and self.parameters.details else None
        )
        return event

    def answer(self) -> dict[str, Any]:
        """The whole answer."""
        if not self.parameters.details and not self.parameters.decoder_input_details:
            return {"generated_text": self.generated_text}
        return {"generated_text": self.generated_text, "details": self._details()}

    def _details(self) -> dict[str, Any]:
        prefill = self._model.prefill(self._prompt) if self.parameters.decoder_input_details else []
        details: dict[str, Any] = {
            **self._ending(),
            "prefill": [{"id": token.id, "text": token.text, "logprob": token.logprob} for token in prefill],
            "tokens": [asdict(step.token) for step in self.steps],
        }
        if self.parameters.top_n_tokens:
            details["top_tokens"] = [self._top(step) for step in self.steps]
        return details

    def _ending(self) -> dict[str, Any]:
        return {
            "finish_reason": self.finish_reason,
            "generated_tokens": len(self.steps),
            "seed": self._sampling.seed,
        }

    def _top(self, step: Step) -> list[dict[str, Any]]:
        return [asdict(token) for token in step.top[: self.parameters.top_n_tokens]]


def _sampling(parameters: Parameters) -> Sampling:
    drawn = random.getrandbits(63) if parameters.seed is None else parameters.seed
    return Sampling(
        seed=drawn if parameters.samples else None,
        temperature=parameters.temperature or 1.0,
        top_k=parameters.top_k,
        top_p=parameters.top_p,
        typical_p=parameters.typical_p,
        repetition_penalty=parameters.repetition_penalty or 1.0,
        frequency_penalty=parameters.frequency_penalty or 0.0,
    )
