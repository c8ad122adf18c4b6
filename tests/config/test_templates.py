"""`template:` and `templates:`: what may be named, what is read, and how mistakes are told."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from mooltiproxy.mapping.chat_template import ChatTemplate
from mooltiproxy.mapping.functions import FunctionTranslation
from tests.config.writing import loaded, only_problem

TARGET = "targets:\n  default: one\n  one: {{url: 'http://h', speaks: tgi, {}}}\n"
MESSAGES = [{"role": "user", "content": "Hi"}]


def chosen(folder: Path, target: str, more: str = "") -> dict[str, Any]:
    """What the prompter of a chat before the target gets to see."""
    entry = loaded(folder, TARGET.format(target) + more).targets["one"].mapping["/v1/chat/completions"]
    assert entry.translation is not None and not isinstance(entry.translation, FunctionTranslation)
    config: dict[str, Any] = entry.translation.config  # type: ignore[attr-defined]
    return config


def template_of(folder: Path, target: str, more: str = "") -> ChatTemplate:
    template = chosen(folder, target, more)["template"]
    assert isinstance(template, ChatTemplate)
    return template


def tokenizer(folder: Path, **config: Any) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer_config.json").write_bytes(orjson.dumps(config))


def test_a_built_in_format_needs_no_prompter(tmp_path: Path) -> None:
    config = chosen(tmp_path, "template: chatml")
    assert (config["prompter"], config["template_name"], config["template"].format) == (
        "chat_template",
        *["chatml"] * 2,
    )


def test_a_jinja_file_beside_the_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text("{{ messages[0].content }}?")
    assert template_of(tmp_path, "template: own.jinja").render(MESSAGES) == "Hi?"


def test_a_tokenizer_config_has_template_and_tokens(tmp_path: Path) -> None:
    added = {"1": {"content": "<|x|>", "special": True}, "2": {"content": "word", "special": False}}
    bos = {"content": "<s>", "lstrip": False}
    tokenizer(tmp_path, chat_template="{{ bos_token }}x", bos_token=bos, eos_token="</s>", added_tokens_decoder=added)
    template = template_of(tmp_path, "template: tokenizer_config.json")
    assert (template.render(MESSAGES), template.bos, template.facts.stops) == ("<s>x", "<s>", ("</s>",))
    assert set(template.facts.control) == {"<|x|>", "<s>", "</s>"}


def test_of_several_templates_the_one_for_tools_is_known(tmp_path: Path) -> None:
    listed = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "{{ tools }}t"}]
    tokenizer(tmp_path, chat_template=listed)
    template = template_of(tmp_path, "template: tokenizer_config.json")
    assert (template.render(MESSAGES), template.render(MESSAGES, tools=[])) == ("d", "[]t")


def test_a_models_folder_has_its_template_in_a_file_of_its_own(tmp_path: Path) -> None:
    tokenizer(tmp_path / "model", chat_template="old", bos_token="<s>")
    (tmp_path / "model" / "chat_template.jinja").write_text("{{ bos_token }}new")
    (tmp_path / "model" / "additional_chat_templates").mkdir()
    (tmp_path / "model" / "additional_chat_templates" / "tool_use.jinja").write_text("{{ tools|length }}")
    template = template_of(tmp_path, "template: model")
    assert template.render(MESSAGES) == "<s>new"
    assert template.render(MESSAGES, tools=[{}, {}]) == "2"


def test_a_template_of_the_file_has_its_own_tokens_stops_and_variables(tmp_path: Path) -> None:
    more = """\
templates:
  Own:
    jinja: "{{ bos_token }}{{ mood }}{{ messages[0].content }}"
    format: llama3
    stop: END
    tokens: {bos_token: "<b>"}
    variables: {mood: glad}
