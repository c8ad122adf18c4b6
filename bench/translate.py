"""How long it takes to translate one long conversation, in this process: no sockets, no parsing of HTTP."""

import statistics
import time
from pathlib import Path
from typing import Any

from mooltiproxy.config.load import from_data
from mooltiproxy.mapping.neutral import NOWHERE
from mooltiproxy.mapping.translate import Translation

TARGETS = ("anthropic", "tgi")
TURNS = 400
TEXT = "Hello Bob, how are you doing? " * 16
ENVIRON = {"MOOLTIPROXY_KEY": "bench-client-key"}


def times(seconds: float) -> dict[str, float]:
    """The median seconds of a request's translation by the API of its target; all of them together take `seconds`."""
    body = conversation()
    return {name: _median(translation(name), body, seconds / len(TARGETS)) for name in TARGETS}


def conversation() -> dict[str, Any]:
    """A chat request of about 200 kB as OpenAI's clients send it, parsed."""
    roles = ("user", "assistant")
    messages = [{"role": roles[turn % 2], "content": TEXT} for turn in range(TURNS - 1)]
    system = {"role": "system", "content": "You are Bob."}
    return {"model": "bench", "messages": [system, *messages], "temperature": 0.7, "max_tokens": 256, "stop": ["END"]}


def translation(speaks: str) -> Translation:
    """What a target of this API derives for chats."""
    target = {"url": "http://127.0.0.1:1", "speaks": speaks}
    config = from_data({"targets": {"default": "one", "one": target}}, Path.cwd(), ENVIRON)
    found = config.targets["one"].mapping["/v1/chat/completions"].translation
    assert found is not None
    return found


def _median(made: Translation, body: dict[str, Any], seconds: float) -> float:
    took: list[float] = []
    until = time.perf_counter() + seconds
    while not took or time.perf_counter() < until:
        began = time.perf_counter()
        made.request(body, NOWHERE)
        took.append(time.perf_counter() - began)
    return statistics.median(took)
