from typing import Any

import orjson
import pytest

from mappers.openai import dialect, models
from mooltiproxy.errors import NotFound, UpstreamBroken
from mooltiproxy.mapping.neutral import Asked, ModelInfo, ModelsAnswer, ModelsRequest
from mooltiproxy.mapping.translate import DialectTranslation

ALL = ModelsRequest()


def listed(*entries: dict[str, Any]) -> list[ModelInfo]:
    return models.read_answer({"object": "list", "data": list(entries)}, ALL).models


def test_the_path_says_which_model_is_asked_for() -> None:
    assert models.read_request(None, Asked("/v1/models")) == ALL
    assert models.read_request(None, Asked("/v1/models/org/name", "org/name")) == ModelsRequest("org/name")


@pytest.mark.parametrize("request_", [ALL, ModelsRequest("org/name")])
def test_the_target_is_always_asked_for_its_list(request_: ModelsRequest) -> None:
    translation = DialectTranslation(models.one_endpoint, models.one_endpoint, {}, "")
    translated = translation.request(None, Asked(model=request_.model))
    assert (translated.method, translated.path, translated.body) == ("GET", "/v1/models", b"")


def test_models_are_read() -> None:
    assert listed({"id": "a", "object": "model", "created": 7, "owned_by": "org"}, {"id": "b"}) == [
        ModelInfo("a", created=7, owner="org"),
        ModelInfo("b"),
    ]


@pytest.mark.parametrize(
    "fields", [{"max_model_len": 4096}, {"context_length": 4096}, {"meta": {"n_ctx_train": 4096, "size": 5}}]
)
def test_the_context_is_read_as_servers_tell_it(fields: dict[str, Any]) -> None:
    assert listed({"id": "a", **fields})[0].context == 4096


@pytest.mark.parametrize("body", [[{"id": "a"}], {"models": [{"name": "a"}]}, {"data": [{"id": "a"}, {"x": 1}, 7]}])
def test_lists_are_read_in_other_envelopes(body: Any) -> None:
    assert models.read_answer(body, ALL).models == [ModelInfo("a")]


@pytest.mark.parametrize("body", [None, {}, {"data": {}}, {"error": {"message": "no"}}])
def test_what_is_no_list_breaks_the_answer(body: Any) -> None:
    with pytest.raises(UpstreamBroken):
        models.read_answer(body, ALL)


def test_one_model_is_found_in_the_list() -> None:
    body = {"data": [{"id": "a"}, {"id": "org/name"}]}
    assert models.read_answer(body, ModelsRequest("org/name")).models == [ModelInfo("org/name")]


def test_a_model_that_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFound) as caught:
        models.read_answer({"data": [{"id": "a"}]}, ModelsRequest("b"))
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")
    with pytest.raises(NotFound):
        models.write_answer(ModelsAnswer([]), ModelsRequest("b"))


def test_models_are_written_with_all_that_the_api_promises() -> None:
    answer = ModelsAnswer([ModelInfo("a", created=7, owner="org", context=4096), ModelInfo("b")])
    assert models.write_answer(answer, ALL) == {
        "object": "list",
        "data": [
            {"id": "a", "object": "model", "created": 7, "owned_by": "org"},
            {"id": "b", "object": "model", "created": 0, "owned_by": "unknown"},
        ],
    }


def test_one_model_is_written_by_itself_under_the_name_that_was_asked_for() -> None:
    body = models.write_answer(ModelsAnswer([ModelInfo("b:latest", created=7)]), ModelsRequest("b"))
    assert body == {"id": "b", "object": "model", "created": 7, "owned_by": "unknown"}


def test_a_list_goes_through_the_engine() -> None:
    translated = DialectTranslation(models.endpoint, models.endpoint, {}, "").request(None, Asked())
    answer = translated.answer("application/json", {})
    assert answer is not None
    answer.feed(b'{"data":[{"id":"a"}]}')
    assert orjson.loads(answer.end())["data"][0]["id"] == "a"


def test_every_endpoint_of_the_dialect_has_a_label_of_its_own() -> None:
    labels = [endpoint.label for endpoint in dialect.endpoints]
    assert labels == ["chat", "responses", "input_tokens", "tokenize", "completions", "embeddings", "models", "model"]


@pytest.mark.parametrize(
    ("fields", "can"),
    [
        ({}, None),
        (
            {"capabilities": {"completion_chat": True, "function_calling": True, "vision": False}},
            ("completion", "tools"),
        ),
        ({"supported_parameters": ["tools", "seed", "reasoning"]}, ("completion", "tools", "thinking")),
        (
            {"supported_parameters": ["seed"], "architecture": {"input_modalities": ["text", "image"]}},
            ("completion", "vision"),
        ),
        ({"capabilities": ["completion"], "supported_parameters": None, "architecture": "transformer"}, None),
    ],
)
def test_what_a_model_can_is_read_as_servers_tell_it(fields: dict[str, Any], can: tuple[str, ...] | None) -> None:
    assert listed({"id": "a", **fields})[0].capabilities == can
