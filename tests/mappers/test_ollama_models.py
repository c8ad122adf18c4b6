from typing import Any

import pytest

from mappers.ollama import dialect, models
from mooltiproxy.errors import BadRequest, NotFound, UpstreamBroken
from mooltiproxy.mapping.neutral import ModelInfo, ModelsAnswer, ModelsRequest

DETAILS = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "8.0B",
    "quantization_level": "Q4_0",
}
TAG = {
    "name": "m1:latest",
    "model": "m1:latest",
    "modified_at": "2026-11-14T22:13:20Z",
    "size": 123,
    "digest": "0" * 64,
    "details": DETAILS,
    "capabilities": ["completion", "vision"],
}
INFO = ModelInfo(
    "m1:latest",
    created=1794694400,
    size=123,
    digest="0" * 64,
    details=DETAILS,
    capabilities=("completion", "vision"),
)


def test_a_list_of_models_is_read_and_written_without_a_change() -> None:
    answer = models.read_tags({"models": [TAG]}, ModelsRequest())
    assert answer == ModelsAnswer([INFO])
    assert models.write_tags(answer, ModelsRequest()) == {"models": [TAG]}


@pytest.mark.parametrize("time", ["2026-11-14T22:13:20.123456789Z", "2026-11-14T23:13:20.5+01:00"])
def test_times_are_read_with_any_fraction_and_zone(time: str) -> None:
    assert models.read_tags({"models": [{**TAG, "modified_at": time}]}, ModelsRequest()).models[0].created == 1794694400


@pytest.mark.parametrize("name", ["m1", "m1:latest"])
def test_one_model_is_found_in_the_list_with_and_without_the_usual_tag(name: str) -> None:
    other = {**TAG, "name": "m1:8b", "model": "m1:8b"}
    assert models.read_tags({"models": [other, TAG]}, ModelsRequest(name)) == ModelsAnswer([INFO])


def test_a_model_that_is_not_in_the_list_is_not_found() -> None:
    with pytest.raises(NotFound, match="model 'm2' not found"):
        models.read_tags({"models": [TAG]}, ModelsRequest("m2"))
    with pytest.raises(NotFound, match="model 'm2' not found"):
        models.write_show(ModelsAnswer([]), ModelsRequest("m2"))


@pytest.mark.parametrize("body", [[], {}, {"models": None}, {"error": "it died"}])
def test_what_is_no_list_is_the_targets_fault(body: Any) -> None:
    with pytest.raises(UpstreamBroken):
        models.read_tags(body, ModelsRequest())


def test_of_an_unknown_model_all_fields_are_there_that_clients_need() -> None:
    answer = ModelsAnswer([ModelInfo("gpt-9")])
    (tag,) = models.write_tags(answer, ModelsRequest())["models"]
    assert tag["model"] == tag["name"] == "gpt-9"
    assert tag["modified_at"] == "1970-01-01T00:00:00Z"
    assert tag["size"] == 0
    assert len(tag["digest"]) == 64
    assert tag["details"] == {
        "format": "",
        "family": "",
        "families": None,
        "parameter_size": "",
        "quantization_level": "",
    }
    assert tag["digest"] == models.write_tags(answer, ModelsRequest())["models"][0]["digest"]


def test_what_agents_look_for_is_in_the_answer_to_show() -> None:
    answer = ModelsAnswer([ModelInfo("m1", context=8192, details=DETAILS, capabilities=("completion", "tools"))])
    body = models.write_show(answer, ModelsRequest("m1"))
    assert body["model_info"] == {
        "general.architecture": "llama",
        "general.basename": "m1",
        "llama.context_length": 8192,
    }
    assert body["capabilities"] == ["completion", "tools"]
    assert body["details"] == DETAILS
    assert models.read_show(body, ModelsRequest("m1")).models[0].context == 8192


def test_a_model_of_which_nothing_is_known_may_be_asked_with_tools() -> None:
    body = models.write_show(ModelsAnswer([ModelInfo("gpt-9")]), ModelsRequest("gpt-9"))
    assert body["capabilities"] == ["completion", "tools"]
    assert body["model_info"]["general.architecture"] == "unknown"


@pytest.mark.parametrize("body", [{"model": "m1"}, {"name": "m1", "verbose": True}, {"model": "m1", "verbose": None}])
def test_a_question_for_one_model_is_read(body: dict[str, Any]) -> None:
    assert models.read_show_request(body) == ModelsRequest("m1")


def test_a_question_for_no_model_is_refused() -> None:
    with pytest.raises(BadRequest) as caught:
        models.read_show_request({})
    assert caught.value.param == "model"
    with pytest.raises(BadRequest):
        models.write_show_request(ModelsRequest(), {})


def test_a_target_is_asked_for_its_list_or_for_one() -> None:
    assert models.write_tags_request(ModelsRequest(extra={"after_id": "x"}), {}).dropped == ("after_id",)
    assert models.write_show_request(ModelsRequest("m1"), {}).body == {"model": "m1"}


@pytest.mark.parametrize(
    ("status", "body", "speaks"),
    [
        (200, {"version": "0.30.1"}, True),
        (200, {"models": []}, False),
        (404, {"version": "1"}, False),
        (200, None, False),
    ],
)
def test_a_server_that_tells_its_version_speaks_this_api(status: int, body: Any, speaks: bool) -> None:
    assert dialect.probe is not None
    path, is_it = dialect.probe
    assert path == "/api/version"
    assert is_it(status, body) is speaks


def test_what_a_target_lists_is_said_to_be_in_memory_for_ever() -> None:
    answer = ModelsAnswer([ModelInfo("m1", context=8192, size=5), ModelInfo("m2")])
    first, second = models.write_ps(answer, ModelsRequest())["models"]
    assert (first["model"], first["size"], first["size_vram"], first["context_length"]) == ("m1", 5, 5, 8192)
    assert first["expires_at"] == models.FOR_EVER
    assert "context_length" not in second
    assert len(second["digest"]) == 64
