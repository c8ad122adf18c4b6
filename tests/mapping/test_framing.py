import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping import framing
from mooltiproxy.mapping.framing import (
    DONE,
    NDJSONDecoder,
    SSEDecoder,
    encode_named_sse,
    encode_ndjson,
    encode_sse,
    parse_event,
)

STREAM = (
    '\ufeff: hello\n\ndata: {"a":1}\n\nevent: x\nid: 7\nretry: 10\ndata:{"b":"é€😀"}\n\n'
    "data: one\ndata: two\n\n: ping\n\ndata:  two blanks\n\ndata: [DONE]\n\n"
).encode()
EVENTS = [b'{"a":1}', '{"b":"é€😀"}'.encode(), b"one\ntwo", b" two blanks", b"[DONE]"]


def decoded(decoder: SSEDecoder | NDJSONDecoder, pieces: list[bytes]) -> list[bytes]:
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events + decoder.end()


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_a_stream_cut_anywhere_gives_the_same_events(line_end: bytes) -> None:
    stream = STREAM.replace(b"\n", line_end)
    for at in range(len(stream) + 1):
        assert decoded(SSEDecoder(), [stream[:at], stream[at:]]) == EVENTS


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_a_stream_that_comes_byte_by_byte_gives_the_same_events(line_end: bytes) -> None:
    stream = STREAM.replace(b"\n", line_end)
    assert decoded(SSEDecoder(), [bytes([byte]) for byte in stream]) == EVENTS


def test_mixed_line_ends_are_read() -> None:
    assert decoded(SSEDecoder(), [b"data: a\r\n\ndata: b\r\rdata: c\n\r\n"]) == [b"a", b"b", b"c"]


def test_a_last_event_without_its_blank_line_counts() -> None:
    assert decoded(SSEDecoder(), [b"data: a\n\ndata: b"]) == [b"a", b"b"]
    assert decoded(SSEDecoder(), [b"data: a\r"]) == [b"a"]


def test_an_event_without_data_is_none() -> None:
    assert decoded(SSEDecoder(), [b"data:\n\nevent: ping\n\n\n\n"]) == []


def test_an_event_comes_out_as_soon_as_it_is_complete() -> None:
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\n") == []
    assert decoder.feed(b"\n") == [b"a"]


def test_an_endless_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "MAX_EVENT", 100)
    decoder = SSEDecoder()
    with pytest.raises(UpstreamBroken):
        for _ in range(20):
            decoder.feed(b"data: " + b"x" * 10)


def test_an_endless_event_of_many_lines_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "MAX_EVENT", 100)
    with pytest.raises(UpstreamBroken):
        SSEDecoder().feed(b"data: xxxxxxxxxx\n" * 20)


def test_a_megabyte_in_one_event_is_read() -> None:
    data = b'{"a":"' + b"x" * 1_000_000 + b'"}'
    pieces = [b"data: " + data[at : at + 4096] if at == 0 else data[at : at + 4096] for at in range(0, len(data), 4096)]
    assert decoded(SSEDecoder(), [*pieces, b"\n\n"]) == [data]


lines = st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"]), min_size=1)


@given(st.lists(st.lists(lines, min_size=1, max_size=3), max_size=6), st.randoms(use_true_random=False))
def test_whatever_is_encoded_is_decoded_again(events: list[list[str]], chance: random.Random) -> None:
    texts = ["\n".join(parts) for parts in events]
    stream = b"".join(encode_sse(text) for text in texts)
    cuts = sorted(chance.randrange(len(stream) + 1) for _ in range(5)) if stream else []
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert [event.decode() for event in decoded(SSEDecoder(), pieces)] == texts


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text()), max_size=6), st.integers(1, 7))
def test_whatever_is_encoded_as_lines_is_decoded_again(values: list[dict[str, str]], size: int) -> None:
    stream = b"".join(map(encode_ndjson, values))
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert [parse_event(line) for line in decoded(NDJSONDecoder(), pieces)] == values


def test_a_last_line_without_its_end_counts() -> None:
    assert decoded(NDJSONDecoder(), [b'{"a":1}\n\n{"b"', b":2}"]) == [b'{"a":1}', b'{"b":2}']


def test_an_endless_ndjson_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "MAX_EVENT", 100)
    decoder = NDJSONDecoder()
    with pytest.raises(UpstreamBroken):
        for _ in range(20):
            decoder.feed(b"x" * 10)


def test_unicode_line_separators_are_escaped_in_every_framing() -> None:
    for encode in (encode_ndjson, encode_sse):
        line = encode({"a": "x\u2028y\u2029z\u0085"})
        assert b"\\u2028" in line and b"\\u2029" in line and b"\\u0085" in line
        assert len(line.decode().rstrip().splitlines()) == 1


def test_an_event_is_json_or_text() -> None:
    assert parse_event(b'{"a":1}') == {"a": 1}
    assert parse_event(b'  {"a":1} ') == {"a": 1}
    assert parse_event(b"[DONE]") == DONE
    assert parse_event(b"plain words") == "plain words"


def test_broken_json_is_the_targets_fault() -> None:
    with pytest.raises(UpstreamBroken):
        parse_event(b'{"a":')


def test_a_text_of_several_lines_is_one_event() -> None:
    assert encode_sse("a\r\nb\rc") == b"data: a\ndata: b\ndata: c\n\n"


def test_a_named_event_carries_its_type_as_name() -> None:
    assert encode_named_sse({"type": "ping"}) == b'event: ping\ndata: {"type":"ping"}\n\n'


def test_an_event_without_a_type_goes_without_a_name() -> None:
    assert encode_named_sse({"error": {}}) == b'data: {"error":{}}\n\n'
    assert encode_named_sse(DONE) == b"data: [DONE]\n\n"
