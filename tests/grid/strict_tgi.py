"""A strict server of Text Generation Inference's `/generate`, without its sockets."""

from typing import Any

import orjson

from mappers.tgi import dialect

from .conversation import MESSAGE, Asked, Told, pieces_of
from .shapes import at_least, between, check, filled, matching, need

NAME = "tgi"
DIALECT = dialect
CONFIG = {"url": "http://127.0.0.1:8080", "template": "HumanResponse"}
MEDIA_TYPE = "text/event-stream"
TELLS = frozenset(("prompt", "answer", "stop_string"))
STOPS = True


def positive(value: Any) -> bool:
    """A number above 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def share(value: Any) -> bool:
    """A number between 0 and 1, both excluded."""
    return positive(value) and value < 1


def object_schema(value: Any) -> bool:
    """A JSON Schema with properties."""
    return isinstance(value, dict) and "properties" in value


PARAMETERS = {
    "do_sample": bool,
    "temperature?": positive,
    "top_p?": share,
    "typical_p?": share,
    "top_k?": at_least(1),
    "repetition_penalty?": positive,
    "frequency_penalty?": between(-2, 2),
    "max_new_tokens?": at_least(1),
    "best_of?": at_least(1),
    "stop?": [filled],
    "seed?": at_least(0),
    "truncate?": at_least(1),
    "details": True,
    "top_n_tokens?": between(1, 5, int),
    "return_full_text": False,
    "grammar?": ({"type": "json", "value": object_schema}, {"type": "regex", "value": matching(".+")}),
}


def hear(body: Any, path: str) -> Asked:
    """What a request asks; raises Refused as the server would refuse it."""
    need(path in ("/generate", "/generate_stream"), f"404 {path}")
    check(body, {"inputs": filled, "parameters": PARAMETERS})
    parameters = body["parameters"]
    need(len(parameters.get("stop", ())) <= 4, "`stop` supports up to 4 stop sequences")
    drawn = {"temperature", "top_p", "top_k", "typical_p"} & parameters.keys()
    need(parameters["do_sample"] or not drawn, "greedy and sampled at once")
    several = parameters.get("best_of", 1) > 1
    need(not several or parameters["do_sample"] and "seed" not in parameters, "`best_of` needs sampling and no seed")
    need(not several or path == "/generate", "`best_of` != 1 is not supported when streaming tokens")
    return Asked(
        prompt=body["inputs"],
        schema=parameters.get("grammar", {}).get("value"),
        stop=tuple(parameters.get("stop", ())),
        max_tokens=parameters.get("max_new_tokens"),
        temperature=parameters.get("temperature"),
        streams=path == "/generate_stream",
    )


def _token(index: int, text: str, *, special: bool = False) -> dict[str, Any]:
    token = {"id": index, "text": text, "logprob": -0.1, "special": special}
    return {"index": index, "token": token, "generated_text": None, "details": None}


def _details(told: Told) -> dict[str, Any]:
    reason = "length" if told.finish == "length" else "stop_sequence" if told.stop_string else "eos_token"
    return {"finish_reason": reason, "generated_tokens": told.usage.answer, "seed": None}


def answer(told: Told, path: str) -> tuple[bytes, dict[str, str]]:
    """A whole answer, with header fields. The stop string is part of the text."""
    text = told.text + (told.stop_string or "")
    body = {"generated_text": text, "details": {**_details(told), "prefill": [], "tokens": []}}
    return orjson.dumps(body), {"x-prompt-tokens": str(told.usage.prompt)}


def stream(told: Told, path: str) -> list[bytes]:
    """The events of a streamed answer; a stop string comes in pieces, like all text."""
    text = told.text + (told.stop_string or "")
    pieces = [*pieces_of(told.text), *pieces_of(told.stop_string or "")]
    events = [_token(at + 1, piece) for at, piece in enumerate(pieces)]
    if not told.stop_string:
        events.append(_token(len(pieces) + 1, "</s>", special=True))
    events[-1] |= {"generated_text": text, "details": {**_details(told), "input_length": told.usage.prompt}}
    return [_event(event) for event in events]


def _event(event: Any) -> bytes:
    return b"data:" + orjson.dumps(event) + b"\n\n"


def error() -> bytes:
    """The body of a 429."""
    return orjson.dumps({"error": MESSAGE, "error_type": "overloaded"})


def broken(path: str) -> list[bytes]:
    """A stream that fails behind its first text."""
    return [*stream(Told("Hi"), path)[:-1], _event({"error": MESSAGE, "error_type": "generation"})]
