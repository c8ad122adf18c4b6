from pathlib import Path
from typing import Any

import pytest

from mooltiproxy.errors import ConfigError
from mooltiproxy.importers.draft import Imported
from tests.importers.importing import fates, imported

PARAMS = "model_list.0.litellm_params"


def deployment(folder: Path, model: str, *params: str, name: str = "m") -> Imported:
    """A file with one deployment."""
    lines = [f"- model_name: '{name}'", "  litellm_params:", f"    model: '{model}'", *(f"    {one}" for one in params)]
    return imported(folder, "model_list:\n" + "\n".join(lines) + "\n")


def only_target(result: Imported) -> Any:
    (entry,) = [entry for name, entry in result.data["targets"].items() if name != "default"]
    return entry


@pytest.mark.parametrize(
    ("model", "url", "speaks", "variable"),
    [
        ("openai/gpt-4o", "https://api.openai.com/v1", "openai", "OPENAI_API_KEY"),
        ("gpt-4o", "https://api.openai.com/v1", "openai", "OPENAI_API_KEY"),
        ("claude-sonnet-4-5", "https://api.anthropic.com", "anthropic", "ANTHROPIC_API_KEY"),
        ("anthropic/claude-sonnet-4-5", "https://api.anthropic.com", "anthropic", "ANTHROPIC_API_KEY"),
        ("gemini/gemini-2.5-pro", "https://generativelanguage.googleapis.com", "gemini", "GEMINI_API_KEY"),
        ("groq/llama-3.3-70b-versatile", "https://api.groq.com/openai/v1", "openai", "GROQ_API_KEY"),
        ("ollama/llama3", "http://localhost:11434", "ollama", None),
        ("ollama_chat/llama3", "http://localhost:11434", "ollama", None),
        ("lm_studio/phi", "${LM_STUDIO_API_BASE}", "openai", None),
        ("hosted_vllm/phi", "${HOSTED_VLLM_API_BASE}", "openai", None),
    ],
)
def test_a_prefix_says_where_the_model_is_and_what_is_spoken_there(
    tmp_path: Path, model: str, url: str, speaks: str, variable: str | None
) -> None:
    entry = only_target(deployment(tmp_path, model))
    assert (entry["url"], entry["speaks"], entry.get("envkey")) == (url, speaks, variable)


def test_the_model_is_asked_for_without_its_prefix(tmp_path: Path) -> None:
    result = deployment(tmp_path, "openrouter/meta-llama/llama-3-8b")
    assert result.data["models"]["m"]["name"] == "meta-llama/llama-3-8b"


def test_a_server_of_ones_own_gets_no_vendors_key(tmp_path: Path) -> None:
    result = deployment(tmp_path, "openai/phi", "api_base: http://10.0.0.1:8000/v1")
    assert only_target(result) == {"url": "http://10.0.0.1:8000/v1", "speaks": "openai"}


def test_a_tgi_server_is_asked_in_both_its_apis(tmp_path: Path) -> None:
    result = deployment(tmp_path, "huggingface/zephyr", "api_base: http://10.0.0.1:8080")
    assert only_target(result)["speaks"] == ["openai", "tgi"]


def test_an_api_base_that_is_no_v1_is_mapped_path_by_path(tmp_path: Path) -> None:
    entry = only_target(deployment(tmp_path, "openai/glm", "api_base: https://api.example.com/api/paas/v4/"))
    assert entry["url"] == "https://api.example.com/api/paas/v4"
    assert entry["mapping"]["/chat/completions"] is None
    assert entry["mapping"]["/v1/messages"] == {"to": "openai", "path": "/chat/completions"}


def test_a_variable_of_theirs_is_a_variable_of_ours(tmp_path: Path) -> None:
    result = deployment(tmp_path, "openai/a", "api_key: os.environ/MY_KEY", "api_base: os.environ/MY_BASE")
    assert only_target(result) == {"url": "${MY_BASE}", "envkey": "MY_KEY", "speaks": "openai"}
    assert {"MY_KEY", "MY_BASE"} <= set(result.variables)


def test_a_key_that_is_written_down_becomes_a_variable(tmp_path: Path) -> None:
    result = deployment(tmp_path, "groq/a", "api_key: gsk-secret")
    assert only_target(result)["envkey"] == "GROQ_KEY"
    assert result.variables["GROQ_KEY"] == "the key of groq, which stood in the file"
    assert "the key is not written here" in fates(result)[f"{PARAMS}.api_key"]


@pytest.mark.parametrize("key", ["none", "EMPTY", "sk-no-key-required", "''"])
def test_a_stand_in_for_a_key_is_none(tmp_path: Path, key: str) -> None:
    result = deployment(tmp_path, "hosted_vllm/a", "api_base: http://10.0.0.1:8000", f"api_key: {key}")
    assert "envkey" not in only_target(result)


