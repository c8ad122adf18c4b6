"""`models:`, `models_dir:` and `prompts:` in the file: what is made of them, and what is wrong with them."""

from pathlib import Path

import pytest

from mooltiproxy.mapping.settings import Injection, Settings
from tests.config.writing import TARGETS, lines, loaded, only_problem, problems


def settings(folder: Path, text: str) -> Settings:
    found = loaded(folder, TARGETS + f"models: {{m: {{target: one, {text}}}}}\n").models["m"].settings
    assert found is not None
    return found


def test_a_model_that_only_has_a_target_and_a_name_has_no_settings(tmp_path: Path) -> None:
    text = "models: {m: {target: one, name: x, prefix: '', defaults: {}, inject: []}}\n"
    assert loaded(tmp_path, TARGETS + text).models["m"].settings is None


def test_settings_are_read_as_openais_chat_completions_are(tmp_path: Path) -> None:
    text = "defaults: {max_completion_tokens: 5, typical: 0.5, stop: x, reasoning_effort: low, min_tokens: 2}"
    found = settings(tmp_path, text).defaults
    assert found.own == {"min_tokens": 2}
    assert (found.neutral["max_tokens"], found.neutral["typical_p"], found.neutral["stop"]) == (5, 0.5, ("x",))
    assert found.neutral["reasoning"].effort == "low"


def test_places_of_messages_are_start_end_and_numbers(tmp_path: Path) -> None:
    messages = ", ".join(f"{{role: user, content: x, at: {at}}}" for at in ("start", "end", -2))
    found = settings(tmp_path, f"inject: [{messages}, {{role: system, content: y}}]").inject
    assert [one.at for one in found] == [0, None, -2, None]
    assert found[-1] == Injection("system", "y", None)


