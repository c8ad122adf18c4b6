import base64
import struct
from typing import Any

import orjson
import pytest

from mappers.openai import chat, embeddings
from mooltiproxy.errors import BadRequest, UpstreamBroken
from mooltiproxy.mapping.neutral import NOWHERE, EmbeddingsAnswer, EmbeddingsRequest, Usage
from mooltiproxy.mapping.translate import DialectTranslation


def read(input: Any = "x", **fields: Any) -> EmbeddingsRequest:
    return embeddings.read_request({"model": "m1", "input": input, **fields})


def item(vector: Any, index: int | None = None) -> dict[str, Any]:
    return {"object": "embedding", "embedding": vector} | ({} if index is None else {"index": index})


def vectors(*data: Any, inputs: int | None = None) -> list[list[float]]:
    request = EmbeddingsRequest("m1", ["x"] * (len(data) if inputs is None else inputs))
    return embeddings.read_answer({"data": list(data)}, request).vectors


@pytest.mark.parametrize(
    ("input", "inputs"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1, 2], [3]], [[1, 2], [3]]), ("", [""])],
)
def test_texts_and_token_ids_are_read(input: Any, inputs: Any) -> None:
    assert read(input).inputs == inputs


@pytest.mark.parametrize("input", [None, [], 7, ["a", 1], [[]], [["a"]], [True], {"text": "a"}])
def test_other_inputs_are_refused_by_name(input: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        read(input)
    assert caught.value.param == "input"


@pytest.mark.parametrize("fields", [{"encoding_format": "hex"}, {"dimensions": 0}, {"user": 7}])
def test_a_field_of_the_wrong_kind_is_refused_by_name(fields: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as caught:
        read(**fields)
    assert [caught.value.param] == list(fields)


def test_a_whole_request_is_read_and_written_again() -> None:
    request = read(["a", "b"], encoding_format="base64", dimensions=8, user="u", truncate=True)
    expected = EmbeddingsRequest("m1", ["a", "b"], 8, base64=True, user="u", extra={"truncate": True})
    expected.began = request.began
    assert request == expected
    written = embeddings.write_request(request, {})
    assert written.body == {"model": "m1", "input": ["a", "b"], "dimensions": 8, "user": "u"}
    assert written.dropped == ("truncate",)


def test_vectors_are_read_in_the_order_of_their_indexes() -> None:
    assert vectors(item([2.0], 1), item([1.0], 0)) == [[1.0], [2.0]]


def test_vectors_without_an_index_are_read_in_the_order_of_the_list() -> None:
    assert vectors(item([1.0]), item([2.0])) == [[1.0], [2.0]]


def test_a_vector_in_base64_is_read() -> None:
    assert vectors(item(base64.b64encode(struct.pack("<2f", 1.5, -2)).decode())) == [[1.5, -2.0]]


@pytest.mark.parametrize("vector", ["!", "AAA=", None, ["a"], {"0": 1}])
def test_what_is_no_vector_breaks_the_answer(vector: Any) -> None:
    with pytest.raises(UpstreamBroken):
        vectors(item(vector))


def test_a_missing_vector_breaks_the_answer() -> None:
    with pytest.raises(UpstreamBroken, match="1 embeddings for 2 inputs"):
        vectors(item([1.0]), inputs=2)


@pytest.mark.parametrize("body", [None, [], {}, {"data": [1]}, {"error": {"message": "no"}}])
def test_what_is_no_list_of_embeddings_breaks_the_answer(body: Any) -> None:
    with pytest.raises(UpstreamBroken):
        embeddings.read_answer(body, EmbeddingsRequest("m1", ["x"]))


def test_vectors_are_written_as_numbers() -> None:
    answer = EmbeddingsAnswer([[0.5, 1.0]], Usage(prompt=4))
    assert embeddings.write_answer(answer, EmbeddingsRequest("m1", ["x"])) == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 1.0]}],
        "model": "m1",
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }


def test_base64_is_honoured_where_the_target_gives_numbers() -> None:
    translation = DialectTranslation(embeddings.endpoint, embeddings.endpoint, {}, "")
    translated = translation.request({"model": "m1", "input": "x", "encoding_format": "base64"}, NOWHERE)
    assert b"encoding_format" not in translated.body
    answer = translated.answer("application/json", {})
    assert answer is not None
    answer.feed(orjson.dumps({"data": [item([0.5, 1.0], 0)], "usage": {"prompt_tokens": 1, "total_tokens": 1}}))
    body = orjson.loads(answer.end())
    assert base64.b64decode(body["data"][0]["embedding"]) == struct.pack("<2f", 0.5, 1.0)


def test_usage_is_there_although_nobody_told() -> None:
    body = embeddings.write_answer(EmbeddingsAnswer([]), EmbeddingsRequest("m1", []))
    assert body["usage"] == {"prompt_tokens": 0, "total_tokens": 0}


def test_embeddings_are_no_chat() -> None:
    assert embeddings.endpoint.kind != chat.endpoint.kind
    assert embeddings.endpoint.stream_writer is None
