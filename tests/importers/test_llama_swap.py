import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mooltiproxy.config.servers import wanted
from mooltiproxy.errors import ConfigError
from mooltiproxy.importers.reading import import_file
from tests.importers.importing import FILES, accepted, fates, imported, loaded
from tests.servers.engines import ROOT
from tests.servers.proxy import proxy


def run(folder: Path, model: str, rest: str = "") -> dict[str, Any]:
    """The `run:` of a file with this model, named `a`."""
    run: dict[str, Any] = imported(folder, f"models:\n  a: {model}\n{rest}").data["targets"]["a"]["run"]
    return run


def test_a_server_gets_a_port_that_is_free(tmp_path: Path) -> None:
    target = imported(tmp_path, "models: {a: {cmd: 'serve --port ${PORT}'}}\n").data["targets"]["a"]
    assert target["url"] == "http://localhost:${port}"
    assert target["run"]["command"] == "serve --port ${port}"


def test_a_port_that_is_needed_elsewhere_is_the_one_that_llama_swap_would_give_it(tmp_path: Path) -> None:
    elsewhere = "filters: {setParams: {seed: '${PORT}'}}"
    text = (
        f"models:\n  b: {{cmd: 'serve ${{PORT}}', {elsewhere}}}\n  a: {{cmd: 'serve --port ${{PORT}}', {elsewhere}}}\n"
        "  c: {cmd: x, proxy: 'http://h'}\n"
    )
    targets = imported(tmp_path, text).data["targets"]
    assert (targets["a"]["url"], targets["b"]["url"]) == ("http://localhost:5800", "http://localhost:5801")
    assert targets["a"]["run"]["command"] == "serve --port 5800"
    assert targets["c"]["url"] == "http://h"


def test_the_port_may_be_in_a_macro(tmp_path: Path) -> None:
    text = "startPort: 9000\nmacros: {run: 'serve ${PORT}', more: '${run} -x'}\nmodels: {a: {cmd: '${more}'}}\n"
    assert imported(tmp_path, text).data["targets"]["a"]["run"]["command"] == "serve ${port} -x"


def test_an_address_without_the_port_keeps_the_number_in_the_command(tmp_path: Path) -> None:
    target = imported(tmp_path, "models: {a: {cmd: 'serve ${PORT}', proxy: 'http://h:80'}}\n").data["targets"]["a"]
    assert (target["url"], target["run"]["command"]) == ("http://h:80", "serve 5800")


def test_a_command_of_several_lines_is_one(tmp_path: Path) -> None:
    model = "\n    cmd: |\n      # ${nothing}\n      serve \\\n      --name 'a b'\n      --port ${PORT}\n"
    assert run(tmp_path, model)["command"] == "serve --name 'a b' --port ${port}"


def test_environment_variables_stay_variables(tmp_path: Path) -> None:
    result = imported(tmp_path, "models: {a: {cmd: 'serve ${env.DIR}/m ${PORT}', env: ['X=${env.Y}', 'Z=$${q}']}}\n")
    run = result.data["targets"]["a"]["run"]
    assert (run["command"], run["env"]) == ("serve ${DIR}/m ${port}", {"X": "${Y}", "Z": "$${q}"})
    assert {"DIR", "Y"} <= set(result.variables)


@pytest.mark.parametrize("cmd", ["serve ${nothing} ${PORT}", 'serve "x ${PORT}', "serve ${env.port} ${PORT}"])
def test_a_command_that_cannot_be_one_of_ours_is_listed(tmp_path: Path, cmd: str) -> None:
    result = imported(tmp_path, f"models: {{a: {{cmd: '{cmd}'}}}}\n")
    assert result.data["targets"]["a"] == {"url": "http://localhost:5800", "speaks": "openai"}
    assert fates(result)["models.a.cmd"].startswith("not carried: it")


def test_a_command_that_starts_nothing_is_left_out(tmp_path: Path) -> None:
    result = imported(tmp_path, "models: {a: {cmd: sleep infinity, proxy: 'http://gpu:8000', ttl: 5}}\n")
    assert result.data["targets"]["a"] == {"url": "http://gpu:8000", "speaks": "openai"}
    assert "runs already" in fates(result)["models.a.cmd"]
    assert fates(result)["models.a.ttl"].startswith("not carried")


