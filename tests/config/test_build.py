from pathlib import Path
from typing import Any

import orjson
import pytest

from mooltiproxy.config.model import MappingEntry, Target
from mooltiproxy.mapping.functions import FunctionTranslation
from mooltiproxy.mapping.neutral import NOWHERE
from mooltiproxy.mapping.translate import DialectTranslation
from tests.config.writing import TARGETS, loaded, pieces_of

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}


def target(folder: Path, text: str, **environ: str) -> Target:
    """The target that this text describes."""
    return loaded(folder, f"targets:\n  default: it\n  it:\n    url: http://h:1/base\n{text}", **environ).targets["it"]


def functions_of(entry: MappingEntry) -> FunctionTranslation:
    assert isinstance(entry.translation, FunctionTranslation)
    return entry.translation


def untouched(entry: MappingEntry) -> tuple[str, str]:
    assert entry.translation is None
    return entry.client_path, entry.path


def sent(entry: MappingEntry, body: Any) -> Any:
    assert entry.translation is not None
    return orjson.loads(entry.translation.request(body, NOWHERE).body)


def test_the_three_forms_of_an_entry(tmp_path: Path) -> None:
    mapping = target(
        tmp_path,
        """\
    mapping:
      /models:
      /chat: /chat/completions
      /completions: {path: /generate, in: textReqOpenAItoTGI, out: textAnsTGItoOpenAI}
""",
    ).mapping
    assert untouched(mapping["/models"]) == ("/models", "/models")
    assert untouched(mapping["/chat"]) == ("/chat", "/chat/completions")
    assert mapping["/models"].is_explicit and mapping["/chat"].is_explicit
    assert mapping["/completions"].path == "/generate"
    assert functions_of(mapping["/completions"]).description == "in textReqOpenAItoTGI, out textAnsTGItoOpenAI"


def test_an_entry_without_a_path_keeps_the_clients(tmp_path: Path) -> None:
    entry = target(tmp_path, "    mapping: {/x: {in: identity}}").mapping["/x"]
    assert entry.path == "/x"
    assert functions_of(entry).functions.entry["path"] == "/x"


def test_mappers_see_the_entry_with_its_template(tmp_path: Path) -> None:
    entry = target(
        tmp_path, "    mapping: {/x: {path: /y, in: identity, out: identity, template: FalconInstruct}}"
    ).mapping["/x"]
    pieces = {"preprompt": "", "start": "", "system": "", "user": ">>>QUESTION<<<", "assistant": ">>>ANSWER<<<"}
    assert functions_of(entry).functions.entry == {
        "url": "http://h:1/base",
        "path": "/y",
        "in": "identity",
        "out": "identity",
        "prompter": "fromTemplate",
        "template": pieces,
        "template_name": "FalconInstruct",
    }


def test_without_prompter_and_template_it_is_human_and_response(tmp_path: Path) -> None:
    config = functions_of(target(tmp_path, "    mapping: {/x: {in: identity}}").mapping["/x"]).functions.entry
    assert (config["prompter"], config["template_name"]) == ("fromTemplate", "HumanResponse")


def test_another_prompter_gets_no_template_that_was_not_named(tmp_path: Path) -> None:
    entry = target(tmp_path, "    mapping: {/x: {in: identity, prompter: llama2_chat}}").mapping["/x"]
    assert "template" not in functions_of(entry).functions.entry


def test_the_targets_prompter_and_template_are_the_entries_defaults(tmp_path: Path) -> None:
    mapping = target(
        tmp_path,
        """\
    prompter: llama2_chat
    template: FalconInstruct
    mapping:
      /a: {in: identity}
      /b: {in: identity, prompter: fromTemplate, template: HumanResponse}
""",
    ).mapping
    first, second = (functions_of(mapping[path]).functions.entry for path in ("/a", "/b"))
    assert (first["prompter"], first["template_name"]) == ("llama2_chat", "FalconInstruct")
    assert (second["prompter"], second["template_name"]) == ("fromTemplate", "HumanResponse")


