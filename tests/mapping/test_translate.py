from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from mappers import seed, tgi
from mappers.openai import chat, completions, dialect
from mooltiproxy.errors import BadRequest, InternalError, ProxyError, UpstreamBroken
from mooltiproxy.mapping.answers import AnswerTranslator
from mooltiproxy.mapping.bodies import loads_request
from mooltiproxy.mapping.dialect import Endpoint, asks_at
from mooltiproxy.mapping.framing import SSEDecoder, encode_sse, parse_event
from mooltiproxy.mapping.functions import Functions, FunctionTranslation
from mooltiproxy.mapping.neutral import NOWHERE
from mooltiproxy.mapping.translate import DialectTranslation, Translated, endpoint_at

JSON, SSE, NDJSON = "application/json", "text/event-stream", "application/x-ndjson"
CHAT = {"model": "m1", "messages": [{"role": "user", "content": "Hi"}]}
STREAM = {**CHAT, "stream": True}
WHOLE = orjson.dumps(
    {"generated_text": "Hello", "details": {"finish_reason": "eos_token", "generated_tokens": 2, "input_length": 3}}
)


def event(text: str, whole: str | None = None) -> bytes:
    details = {"finish_reason": "eos_token", "generated_tokens": 2, "input_length": 3}
    body = {"token": {"text": text, "special": False}, "generated_text": whole, "details": details if whole else None}
    return b"data:" + orjson.dumps(body) + b"\n\n"


EVENTS = [event("Hel"), event("lo", "Hello")]


def translation(client: Endpoint = chat.endpoint, target: Endpoint = tgi.chat_endpoint) -> DialectTranslation:
    return DialectTranslation(client, target, {}, "openai to tgi")


def functions(client: Endpoint | None = chat.endpoint, **named: Any) -> FunctionTranslation:
    return FunctionTranslation(Functions({"path": "/generate"}, **named), client)


def seeded(**changed: Any) -> FunctionTranslation:
    named: dict[str, Any] = {
        "request": seed.chatReqOpenAItoTGI,
        "answer": seed.chatAnsTGItoOpenAI,
        "stream": seed.chatStreamTGItoOpenAI,
    }
    return functions(**{**named, **changed})


def translator(translated: Translated, media_type: str) -> AnswerTranslator:
    found = translated.answer(media_type, {})
    assert found is not None
    return found


def run(translator: AnswerTranslator, pieces: list[bytes]) -> bytes:
    return b"".join(map(translator.feed, pieces)) + translator.end()


def events_of(stream: bytes) -> list[Any]:
    decoder = SSEDecoder()
    return [parse_event(one) for one in [*decoder.feed(stream), *decoder.end()]]


def spoken(stream: bytes) -> str:
    *chunks, done = events_of(stream)
    assert done == "[DONE]"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


both = pytest.mark.parametrize("make", [translation, seeded])


@both
def test_a_request_is_translated(make: Any) -> None:
    translated = make().request({**CHAT, "presence_penalty": 1}, NOWHERE)
    assert orjson.loads(translated.body)["parameters"]["do_sample"] is True
    assert translated.dropped == ("presence_penalty",)
    assert not translated.streaming
    assert translated.path is None


@both
def test_a_stream_is_asked_for_at_its_own_path(make: Any) -> None:
    translated = make().request(STREAM, NOWHERE)
    assert translated.streaming
    assert translated.path == "/generate_stream"


@both
def test_a_whole_answer_stays_whole(make: Any) -> None:
    whole = translator(make().request(CHAT, NOWHERE), JSON)
    assert (whole.media_type, whole.live, whole.done) == (JSON, False, False)
    answer = orjson.loads(run(whole, [WHOLE[:10], WHOLE[10:]]))
    assert answer["choices"][0]["message"]["content"] == "Hello"
    assert answer["usage"]["total_tokens"] == 5


@both
def test_a_whole_answer_to_a_streaming_client_is_replayed_as_a_stream(make: Any) -> None:
    whole = translator(make().request(STREAM, NOWHERE), JSON)
    assert whole.media_type.startswith(SSE)
    assert not whole.live
    assert spoken(run(whole, [WHOLE])) == "Hello"


