"""The shortcut of streams: what it copies reads the same as what the long way writes."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mappers.anthropic import dialect as anthropic
from mappers.openai import chat, completions
from mappers.tgi import chat_endpoint as tgi_chat
from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping import answers
from mooltiproxy.mapping.answers import AnswerTranslator
from mooltiproxy.mapping.dialect import Endpoint
from mooltiproxy.mapping.framing import SSEDecoder, parse_event
from mooltiproxy.mapping.neutral import NOWHERE
from mooltiproxy.mapping.shortcut import MAX_MISSES, Shortcut
from mooltiproxy.mapping.translate import DialectTranslation

messages = next(endpoint for endpoint in anthropic.endpoints if endpoint.kind == "chat")
ASKED = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 99}
STOPS = ["1", "2", "3", "4", "User:", "é", " "]  # the first four are all that a target of OpenAI's API is told
CLIENTS: dict[str, tuple[Endpoint, str]] = {
    "openai": (chat.endpoint, "stop"),
    "anthropic": (messages, "stop_sequences"),
}
TARGETS: dict[str, Endpoint] = {"openai": chat.endpoint, "anthropic": messages, "tgi": tgi_chat}
PIECES = st.text(st.sampled_from('aU se:r"\\\n\té日\u2028\x85\x7f😀\u200d'), max_size=6)
WORDS = [f"word{number} " for number in range(40)]

pairs = pytest.mark.parametrize(
    ("client", "target"), [("openai", "anthropic"), ("openai", "tgi"), ("anthropic", "openai"), ("anthropic", "tgi")]
)


def event(target: str, text: str, number: int = 0, **more: Any) -> bytes:
    """One of the target's events that is nothing but text, as its server writes it."""
    if target == "openai":
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
        return b"data: %b\n\n" % orjson.dumps({"id": "c-1", "model": "m", "choices": [choice], **more})
    if target == "anthropic":
        delta = {"type": "text_delta", "text": text}
        data = orjson.dumps({"type": "content_block_delta", "index": 0, "delta": delta, **more})
        return b"event: content_block_delta\ndata: %b\n\n" % data
    token = {"id": 300 + number, "text": text, "logprob": -0.5 - number, "special": False}
    return b"data:%b\n\n" % (
        b" " + orjson.dumps({"index": number, "token": token, "generated_text": None, "details": None})
    )