def test_a_template_of_the_file_hides_a_built_in_one(tmp_path: Path) -> None:
    config = loaded(tmp_path, TARGETS + "templates: {HumanResponse: {user: 'Q:'}}")
    assert pieces_of(config, "HumanResponse")["user"] == "Q:"
    assert pieces_of(config, "HumanResponse")["assistant"] == ""
    assert pieces_of(config, "FalconInstruct")["user"] == ">>>QUESTION<<<"


@pytest.mark.parametrize("path", ["/chat/completions", "/v1/chat/completions"])
def test_an_entry_knows_the_api_of_its_client_path(tmp_path: Path, path: str) -> None:
    translation = functions_of(target(tmp_path, f"    mapping: {{{path}: {{in: identity}}}}").mapping[path])
    assert translation.client is not None
    assert translation.client.kind == "chat"


def test_an_entry_of_no_apis_path_has_none(tmp_path: Path) -> None:
    assert functions_of(target(tmp_path, "    mapping: {/other: {in: identity}}").mapping["/other"]).client is None


def test_the_seeds_functions_translate_a_chat_with_prompter_and_template(tmp_path: Path) -> None:
    entry = target(
        tmp_path, "    mapping: {/chat/completions: {path: /generate, in: chatReqOpenAItoTGI, out: chatAnsTGItoOpenAI}}"
    ).mapping["/chat/completions"]
    body = sent(entry, CHAT)
    assert body["inputs"].endswith("\n### HUMAN:\nHello\n### RESPONSE:\n")
    assert body["parameters"]["max_new_tokens"] == 5


def test_a_users_own_mapper_and_prompter_are_found_beside_the_file(tmp_path: Path) -> None:
    for folder in ("mappers", "prompters"):
        (tmp_path / folder).mkdir()
    (tmp_path / "mappers" / "mine.py").write_text(
        "def toMine(ip, cfg={}):\n    return {'prompt': cfg['render'](ip['messages'])[0]}\n"
    )
    (tmp_path / "prompters" / "shout.py").write_text("def shout(messages, cfg={}):\n    return 'HELLO', ['!']\n")
    found = target(tmp_path, "    mapping: {/chat/completions: {in: toMine, prompter: shout}}")
    assert sent(found.mapping["/chat/completions"], CHAT) == {"prompt": "HELLO"}


def test_a_target_that_speaks_the_clients_api_gets_it_untouched(tmp_path: Path) -> None:
    mapping = target(tmp_path, "    speaks: openai").mapping
    for path in ("/v1/chat/completions", "/chat/completions"):
        assert untouched(mapping[path]) == (path, "/v1/chat/completions")
    assert mapping["/models"].path == mapping["/v1/models"].path == "/v1/models"


def test_a_target_that_speaks_another_api_gets_the_clients_translated(tmp_path: Path) -> None:
    mapping = target(tmp_path, "    speaks: tgi").mapping
    entry = mapping["/v1/chat/completions"]
    assert isinstance(entry.translation, DialectTranslation)
    assert (entry.path, entry.translation.description) == ("/generate", "openai chat to tgi chat")
    assert sent(entry, CHAT)["inputs"].endswith("\n### HUMAN:\nHello\n### RESPONSE:\n")
    assert untouched(mapping["/generate"]) == ("/generate", "/generate")
    assert untouched(mapping["/info"]) == ("/info", "/info")


def test_a_derived_entry_uses_the_targets_prompter(tmp_path: Path) -> None:
    entry = target(tmp_path, "    speaks: tgi\n    prompter: llama2_chat").mapping["/chat/completions"]
    assert "[INST]" in sent(entry, CHAT)["inputs"]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/{model}"])
def test_a_list_of_models_is_openais_where_dialects_share_its_path(tmp_path: Path, path: str) -> None:
    entry = target(tmp_path, "    speaks: anthropic").mapping[path]
    assert isinstance(entry.translation, DialectTranslation)
    assert entry.translation.description.startswith("openai model")
    assert untouched(target(tmp_path, "    speaks: [anthropic, openai]").mapping[path]) == (path, path)