@both
def test_a_stream_is_translated_as_it_comes(make: Any) -> None:
    live = translator(make().request(STREAM, NOWHERE), SSE)
    assert live.media_type.startswith(SSE)
    assert live.live
    first = live.feed(EVENTS[0])
    assert events_of(first)[-1]["choices"][0]["delta"] == {"content": "Hel"}
    second = live.feed(EVENTS[1])
    assert not live.done
    assert spoken(first + second + live.end()) == "Hello"


@both
def test_a_stop_that_the_target_missed_ends_the_stream(make: Any) -> None:
    live = translator(make().request({**STREAM, "stop": "x"}, NOWHERE), SSE)
    first = live.feed(event("Hello xyz"))
    assert live.done
    assert spoken(first + live.feed(event("more")) + live.end()) == "Hello "


@both
def test_a_stream_cut_at_every_byte_is_the_same_stream(make: Any) -> None:
    stream = b": ping\r\n\r\n" + b"".join(EVENTS).replace(b"\n", b"\r\n")
    for at in range(0, len(stream), 7):
        assert spoken(run(translator(make().request(STREAM, NOWHERE), SSE), [stream[:at], stream[at:]])) == "Hello"


@both
def test_a_stream_that_nobody_asked_for_is_gathered(make: Any) -> None:
    gathered = translator(make().request(CHAT, NOWHERE), SSE)
    assert (gathered.media_type, gathered.live) == (JSON, False)
    answer = orjson.loads(run(gathered, EVENTS))
    assert answer["choices"][0]["message"]["content"] == "Hello"
    assert answer["choices"][0]["finish_reason"] == "stop"


@both
def test_a_gathered_stream_that_breaks_off_is_an_error(make: Any) -> None:
    with pytest.raises(UpstreamBroken):
        run(translator(make().request(CHAT, NOWHERE), SSE), EVENTS[:1])


@both
def test_a_live_stream_that_breaks_off_is_an_error(make: Any) -> None:
    live = translator(make().request(STREAM, NOWHERE), SSE)
    live.feed(EVENTS[0])
    with pytest.raises(UpstreamBroken):
        live.end()


@both
def test_an_error_as_first_event_is_raised_at_once(make: Any) -> None:
    live = translator(make().request(STREAM, NOWHERE), SSE)
    with pytest.raises(ProxyError) as caught:
        live.feed(b'data:{"error":"bad","error_type":"validation"}\n\n')
    assert caught.value.status == 422


@both
@pytest.mark.parametrize("method", ["feed", "end"])
def test_an_error_behind_text_of_the_same_read_waits_for_the_next_call(make: Any, method: str) -> None:
    live = translator(make().request(STREAM, NOWHERE), SSE)
    assert b"Hel" in live.feed(EVENTS[0] + b'data:{"error":"bad","error_type":"generation"}\n\n')
    with pytest.raises(ProxyError) as caught:
        live.end() if method == "end" else live.feed(b"")
    assert caught.value.status == 424


@both
def test_an_answer_that_is_no_json_is_the_targets_fault(make: Any) -> None:
    with pytest.raises(UpstreamBroken):
        run(translator(make().request(CHAT, NOWHERE), "text/html"), [b"<html>"])


def test_lines_of_json_are_a_stream_too() -> None:
    live = translator(translation().request(STREAM, NOWHERE), NDJSON)
    lines = b"".join(one[5:-1] for one in EVENTS)
    assert spoken(run(live, [lines])) == "Hello"


def test_completions_are_translated_by_the_same_engine() -> None:
    between = translation(completions.endpoint, tgi.text_endpoint)
    live = translator(between.request({"prompt": "x", "stream": True}, NOWHERE), SSE)
    chunks = events_of(run(live, EVENTS))
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks[:-1]) == "Hello"


def test_a_client_of_the_target_dialect_is_served_by_an_openai_target() -> None:
    between = translation(tgi.stream_endpoint, completions.endpoint)
    translated = between.request({"inputs": "x"}, NOWHERE)
    assert orjson.loads(translated.body)["stream"] is True
    chunk = {"choices": [{"index": 0, "text": "Hello", "finish_reason": "length"}]}
    events = events_of(run(translator(translated, SSE), [encode_sse(chunk), encode_sse("[DONE]")]))
    assert [one["generated_text"] for one in events] == [None, "Hello"]


def test_a_request_that_the_target_cannot_be_asked_is_refused() -> None:
    with pytest.raises(BadRequest):
        translation().request({**CHAT, "n": 2}, NOWHERE)


