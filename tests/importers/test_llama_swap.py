from pathlib import Path

import pytest

from mooltiproxy.errors import ConfigError
from tests.importers.importing import FILES, accepted, fates, imported


def test_the_port_of_a_model_is_the_one_that_llama_swap_would_give_it(tmp_path: Path) -> None:
    text = (
        "models:\n  b: {cmd: 'serve ${PORT}'}\n  a: {cmd: 'serve --port ${PORT}'}\n  c: {cmd: x, proxy: 'http://h'}\n"
    )
    targets = imported(tmp_path, text).data["targets"]
    assert (targets["a"]["url"], targets["b"]["url"]) == ("http://localhost:5800", "http://localhost:5801")
    assert targets["c"]["url"] == "http://h"


def test_the_port_may_be_in_a_macro(tmp_path: Path) -> None:
    text = "startPort: 9000\nmacros: {run: 'serve ${PORT}', more: '${run} -x'}\nmodels: {a: {cmd: '${more}'}}\n"
    result = imported(tmp_path, text)
    assert result.data["targets"]["a"]["url"] == "http://localhost:9000"
    assert "on port 9000" in fates(result)["models.a.cmd"]


def test_a_models_macro_goes_before_that_of_all(tmp_path: Path) -> None:
    text = "macros: {h: one}\nmodels: {a: {cmd: x, proxy: 'http://${h}:1', macros: {h: two}}}\n"
    assert imported(tmp_path, text).data["targets"]["a"]["url"] == "http://two:1"


def test_macros_that_name_each_other_end(tmp_path: Path) -> None:
    text = "macros: {a: '${b}${b}', b: '${a}${a}'}\nmodels: {m: {cmd: x, proxy: 'http://${a}'}}\n"
    with pytest.raises(ConfigError, match="nothing is left"):
        imported(tmp_path, text)


def test_a_model_is_asked_for_by_the_name_that_its_server_knows(tmp_path: Path) -> None:
    text = "models: {a: {cmd: x, proxy: 'http://h:1', useModelName: org/a, aliases: [b]}}\n"
    models = imported(tmp_path, text).data["models"]
    assert models == {"a": {"target": "a", "name": "org/a"}, "b": {"target": "a", "name": "org/a"}}


def test_an_alias_that_cannot_be_a_name_is_listed(tmp_path: Path) -> None:
    result = imported(tmp_path, "models: {a: {cmd: x, proxy: 'http://h:1', aliases: ['b*c*']}}\n")
    assert list(result.data["models"]) == ["a"]
    assert fates(result)["models.a.aliases.0"] == "not carried: expected a name with one `*` at most"


def test_models_of_one_server_share_a_target(tmp_path: Path) -> None:
    text = "models: {a: {cmd: x, proxy: 'http://h:1'}, b: {cmd: x, proxy: 'http://h:1'}}\n"
    assert imported(tmp_path, text).data["targets"] == {"default": "a", "a": {"url": "http://h:1", "speaks": "openai"}}


def test_models_aliases_and_peers_models_can_be_asked_for(tmp_path: Path) -> None:
    config = accepted(tmp_path, FILES / "llama_swap.yaml")
    assert {"qwen-coder", "qwen-coder:long", "coder", "big", "phi-4", "z-ai/glm-4.7"} <= set(config.models)


def test_a_macro_that_is_a_number_stays_one(tmp_path: Path) -> None:
    text = "macros: {t: 0.5}\nmodels: {a: {cmd: x, proxy: 'http://h', filters: {setParams: {temperature: '${t}'}}}}\n"
    assert imported(tmp_path, text).data["models"]["a"]["overrides"] == {"temperature": 0.5}


def test_settings_by_name_make_a_model_of_their_own(tmp_path: Path) -> None:
    filters = "{setParams: {seed: 1, top_p: 0.5}, setParamsByID: {'${MODEL_ID}:x': {seed: 2}}}"
    result = imported(tmp_path, f"models: {{a: {{cmd: x, proxy: 'http://h', filters: {filters}}}}}\n")
    assert result.data["models"]["a"]["overrides"] == {"seed": 1, "top_p": 0.5}
    assert result.data["models"]["a:x"] == {"target": "a", "overrides": {"seed": 2, "top_p": 0.5}}


def test_a_setting_that_is_not_known_is_listed_and_the_others_stay(tmp_path: Path) -> None:
    filters = "{setParams: {odd: 1, top_p: 0.5}, setParamsByID: {x: {seed: 2}}}"
    result = imported(tmp_path, f"models: {{a: {{cmd: x, proxy: 'http://h', filters: {filters}}}}}\n")
    assert result.data["models"]["x"] == {"target": "a", "overrides": {"top_p": 0.5, "seed": 2}}
    assert fates(result)["models.a.filters.setParams.odd"].startswith("not carried: there is no such setting")


def test_peers_are_targets_with_their_keys(tmp_path: Path) -> None:
    text = "peers: {p: {proxy: 'https://h.example/api', apiKey: '${env.P_KEY}', models: [x, y]}}\n"
    data = imported(tmp_path, text).data
    assert data["targets"]["p"] == {"url": "https://h.example/api", "envkey": "P_KEY", "speaks": "openai"}
    assert data["models"] == {"x": {"target": "p"}, "y": {"target": "p"}}


def test_keys_of_clients_are_keys(tmp_path: Path) -> None:
    text = "apiKeys: [secret-1, '${env.TWO}', secret-3]\nmodels: {a: {cmd: x, proxy: 'http://h'}}\n"
    result = imported(tmp_path, text)
    assert [entry["envkey"] for entry in result.data["keys"].values()] == ["LLAMA_SWAP_KEY", "TWO", "LLAMA_SWAP_KEY_2"]


def test_what_starts_servers_is_listed(tmp_path: Path) -> None:
    result = imported(tmp_path, "models: {a: {cmd: x, proxy: 'http://h', ttl: 5}}\ngroups: {g: {members: [a]}}\n")
    assert {fates(result)[key].partition(": ")[0] for key in ("models.a.cmd", "models.a.ttl", "groups")} == {
        "not carried"
    }