@pytest.mark.parametrize(
    ("cmd", "command", "variables"),
    [
        ("serve --api-key canary ${PORT}", "serve --api-key ${A_KEY} ${port}", {"A_KEY"}),
        ("serve --api-key=canary ${PORT}", "serve --api-key=${A_KEY} ${port}", {"A_KEY"}),
        ("serve --api-key ${env.K} ${PORT}", "serve --api-key ${K} ${port}", {"K"}),
        ("serve -hft canary ${PORT}", "serve -hft ${HFT_KEY} ${port}", {"HFT_KEY"}),
        ("env HF_TOKEN=canary x ${PORT}", "env HF_TOKEN=${HF_TOKEN_KEY} x ${port}", {"HF_TOKEN_KEY"}),
        ("serve --api-key-file f --max-tokens 5 ${PORT}", "serve --api-key-file f --max-tokens 5 ${port}", set()),
    ],
)
def test_keys_in_a_command_become_variables(tmp_path: Path, cmd: str, command: str, variables: set[str]) -> None:
    result = imported(tmp_path, f"models: {{a: {{cmd: '{cmd}'}}}}\n")
    target = result.data["targets"]["a"]
    assert target["run"]["command"] == command
    assert result.variables.keys() - {"MOOLTIPROXY_KEY"} == variables
    assert target.get("envkey") == next(iter(variables & {"A_KEY", "K"}), None)


def test_what_ends_a_server_is_its_own_command(tmp_path: Path) -> None:
    assert run(tmp_path, "{cmd: 'docker ${PORT}', cmdStop: 'docker stop ${MODEL_ID}'}")["stop"] == "docker stop a"
    result = imported(tmp_path, "models: {a: {cmd: 'serve ${PORT}', cmdStop: 'kill -INT ${PID}'}}\n")
    assert "SIGTERM" in fates(result)["models.a.cmdStop"]
    assert "stop" not in result.data["targets"]["a"]["run"]


@pytest.mark.parametrize(
    ("model", "rest", "ours"),
    [
        ("", "", {"ready_timeout": 120, "unload_after": -1}),
        ("", "healthCheckTimeout: 5\nglobalTTL: 60\n", {"ready_timeout": 15, "unload_after": 60}),
        ("ttl: 0", "globalTTL: 60\n", {"ready_timeout": 120, "unload_after": -1}),
        ("ttl: -1", "globalTTL: 60\n", {"ready_timeout": 120, "unload_after": 60}),
        ("ttl: 9, unloadTimeout: 3", "unloadTimeout: 4\n", {"unload_after": 9, "stop_timeout": 3}),
        ("", "unloadTimeout: 4\n", {"stop_timeout": 4}),
        ("checkEndpoint: /up", "", {"ready": "/up"}),
        ("checkEndpoint: none", "", {"ready": "/v1/models"}),
    ],
)
def test_times_and_the_sign_of_readiness_are_kept(
    tmp_path: Path, model: str, rest: str, ours: dict[str, object]
) -> None:
    assert ours.items() <= run(tmp_path, f"{{cmd: 'serve ${{PORT}}', {model}}}", rest).items()


def test_a_time_that_is_none_is_listed(tmp_path: Path) -> None:
    result = imported(tmp_path, "healthCheckTimeout: soon\nmodels: {a: {cmd: 'serve ${PORT}', ttl: -5}}\n")
    assert result.data["targets"]["a"]["run"] == {"command": "serve ${port}"}
    assert fates(result)["healthCheckTimeout"].startswith("not carried: expected seconds")
    assert fates(result)["models.a.ttl"].startswith("not carried: expected seconds")


@pytest.mark.parametrize(
    ("proxy", "is_carried"),
    [
        ("${env.ALL}", True),
        ("http://${env.HOST}:${env.N}/v1", True),
        ("A=${env.Q}", False),
        ("http://h:${env.Q}x", False),
    ],
)
def test_an_address_with_variables_must_be_able_to_be_one(tmp_path: Path, proxy: str, is_carried: bool) -> None:
    result = imported(tmp_path, f"models: {{a: {{cmd: sleep 1, proxy: '{proxy}'}}, b: {{cmd: 'b ${{PORT}}'}}}}\n")
    assert ("a" in result.data["models"]) is is_carried


MODELS = "models: {a: {cmd: 'a ${PORT}'}, b: {cmd: 'b ${PORT}'}, c: {cmd: 'c ${PORT}'}, d: {cmd: 'd ${PORT}'}}\n"


