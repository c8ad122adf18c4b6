from pathlib import Path
from typing import Any

import orjson

from mooltiproxy.importers.draft import Imported
from tests.importers.importing import FILES, accepted, fates, imported

VLLM = {"api_host": "http://10.0.0.1:7000/", "api_token": "", "api_type": "vllm", "model_path": ""}


def config(folder: Path, models: dict[str, Any], **environ: str) -> Imported:
    """A file in which these models are all active."""
    data = {"some_models": models, "active_models": {"some_models": list(models)}}
    named = {f"LLM_PROXY_API_{name}": value for name, value in environ.items()}
    return imported(folder, orjson.dumps(data).decode(), "models-config.json", named)


def test_both_forms_of_a_model_are_read(tmp_path: Path) -> None:
    result = config(tmp_path, {"a": VLLM, "b": {"providers": [{**VLLM, "id": "x", "model_path": "org/b"}]}})
    assert result.data["models"] == {
        "a": {"target": "10.0.0.1-7000"},
        "b": {"target": "10.0.0.1-7000", "name": "org/b"},
    }


def test_tabs_may_indent_the_file(tmp_path: Path) -> None:
    assert set(accepted(tmp_path, FILES / "models-config.json").models) == {
        "google/gemma-3-12b-it",
        "google/gemini-2.0-flash",
        "gpt-oss:20b",
    }


def test_a_model_that_is_not_active_is_listed(tmp_path: Path) -> None:
    data = {"k": {"a": VLLM, "b": VLLM}, "active_models": {"k": ["a"]}}
    result = imported(tmp_path, orjson.dumps(data).decode())
    assert list(result.data["models"]) == ["a"]
    assert "not under active_models" in fates(result)["k.b"]


def test_one_server_of_several_is_taken(tmp_path: Path) -> None:
    other = {**VLLM, "api_host": "http://10.0.0.2:7000"}
    result = config(tmp_path, {"a": {"providers": [{**VLLM, "api_type": "vertex_ai"}, VLLM, other]}})
    assert result.data["models"]["a"] == {"target": "10.0.0.1-7000"}
    assert "api_type" in fates(result)["some_models.a.providers.0"]
    assert "one server" in fates(result)["some_models.a.providers.2"]


def test_a_token_becomes_a_variable(tmp_path: Path) -> None:
    result = config(tmp_path, {"a": {**VLLM, "api_token": "secret", "api_host": "https://api.example.com/v1"}})
    assert result.data["targets"]["api.example.com"]["envkey"] == "API_EXAMPLE_COM_KEY"


def test_its_endpoints_are_there_below_its_prefix(tmp_path: Path) -> None:
    assert config(tmp_path, {"a": VLLM}).data["rest"] == {"prefix": "/api"}
    assert config(tmp_path, {"a": VLLM}, EP_PREFIX="/llm").data["rest"] == {"prefix": "/llm"}


def test_its_variables_become_settings(tmp_path: Path) -> None:
    result = config(tmp_path, {"a": VLLM}, TIMEOUT="120", SERVER_HOST="0.0.0.0", SERVER_PORT="9000", LOG_LEVEL="INFO")
    assert result.data["system"] == {"timeout": 120, "host": "0.0.0.0", "port": 9000}
    assert "--verbose" in fates(result)["LLM_PROXY_API_LOG_LEVEL"]


def test_a_variable_that_makes_no_sense_is_listed(tmp_path: Path) -> None:
    result = config(tmp_path, {"a": VLLM}, TIMEOUT="for ever")
    assert "system" not in result.data
    assert fates(result)["LLM_PROXY_API_TIMEOUT"].startswith("not carried: expected seconds")


def test_its_prompts_are_the_library(tmp_path: Path) -> None:
    folder = tmp_path / "resources"
    (folder / "de").mkdir(parents=True)
    (folder / "de" / "kurz.prompt").write_text("Antworte kurz.")
    result = config(tmp_path, {"a": VLLM}, PROMPTS_DIR=str(folder), DEFAULT_EP_LANGUAGE="de")
    assert result.data["prompts"] == {"dir": str(folder), "language": "de"}


def test_prompts_that_are_not_here_are_listed(tmp_path: Path) -> None:
    result = config(tmp_path, {"a": VLLM}, PROMPTS_DIR=str(tmp_path / "none"), DEFAULT_EP_LANGUAGE="xx")
    assert "prompts" not in result.data
    assert "no such folder" in fates(result)["LLM_PROXY_API_PROMPTS_DIR"]
