from typing import Any

import pytest

from mappers.openai import completions
from mooltiproxy.errors import BadRequest, UpstreamBroken
from mooltiproxy.mapping.framing import DONE
from mooltiproxy.mapping.neutral import (
    Answer,
    Choice,
    Failure,
    Finish,
    Request,
    Sampling,
    StreamEvent,
    Text,
    TextDelta,
    Usage,
    UsageReport,
)

USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


def chunk(text: str | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": text, "finish_reason": finish}], **more}


def read(*events: Any, request: Request | None = None) -> list[StreamEvent]:
    reader = completions.TextReader(request or Request())
    return [*(neutral for event in events for neutral in reader.read(event)), *reader.end()]


def test_a_request_is_read_and_written_again() -> None:
    body = {
        "model": "m1",
        "prompt": "Say hi",
        "temperature": 0.5,
        "max_tokens": 64,
        "stop": ["END"],
        "seed": 7,
        "best_of": 2,
        "logprobs": 3,
        "echo": True,
        "suffix": "!",
        "user": "ann",
    }
    request = completions.read_request(body)
    assert request.sampling == Sampling(
        temperature=0.5, max_tokens=64, stop=("END",), seed=7, best_of=2, logprobs=True, top_logprobs=3
    )
    assert completions.write_request(request, {}).body == body


def test_sixteen_tokens_are_the_promise_of_the_api() -> None:
    assert completions.read_request({"prompt": "x"}).sampling.max_tokens == 16


def test_a_target_is_always_told_a_limit() -> None:
    assert completions.write_request(Request(prompt="x"), {}).body["max_tokens"] == 1024


def test_a_list_of_one_prompt_is_a_prompt() -> None:
    assert completions.read_request({"prompt": ["x"]}).prompt == "x"


@pytest.mark.parametrize("prompt", [["a", "b"], [1, 2], [[1, 2]], None, 5, []])
def test_other_prompts_are_refused(prompt: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        completions.read_request({"prompt": prompt})
    assert caught.value.param == "prompt"


def test_an_answer_is_read_and_written_again() -> None:
    logprobs = {
        "tokens": ["Hi", " you"],
        "token_logprobs": [-0.5, -0.25],
        "top_logprobs": [{"Hi": -0.5}, {" you": -0.25}],
        "text_offset": [0, 2],
    }
    choice = {"index": 0, "text": "Hi you", "logprobs": logprobs, "finish_reason": "length"}
    answer = completions.read_answer({"choices": [choice], "usage": USAGE}, Request())
    body = completions.write_answer(answer, Request(model="m1"))
    assert body["id"].startswith("cmpl-")
    assert (body["object"], body["model"], body["choices"], body["usage"]) == ("text_completion", "m1", [choice], USAGE)


def test_a_stream_is_read_with_its_oddities() -> None:
    events = read(chunk("Hi"), chunk(None, ""), chunk(" you", "stop", usage=USAGE), DONE)
    assert events == [TextDelta("Hi"), TextDelta(" you"), Finish("stop"), UsageReport(Usage(12, 3))]


def test_an_end_mark_without_a_finish_is_a_failure() -> None:
    assert isinstance(read(chunk("Hi"), DONE)[-1], Failure)


def test_a_fifth_stop_is_cut_by_us() -> None:
    request = Request(sampling=Sampling(stop=("a", "b", "c", "d", "END")))
    assert read(chunk("one E"), chunk("ND"), request=request) == [TextDelta("one "), Finish("stop", "END")]


def test_a_stream_is_written_with_a_last_chunk_of_empty_text() -> None:
    writer = completions.TextWriter(Request(model="m1", include_usage=True))
    chunks = [*writer.write([TextDelta("Hi"), Finish("stop"), UsageReport(Usage(12, 3))]), *writer.end()]
    assert [(one["choices"][0]["text"], one["choices"][0]["finish_reason"]) for one in chunks[:2]] == [
        ("Hi", None),
        ("", "stop"),
    ]
    assert chunks[0]["usage"] is None
    assert (chunks[2]["choices"], chunks[2]["usage"], chunks[3]) == ([], USAGE, DONE)


def test_an_unfinished_stream_is_never_closed_as_if_it_were_whole() -> None:
    writer = completions.TextWriter(Request())
    writer.write([TextDelta("Hi")])
    with pytest.raises(UpstreamBroken):
        writer.end()


def test_unknown_usage_is_left_out() -> None:
    answer = Answer([Choice([Text("a")], "stop")], Usage(answer=1))
    assert "usage" not in completions.write_answer(answer, Request())