"""
    template = template_of(tmp_path, "template: Own", more)
    assert (template.name, template.render(MESSAGES)) == ("Own", "<b>gladHi")
    assert template.facts.stops == ("END", "<|eot_id|>", "<|end_of_text|>", "<|eom_id|>")


def test_a_built_in_format_can_be_named_with_variables(tmp_path: Path) -> None:
    more = "templates: {Low: {format: harmony, variables: {reasoning_effort: low}}}"
    assert "Reasoning: low" in template_of(tmp_path, "template: Low", more).render(MESSAGES)


def test_two_targets_share_a_compiled_format(tmp_path: Path) -> None:
    text = TARGET.format("template: phi4") + "  two: {url: 'http://i', speaks: tgi, template: phi4}\n"
    targets = loaded(tmp_path, text).targets
    first, second = (targets[name].mapping["/v1/chat/completions"].translation for name in ("one", "two"))
    assert first.config["template"] is not None  # type: ignore[union-attr]
    assert first.config["template"] is second.config["template"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("files", "target", "message"),
    [
        ({"x.jinja": "a\n{{ 1 + }}"}, "template: x.jinja", "x.jinja:2: unexpected"),
        ({"m/chat_template.jinja": "{% for %}"}, "template: m", "m/chat_template.jinja:1: "),
        (
            {"tokenizer_config.json": '{"chat_template": "a\\n{% x %}"}'},
            "template: tokenizer_config.json",
            "tokenizer_config.json: line 2 of its chat_template: Encountered unknown tag 'x'",
        ),
        (
            {"tokenizer_config.json": "{\n3"},
            "template: tokenizer_config.json",
            "tokenizer_config.json:2: not valid JSON",
        ),
        ({"tokenizer_config.json": "[]"}, "template: tokenizer_config.json", "expected a JSON object"),
        ({"tokenizer_config.json": "{}"}, "template: tokenizer_config.json", "there is no chat template here"),
        ({"m/x": ""}, "template: m", "there is no chat template here: expected chat_template.jinja"),
        ({"m/chat_template.json": "{}"}, "template: m", "expected chat_template to be a text"),
        ({}, "template: x.jinja", "x.jinja cannot be read: No such file"),
        ({"x.jinja": "\udcff"}, "template: x.jinja", "is no text in UTF-8"),
        ({}, "template: chatm", "did you mean `chatml`"),
        ({}, "prompter: chat_template", "chat_template needs a chat template: expected `template:`"),
        ({}, "prompter: chat_template, template: HumanResponse", "chat_template needs a chat template"),
        ({}, "prompter: fromTemplate, template: chatml", "fromTemplate takes a template of five pieces"),
        (
            {},
            "prompter: fromTemplate, mapping: {/x: {in: identity, template: target}}",
            "fromTemplate takes a template of five pieces",
        ),
        ({}, "control_tokens: breack", "did you mean `break`"),
    ],
)
def test_a_template_that_cannot_be_used_is_a_mistake_in_the_file(
    tmp_path: Path, files: dict[str, str], target: str, message: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    problem = only_problem(tmp_path, TARGET.format(target))
    assert problem.line == 3 and problem.path[:2] == ("targets", "one")
    assert message in problem.message


@pytest.mark.parametrize(
    ("entry", "key", "message"),
    [
        ("{jinja: '{{', user: x}", "jinja", "expected either pieces"),
        ("{jinja: x, file: y}", "jinja", "expected either `file` or `jinja`"),
        ("{jinja: '{{ 1 + }}'}", "jinja", "line 1 of it: unexpected"),
        ("{format: chatm}", "format", "did you mean `chatml`"),
        ("{file: none.jinja}", "file", "none.jinja cannot be read"),
        ("{user: x, stop: y}", "stop", "is for chat templates"),
        ("{format: chatml, tokens: {bos: x}}", "bos", "expected names as bos_token"),
        ("{format: chatml, stop: [1]}", "stop", "expected a text or a list of texts"),
        ("{format: chatml, variables: 3}", "variables", "expected names of variables"),
    ],
)
def test_an_entry_of_templates_is_checked(tmp_path: Path, entry: str, key: str, message: str) -> None:
    problem = only_problem(tmp_path, TARGET.format("template: chatml") + f"templates:\n  T: {entry}\n")
    assert (problem.line, problem.path[-1]) == (5, key)
    assert message in problem.message
