"""`run:` of a target."""

from pathlib import Path

import pytest

from mooltiproxy.config.model import Run
from mooltiproxy.config.servers import wanted
from tests.config.writing import loaded, only_problem, problems

TARGET = """\
targets:
  default: one
  one:
    url: http://127.0.0.1:${{port}}/v1
    speaks: openai
    run: {run}
"""


def run_of(folder: Path, run: str, **environ: str) -> Run:
    found = loaded(folder, TARGET.format(run=run), **environ).targets["one"].run
    assert found is not None
    return found


def test_only_the_command_must_be_there(tmp_path: Path) -> None:
    run = run_of(tmp_path, '{command: "serve --port ${port}"}')
    assert run == Run(("serve", "--port", "${port}"), tmp_path)


def test_every_key_is_read(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    keys = (
        '{command: "serve \'a b\'", cwd: server, env: {PORT: "${port}"}, ready: /ready, ready_timeout: 5m, '
        "stop_timeout: 3, unload_after: -1, group: gpu0, max_waiting: 5, max_wait: 30}"
    )
    env = {"PORT": "${port}"}
    expected = Run(("serve", "a b"), tmp_path / "server", env, "/ready", 300.0, 3.0, None, "gpu0", 5, 30.0)
    assert run_of(tmp_path, keys) == expected


def test_variables_are_filled_in_and_the_port_is_left_even_where_one_has_its_name(tmp_path: Path) -> None:
    run = run_of(tmp_path, '{command: "${SERVER} --port ${port}"}', SERVER="serve", port="5")
    assert run.command == ("serve", "--port", "${port}")
    assert (
        loaded(tmp_path, TARGET.format(run='{command: "a ${port}"}')).targets["one"].url == "http://127.0.0.1:${port}"
    )


def test_the_model_and_its_file_are_left_as_well_but_not_in_the_url(tmp_path: Path) -> None:
    run = run_of(tmp_path, '{command: "a ${port} ${model}", env: {FILE: "${config}"}}', model="x", config="y")
    assert (run.command[2], run.env["FILE"]) == ("${model}", "${config}")
    text = TARGET.format(run='{command: "a ${port}"}').replace("/v1", "/${model}")
    assert loaded(tmp_path, text, model="x").targets["one"].url == "http://127.0.0.1:${port}/x"


def test_a_target_without_run_takes_its_port_from_the_environment(tmp_path: Path) -> None:
    text = TARGET.format(run="").replace("    run: \n", "")
    assert loaded(tmp_path, text, port="5").targets["one"].url == "http://127.0.0.1:5"


def test_the_command_and_its_variables_are_kept_out_of_reprs(tmp_path: Path) -> None:
    run = run_of(tmp_path, '{command: "serve --key hidden ${port}", env: {KEY: hidden}}')
    assert "hidden" not in repr(run)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("{cwd: .}", "expected the command that starts the server, it is missing"),
        ('{command: "a ${port}", comand: b}', "unknown key: did you mean `command`?"),
        ('{command: "a \'${port}"}', "expected a command whose quotes are all closed"),
        ('{command: "a ${port}", cwd: nowhere}', "there is no such folder"),
        ('{command: "a ${port}", ready: health}', "expected a path of plain characters that begins with /"),
        ('{command: "a ${port}", unload_after: -2}', "not negative"),
        ('{command: "a ${port}", env: {A: 1}}', "expected text, got a number: put it in quotes"),
        ("{command: serve --port 8000}", "expected ${port} in `command` or `env`"),
        ('{command: "${NOWHERE} ${port}"}', "${NOWHERE} is not set in the environment"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, run: str, message: str) -> None:
    assert message in only_problem(tmp_path, TARGET.format(run=run)).message


def test_what_needs_a_server_that_is_there_is_refused(tmp_path: Path) -> None:
    good = TARGET.format(run='{command: "a ${port}"}')
    assert "is not there to be asked" in only_problem(tmp_path, good.replace("openai", "auto")).message
    named = good + "    template: target\n"
    assert "by name or file" in only_problem(tmp_path, named).message


REMOTE = """\
system: {{budget: {budget}}}
targets:
  default: one
  one: {{url: "http://127.0.0.1:5000", speaks: openai, run: {run}}}
models: {{a: {{target: one}}, b: {{target: one, memory: 3GB}}}}
"""


def test_a_server_with_an_api_for_loading_needs_no_command(tmp_path: Path) -> None:
    run = "{engine: tabbyapi, admin_envkey: ADMIN, load: {max_seq_len: 4096}}"
    found = loaded(tmp_path, REMOTE.format(run=run, budget=""), ADMIN="hidden-words").targets["one"].run
    assert found is not None
    assert (found.engine, found.admin_key, found.load, found.command) == (
        "tabbyapi",
        "hidden-words",
        {"max_seq_len": 4096},
        (),
    )
    assert "hidden" not in repr(found)


def test_memory_is_a_size_or_a_section_and_a_model_has_its_own(tmp_path: Path) -> None:
    config = loaded(tmp_path, REMOTE.format(run="{engine: ollama, memory: {gpu: 2GB, ram: 1GB}}", budget="8GB"))
    assert config.system.budget == {"ram": 8 * 10**9}
    assert [(one.name, one.memory) for one in wanted(config)] == [
        ("one:a", {"gpu": 2 * 10**9, "ram": 10**9}),
        ("one:b", {"ram": 3 * 10**9}),
    ]


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("{engine: tabby}", "there is no such engine: did you mean `tabbyapi`?"),
        ("{engine: tabbyapi}", "expected `admin_envkey`"),
        ("{engine: vllm, command: x}", "expected either `command` or `engine`, both are there"),
        ("{engine: vllm, load: {a: 1}}", "does nothing here"),
        ("{engine: vllm, swap: now}", "must not be put to sleep while it answers"),
        ("{engine: ollama, ready: /x}", "the server of `engine` is not started here"),
        ("{engine: ollama, admin_envkey: HOME}", "is for TabbyAPI"),
        ("{command: x, load: {a: 1}}", "is for `engine`"),
        ("{command: x, stop: GET /x}", None),
        ("{command: x, stop: POST x}", "expected a path of plain characters"),
        ("{command: x, stop: POST /x now}", "expected a path behind POST, and nothing else"),
        ("{command: x, swap: later}", "there is no such way"),
        ("{command: x, memory: {vram: 1GB}}", "expected ram, gpu (all of them), or gpu0, gpu1"),
        ("{command: x, memory: 9GB}", "one has no room in system.budget.ram"),
        ("{engine: ollama, group: g, pin: true}", "could never run beside it"),
        ("{engine: ollama, group: g, preload: true}", "another server of its group is started with the proxy already"),
        ("{engine: ollama, memory: 6GB, pin: true}", "has no room in system.budget.ram beside the servers with `pin`"),
    ],
)
def test_what_cannot_be_is_told(tmp_path: Path, run: str, message: str | None) -> None:
    text = REMOTE.format(run=run, budget="8GB")
    if message is None:
        loaded(tmp_path, text, HOME="x")
    else:
        assert any(message in problem.message for problem in problems(tmp_path, text, HOME="x"))


def test_servers_at_one_port_are_to_be_of_one_group(tmp_path: Path) -> None:
    run = '{{command: "serve ${{model}}"{group}}}'
    problem = only_problem(tmp_path, REMOTE.format(run=run.format(group=""), budget=""))
    assert problem.message.startswith("one:a listens there, too: give both the same `run.group`")
    loaded(tmp_path, REMOTE.format(run=run.format(group=", group: g"), budget=""))
