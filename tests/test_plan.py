"""`plan` says what a reload would change, by names only."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mooltiproxy.certs import write_pair
from mooltiproxy.cli import main
from mooltiproxy.config.load import from_data, load
from mooltiproxy.config.model import Config
from mooltiproxy.plan import NOTHING, plan
from tests.test_docs import CONFIGURATION, ENVIRON, blocks, loaded_example, write_examples

HASHES = [f"sha256:{digit * 64}" for digit in "abc"]
TARGET = {"url": "http://127.0.0.1:1", "speaks": "openai"}
RUN = {"command": "serve --port ${port}", "unload_after": 60}
TEXT = "targets: {default: one, one: {url: 'http://127.0.0.1:1', speaks: openai}}\n"


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MOOLTIPROXY_KEY", raising=False)
    return tmp_path


def built(environ: dict[str, str] | None = None, **sections: Any) -> Config:
    data = {"targets": {"default": "one", "one": TARGET}} | sections
    return from_data(data, Path("."), environ or {})


def of_one(**settings: Any) -> Config:
    return built(targets={"default": "one", "one": TARGET | settings})


def planned(before: Config, after: Config) -> list[str]:
    """The lines, with single spaces."""
    return [" ".join(line.split()) for line in plan(before, after)]


def with_servers(**runs: Any) -> Config:
    entries = {name: {"url": "http://127.0.0.1:${port}", "speaks": "openai", "run": run} for name, run in runs.items()}
    return built(targets={"default": "one", "one": TARGET, **entries})


def examples() -> Iterator[str]:
    yield from blocks(CONFIGURATION, "yaml")


@pytest.mark.parametrize("example", list(examples()))
def test_the_same_file_twice_changes_nothing(tmp_path: Path, example: str) -> None:
    write_examples(CONFIGURATION, tmp_path)
    assert plan(loaded_example(example, tmp_path), loaded_example(example, tmp_path)) == [NOTHING]


def test_a_default_that_is_written_out_changes_nothing() -> None:
    after = of_one(
        preserveMethod=False,
        keepalive=15,
        losses={"default": "warn"},
        mapping={},
        control_tokens="break",
        keep_bos=False,
    )
    assert planned(of_one(), after) == [NOTHING]


def test_targets_that_come_and_go_have_a_line_each() -> None:
    before = built(targets={"default": "one", "one": TARGET, "old": TARGET})
    after = built(targets={"default": "one", "one": TARGET, "new": TARGET})
    assert planned(before, after) == ["- target old", "+ target new"]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"url": "http://127.0.0.1:2"}, "url"),
        ({"speaks": ["openai", "ollama"]}, "speaks"),
        ({"speaks": ["openai"], "endpoints": ["chat"]}, "endpoints"),
        ({"losses": {"images": "reject"}}, "losses.images"),
        ({"keepalive": 0}, "keepalive"),
        ({"preserveMethod": True}, "preserveMethod"),
        ({"template": "llama3"}, "template"),
        ({"prompter": "llama2_chat"}, "prompter"),
        ({"control_tokens": "keep"}, "control_tokens"),
        ({"keep_bos": True}, "keep_bos"),
        ({"mapping": {"/a": None, "/b": "/c"}}, "mapping./a, mapping./b"),
    ],
)
def test_the_settings_of_a_target_that_change_are_named(settings: dict[str, Any], named: str) -> None:
    assert planned(of_one(), of_one(**settings)) == [f"~ target one {named}"]


def test_entries_of_a_mapping_are_told_apart() -> None:
    before = of_one(mapping={"/goes": "/x", "/changes": "/x", "/stays": "/x"})
    after = of_one(mapping={"/comes": "/x", "/changes": "/y", "/stays": "/x"})
    assert planned(before, after) == ["~ target one mapping./goes, mapping./changes, mapping./comes"]


def test_another_function_of_an_entry_is_a_change() -> None:
    entry = {"path": "/generate", "in": "chatReqOpenAItoTGI", "out": "chatAnsTGItoOpenAI"}
    after = of_one(mapping={"/chat": entry | {"template": "llama3", "prompter": "chat_template"}})
    assert planned(of_one(mapping={"/chat": entry}), after) == ["~ target one mapping./chat"]


def test_the_key_of_a_target_is_named_and_never_shown() -> None:
    before, after = of_one(key="secret-one"), of_one(key="secret-two")
    assert planned(before, after) == ["~ target one key"]


def test_a_key_that_moves_to_a_variable_is_the_same_key() -> None:
    data = {"default": "one", "one": TARGET | {"envkey": "ONE_KEY"}}
    assert planned(of_one(key="secret"), built({"ONE_KEY": "secret"}, targets=data)) == [NOTHING]


def test_another_default_target_is_told() -> None:
    both = {"one": TARGET, "two": TARGET}
    before, after = (built(targets={"default": name, **both}) for name in ("one", "two"))
    assert planned(before, after) == ["~ targets default"]


def test_models_come_go_and_lead_elsewhere() -> None:
    targets = {"default": "one", "one": TARGET, "two": TARGET}
    before = built(targets=targets, models={"old": {"target": "one"}, "m": {"target": "one", "name": "a"}})
    models = {"m": {"target": "two", "name": "b", "defaults": {"top_p": 0.5}, "system": "Hi"}, "new": {"target": "one"}}
    after = built(targets=targets, models=models)
    assert planned(before, after) == ["- model old", "+ model new", "~ model m name, target, defaults, system"]


def test_keys_are_added_revoked_and_get_other_rights() -> None:
    before = built(keys={"alice": {"hash": HASHES[0]}, "bob": {"hash": HASHES[1]}})
    after = built(keys={"bob": {"hash": HASHES[1], "targets": ["one"]}, "carol": {"hash": HASHES[2]}})
    assert planned(before, after) == ["- key alice revoked", "+ key carol", "~ key bob targets"]


def test_keys_of_their_own_file_are_compared_as_well() -> None:
    Path("before.yml").write_text("alice: one\nbob: two\n")
    Path("after.yml").write_text("bob: two\ncarol: three\n")
    before, after = (built(keys_file=name) for name in ("before.yml", "after.yml"))
    assert planned(before, after) == ["- key alice revoked", "+ key carol"]


def test_another_key_for_the_same_name_is_named_and_never_shown() -> None:
    before, after = (built(keys={"alice": {"hash": one}}) for one in HASHES[:2])
    assert planned(before, after) == ["~ key alice key"]


def test_a_key_under_another_name_is_not_called_revoked() -> None:
    before, after = (built(keys={name: {"hash": HASHES[0]}}) for name in ("alice", "bob"))
    assert planned(before, after) == ["- key alice is called bob now", "+ key bob"]


def test_servers_stop_start_anew_come_or_go_on() -> None:
    before = with_servers(idle=RUN, changed=RUN, old=RUN)
    after = with_servers(idle=RUN | {"unload_after": 5}, changed=RUN | {"env": {"KEY": "secret"}}, new=RUN)
    assert planned(before, after) == [
        "- target old",
        "+ target new",
        "~ target idle run.unload_after",
        "~ target changed run.env",
        "- server old is stopped if it runs",
        "+ server new will start when it is asked",
        "= server idle goes on",
        "~ server changed is started anew if it runs",
    ]


def test_a_model_with_a_server_of_its_own_is_told_by_it() -> None:
    target = {"url": "http://127.0.0.1:${port}", "speaks": "openai", "run": {"command": "serve ${model} ${port}"}}
    targets = {"default": "one", "one": target}
    before, after = (built(targets=targets, models={"m": {"target": "one", "name": name}}) for name in "ab")
    assert planned(before, after) == ["~ server one:m is started anew if it runs", "~ model m name"]


def test_servers_that_go_on_are_no_change() -> None:
    assert planned(with_servers(one=RUN), with_servers(one=RUN)) == [NOTHING]


def test_what_needs_a_restart_is_told_from_what_does_not() -> None:
    write_pair(Path("certificates"))
    system = {"host": "::1", "port": 1, "ssl": True, "workers": 2, "drain": 5, "timeout": {"idle": 5}, "max_body": 1000}
    assert planned(built(), built(system=system)) == [
        "! system host changes only with a restart",
        "! system port changes only with a restart",
        "! system ssl changes only with a restart",
        "~ system timeout.idle",
        "~ system drain",
        "~ system max_body",
        "! system workers changes only with a restart",
    ]


def test_the_master_key_is_named_and_never_shown() -> None:
    before, after = (built(system={"masterkey": f"the-secret-of-{name}"}) for name in ("old", "new"))
    assert planned(before, after) == ["~ system masterkey"]


def test_the_gate_the_prefix_and_the_language_have_lines() -> None:
    after = built(cerbere={"ban": 5, "whitelist": ["::1"]}, rest={"prefix": "/rest"}, prompts={"language": "pl"})
    expected = ["~ cerbere ban", "~ cerbere whitelist", "~ rest prefix", "~ prompts language"]
    assert planned(built(), after) == expected


def test_middlewares_come_go_and_change_places() -> None:
    before = built(middlewares=["access_log", "ip_rules", "bearer_auth", "routing", "mapping"])
    after = built(middlewares=["ip_rules", "bearer_auth", "access_log", "cors", "routing", "mapping"])
    assert planned(before, after) == ["+ middleware cors", "~ middlewares order"]


def test_templates_come_go_and_change() -> None:
    jinja = "{{ messages[0].content }}"
    before = built(templates={"Old": {"user": "Q"}, "Pieces": {"user": "Q"}, "Chat": {"jinja": jinja}})
    after = built(templates={"New": {"user": "Q"}, "Pieces": {"user": "A"}, "Chat": {"jinja": jinja + "!"}})
    expected = ["- template Old", "+ template New", "~ template Pieces user", "~ template Chat"]
    assert planned(before, after) == expected


def test_prompts_of_the_library_are_compared() -> None:
    before = built()
    folder = Path("prompts/en")
    folder.mkdir(parents=True)
    (folder / "helpful.prompt").write_text("Help.")
    (folder / "mine.prompt").write_text("Mine.")
    assert planned(before, built()) == ["+ prompt mine", "~ prompt helpful en"]


def test_no_part_of_a_configuration_is_left_out() -> None:
    compared = {"targets", "default_target", "system", "cerbere", "keys", "models", "library", "rest_prefix"}
    compared |= {"templates", "middlewares", "file_keys", "limits"}
    about_the_file = {"registry", "folder", "file", "warnings", "keys_file", "sources"}
    assert {one.name for one in dataclasses.fields(Config)} == compared | about_the_file


def test_columns_stand_below_each_other() -> None:
    before, after = built(), built(system={"port": 1}, keys={"somebody": {"hash": HASHES[0]}}, cerbere={"ban": 1})
    assert plan(before, after) == [
        "! system      port      changes only with a restart",
        "~ cerbere     ban",
        "+ key         somebody",
    ]


# the command


def test_the_command_compares_with_the_file_here_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.yaml").write_text(TEXT)
    Path("new.yaml").write_text(TEXT + "system: {port: 1}\n")
    before = sorted(Path().rglob("*"))
    assert main(["plan", "new.yaml"]) == 0
    assert capsys.readouterr().out == "! system      port  changes only with a restart\n"
    assert main(["plan", "--config", "new.yaml", "new.yaml"]) == 0
    assert capsys.readouterr().out == "nothing would change\n"
    assert sorted(Path().rglob("*")) == before


def test_a_new_file_in_another_folder_is_read_as_if_it_lay_here(capsys: pytest.CaptureFixture[str]) -> None:
    text = TEXT.replace("speaks", "run: {command: serve}, speaks") + "models_dir: models\n"
    Path("models").mkdir()
    Path("elsewhere").mkdir()
    for file in ("config.yaml", "elsewhere/new.yaml"):
        Path(file).write_text(text)
    assert main(["plan", "elsewhere/new.yaml"]) == 0
    assert capsys.readouterr().out == "nothing would change\n"


def test_every_mistake_of_the_new_file_is_printed_as_by_check(capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.yaml").write_text(TEXT)
    Path("bad.yaml").write_text(TEXT + "system: {port: many, hoost: x}\n")
    assert main(["check", "bad.yaml"]) == 1
    checked = capsys.readouterr().out
    assert main(["plan", "bad.yaml"]) == 1
    assert capsys.readouterr().out == checked
    assert len(checked.splitlines()) == 2


@pytest.mark.parametrize("missing", ["config.yaml", "new.yaml"])
def test_a_file_that_is_not_there_is_one_clear_line(missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    for file in {"config.yaml", "new.yaml"} - {missing}:
        Path(file).write_text(TEXT)
    assert main(["plan", "new.yaml"]) == 1
    shown = capsys.readouterr()
    assert re.fullmatch(rf"\S*{missing}: .+\n", shown.out + shown.err)


def test_a_target_that_would_be_asked_what_it_speaks_is_not_asked(capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.yaml").write_text(TEXT)
    Path("new.yaml").write_text(TEXT.replace("openai", "auto"))
    assert main(["plan", "new.yaml"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "~ target      one  speaks\n"
    assert re.fullmatch(r"\S*new\.yaml:1: targets\.one\.speaks: warning: the target is not asked here.+\n", shown.err)


def test_a_target_that_is_to_be_asked_before_and_after_is_no_change() -> None:
    assert planned(of_one(speaks="auto"), of_one(speaks=["auto"])) == [NOTHING]


def test_the_document_shows_what_the_command_says(in_empty_folder: Path) -> None:
    section = CONFIGURATION.read_text().partition("### Plan\n")[2].partition("\n### ")[0]
    files = re.findall(r"^```yaml\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    configs = []
    for name, text in zip(("now.yaml", "new.yaml"), files, strict=True):
        (in_empty_folder / name).write_text(text)
        configs.append(load(in_empty_folder / name, ENVIRON))
    assert "".join(f"    {line}\n" for line in plan(*configs)) in section
