from typing import Any

import orjson
import pytest

from mappers.ollama import embed
from mooltiproxy.errors import BadRequest, UpstreamBroken
from mooltiproxy.mapping.dialect import Answered
from mooltiproxy.mapping.neutral import EmbeddingsAnswer, EmbeddingsRequest, Usage

VECTORS = [[0.1, 0.2], [0.3, 0.4]]


def wrong(call: Any, *arguments: Any) -> str | None:
    with pytest.raises(BadRequest) as caught:
        call(*arguments)
    return caught.value.param


@pytest.mark.parametrize(
    "fields", [{}, {"dimensions": 2, "truncate": True, "keep_alive": "5m", "options": {"num_ctx": 512}}]
)
def test_a_request_is_read_and_written_without_a_change(fields: dict[str, Any]) -> None:
    body = {"model": "m1", "input": ["a", "b"], **fields}
    written = embed.write_request(embed.read_request(body), {})
    assert written.body == body
    assert written.dropped == ()


def test_an_old_request_is_read_and_written_without_a_change() -> None:
    body = {"model": "m1", "prompt": "a", "keep_alive": 0}
    assert embed.write_old_request(embed.read_old_request(body), {}).body == body


def test_one_text_is_a_list_of_one() -> None:
    assert embed.read_request({"model": "m1", "input": "a"}).inputs == ["a"]


def test_fields_that_no_other_api_knows_are_named_for_others() -> None:
    body = {"model": "m1", "input": "a", "truncate": False, "keep_alive": "5m", "options": {"num_ctx": 512}}
    assert embed.read_request(body).extra == {"truncate": False, "keep_alive": "5m", "options": {"num_ctx": 512}}


@pytest.mark.parametrize("body", [{"input": 1}, {"input": [1]}])
def test_an_input_that_is_no_text_is_refused(body: dict[str, Any]) -> None:
    assert wrong(embed.read_request, {"model": "m1", **body}) == "input"


def test_a_request_without_a_text_only_loads_and_gets_no_vector() -> None:
    with pytest.raises(Answered) as caught:
        embed.read_request({"model": "m1", "input": [], "keep_alive": "5m"})
    told = orjson.loads(caught.value.reply.body)
    assert (told["model"], told["embeddings"], caught.value.dropped) == ("m1", [], ("keep_alive",))
    with pytest.raises(Answered) as caught:
        embed.read_old_request({"model": "m1", "prompt": ""})
    assert orjson.loads(caught.value.reply.body) == {"embedding": []}


def test_what_a_target_cannot_be_told_is_named_or_refused() -> None:
    request = EmbeddingsRequest("m1", ["a"], user="u", extra={"truncate": "END", "encoding": 1, "options": "fast"})
    written = embed.write_request(request, {})
    assert written.body == {"model": "m1", "input": ["a"]}
    assert written.dropped == ("encoding", "options", "truncate", "user")
    assert wrong(embed.write_request, EmbeddingsRequest("m1", [[1, 2]]), {}) == "input"


def test_the_old_endpoint_takes_one_text_of_the_models_own_length() -> None:
    assert wrong(embed.write_old_request, EmbeddingsRequest("m1", ["a", "b"]), {}) == "input"
    assert wrong(embed.write_old_request, EmbeddingsRequest("m1", ["a"], dimensions=2), {}) == "dimensions"


def test_an_answer_is_read() -> None:
    request = EmbeddingsRequest("m1", ["a", "b"])
    body = {"model": "m1", "embeddings": VECTORS, "prompt_eval_count": 2}
    assert embed.read_answer(body, request) == EmbeddingsAnswer(VECTORS, Usage(2, 0))
    assert embed.read_old_answer({"embedding": [0.1]}, EmbeddingsRequest("m1", ["a"])) == EmbeddingsAnswer([[0.1]])


@pytest.mark.parametrize("body", [{}, [], {"embeddings": [[0.1]]}, {"embeddings": [1, 2]}, {"error": "it died"}])
def test_an_answer_without_a_vector_for_each_text_is_the_targets_fault(body: Any) -> None:
    with pytest.raises(UpstreamBroken):
        embed.read_answer(body, EmbeddingsRequest("m1", ["a", "b"]))


def test_an_answer_is_written() -> None:
    body = embed.write_answer(EmbeddingsAnswer(VECTORS, Usage(2)), EmbeddingsRequest("m1", ["a", "b"]))
    assert body.pop("total_duration") >= 1
    assert body == {"model": "m1", "embeddings": VECTORS, "load_duration": 1, "prompt_eval_count": 2}
    old = embed.write_old_answer(EmbeddingsAnswer([[0.1]]), EmbeddingsRequest("m1", ["a"]))
    assert old == {"embedding": [0.1]}
