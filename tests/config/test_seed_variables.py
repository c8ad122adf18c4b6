"""Environment variables of the projects that this one grew from."""

from pathlib import Path

import pytest

from mooltiproxy.config.load import from_data
from mooltiproxy.config.model import Config, Model, Timeouts
from mooltiproxy.config.seed_variables import interstitial, only_last
from mooltiproxy.errors import ConfigError
from mooltiproxy.mapping.settings import Injection, Settings
from tests.config.writing import TARGETS, loaded, only_problem


def test_llm_proxy_apis_variables_set_keys_of_the_file(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        TARGETS,
        LLM_PROXY_API_EP_PREFIX="llm",
        LLM_PROXY_API_TIMEOUT="120",
        LLM_PROXY_API_SERVER_HOST="0.0.0.0",
        LLM_PROXY_API_SERVER_PORT="8080",
        LLM_PROXY_API_IN_DEBUG="1",
    )
    assert config.rest_prefix == "/llm"
    assert config.system.timeouts == Timeouts(120, 120, 120)
    assert (config.system.host, config.system.port, config.system.debug) == ("0.0.0.0", 8080, True)


def test_the_variable_that_llm_proxy_api_cannot_start_without_brings_its_defaults(tmp_path: Path) -> None:
    assert loaded(tmp_path, TARGETS, LLM_PROXY_API_MINIMUM="1").rest_prefix == "/api"
    assert loaded(tmp_path, TARGETS, LLM_PROXY_API_MINIMUM="0").rest_prefix is None


def test_variables_of_ours_go_before_those_of_llm_proxy_api(tmp_path: Path) -> None:
    config = loaded(tmp_path, TARGETS, LLM_PROXY_API_SERVER_PORT="1", MOOLTIPROXY_SYSTEM_PORT="2")
    assert config.system.port == 2


def test_a_wrong_value_is_a_mistake_of_its_variable(tmp_path: Path) -> None:
    problem = only_problem(tmp_path, TARGETS, LLM_PROXY_API_SERVER_PORT="many")
    assert str(problem).startswith("LLM_PROXY_API_SERVER_PORT: system.port: expected a whole number")


def relayed(**environ: str) -> Config:
    data = interstitial({"DESTINATION_API": "http://localhost:6789", **environ})
    assert data is not None
    return only_last(from_data(data, Path(), {}))


def test_without_a_destination_interstitials_variables_mean_nothing() -> None:
    assert interstitial({"PROMPT_INJECTOR": "user", "MODEL_OVERRIDE": "m"}) is None


def test_a_destination_alone_passes_everything_as_it_is() -> None:
    config = relayed()
    assert (config.system.port, config.system.timeouts.first_byte) == (3456, 600)
    assert config.targets["destination"].url == "http://localhost:6789"
    assert config.models["*"] == Model("*", "destination", "*")


def test_words_are_put_around_the_users_last_message() -> None:
    settings = relayed(PROMPT_INJECTOR="user", MESSAGE_PREFIX="\\n# User:\\n").models["*"].settings
    assert settings == Settings(prefix="\n# User:\n", suffix="\n\n### Response:\n", around_last=True)


def test_words_become_messages_of_the_system() -> None:
    settings = relayed(PROMPT_INJECTOR="system", MESSAGE_SUFFIX="AI:").models["*"].settings
    assert settings is not None
    assert settings.inject == (
        Injection("system", "\n\n### Instruction:\n", -1),
        Injection("system", "AI:", None),
    )


def test_one_model_and_other_paths_and_another_port() -> None:
    config = relayed(
        MODEL_OVERRIDE="vicuna", ENDPOINT_COMPLETIONS="/chat", ENDPOINT_MODELS="/v1/models", LOCAL_PORT="1"
    )
    assert config.models["*"].upstream_name == "vicuna"
    assert config.targets["destination"].mapping["/v1/chat/completions"].path == "/chat"
    assert config.targets["destination"].mapping["/v1/models"].path == "/v1/models"
    assert config.system.port == 1


def test_a_variable_that_is_empty_counts_as_absent() -> None:
    config = relayed(MODEL_OVERRIDE="", ENDPOINT_COMPLETIONS="", ENDPOINT_MODELS="", LOCAL_PORT="")
    assert config.targets["destination"].mapping["/v1/chat/completions"].path == "/v1/chat/completions"
    assert config.system.port == 3456


def test_another_injector_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="PROMPT_INJECTOR: expected user, system or nothing"):
        relayed(PROMPT_INJECTOR="assistant")