def last(target: str) -> bytes:
    """What ends the target's stream well."""
    ends = {
        "openai": {"id": "c-1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        "anthropic": {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
        "tgi": {"token": {"id": 2, "text": "</s>", "special": True}, "generated_text": "x", "details": None},
    }
    return b"data: %b\n\n" % orjson.dumps(ends[target])


def translator(client: str, target: str, *, stops: Sequence[str] = ()) -> AnswerTranslator:
    endpoint, name = CLIENTS[client]
    config: dict[str, Any] = {"render": lambda turns: ("hi", [])}
    translation = DialectTranslation(endpoint, TARGETS[target], config, "")
    body = {**ASKED, **({name: list(stops)} if stops else {})}
    found = translation.request(body, NOWHERE).answer("text/event-stream", {})
    assert found is not None
    return found


def run(made: AnswerTranslator, pieces: Sequence[bytes]) -> list[Any]:
    """The client's events, without what is new in each answer."""
    written = b""
    for piece in pieces:
        written += made.feed(piece)
        if made.done:
            break
    decoder = SSEDecoder()
    data = written + made.end()
    events = [parse_event(one) for one in [*decoder.feed(data), *decoder.end()]]
    return [{**one, "id": "", "created": 0, "message": ""} if isinstance(one, dict) else one for one in events]


def the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shortcut, "learn", lambda *_: None)


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The events that went the long way."""
    seen: list[bytes] = []

    def parse(data: bytes) -> Any:
        seen.append(data)
        return parse_event(data)

    monkeypatch.setattr(answers, "parse_event", parse)
    return seen


@pairs
@given(texts=st.lists(PIECES, max_size=12), places=st.lists(st.integers(0, 5000), max_size=6), stops=st.booleans())
def test_any_stream_cut_anywhere_reads_as_by_the_long_way(
    client: str, target: str, texts: list[str], places: list[int], stops: bool
) -> None:
    texts = [*WORDS[:3], *texts]
    data = b"".join([*(event(target, text, at) for at, text in enumerate(texts)), last(target)])
    chosen = STOPS if stops else ()
    with pytest.MonkeyPatch.context() as patch:
        the_long_way(patch)
        expected = run(translator(client, target, stops=chosen), [data])
    assert run(translator(client, target, stops=chosen), cut(data, places)) == expected


@pairs
def test_text_in_a_known_wrapping_is_not_parsed(client: str, target: str, parsed: list[bytes]) -> None:
    pieces = [event(target, text, at) for at, text in enumerate(WORDS)]
    run(translator(client, target), [*pieces, last(target)])
    assert len(parsed) <= 4


@pairs
def test_a_read_of_many_events_is_copied_at_once(client: str, target: str, parsed: list[bytes]) -> None:
    pieces = [event(target, text, at) for at, text in enumerate(WORDS)]
    run(translator(client, target), [b"".join([*pieces, last(target)])])
    assert len(parsed) <= 4


def test_escapes_are_copied_as_they_are() -> None:
    made = translator("anthropic", "openai")
    made.feed(event("openai", "a") + event("openai", "b"))
    assert b'"text":"\\u00e9\\n"' in made.feed(event("openai", "X").replace(b"X", b"\\u00e9\\n"))


@pytest.mark.parametrize("broken", [b"\xff", b"\x01", b"\\x", b"\\ud800", b"a\\"])
def test_text_that_is_no_json_is_not_copied(broken: bytes) -> None:
    made = translator("anthropic", "openai")
    made.feed(event("openai", "a") + event("openai", "b"))
    with pytest.raises(UpstreamBroken):
        made.feed(event("openai", "X").replace(b"X", broken))


def test_a_text_that_ends_in_half_an_escape_is_not_copied_together_with_the_next() -> None:
    made = translator("anthropic", "openai")
    made.feed(event("openai", "a") + event("openai", "b"))
    with pytest.raises(UpstreamBroken):
        made.feed(event("openai", "X").replace(b"X", b"a\\") + event("openai", "c"))
        made.feed(event("openai", "d"))


def test_another_wrapping_is_learned(parsed: list[bytes]) -> None:
    made = translator("anthropic", "openai")
    for number in range(3):
        for text in WORDS[:10]:
            made.feed(event("openai", text, created=number))
    assert len(parsed) <= 3 + 2


def test_a_wrapping_that_is_new_each_time_is_soon_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made = translator("anthropic", "openai")
    for number in range(MAX_MISSES + 2):
        made.feed(event("openai", "word", obfuscation="x" * number))
    assert made.feed(event("openai", "word", obfuscation="x")).count(b"content_block_delta") == 2
    made.feed(event("openai", "word", obfuscation="x"))
    looked = []
    monkeypatch.setattr(Shortcut, "_row", lambda *_: looked.append(1))
    made.feed(event("openai", "word", obfuscation="x"))
    assert not looked


def test_a_wrapping_is_forgotten_when_something_else_than_text_has_come() -> None:
    made = translator("anthropic", "openai")
    made.feed(event("openai", "a") + event("openai", "b"))
    call = {"index": 0, "id": "call_1", "function": {"name": "f", "arguments": "{}"}}
    choice = {"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}
    made.feed(b"data: %b\n\n" % orjson.dumps({"id": "c-1", "model": "m", "choices": [choice]}))
    written = made.feed(event("openai", "c"))
    assert b"content_block_stop" in written
    assert b'"index":2' in written


def test_text_with_the_beginning_of_a_stop_string_is_read() -> None:
    made = translator("openai", "tgi", stops=["User:"])
    pieces = [event("tgi", text, at) for at, text in enumerate(["Hi", " there", " Us", "er", ": no"])]
    events = run(made, pieces)
    assert "".join(one["choices"][0]["delta"].get("content", "") for one in events[:-1]) == "Hi there "


def test_a_token_lies_behind_all_text_before_it_though_its_log_probability_comes_late() -> None:
    body = {"model": "m", "prompt": "hi", "stream": True, "logprobs": 0}
    translation = DialectTranslation(completions.endpoint, chat.endpoint, {}, "")
    made = translation.request(body, NOWHERE).answer("text/event-stream", {})
    assert made is not None
    choice = {"index": 0, "delta": {"content": "end"}, "logprobs": {"content": [{"token": "end", "logprob": -0.5}]}}
    told = b"data: %b\n\n" % orjson.dumps({"id": "c-1", "choices": [choice]})
    events = run(made, [*(event("openai", "word") for _ in range(4)), told, last("openai")])
    assert events[-3]["choices"][0]["logprobs"]["text_offset"] == [16]


@pytest.mark.parametrize("stream", [False, True])
def test_what_comes_behind_a_found_stop_in_the_same_read_may_be_broken(stream: bool) -> None:
    body = {**ASKED, "stream": stream, "stop": ["User:"]}
    translation = DialectTranslation(chat.endpoint, tgi_chat, {"render": lambda turns: ("hi", [])}, "")
    made = translation.request(body, NOWHERE).answer("text/event-stream", {})
    assert made is not None
    written = made.feed(event("tgi", "Hi User: no") + b'data: {"token":\n\n')
    assert made.done
    assert b'"Hi "' in written + made.end()
