import hashlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import orjson
import pytest
import yaml

from mooltiproxy import __version__
from mooltiproxy.cli import main
from tests.servers.toy import running_toy

COMMANDS = ("serve", "demo", "check", "key", "cert", "config", "mappers", "prompters", "templates")
GOOD = "targets: {default: a, a: {url: 'http://127.0.0.1:9', mapping: {/models: }}}\n"
ROOT = Path(__file__).parent.parent
MINE = '''
def mine(ip, cfg={}):
    """Does as I like."""
    return ip


def identity(ip, cfg={}):
    """My own."""
    return ip
'''


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("MOOLTIPROXY_")]:
        monkeypatch.delenv(name)
    return tmp_path


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command as a process, in the current folder."""
    return subprocess.run(command(*arguments), env=environment(**environ), capture_output=True, text=True, timeout=30)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mooltiproxy", *arguments]


def environment(**environ: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **environ}


@contextmanager
def serving(*arguments: str) -> Iterator[int]:
    """A proxy on a free port, stopped with SIGTERM, which it must follow with exit code 0."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    started = [*command("serve", "--bindport", str(port)), *arguments]
    environ = environment(MOOLTIPROXY_KEY="the-key")
    with subprocess.Popen(started, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            wait_for_ping(process, port)
            yield port
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        finally:
            process.kill()


def wait_for_ping(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        try:
            assert ask(port, "GET", "/ping")[0] == 200
            return
        except OSError:
            time.sleep(0.05)
    process.kill()
    raise AssertionError(process.communicate()[0])


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        headers = {"authorization": "Bearer the-key", "content-type": "application/json"}
        connection.request(method, path, body, headers)
        with connection.getresponse() as response:
            return response.status, response.read()
    finally:
        connection.close()


def chat(port: int) -> str:
    body = orjson.dumps({"model": "m", "temperature": 0, "messages": [{"role": "user", "content": "What is tea?"}]})
    status, answer = ask(port, "POST", "/v1/chat/completions", body)
    assert status == 200, answer
    content: str = orjson.loads(answer)["choices"][0]["message"]["content"]
    return content


# help and usage


def test_help_names_every_command_and_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["--help"])
    shown = capsys.readouterr().out
    assert exited.value.code == 0
    assert all(re.search(rf"^    {name} +\w", shown, re.MULTILINE) for name in COMMANDS)
    assert "mooltiproxy serve --target http://127.0.0.1:8080" in shown


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"mooltiproxy {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["no-such-command"],
        ["cert"],
        ["serve", "--bindport", "99999"],
        ["serve", "--aihost", "h"],
        ["serve", "--target", "http://a", "--aihostport", "1"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    assert exited.value.code == 2


def test_the_command_line_itself_imports_nothing_heavy() -> None:
    heavy = {"aiohttp", "asyncio", "cryptography", "ssl", "yaml"}
    code = f"import sys, mooltiproxy.cli; print({heavy} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert shown.stdout == "set()\n"


# config and check


def test_config_new_writes_a_file_that_check_accepts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "new"]) == 0
    assert main(["check"]) == 0
    assert capsys.readouterr().out.endswith("config.yaml: ok\n")


def test_config_new_never_overwrites(in_empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (in_empty_folder / "config.yaml").write_text("precious")
    assert main(["config", "new"]) == 1
    assert (in_empty_folder / "config.yaml").read_text() == "precious"
    assert "config.yaml is there already: move it away first" in capsys.readouterr().err


def test_config_schema_is_a_json_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "schema"]) == 0
    assert "targets" in orjson.loads(capsys.readouterr().out)["properties"]