def test_a_prompter_is_called_with_the_messages_and_the_entry() -> None:
    def mine(messages: Any, cfg: Any) -> tuple[str, list[str]]:
        return f"{messages[0]['content']} at {cfg['path']}", ["STOP"]

    body = orjson.loads(seeded(prompter=mine).request(CHAT, NOWHERE).body)
    assert body["inputs"] == "Hi at /generate"
    assert body["parameters"]["stop"] == ["STOP"]


@pytest.mark.parametrize("rendered", ["prompt", ("prompt", "stop"), None, (1, [])])
def test_a_prompter_that_returns_something_else_is_a_fault_of_ours(rendered: Any) -> None:
    with pytest.raises(InternalError):
        seeded(prompter=lambda messages, cfg: rendered).request(CHAT, NOWHERE)


def broken(*_: Any) -> Any:
    raise KeyError("secret detail")


@pytest.mark.parametrize(
    ("named", "media_type", "body"),
    [
        ({"request": broken}, JSON, CHAT),
        ({"prompter": broken}, JSON, CHAT),
        ({"answer": broken}, JSON, CHAT),
        ({"answer": broken}, JSON, STREAM),
        ({"stream": broken}, SSE, STREAM),
        ({"stream": broken}, SSE, CHAT),
    ],
)
def test_a_function_that_fails_is_our_fault_and_keeps_its_secrets(
    named: dict[str, Any], media_type: str, body: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InternalError) as caught:
        run(
            translator(seeded(**named).request(body, NOWHERE), media_type), [WHOLE if media_type == JSON else EVENTS[0]]
        )
    assert "secret" not in str(caught.value)
    assert "broken" in str(caught.value)
    assert "secret detail" in caplog.text


def test_a_refusal_of_a_users_mapper_reaches_the_client() -> None:
    def picky(ip: Any, cfg: Any) -> Any:
        raise BadRequest("not like this", param="model")

    with pytest.raises(BadRequest, match="not like this"):
        functions(request=picky).request(CHAT, NOWHERE)


@pytest.mark.parametrize("result", [{1, 2}, object(), {"a": object()}])
def test_what_json_cannot_say_is_a_fault_of_ours(result: Any) -> None:
    with pytest.raises(InternalError):
        functions(request=lambda ip, cfg: result).request(CHAT, NOWHERE)
    with pytest.raises(InternalError):
        run(translator(functions(answer=lambda ip, cfg: result).request(CHAT, NOWHERE), JSON), [WHOLE])
    with pytest.raises(InternalError):
        run(translator(functions(stream=lambda ip, cfg, state: [result]).request(STREAM, NOWHERE), SSE), EVENTS)


def test_mappers_of_the_answer_know_request_mapped_and_notes() -> None:
    def request(ip: Any, cfg: Any) -> Any:
        cfg["notes"]["mine"] = 1
        cfg["dropped"].append("top_k")
        return {"asked": True}

    seen: dict[str, Any] = {}

    def answer(ip: Any, cfg: Any) -> Any:
        seen.update(cfg)
        return ip

    translated = functions(request=request, answer=answer).request(CHAT, NOWHERE)
    run(translator(translated, JSON), [b"{}"])
    assert translated.dropped == ("top_k",)
    assert (seen["request"], seen["mapped"], seen["notes"]) == (CHAT, {"asked": True}, {"mine": 1})


def test_without_functions_an_answer_passes_untouched() -> None:
    translated = functions(request=seed.identity).request(STREAM, NOWHERE)
    assert orjson.loads(translated.body)["stream"] is True
    assert translated.answer(JSON, {}) is None
    assert translated.answer(SSE, {}) is None


def test_without_a_stream_mapper_the_target_is_asked_for_no_stream() -> None:
    translated = functions(request=seed.identity, answer=seed.identity).request(STREAM, NOWHERE)
    assert orjson.loads(translated.body)["stream"] is False


def test_without_a_stream_mapper_an_answer_is_one_framed_stream() -> None:
    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]}
    whole = translator(functions(answer=lambda ip, cfg: answer).request(STREAM, NOWHERE), JSON)
    assert spoken(run(whole, [b"{}"])) == "Hello"