WRONG = [
    ("defaults: {temprature: 1}", "defaults.temprature: there is no such setting: did you mean `temperature`?"),
    ("defaults: {temperature: hot}", "defaults.temperature: expected a number"),
    ("overrides: {top_p: 3}", "overrides.top_p: expected at most 1, got 3"),
    ("overrides: [top_p]", "overrides: expected names of settings with their values, got a list"),
    ("max_tokens: 0", "max_tokens: expected a whole number, 1 or more"),
    ("system: x, prompt: helpful", "prompt: expected either `system` or `prompt`, both are there"),
    ("prompt: helpfull", "prompt: there is no such prompt: did you mean `helpful`?"),
    (
        "inject: [{role: tool, content: x}]",
        "inject.0.role: there is no such role, expected one of assistant, system, user",
    ),
    ("inject: [{role: user, content: x, at: middle}]", "inject.0.at: expected start, end, or the number of a message"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_what_is_wrong_with_a_model_is_said_at_its_place(tmp_path: Path, text: str, message: str) -> None:
    assert f"models.m.{message}" in str(only_problem(tmp_path, TARGETS + f"models: {{m: {{target: one, {text}}}}}\n"))


def test_a_name_has_one_star_at_most(tmp_path: Path) -> None:
    found = only_problem(tmp_path, TARGETS + "models: {'a*b*': {target: one}}\n")
    assert "expected a name with one `*` at most" in found.message


TABBY = """\
model:
  model_name: Qwen2.5-exl2
  cache_mode: Q4
sampling:
  override_preset: qwen
template:
  system_time: True
  system: "You are ${Qwen}."
  top_p: 0.8
  token_healing: true
  stream: true
draft_model:
  draft_rope_scale:
"""


def tabby(folder: Path, *names: str, text: str = TABBY) -> None:
    for name in names:
        file = folder / "config" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def test_each_file_of_models_dir_is_a_model(tmp_path: Path) -> None:
    tabby(tmp_path, "qwen.yml", "small/qwen.yaml", "notes.txt")
    models = loaded(tmp_path, TARGETS + "models_dir: config/\n").models
    assert models.keys() == {"qwen", "small/qwen"}
    found = models["qwen"].settings
    assert (models["qwen"].target, models["qwen"].upstream_name) == ("one", "Qwen2.5-exl2")
    assert found is not None and found.system is not None
    assert (found.system.best([]), found.system_time) == ("You are ${Qwen}.", True)
    assert (found.defaults.neutral, found.defaults.own) == ({"top_p": 0.8}, {"token_healing": True})


def test_models_dir_may_name_another_target_and_models_goes_before_it(tmp_path: Path) -> None:
    tabby(tmp_path, "qwen.yml", "other.yml")
    more = "models: {qwen: {target: one}}\nmodels_dir: {dir: config, target: two}\n"
    two = "  two: {url: 'http://localhost:2', mapping: {/models: }}\n"
    models = loaded(tmp_path, TARGETS + two + more).models
    assert (models["qwen"].settings, models["other"].target) == (None, "two")


def test_what_is_wrong_in_a_file_of_models_dir_is_said_with_its_line(tmp_path: Path) -> None:
    tabby(tmp_path, "a.yml", text=TABBY.replace("top_p: 0.8", "top_pp: 0.8"))
    tabby(tmp_path, "b.yml", text=TABBY.replace("model_name", "name"))
    tabby(tmp_path, "c.yml", text="model: [\n")
    tabby(tmp_path, "d.yml", text="")
    found = problems(tmp_path, TARGETS + "models_dir: config\n")
    said = [(Path(one.file).name, one.line) for one in found]
    assert said == [("a.yml", 9), ("b.yml", 1), ("c.yml", 2), ("d.yml", 1)]
    assert "did you mean `top_p`?" in found[0].message
    assert "expected `model:` with `model_name:`" in found[1].message


@pytest.mark.parametrize("said", ["models_dir: nowhere", "models_dir: {dir: nowhere}", "prompts: {dir: nowhere}"])
def test_a_folder_that_is_not_there_is_said(tmp_path: Path, said: str) -> None:
    found = only_problem(tmp_path, TARGETS + said + "\n")
    assert (found.line, "there is no such folder" in found.message) == (4, True)


def prompt(folder: Path, name: str, data: bytes) -> None:
    file = folder / "prompts" / f"{name}.prompt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def test_the_users_prompts_go_before_the_built_in_ones_of_their_name(tmp_path: Path) -> None:
    prompt(tmp_path, "en/helpful", b"Help!\n")
    prompt(tmp_path, "de/helpful", b"Hilf!")
    library = loaded(tmp_path, TARGETS).library
    assert [library.find("helpful", [language]) for language in ("en", "de-AT", "fr")] == ["Help!", "Hilf!", "Help!"]
    assert "pomocnym" in str(library.find("helpful", ["pl"]))
    assert library.find("nothing", []) is None


def test_another_default_language_is_that_of_clients_without_one(tmp_path: Path) -> None:
    assert "pomocnym" in str(loaded(tmp_path, TARGETS + "prompts: {language: pl}\n").library.find("helpful", ["xx"]))


def test_a_prompt_must_be_there_in_the_default_language(tmp_path: Path) -> None:
    prompt(tmp_path, "de/hallo", b"Hallo")
    found = only_problem(tmp_path, TARGETS + "models: {m: {target: one, prompt: hallo}}\n")
    assert found.message.startswith("there is no such prompt")


def test_an_unknown_default_language_is_said(tmp_path: Path) -> None:
    found = problems(tmp_path, TARGETS + "prompts: {language: plx}\n")
    assert lines(found) == [(4, "prompts.language")]
    assert "did you mean `pl`?" in found[0].message


def test_files_of_prompts_that_cannot_be_used_are_said_with_their_line(tmp_path: Path) -> None:
    prompt(tmp_path, "en/empty", b" \n")
    prompt(tmp_path, "en/latin", b"a\n\xe9\n")
    found = problems(tmp_path, TARGETS)
    assert [(Path(one.file).name, one.line) for one in found] == [("empty.prompt", 1), ("latin.prompt", 2)]


def test_every_built_in_prompt_is_there_in_english_and_polish(tmp_path: Path) -> None:
    texts = loaded(tmp_path, TARGETS).library.texts
    assert texts and all(own.keys() == {"en", "pl"} for own in texts.values())
