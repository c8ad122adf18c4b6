"""Gemini's embeddings, token counts and models."""

from typing import Any

import pytest

from mappers.gemini import count_tokens, embed, embed_batch, get_model, list_models
from mooltiproxy.errors import BadRequest, NotFound, UpstreamBroken
from mooltiproxy.mapping.neutral import (
    NOWHERE,
    Asked,
    CountAnswer,
    EmbeddingsAnswer,
    EmbeddingsRequest,
    ModelInfo,
    ModelsAnswer,
    ModelsRequest,
    Request,
    Text,
    Tool,
    Turn,
    Usage,
)

M1 = Asked(model="m1")
USER = [{"role": "user", "parts": [{"text": "Say hi"}]}]


def one(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "models/m1", "content": {"parts": [{"text": text}]}, **fields}


def test_several_texts_to_embed_are_read_and_written_again() -> None:
    body = {"requests": [one("a", outputDimensionality=2), one("b", outputDimensionality=2)]}
    request = embed_batch.read_request(body, M1)
    assert request == EmbeddingsRequest("m1", ["a", "b"], 2)
    written = embed_batch.write_request(request, {})
    assert (written.body, written.dropped) == (body, ())
    assert written.path == "/v1beta/models/m1:batchEmbedContents"


def test_one_text_to_embed_is_read_and_written_again() -> None:
    body = one("ab", outputDimensionality=2)
    request = embed.read_request({**body, "content": {"parts": [{"text": "a"}, {"text": "b"}]}}, M1)
    assert request == EmbeddingsRequest("m1", ["ab"], 2)
    written = embed.write_request(request, {})
    assert (written.body, written.path) == (body, "/v1beta/models/m1:embedContent")


def test_what_embeddings_are_for_is_named_once() -> None:
    requests = [one("a", taskType="RETRIEVAL_QUERY"), one("b", task_type="RETRIEVAL_QUERY", title="B")]
    request = embed_batch.read_request({"requests": requests}, NOWHERE)
    request.user = "me"
    assert request.model == "m1"
    assert embed_batch.write_request(request, {}).dropped == ("taskType", "title", "user")