def test_an_answer_that_is_none_cannot_be_framed() -> None:
    whole = translator(functions(answer=seed.identity).request(STREAM, NOWHERE), JSON)
    with pytest.raises(InternalError):
        run(whole, [b'{"no": "answer"}'])


def test_on_a_path_of_no_dialect_an_answer_is_one_event() -> None:
    whole = translator(functions(None, answer=seed.identity).request({"stream": True}, NOWHERE), JSON)
    assert run(whole, [b'{"a":1}']) == b'data: {"a":1}\n\ndata: [DONE]\n\n'


def test_a_stream_that_no_function_can_read_is_the_targets_fault() -> None:
    with pytest.raises(UpstreamBroken):
        functions(answer=seed.identity).request(CHAT, NOWHERE).answer(SSE, {})
    with pytest.raises(UpstreamBroken):
        functions(None, stream=lambda ip, cfg, state: []).request({}, NOWHERE).answer(SSE, {})


def test_a_stream_mapper_may_be_a_generator_with_state() -> None:
    def mine(ip: Any, cfg: Any, state: dict[str, Any]) -> Iterator[Any]:
        state["seen"] = state.get("seen", 0) + 1
        yield {"end": True} if ip is None else {"text": ip["token"]["text"]}
        if ip is None:
            yield f"seen {state['seen']}"

    live = translator(functions(None, stream=mine).request(STREAM, NOWHERE), SSE)
    assert events_of(run(live, EVENTS)) == [{"text": "Hel"}, {"text": "lo"}, {"end": True}, "seen 3"]


def test_a_stream_mapper_may_say_nothing() -> None:
    live = translator(functions(stream=lambda ip, cfg, state: None).request(STREAM, NOWHERE), SSE)
    assert run(live, EVENTS) == b""


def test_a_stream_mapper_can_say_that_it_is_done() -> None:
    def mine(ip: Any, cfg: Any, state: dict[str, Any]) -> list[Any]:
        state["done"] = True
        return []

    live = translator(functions(stream=mine).request(STREAM, NOWHERE), SSE)
    live.feed(EVENTS[0])
    assert live.done


def test_a_stream_of_each_request_has_a_state_of_its_own() -> None:
    def mine(ip: Any, cfg: Any, state: dict[str, Any]) -> list[Any]:
        state["count"] = state.get("count", 0) + 1
        return [{"count": state["count"]}]

    shared = functions(stream=mine)
    for _ in range(2):
        live = translator(shared.request(STREAM, NOWHERE), SSE)
        assert events_of(live.feed(EVENTS[0])) == [{"count": 1}]


def test_a_stream_mapper_names_the_path_that_it_streams_at() -> None:
    @asks_at({"/generate": "/elsewhere"})
    def mine(ip: Any, cfg: Any, state: dict[str, Any]) -> list[Any]:
        return []

    assert functions(stream=mine).request(STREAM, NOWHERE).path == "/elsewhere"
    assert functions(stream=mine).request(CHAT, NOWHERE).path is None


def test_a_request_of_a_users_own_making_is_still_answered() -> None:
    body = {"model": "m1", "stream": True, "question": "Hi"}
    answer = {"choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}]}
    whole = translator(functions(answer=lambda ip, cfg: answer).request(body, NOWHERE), JSON)
    assert spoken(run(whole, [b"{}"])) == "Hello"


def test_an_endpoint_is_found_by_its_path() -> None:
    dialects = {"openai": dialect, "tgi": tgi.dialect}
    assert endpoint_at(dialects, "/chat/completions") == (dialect, chat.endpoint)
    assert endpoint_at(dialects, "/generate") == (tgi.dialect, tgi.text_endpoint)
    assert endpoint_at(dialects, "/v1/files") is None


def test_a_body_that_is_no_json_is_refused_with_its_place() -> None:
    assert loads_request(b'{"a": 1}') == {"a": 1}
    with pytest.raises(BadRequest, match="line 2 column"):
        loads_request(b'{\n"a": }')


@pytest.mark.parametrize("streaming", [True, False])
def test_a_stop_string_that_we_find_ends_the_answer_though_the_next_event_is_cut(streaming: bool) -> None:
    body = {**STREAM, "stream": streaming, "stop": ["END"]}
    translated = translation().request(body, NOWHERE)
    made = translator(translated, SSE)
    written = made.feed(event("Hi END") + b'data: {"token"')
    assert made.done
    assert b"Hi " in written + made.end()