def test_settings_of_requests_are_defaults(tmp_path: Path) -> None:
    result = deployment(tmp_path, "gpt-4o", "temperature: 0.1", "max_tokens: 20", "stop: [a, b]")
    assert result.data["models"]["m"]["defaults"] == {"temperature": 0.1, "max_tokens": 20, "stop": ["a", "b"]}


def test_a_setting_that_cannot_be_is_listed_with_the_reason(tmp_path: Path) -> None:
    result = deployment(tmp_path, "gpt-4o", "temperature: hot", "top_p: 0.5")
    assert result.data["models"]["m"]["defaults"] == {"top_p": 0.5}
    assert fates(result)[f"{PARAMS}.temperature"].startswith("not carried: ")


def test_a_wildcard_keeps_what_its_star_stood_for(tmp_path: Path) -> None:
    result = deployment(tmp_path, "anthropic/*", name="anthropic/*")
    assert result.data["models"] == {"anthropic/*": {"target": "anthropic", "name": "*"}}


def test_the_name_for_all_others_is_the_default_target(tmp_path: Path) -> None:
    text = "model_list:\n- {model_name: a, litellm_params: {model: claude-x}}\n"
    result = imported(tmp_path, text + "- {model_name: '*', litellm_params: {model: 'openai/*'}}\n")
    assert result.data["targets"]["default"] == "openai"
    assert result.data["models"]["*"] == {"target": "openai"}


def test_the_first_deployment_that_can_be_carried_is_taken(tmp_path: Path) -> None:
    entries = [
        "{model: azure/gpt-4o, api_base: https://a.openai.azure.com}",
        "{model: gpt-4o}",
        "{model: openai/gpt-4o, api_base: http://10.0.0.1/v1}",
    ]
    lines = [f"- {{model_name: m, litellm_params: {params}}}" for params in entries]
    result = imported(tmp_path, "model_list:\n" + "\n".join(lines) + "\n")
    assert only_target(result)["url"] == "https://api.openai.com/v1"
    assert "Azure" in fates(result)["model_list.0"]
    assert "one server answers for a model" in fates(result)["model_list.2"]


@pytest.mark.parametrize(
    ("model", "part"),
    [
        ("azure/gpt-4o", "api-version"),
        ("bedrock/anthropic.claude-v2", "signed"),
        ("vertex_ai/gemini-pro", "Gemini API"),
        ("gemini-1.5-pro", "Gemini API"),
        ("oobabooga/x", "the provider oobabooga is not known here"),
        ("my-model", "its name does not tell the provider"),
        ("huggingface/x", "expected api_base"),
        ("os.environ/MODEL", "only known from the environment"),
    ],
)
def test_a_server_that_cannot_be_a_target_is_listed_with_the_reason(tmp_path: Path, model: str, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        deployment(tmp_path, model)
    assert part in str(caught.value)


def test_an_address_with_a_password_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        deployment(tmp_path, "openai/a", "api_base: http://user:canary@10.0.0.1/v1")
    assert "without credentials" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_credential_is_found_by_its_name(tmp_path: Path) -> None:
    text = "model_list: [{model_name: a, litellm_params: {model: openai/a, litellm_credential_name: c}}]\n"
    values = "{api_base: http://10.0.0.1/v1, api_key: os.environ/LAB}"
    result = imported(tmp_path, f"{text}credential_list: [{{credential_name: c, credential_values: {values}}}]\n")
    assert only_target(result) == {"url": "http://10.0.0.1/v1", "envkey": "LAB", "speaks": "openai"}


def test_an_alias_is_a_model_with_the_same_settings(tmp_path: Path) -> None:
    text = "model_list: [{model_name: a, litellm_params: {model: gpt-4o, seed: 1}}]\n"
    result = imported(tmp_path, f"{text}router_settings: {{model_group_alias: {{b: a, c: nobody}}}}\n")
    assert result.data["models"]["b"] == result.data["models"]["a"]
    assert fates(result)["router_settings.model_group_alias.c"].startswith("not carried: the model")


def test_the_master_key_is_the_variable_of_ours(tmp_path: Path) -> None:
    text = "model_list: [{model_name: a, litellm_params: {model: gpt-4o}}]\n"
    result = imported(tmp_path, f"{text}general_settings: {{master_key: os.environ/LITELLM_MASTER_KEY}}\n")
    assert result.variables["MOOLTIPROXY_KEY"] == "the key that clients send: the value of LITELLM_MASTER_KEY"


def test_the_routers_timeout_wins(tmp_path: Path) -> None:
    text = "model_list: [{model_name: a, litellm_params: {model: gpt-4o}}]\nlitellm_settings: {request_timeout: 5}\n"
    result = imported(tmp_path, f"{text}router_settings: {{timeout: 30}}\n")
    assert result.data["system"] == {"timeout": 30}
    assert "wins" in fates(result)["litellm_settings.request_timeout"]