def test_what_a_list_speaks_passes_and_only_the_rest_is_translated(tmp_path: Path) -> None:
    found = target(tmp_path, "    speaks: [tgi, openai, tgi]")
    assert found.speaks == ("tgi", "openai")
    assert found.mapping["/v1/chat/completions"].translation is None
    assert found.mapping["/generate"].translation is None


@pytest.mark.parametrize("url", ["http://h", "http://h/", "http://h/v1", "http://h/v1/"])
def test_root_and_api_base_mean_the_same(tmp_path: Path, url: str) -> None:
    found = loaded(tmp_path, f"targets: {{default: it, it: {{url: '{url}', speaks: openai}}}}").targets["it"]
    assert (found.url, found.mapping["/chat/completions"].path) == ("http://h", "/v1/chat/completions")


def test_a_path_of_another_kind_is_kept(tmp_path: Path) -> None:
    text = "targets: {default: it, it: {url: 'https://h/openai/v1', speaks: openai}}"
    found = loaded(tmp_path, text).targets["it"]
    assert (found.url, found.mapping["/chat/completions"].path) == ("https://h/openai", "/v1/chat/completions")


def test_an_explicit_entry_wins_over_a_derived_one(tmp_path: Path) -> None:
    mapping = target(tmp_path, "    speaks: tgi\n    mapping: {/chat/completions: /my/chat}").mapping
    assert untouched(mapping["/chat/completions"]) == ("/chat/completions", "/my/chat")
    assert "/v1/chat/completions" not in mapping  # which the router answers with the entry above
    assert mapping["/completions"].translation is not None


def test_an_explicit_path_is_below_the_url_as_it_was_written(tmp_path: Path) -> None:
    text = "targets: {default: it, it: {url: 'http://h/v1', speaks: openai, mapping: {/x: /y}}}"
    found = loaded(tmp_path, text).targets["it"]
    assert (found.url, found.mapping["/x"].path) == ("http://h", "/v1/y")


def test_a_key_in_the_file_wins_over_envkey_as_in_the_seed(tmp_path: Path) -> None:
    found = target(tmp_path, "    speaks: tgi\n    key: in-the-file\n    envkey: MINE", MINE="in-the-environment")
    assert found.key == "in-the-file"


@pytest.mark.parametrize("line", ["", "    key:\n", "    key: ''\n", "    envkey:\n"])
def test_a_target_may_have_no_key(tmp_path: Path, line: str) -> None:
    assert target(tmp_path, f"    speaks: tgi\n{line}").key is None


def test_a_model_has_a_target_and_a_name_there(tmp_path: Path) -> None:
    models = loaded(tmp_path, TARGETS + "models: {a: {target: one, name: org/A}, 'b:1': {target: one}}").models
    assert (models["a"].target, models["a"].upstream_name) == ("one", "org/A")
    assert models["b:1"].upstream_name == "b:1"


def test_a_prompter_where_nothing_is_rendered_gives_a_warning(tmp_path: Path) -> None:
    config = loaded(tmp_path, TARGETS + "  two: {url: http://a, mapping: {/x: {path: /y, prompter: fromTemplate}}}")
    assert [warning.path[-1] for warning in config.warnings] == ["prompter"]


def test_a_client_that_names_no_model_gets_the_targets_first(tmp_path: Path) -> None:
    text = TARGETS + "  two: {url: 'http://h:2', speaks: openai}\n"
    text += "models:\n  a: {target: one}\n  b: {target: two, name: vendor/b}\n  c: {target: two}\n"
    mapping = loaded(tmp_path, text).targets["two"].mapping
    assert sent(mapping["/generate"], {"inputs": "Hi"})["model"] == "vendor/b"
    assert sent(mapping["/generate"], {"inputs": "Hi", "model": "c"})["model"] == "c"
    entry = mapping["/api/ps"]
    assert isinstance(entry.translation, DialectTranslation)
    assert entry.translation.model is None
