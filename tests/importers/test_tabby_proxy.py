from pathlib import Path

import pytest

from mooltiproxy.config.servers import wanted
from mooltiproxy.importers.reading import import_file
from tests.importers.importing import FILES, accepted, fates, imported, loaded

MODEL = "model: {model_name: Model-exl2}\n"


def write(folder: Path, **files: str) -> Path:
    """A folder with these files; `__` in a name is `/`."""
    for name, text in files.items():
        file = folder / f"{name.replace('__', '/')}.yml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    return folder


def test_a_models_name_is_its_files_path(tmp_path: Path) -> None:
    config = accepted(tmp_path, FILES / "tabby")
    assert list(config.models) == ["Mistral-Small", "code/Coder"]
    assert config.models["code/Coder"].upstream_name == "Coder-14B-exl2"


def test_the_folder_of_the_models_alone_will_do(tmp_path: Path) -> None:
    assert set(accepted(tmp_path, FILES / "tabby" / "config").models) == {"Mistral-Small", "code/Coder"}


def test_a_models_file_alone_will_do(tmp_path: Path) -> None:
    result = imported(tmp_path, MODEL, "Some.yml")
    assert result.data["models"] == {"Some": {"target": "tabby", "name": "Model-exl2"}}


def test_the_template_is_for_what_the_client_does_not_say(tmp_path: Path) -> None:
    result = imported(tmp_path, MODEL + "template: {system: Be brief., system_time: true, top_p: 0.8, stop: [x]}\n")
    assert result.data["models"]["theirs"] == {
        "target": "tabby",
        "name": "Model-exl2",
        "system": "Be brief.",
        "system_time": True,
        "defaults": {"top_p": 0.8, "stop": ["x"]},
    }


@pytest.mark.parametrize(
    ("network", "url"),
    [
        ("{host: 10.0.0.1, port: 7001}", "http://10.0.0.1:7001"),
        ("{host: 0.0.0.0}", "http://127.0.0.1:5000"),
        ("{host: '::1', port: 6000}", "http://[::1]:6000"),
    ],
)
def test_the_address_is_that_of_tabbys_configuration(tmp_path: Path, network: str, url: str) -> None:
    folder = write(tmp_path, config=f"network: {network}\n", config__a=MODEL)
    assert import_file(folder, {})[0].data["targets"]["tabby"]["url"] == url


def test_tokens_are_keys_of_clients_and_tabbys_own(tmp_path: Path) -> None:
    tokens = "api_key: secret\nadmin_key: other\nalice: third\n"
    result, text = import_file(write(tmp_path, config="network: {}\n", config__a=MODEL, api_tokens=tokens), {})
    assert [entry["envkey"] for entry in result.data["keys"].values()] == [
        "TABBY_API_KEY",
        "TABBY_ADMIN_KEY",
        "TABBY_ALICE_KEY",
    ]
    assert result.data["targets"]["tabby"]["envkey"] == "TABBY_API_KEY"
    assert "secret" not in text


def test_a_tabby_that_asks_for_no_key_gets_none(tmp_path: Path) -> None:
    folder = write(tmp_path, config="network: {disable_auth: true}\n", config__a=MODEL, api_tokens="api_key: x\n")
    assert "envkey" not in import_file(folder, {})[0].data["targets"]["tabby"]


def test_what_loads_the_model_stays_with_tabby(tmp_path: Path) -> None:
    result = imported(
        tmp_path, "model: {model_name: a, cache_size: 5, unload_timer: 9}\nsampling: {override_preset: x}\n"
    )
    assert fates(result)["model"] == "not carried: TabbyAPI itself reads it, from this file"
    assert "no start.py" in fates(result)["model.unload_timer"]
    assert "TabbyAPI itself" in fates(result)["sampling.override_preset"]


def test_where_tabby_is_around_it_is_started_with_the_file(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        config="network: {host: 0.0.0.0, port: 7001}\n",
        config__a="model: {model_name: a-exl2, unload_timer: 60}\n",
        config__b=MODEL,
        api_tokens="api_key: secret\n",
    )
    (tmp_path / "start.py").touch()
    result, text = import_file(folder, {})
    assert result.data["targets"]["a"] == {
        "url": "http://127.0.0.1:${port}",
        "envkey": "TABBY_API_KEY",
        "speaks": "openai",
        "run": {
            "command": "python start.py --config config/a.yml",
            "cwd": str(tmp_path),
            "env": {"TABBY_NETWORK_HOST": "127.0.0.1", "TABBY_NETWORK_PORT": "${port}"},
            "ready": "/v1/model",
            "unload_after": 60,
            "group": "tabby",
        },
    }
    assert "unload_after" not in result.data["targets"]["b"]["run"]
    assert result.data["models"]["b"] == {"target": "b", "name": "Model-exl2"}
    assert fates(result)["config.yml.network.port"] == "each server gets a free port of this machine"
    assert [server.group for server in wanted(loaded(tmp_path, result, text))] == ["tabby", "tabby"]


@pytest.mark.parametrize("named", ["config", "config/a.yml"])
def test_tabby_is_found_around_a_folder_or_a_file_of_it(tmp_path: Path, named: str) -> None:
    folder = write(tmp_path, config__a=f"{MODEL}network: {{port: 6000}}\n")
    (tmp_path / "start.py").touch()
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/bin/python").touch()
    target = import_file(folder / named, {})[0].data["targets"]["a"]
    assert target["url"] == "http://127.0.0.1:6000"
    assert "envkey" not in target and "ready" not in target["run"]
    assert target["run"]["command"] == f"{tmp_path}/venv/bin/python start.py --config config/a.yml"


def test_tabbys_own_key_is_asked_for_where_only_a_file_of_it_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path, config__a=MODEL, api_tokens="api_key: secret\n")
    (tmp_path / "start.py").touch()
    result = import_file(folder / "config/a.yml", {})[0]
    assert result.data["targets"]["a"]["envkey"] == "TABBY_API_KEY"
    assert result.data["targets"]["a"]["run"]["ready"] == "/v1/model"
    assert "TABBY_API_KEY" in result.variables


def test_a_timer_that_is_none_is_listed(tmp_path: Path) -> None:
    folder = write(tmp_path, config__a="model: {model_name: a, unload_timer: later}\n")
    (tmp_path / "start.py").touch()
    result = import_file(folder, {})[0]
    assert "unload_after" not in result.data["targets"]["a"]["run"]
    assert fates(result)["config/a.yml.model.unload_timer"].startswith("not carried: expected seconds")