def test_check_prints_every_mistake_with_its_line(in_empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (in_empty_folder / "bad.yaml").write_text("system:\n  port: many\n  hoost: x\n" + GOOD)
    assert main(["check", "bad.yaml"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [re.match(r"(\S*bad\.yaml:\d+): system\.\w+: \w", line) is not None for line in lines] == [True, True]


def test_check_marks_warnings_and_accepts_the_file(in_empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (in_empty_folder / "config.yaml").write_text("system: {masterkey: a-key-for-testing}\n" + GOOD)
    assert main(["check"]) == 0
    *warnings, verdict = capsys.readouterr().out.splitlines()
    assert verdict == "config.yaml: ok"
    assert warnings
    assert all("warning: " in warning for warning in warnings)
    assert not any("a-key-for-testing" in warning for warning in warnings)


@pytest.mark.parametrize("arguments", [["check", "absent.yaml"], ["serve", "--config", "absent.yaml"]])
def test_a_file_that_cannot_be_read_is_one_clear_line(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.returncode == 1
    assert re.fullmatch(r"\S*absent\.yaml: .+\n", result.stdout + result.stderr)


# key


def test_key_new_prints_a_key_and_an_entry_that_knows_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "new", "alice"]) == 0
    text = capsys.readouterr().out
    key = next(line.strip() for line in text.splitlines() if line.startswith("    "))
    entry = yaml.safe_load(text.partition("configuration:\n\n")[2])
    assert entry == {"keys": {"alice": {"hash": "sha256:" + hashlib.sha256(key.encode()).hexdigest()}}}


def test_no_two_keys_are_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    main(["key", "new", "alice"])
    first = capsys.readouterr().out
    main(["key", "new", "alice"])
    assert capsys.readouterr().out != first


# cert


def test_cert_new_writes_both_files_beside_the_configuration(in_empty_folder: Path) -> None:
    assert main(["cert", "new", "proxy.example.org"]) == 0
    folder = in_empty_folder / "certificates"
    assert sorted(file.name for file in folder.iterdir()) == ["cert.pem", "key.pem"]
    assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600


def test_cert_new_a_second_time_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    main(["cert", "new"])
    assert main(["cert", "new"]) == 1
    assert capsys.readouterr().err.startswith("certificates/cert.pem: is there already: move it away first")


# mappers, prompters, templates


def test_mappers_lists_ours_and_the_dialects(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mappers"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^chatReqOpenAItoTGI +built in: mappers/seed.py +\w", shown, re.MULTILINE)
    assert re.search(r"^tgi +\w", shown, re.MULTILINE)


def test_a_users_mapper_is_listed_and_one_that_hides_ours_is_marked(
    in_empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (in_empty_folder / "mappers").mkdir()
    (in_empty_folder / "mappers" / "special.py").write_text(MINE)
    assert main(["mappers"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^mine +mappers/special.py +Does as I like\.$", shown, re.MULTILINE)
    assert re.search(r"^identity +mappers/special.py \(hides the built-in one\) +My own\.$", shown, re.MULTILINE)


def test_prompters_lists_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prompters"]) == 0
    assert re.search(r"^fromTemplate +built in: prompters/from_template.py", capsys.readouterr().out, re.MULTILINE)


def test_templates_lists_ours_and_those_of_the_file(in_empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pieces = '{preprompt: "", start: "", system: "", user: "Q: ", assistant: "A: "}'
    (in_empty_folder / "config.yaml").write_text(f"{GOOD}templates: {{Quiz: {pieces}, FalconInstruct: {pieces}}}\n")
    assert main(["templates"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^HumanResponse +built in +user", shown, re.MULTILINE)
    assert re.search(r"^Quiz +config.yaml +user 'Q: ', assistant 'A: '$", shown, re.MULTILINE)
    assert re.search(r"^FalconInstruct +config.yaml \(hides the built-in one\) +user 'Q: '", shown, re.MULTILINE)


# serve


def test_serve_with_nothing_to_serve_says_what_to_do() -> None:
    result = run("serve", MOOLTIPROXY_KEY="the-key")
    assert result.returncode == 1
    assert "mooltiproxy config new" in result.stderr
    assert "--target URL" in result.stderr


def test_serve_without_a_master_key_suggests_one(in_empty_folder: Path) -> None:
    (in_empty_folder / "config.yaml").write_text(GOOD)
    result = run("serve")
    assert result.returncode == 1
    assert re.search(r"export MOOLTIPROXY_KEY=[0-9a-f]{48}$", result.stderr, re.MULTILINE)


def test_a_port_in_use_is_one_clear_line_and_exit_code_3(in_empty_folder: Path) -> None:
    (in_empty_folder / "config.yaml").write_text(GOOD)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("serve", "--bindport", str(port), MOOLTIPROXY_KEY="the-key")
    assert result.returncode == 3
    assert result.stderr == f"cannot listen on 127.0.0.1 port {port}: Address already in use\n"


@pytest.mark.parametrize("address", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_ours_is_exit_code_3(in_empty_folder: Path, address: str) -> None:
    (in_empty_folder / "config.yaml").write_text(GOOD)
    result = run("serve", "--bindip", address, MOOLTIPROXY_KEY="the-key")
    assert result.returncode == 3
    assert re.fullmatch(rf"cannot listen on {address} port 8000: .+\n", result.stderr)


def test_a_bad_certificate_is_one_clear_line(in_empty_folder: Path) -> None:
    (in_empty_folder / "certificates").mkdir()
    for name in ("cert.pem", "key.pem"):
        (in_empty_folder / "certificates" / name).write_text("rubbish")
    (in_empty_folder / "config.yaml").write_text("system: {ssl: true}\n" + GOOD)
    result = run("serve", "--bindport", "0", MOOLTIPROXY_KEY="the-key")
    assert result.returncode == 1
    assert re.fullmatch(r".*system\.ssl: .*cannot be used.*\n", result.stderr)


def test_a_target_alone_is_served_by_what_it_speaks() -> None:
    with running_toy() as toy, serving("--target", toy.url) as port:
        assert "Tea is the first thing" in chat(port)


def test_aihostport_is_a_target_on_this_machine() -> None:
    with running_toy() as toy, serving("--aihostport", str(toy.port)) as port:
        assert "Tea is the first thing" in chat(port)


def test_a_target_of_the_command_line_is_the_default_beside_those_of_the_file(in_empty_folder: Path) -> None:
    (in_empty_folder / "config.yaml").write_text(GOOD)
    with running_toy() as toy, serving("--target", toy.url) as port:
        assert "Tea is the first thing" in chat(port)
        assert ask(port, "GET", "/to/a/models")[0] == 502


def test_a_target_that_does_not_answer_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    result = run("serve", "--target", f"http://127.0.0.1:{port}", MOOLTIPROXY_KEY="the-key")
    assert result.returncode == 1
    assert re.fullmatch(r".+\n", result.stderr)


def test_output_to_a_reader_that_has_left_ends_without_a_traceback() -> None:
    process = subprocess.Popen(
        command("config", "schema"), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait(20) == 1