@pytest.mark.parametrize(
    ("requests", "param"),
    [
        ([], "requests"),
        ([one("a"), one("b", outputDimensionality=2)], "requests"),
        ([{"content": {"parts": []}}], "requests[0].content.parts"),
        ([{"content": {"parts": [{"inlineData": {}}]}}], "requests[0].content.parts[0].text"),
    ],
)
def test_what_cannot_be_embedded_is_refused(requests: list[Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        embed_batch.read_request({"requests": requests}, M1)
    assert caught.value.param == param


def test_token_ids_and_too_many_texts_are_refused() -> None:
    for endpoint, inputs in ((embed_batch, [[1, 2]]), (embed, ["a", "b"])):
        with pytest.raises(BadRequest) as caught:
            endpoint.write_request(EmbeddingsRequest("m1", inputs), {})
        assert caught.value.param == "input"


def test_vectors_cross_both_ways() -> None:
    many = {"embeddings": [{"values": [0.1]}, {"values": [0.2]}]}
    two = EmbeddingsRequest("m1", ["a", "b"])
    answer = EmbeddingsAnswer([[0.1], [0.2]])
    assert embed_batch.read_answer(many, two) == answer
    assert embed_batch.write_answer(answer, two) == many
    single, text = {"embedding": {"values": [0.1]}}, EmbeddingsRequest("m1", ["a"])
    assert embed.read_answer(single, text) == EmbeddingsAnswer([[0.1]])
    assert embed.write_answer(EmbeddingsAnswer([[0.1]]), text) == single


def test_the_usage_of_embeddings_crosses_both_ways() -> None:
    body = {"embeddings": [{"values": [0.1]}], "usageMetadata": {"promptTokenCount": 4, "totalTokenCount": 4}}
    text = EmbeddingsRequest("m1", ["a"])
    answer = embed_batch.read_answer(body, text)
    assert answer.usage == Usage(4)
    assert embed_batch.write_answer(answer, text) == body


@pytest.mark.parametrize("body", [{}, [], {"embeddings": [{}]}, {"embeddings": [{"values": [1]}, {"values": [2]}]}])
def test_too_few_or_too_many_vectors_are_an_error(body: Any) -> None:
    with pytest.raises(UpstreamBroken):
        embed_batch.read_answer(body, EmbeddingsRequest("m1", ["a"]))


def test_what_to_count_is_read_bare_or_as_a_whole_request() -> None:
    bare = count_tokens.read_request({"contents": USER}, M1)
    system = {"parts": [{"text": "Be brief."}]}
    whole = {"model": "models/m1", "contents": USER, "systemInstruction": system}
    full = count_tokens.read_request({"generateContentRequest": whole}, M1)
    assert bare.turns == [Turn("user", [Text("Say hi")])]
    assert full.turns == [Turn("system", [Text("Be brief.")]), *bare.turns]
    assert count_tokens.write_request(bare, {}).body == {"contents": USER}
    written = count_tokens.write_request(full, {})
    assert written.body == {"generateContentRequest": whole}
    assert written.path == "/v1beta/models/m1:countTokens"


def test_tools_are_counted_too() -> None:
    request = Request(model="m1", turns=[Turn("user", [Text("Say hi")])], tools=[Tool("f")])
    assert "tools" in count_tokens.write_request(request, {}).body["generateContentRequest"]


def test_counts_cross_both_ways() -> None:
    assert count_tokens.read_answer({"totalTokens": 7}, Request()) == CountAnswer(7)
    assert count_tokens.write_answer(CountAnswer(7), Request()) == {"totalTokens": 7}
    with pytest.raises(UpstreamBroken):
        count_tokens.read_answer({}, Request())


MODEL = {
    "name": "models/m1",
    "version": "001",
    "displayName": "m1",
    "inputTokenLimit": 4096,
    "outputTokenLimit": 2048,
    "supportedGenerationMethods": ["generateContent", "streamGenerateContent", "countTokens"],
    "thinking": True,
}
CAN = ("completion", "tools", "vision", "thinking")
INFO = ModelInfo("m1", owner="google", context=4096, max_output=2048, capabilities=CAN)


def test_a_list_of_models_crosses_both_ways() -> None:
    request = list_models.read_request(None, NOWHERE)
    assert request == ModelsRequest()
    assert list_models.write_request(request, {}).path == "/v1beta/models?pageSize=1000"
    answer = list_models.read_answer({"models": [MODEL]}, request)
    assert answer == ModelsAnswer([INFO])
    assert list_models.write_answer(answer, request) == {"models": [MODEL]}


def test_one_model_crosses_both_ways() -> None:
    request = get_model.read_request(None, M1)
    assert get_model.write_request(request, {}).path == "/v1beta/models/m1"
    answer = get_model.read_answer(MODEL, request)
    assert answer == ModelsAnswer([INFO])
    assert get_model.write_answer(answer, request) == MODEL


def test_a_model_of_another_dialect_can_generate() -> None:
    written = list_models.write_answer(ModelsAnswer([ModelInfo("m2")]), ModelsRequest())["models"][0]
    assert "generateContent" in written["supportedGenerationMethods"]
    assert "inputTokenLimit" not in written


def test_a_model_that_embeds_says_so() -> None:
    embedding = ModelsAnswer([ModelInfo("m2", capabilities=("embedding",))])
    written = list_models.write_answer(embedding, ModelsRequest())["models"][0]
    assert written["supportedGenerationMethods"] == ["embedContent", "batchEmbedContents"]


def test_a_target_without_models_has_an_empty_list() -> None:
    assert list_models.read_answer({}, ModelsRequest()) == ModelsAnswer([])


def test_a_model_that_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFound):
        get_model.write_answer(ModelsAnswer([]), ModelsRequest("m1"))
