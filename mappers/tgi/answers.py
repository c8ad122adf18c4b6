"""Whole answers, both ways, and what they share with streams."""

from typing import Any

from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping.gather import raise_failure
from mooltiproxy.mapping.neutral import Answer, Choice, CountAnswer, FinishReason, Request, Text, Usage
from mooltiproxy.mapping.stops import cut_at_stop

from ..openai.rendering import strips
from .probabilities import read_probabilities, token_text
from .writing import all_stops

_FINISH: dict[str, FinishReason] = {"length": "length", "eos_token": "stop", "stop_sequence": "stop"}


def read_text_answer(body: Any, request: Request) -> Answer:
    """A whole answer to a client's own prompt; raises UpstreamBroken where it is none."""
    return _read_answer(body, request, strip=False)


def read_chat_answer(body: Any, request: Request) -> Answer:
    """A whole answer in a conversation, without the whitespace that the template provokes; raises UpstreamBroken."""
    return _read_answer(body, request, strip=strips(request))


def _read_answer(body: Any, request: Request, *, strip: bool) -> Answer:
    raise_failure(body)
    if isinstance(body, list) and body:
        body = body[0]
    text = body.get("generated_text") if isinstance(body, dict) else None
    if not isinstance(text, str):
        raise UpstreamBroken("the target's answer has no generated_text")
    details = body.get("details")
    if request.spoken is not None:
        text = _with_marks(details) or text
    text, stop = cut_at_stop(text.lstrip() if strip else text, all_stops(request))
    if request.echo and request.prompt:
        text = request.prompt + text
    finish = "stop" if stop else read_finish(details)
    logprobs = read_probabilities(details, text, strip=strip) if request.sampling.logprobs else None
    choice = Choice([Text(text)] if text else [], finish, client_stop(request, stop), logprobs)
    return Answer([choice], read_usage(details, request))


def _with_marks(details: Any) -> str:
    """The text with its special tokens, but for the last one, which is the end: marks of calls and thoughts are such
    tokens in many models, and not in `generated_text`."""
    tokens = details.get("tokens") if isinstance(details, dict) else None
    known = tokens if isinstance(tokens, list) else []
    return "".join(token_text(token, special=at < len(known) - 1) for at, token in enumerate(known))


def client_stop(request: Request, stop: str | None) -> str | None:
    """The stop that a client may hear of: one of its own."""
    return stop if stop in request.sampling.stop else None


def read_count(body: Any, request: Request) -> CountAnswer:
    """The number of tokens in a list of them; raises UpstreamBroken where it is none."""
    raise_failure(body)
    if not isinstance(body, list):
        raise UpstreamBroken("the target's answer is no list of tokens")
    return CountAnswer(len(body))


def read_finish(details: Any) -> FinishReason:
    """Why an answer ended, as its details say."""
    reason = details.get("finish_reason") if isinstance(details, dict) else None
    return _FINISH.get(reason, "stop") if isinstance(reason, str) else "stop"


def read_usage(details: Any, request: Request) -> Usage | None:
    """The tokens of an answer; those of the prompt stand in a stream's details and in a whole answer's header."""
    if not isinstance(details, dict):
        return None
    prompt = details.get("input_length")
    prefill = details.get("prefill")
    told = request.answer_fields.get("x-prompt-tokens", "")
    if not isinstance(prompt, int):
        prompt = int(told) if told.isdecimal() else len(prefill) if isinstance(prefill, list) and prefill else None
    answer = details.get("generated_tokens")
    return Usage(prompt=prompt, answer=answer if isinstance(answer, int) else None)


def write_answer(answer: Answer, request: Request) -> dict[str, Any]:
    """A whole answer for a client of this API."""
    choice = answer.choices[0]
    text = "".join(part.text for part in choice.parts if isinstance(part, Text)) + (choice.stop_string or "")
    written: dict[str, Any] = {"generated_text": request.repeats.get("inputs", "") + text}
    if request.include_usage:
        details = write_details(choice.finish, choice.stop_string, answer.usage)
        written["details"] = {**details, "prefill": [], "tokens": []}
    return written


def write_root_answer(answer: Answer, request: Request) -> list[dict[str, Any]]:
    """The same for a client of `/`."""
    return [write_answer(answer, request)]


def write_details(finish: FinishReason, stop_string: str | None, usage: Usage | None) -> dict[str, Any]:
    """The fields that both kinds of details share. The API has no word for an unknown count: it is 0."""
    reason = "length" if finish == "length" else "stop_sequence" if stop_string else "eos_token"
    return {"finish_reason": reason, "generated_tokens": (usage and usage.answer) or 0, "seed": None}