@pytest.mark.parametrize(
    ("groups", "ours"),
    [
        ("{}", {"a": "one-at-a-time", "b": "one-at-a-time", "c": "one-at-a-time", "d": "one-at-a-time"}),
        ("{g: {members: [a, b, c, d]}}", {"a": "g", "b": "g", "c": "g", "d": "g"}),
        ("{g: {members: [a, b]}, h: {members: [c, d]}}", dict.fromkeys("abcd", "one-at-a-time")),
        ("{g: {exclusive: false, members: [a, b]}}", {"a": "g", "b": "g", "c": "one-at-a-time", "d": "one-at-a-time"}),
        ("{g: {swap: false, exclusive: false, members: [a, b, c, d]}}", {}),
        ("{g: {swap: false, exclusive: false, members: [a, b, c]}}", {}),
        ("{g: {persistent: true, members: [a, b]}, h: {members: [c, d]}}", {"a": "g", "b": "g", "c": "h", "d": "h"}),
    ],
)
def test_models_that_exclude_each_other_share_a_group(tmp_path: Path, groups: str, ours: dict[str, str]) -> None:
    targets = imported(tmp_path, f"{MODELS}groups: {groups}\n").data["targets"]
    found = {name: targets[name]["run"].get("group") for name in "abcd"}
    assert {name: group for name, group in found.items() if group} == ours


@pytest.mark.parametrize(
    ("groups", "key", "is_carried"),
    [
        ("{g: {exclusive: true, members: [a, b, c, d]}}", "groups.g.exclusive", True),
        ("{g: {members: [a, b, c, d]}}", "groups.g", True),
        ("{g: {exclusive: true, members: [a, b]}}", "groups.g.exclusive", True),
        ("{g: {exclusive: false, members: [a, b]}}", "groups.g.exclusive", False),
        ("{g: {exclusive: false, persistent: true, members: [a, b]}}", "groups.g.exclusive", True),
        ("{g: {exclusive: false, members: [a]}, h: {members: [b, c, d]}}", "groups.h", False),
        ("{g: {swap: false, exclusive: true, members: [a, b]}}", "groups.g.exclusive", False),
        ("{g: {exclusive: true, persistent: true, members: [a, b]}}", "groups.g.exclusive", False),
    ],
)
def test_where_servers_of_other_groups_would_be_ended_it_is_said(
    tmp_path: Path, groups: str, key: str, is_carried: bool
) -> None:
    result = imported(tmp_path, f"{MODELS}groups: {groups}\n")
    found = [note for note in result.notes if ".".join(map(str, note.path)) == key and "server" in note.text]
    assert found
    assert all(note.is_carried for note in found) is is_carried


def test_what_is_loaded_at_the_start_is_what_would_be_left(tmp_path: Path) -> None:
    text = f"{MODELS}groups: {{g: {{swap: false, exclusive: false, members: [d]}}}}\n"
    result = imported(tmp_path, f"{text}hooks: {{on_startup: {{preload: [a, b, d, nothing]}}}}\n")
    targets = result.data["targets"]
    assert [name for name in "abcd" if targets[name]["run"].get("preload")] == ["b", "d"]
    assert "takes its place" in fates(result)["hooks.on_startup.preload.0"]
    assert fates(result)["hooks.on_startup.preload.3"].startswith("not carried")


async def test_the_servers_of_an_imported_file_are_started_and_answer(tmp_path: Path) -> None:
    serve = f"{sys.executable} -m tests.servers.chat_server ${{PORT}}"
    theirs = tmp_path / "theirs.yaml"
    theirs.write_text(
        f"macros: {{serve: '{serve}'}}\nglobalTTL: 60\nmodels:\n"
        f"  one: {{cmd: '${{serve}} 0', env: ['PYTHONPATH={ROOT}'], useModelName: upstream-one}}\n"
        f"  two: {{cmd: '${{serve}} 0', env: ['PYTHONPATH={ROOT}'], aliases: [second], proxy: 'http://127.0.0.1:${{PORT}}'}}\n"
    )
    result, text = import_file(theirs, {})
    data = loaded(tmp_path, result, text)
    assert {server.group for server in wanted(data)} == {"one-at-a-time"}
    async with proxy(yaml.safe_load(text), tmp_path) as running:
        for model in ("one", "second", "one"):
            body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
            async with running.client.post("/v1/chat/completions", json=body) as response:
                assert response.status == 200, await response.text()


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
    text = "models: {a: {cmd: sleep 1, proxy: 'http://h:1'}, b: {cmd: sleep 1, proxy: 'http://h:1'}}\n"
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
