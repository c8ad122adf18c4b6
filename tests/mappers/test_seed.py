from typing import Any

import pytest

from mappers import seed
from mooltiproxy.errors import UpstreamBroken
from mooltiproxy.mapping.framing import DONE

CHAT = {"model": "m1", "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}]}
PIECES = {"preprompt": "", "start": "", "system": "", "user": "<U>", "assistant": "<A>"}
ANSWER = {
    "generated_text": " Hello<U>",
    "details": {"finish_reason": "stop_sequence", "generated_tokens": 2, "prefill": [{}, {}, {}]},
}


def event(text: str, whole: str | None = None) -> dict[str, Any]:
    details = {"finish_reason": "eos_token", "generated_tokens": 2, "input_length": 3}
    return {"token": {"text": text, "special": False}, "generated_text": whole, "details": details if whole else None}


def test_identity_gives_back_what_came_in() -> None:
    body = {"a": [1]}
    assert seed.identity(body) is body


def test_a_text_request_needs_no_cfg() -> None:
    body = seed.textReqOpenAItoTGI({"prompt": "x", "temperature": 0, "stop": "END", "max_tokens": 5})
    assert body == {
        "inputs": "x",
        "parameters": {
            "do_sample": False,
            "max_new_tokens": 5,
            "stop": ["END"],
            "details": True,
            "return_full_text": False,
        },
    }


def test_a_text_request_without_a_limit_asks_for_sixteen_tokens() -> None:
    assert seed.textReqOpenAItoTGI({"prompt": "x"})["parameters"]["max_new_tokens"] == 16


def test_a_chat_request_without_a_limit_sets_none() -> None:
    assert "max_new_tokens" not in seed.chatReqOpenAItoTGI(CHAT)["parameters"]


def test_a_chat_request_called_by_hand_uses_the_pieces_it_is_given() -> None:
    assert seed.chatReqOpenAItoTGI(CHAT, {"template": PIECES})["inputs"] == "S<U>Hi<A>"
    assert seed.chatReqOpenAItoTGI(CHAT, {})["inputs"] == "S\n### HUMAN:\nHi\n### RESPONSE:\n"


@pytest.mark.parametrize("stop", ["END", ["END"]])
def test_a_stop_may_be_a_string_or_a_list(stop: Any) -> None:
    body = seed.chatReqOpenAItoTGI({**CHAT, "stop": stop}, {"template": PIECES})
    assert body["parameters"]["stop"] == ["END", "<U>"]


def test_what_is_dropped_is_told_to_cfg() -> None:
    cfg: dict[str, Any] = {"dropped": [], "notes": {}}
    seed.chatReqOpenAItoTGI({**CHAT, "presence_penalty": 1}, cfg)
    assert cfg["dropped"] == ["presence_penalty"]


def test_an_answer_called_by_hand_knows_no_stops() -> None:
    answer = seed.chatAnsTGItoOpenAI(ANSWER)
    assert answer["choices"][0]["message"]["content"] == "Hello<U>"
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def test_an_answer_is_cut_at_the_stops_that_were_sent() -> None:
    cfg = {"request": CHAT, "mapped": {"inputs": "", "parameters": {"stop": ["<U>"]}}}
    answer = seed.chatAnsTGItoOpenAI(ANSWER, cfg)
    assert answer["choices"][0]["message"]["content"] == "Hello"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["model"] == "m1"


def test_an_answer_is_cut_at_stops_that_could_not_be_sent() -> None:
    body = {**CHAT, "stop": ["a1", "b1", "c1", "d1"]}
    cfg: dict[str, Any] = {"template": PIECES, "request": body, "dropped": [], "notes": {}}
    cfg["mapped"] = seed.chatReqOpenAItoTGI(body, cfg)
    assert "<U>" not in cfg["mapped"]["parameters"]["stop"]
    assert seed.chatAnsTGItoOpenAI(ANSWER, cfg)["choices"][0]["message"]["content"] == "Hello"


def test_a_text_answer_keeps_its_whitespace_and_its_finish_reason() -> None:
    answer = seed.textAnsTGItoOpenAI({"generated_text": " Hi", "details": {"finish_reason": "length"}})
    assert answer["choices"][0]["text"] == " Hi"
    assert answer["choices"][0]["finish_reason"] == "length"
    assert "usage" not in answer


def test_a_chat_stream_is_complete() -> None:
    cfg = {"request": {**CHAT, "stream": True, "stream_options": {"include_usage": True}}}
    state: dict[str, Any] = {}
    events = [event(" Hel"), event("lo", " Hello"), None]
    chunks = [chunk for one in events for chunk in seed.chatStreamTGItoOpenAI(one, cfg, state)]
    contents = [chunk["choices"][0]["delta"].get("content") for chunk in chunks[:-2]]
    assert contents == ["", "Hel", "lo", None]
    assert chunks[-3]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-2]["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert chunks[-1] == DONE
    assert not state["done"]


def test_a_text_stream_is_complete_without_cfg() -> None:
    state: dict[str, Any] = {}
    events = [event(" Hel"), event("lo", " Hello"), None]
    chunks = [chunk for one in events for chunk in seed.textStreamTGItoOpenAI(one, {}, state)]
    assert [chunk["choices"][0]["text"] for chunk in chunks[:-1]] == [" Hel", "lo", ""]
    assert chunks[-1] == DONE


def test_a_stream_that_breaks_off_is_an_error() -> None:
    state: dict[str, Any] = {}
    seed.chatStreamTGItoOpenAI(event("Hi"), {}, state)
    with pytest.raises(UpstreamBroken):
        list(seed.chatStreamTGItoOpenAI(None, {}, state))


def test_an_error_event_is_an_error_with_its_status() -> None:
    with pytest.raises(UpstreamBroken) as caught:
        seed.textStreamTGItoOpenAI({"error": "busy", "error_type": "overloaded"}, {}, {})
    assert caught.value.status == 429


@pytest.mark.parametrize("name", ["chatStreamTGItoOpenAI", "textStreamTGItoOpenAI"])
def test_streams_are_asked_at_their_own_path(name: str) -> None:
    assert getattr(seed, name).stream_paths == {"/generate": "/generate_stream"}


def test_the_prompts_tokens_are_read_from_the_answers_header() -> None:
    details = {"finish_reason": "eos_token", "generated_tokens": 3, "seed": None, "prefill": [], "tokens": []}
    answer = seed.chatAnsTGItoOpenAI(
        {"generated_text": "Hi", "details": details}, {"headers": {"x-prompt-tokens": "7"}}
    )
    assert answer["usage"]["prompt_tokens"] == 7
    assert answer["usage"]["total_tokens"] == 10
