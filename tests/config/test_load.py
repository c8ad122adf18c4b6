from pathlib import Path

import pytest

from mooltiproxy.certs import write_pair
from mooltiproxy.config.load import from_data, load
from mooltiproxy.config.model import Timeouts
from mooltiproxy.errors import ConfigError
from tests.config.writing import TARGETS, lines, loaded, only_problem, pieces_of, problems, written

SEED = """\
system:
  ssl: false
  debug: false
  port: 8000
  timeout: 300
  masterkey: my-master-key
cerbere:
  max_tries: 3
  whitelist: [127.0.0.1]
  blacklist:
targets:
  default: tgi
  openai:
    url: https://api.openai.com/v1
    envkey: OPENAI_API_KEY
    preserveMethod: false
    mapping:
      /models:
      /chat: /chat/completions
      /chat/completions:
  tgi:
    url: http://10.0.0.7:8080
    key: the-target-key
    preserveMethod: true
    mapping:
      /completions:
        path: /generate
        in: textReqOpenAItoTGI
        out: textAnsTGItoOpenAI
      /chat/completions:
        path: /generate
        in: chatReqOpenAItoTGI
        out: chatAnsTGItoOpenAI
        prompter: fromTemplate
        template: Mine
templates:
  Mine: {user: "U:", assistant: "A:"}
"""

TEN_MISTAKES = """\
system:
  prot: 8000
  port: 80000
  timeout: {connect: soon}
cerbere:
  max_tries: 0
  whitelist:
    - 127.0.0.1
    - localhost
targets:
  default: two
  one:
    url: localhost:8080
    mapping:
      /chat/completions:
        path: /generate
        in: chatReqOpenAItoTGO
        prompteer: fromTemplate
middlewares: [routing, routing]
"""


def test_a_file_with_ten_mistakes_gives_ten_problems_with_their_lines(tmp_path: Path) -> None:
    assert lines(problems(tmp_path, TEN_MISTAKES)) == [
        (2, "system.prot"),
        (3, "system.port"),
        (4, "system.timeout.connect"),
        (6, "cerbere.max_tries"),
        (9, "cerbere.whitelist.1"),
        (11, "targets.default"),
        (13, "targets.one.url"),
        (17, "targets.one.mapping./chat/completions.in"),
        (18, "targets.one.mapping./chat/completions.prompteer"),
        (19, "middlewares.1"),
    ]


def test_a_problem_is_one_line_of_file_line_path_and_message(tmp_path: Path) -> None:
    file = written(tmp_path, TARGETS + "system:\n  prot: 1\n")
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    assert str(caught.value) == f"{file}:5: system.prot: unknown key: did you mean `port`?"


def test_a_seed_file_runs_unchanged(tmp_path: Path) -> None:
    config = loaded(tmp_path, SEED, OPENAI_API_KEY="sk-openai")
    assert (config.system.port, config.system.tls, config.system.masterkey) == (8000, None, "my-master-key")
    assert config.system.timeouts == Timeouts(connect=300.0, first_byte=300.0, idle=300.0, total=None)
    assert [str(one) for one in config.cerbere.whitelist] == ["127.0.0.1/32"]
    assert config.cerbere.blacklist == ()
    openai, tgi = config.targets["openai"], config.targets["tgi"]
    assert (openai.key, openai.preserve_method) == ("sk-openai", False)
    assert (tgi.key, tgi.preserve_method) == ("the-target-key", True)
    assert config.default_target == "tgi"
    assert pieces_of(config, "Mine") == {"preprompt": "", "start": "", "system": "", "user": "U:", "assistant": "A:"}


def test_a_seed_file_is_warned_about_its_keys(tmp_path: Path) -> None:
    warnings = loaded(tmp_path, SEED, OPENAI_API_KEY="sk-openai").warnings
    assert lines(warnings) == [(6, "system.masterkey"), (23, "targets.tgi.key")]


def test_the_oldest_words_are_taken_with_a_warning(tmp_path: Path) -> None:
    old = SEED.replace("templates:", "prompts:").replace("prompter: fromTemplate", "prompt: llama2")
    config = loaded(tmp_path, old, OPENAI_API_KEY="x")
    translation = config.targets["tgi"].mapping["/chat/completions"].translation
    assert translation.functions.prompter.__name__ == "llama2_chat"  # type: ignore[union-attr]
    assert pieces_of(config, "Mine")["user"] == "U:"
    named = [str(warning).partition(": ")[2] for warning in config.warnings if "rename" in warning.message]
    assert named == [
        "targets.tgi.mapping./chat/completions.prompt: this is called `prompter` now: rename it",
        "prompts: this is called `templates` now: rename it",
    ]


def test_a_mistake_under_an_old_word_keeps_its_line(tmp_path: Path) -> None:
    assert lines(problems(tmp_path, TARGETS + "prompts:\n  T:\n    usr: x\n")) == [(6, "templates.T.usr")]


def test_an_old_word_beside_the_new_one_is_refused(tmp_path: Path) -> None:
    text = TARGETS + "prompts: {A: {user: x}}\ntemplates: {B: {user: x}}\n"
    assert str(only_problem(tmp_path, text)).endswith("prompts.A: unknown key, expected one of dir, language")


def test_the_defaults_are_those_of_the_manual(tmp_path: Path) -> None:
    config = loaded(tmp_path, TARGETS)
    assert (config.system.host, config.system.port, config.system.tls) == ("127.0.0.1", 8000, None)
    assert (config.system.drain, config.system.max_body, config.system.cors) == (30.0, 64 * 1024 * 1024, ("*",))
    assert config.system.timeouts == Timeouts(30.0, 30.0, 30.0, None)
    assert (config.cerbere.max_tries, config.cerbere.ban) == (3, 0.0)
    assert config.middlewares == (
        "access_log",
        "security_headers",
        "cors",
        "ip_rules",
        "bearer_auth",
        "rate_limit",
        "routing",
        "mapping",
    )
    assert (config.folder, config.file) == (tmp_path, tmp_path / "config.yaml")


def test_keys_without_a_value_count_as_absent(tmp_path: Path) -> None:
    config = loaded(tmp_path, TARGETS + "system:\n  port:\n  cors:\ncerbere:\nmodels:\ntemplates:\nmiddlewares:\n")
    assert (config.system.port, config.system.cors) == (8000, ("*",))


def test_a_single_value_counts_as_a_list_of_one(tmp_path: Path) -> None:
    assert loaded(tmp_path, TARGETS + "system: {cors: 'http://a'}").system.cors == ("http://a",)


def test_a_timeout_of_zero_is_no_limit(tmp_path: Path) -> None:
    assert loaded(tmp_path, TARGETS + "system: {timeout: 0}").system.timeouts == Timeouts(None, None, None, None)
    timeouts = loaded(tmp_path, TARGETS + "system: {timeout: {idle: 0, total: 10m}}").system.timeouts
    assert timeouts == Timeouts(30.0, 30.0, None, 600.0)


def test_plain_data_is_validated_alike() -> None:
    with pytest.raises(ConfigError) as caught:
        from_data({"targets": {"default": "x"}, "sytem": {}}, Path("/"), {})
    assert [str(problem) for problem in caught.value.problems] == [
        "sytem: unknown key: did you mean `system`?",
        "targets.default: there is no such target",
    ]


@pytest.mark.parametrize(
    ("text", "line", "path"),
    [
        ("system: {port: 1}\n", 1, "targets"),
        ("targets: {one: {url: 'http://a', speaks: tgi}}\n", 1, "targets.default"),
        (TARGETS + "system: [1]\n", 4, "system"),
        (TARGETS + "models: {m: {}}\n", 4, "models.m.target"),
        (TARGETS + "models: {m: {target: three}}\n", 4, "models.m.target"),
        (TARGETS + "templates: {T: {usr: x}}\n", 4, "templates.T.usr"),
        (TARGETS + "  two:\n", 4, "targets.two"),
        (TARGETS + "  two: {speaks: tgi}\n", 4, "targets.two.url"),
        (TARGETS + "  two: {url: http://a}\n", 4, "targets.two"),
        (TARGETS + "  two: {url: http://a, mapping: {}}\n", 4, "targets.two"),
        (TARGETS + "  two: {url: http://a, speaks: [tgi, klingon]}\n", 4, "targets.two.speaks.1"),
        (TARGETS + "  two: {url: http://a, speaks: tgi, envkey: UNSET}\n", 4, "targets.two.envkey"),
        (TARGETS + "  two: {url: http://a, speaks: tgi, envkey: EMPTY}\n", 4, "targets.two.envkey"),
        (TARGETS + "  two: {url: http://a, speaks: tgi, envkey: BROKEN}\n", 4, "targets.two.envkey"),
        (TARGETS + "  two: {url: http://a, speaks: tgi, template: None}\n", 4, "targets.two.template"),
        (TARGETS + "  two: {url: http://a, mapping: {x: }}\n", 4, "targets.two.mapping.x"),
        (TARGETS + "  two: {url: http://a, mapping: {/x: 5}}\n", 4, "targets.two.mapping./x"),
        (TARGETS + "  two: {url: http://a, mapping: {/x: {out: nothing}}}\n", 4, "targets.two.mapping./x.out"),
        (TARGETS + "  two: {url: http://a, mapping: {/x: {stream: identity}}}\n", 4, "targets.two.mapping./x.stream"),
        (TARGETS + "  defalt: one\n", 4, "targets.defalt"),
        (TARGETS + "middlewares: [access_log, mapping]\n", 4, "middlewares"),
        (TARGETS + "middlewares: [mapping, routing]\n", 4, "middlewares.0"),
        (TARGETS + "middlewares: [routing, bearer_auth, mapping]\n", 4, "middlewares.0"),
        (TARGETS + "middlewares: [bearer_auth, ip_rules, routing]\n", 4, "middlewares.0"),
        (TARGETS + "middlewares: [rate_limit, bearer_auth, routing]\n", 4, "middlewares.0"),
        (TARGETS + "middlewares: [rate_limit, ip_rules, routing]\n", 4, "middlewares.0"),
        (TARGETS + "middlewares:\n- routing\n- routng\n", 6, "middlewares.1"),
        (TARGETS + "middlewares:\n- routing\n- none:function\n", 6, "middlewares.1"),
        (TARGETS + "middlewares:\n- routing\n- ../x:function\n", 6, "middlewares.1"),
        (TARGETS + "system:\n  ssl: {cert: none.pem, key: config.yaml}\n", 5, "system.ssl.cert"),
    ],
)
def test_each_mistake_is_found_at_its_line(tmp_path: Path, text: str, line: int, path: str) -> None:
    assert lines(problems(tmp_path, text, EMPTY=" ", BROKEN="a\nb")) == [(line, path)]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (TARGETS + "cerebre: {}\n", "cerbere"),
        (TARGETS + "  two: {url: http://a, speaks: opena}\n", "openai"),
        (TARGETS + "  two: {url: http://a, mapping: {/x: {in: Identity}}}\n", "identity"),
        (TARGETS + "  two: {url: http://a, speaks: tgi, prompter: fromtemplate}\n", "fromTemplate"),
        (TARGETS + "  two: {url: http://a, speaks: tgi, template: Humanresponse}\n", "HumanResponse"),
        (TARGETS + "models: {m: {target: onee}}\n", "one"),
        (TARGETS + "middlewares: [routing, bearer_aut]\n", "bearer_auth"),
        (TARGETS + "  defalt: one\n", "default"),
    ],
)
def test_a_name_that_is_nearly_right_gets_a_suggestion(tmp_path: Path, text: str, meant: str) -> None:
    assert f"did you mean `{meant}`?" in only_problem(tmp_path, text).message


def test_without_a_master_key_the_file_is_valid_and_the_key_empty(tmp_path: Path) -> None:
    assert loaded(tmp_path, TARGETS).system.masterkey == ""
    assert loaded(tmp_path, TARGETS + "system: {masterkey: '  '}", MOOLTIPROXY_KEY=" ").system.masterkey == ""


def test_a_master_key_of_digits_is_text(tmp_path: Path) -> None:
    assert loaded(tmp_path, TARGETS + "system: {masterkey: 0123}").system.masterkey == "0123"


def test_a_master_key_that_no_header_can_carry_is_refused(tmp_path: Path) -> None:
    assert "MOOLTIPROXY_KEY: expected a key of printable ASCII" in str(
        only_problem(tmp_path, TARGETS, MOOLTIPROXY_KEY="a\nb")
    )


def test_a_chain_without_keys_is_warned_about(tmp_path: Path) -> None:
    config = loaded(tmp_path, TARGETS + "middlewares: [routing, mapping]\n")
    assert lines(config.warnings) == [(4, "middlewares")]
    assert "bearer_auth" in config.warnings[0].message


def test_a_middleware_of_ones_own_is_a_file_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("")
    config = loaded(tmp_path, TARGETS + "middlewares: [mine:count, bearer_auth, routing]\n")
    assert config.middlewares == ("mine:count", "bearer_auth", "routing")


def test_a_broken_mapper_file_is_reported_with_the_other_mistakes(tmp_path: Path) -> None:
    (tmp_path / "mappers").mkdir()
    (tmp_path / "mappers" / "mine.py").write_text("import nothing_of_this_name\n")
    text = TARGETS + "  two: {url: http://a, mapping: {/x: {in: mine}}}\nsystem: {prot: 1}\n"
    found = [str(problem) for problem in problems(tmp_path, text)]
    assert len(found) == 2
    assert "system.prot" in found[0]
    assert "mine.py" in found[1] and "cannot be loaded" in found[1]


SECRET_PLACES = [
    "system: {masterkey: 'SECRET\u00e9'}",
    "system: {masterkey: [SECRET]}",
    "system: {masterkey: {SECRET: SECRET}}",
    "system: {masterkey: *SECRET}",
    "system: {masterkey: !SECRET x}",
    "system: {masterkey: &SECRET &SECRET}",
    "system: SECRET",
    "system:\n  masterkey: 'SECRET\n",
    "system:\n  masterkey: 'SECRET\n\n   x'",
    "system:\n  port: ${VALUE}",
    "system:\n  host: 'http://${VALUE}'",
    "system:\n  cors: ${VALUE}",
    "cerbere:\n  whitelist: ['${VALUE}']",
    "middlewares: ['${VALUE}']",
    "models: {m: {target: '${VALUE}'}}",
    "  two: {url: 'http://user:SECRET@x', speaks: tgi}",
    "  two: {url: 'http://x/?key=SECRET', speaks: tgi}",
    "  two: {url: 'http://x', speaks: '${VALUE}'}",
    "  two: {url: 'http://x', speaks: tgi, key: [SECRET]}",
    "  two: {url: 'http://x', speaks: tgi, envkey: SECRET}",
    "  two: {url: 'http://x', speaks: tgi, envkey: sk-SECRET}",
    "  two: {url: 'http://x', speaks: tgi, prompter: '${VALUE}', template: '${VALUE}'}",
    "  two: {url: 'http://x', mapping: {/x: {in: '${VALUE}', path: '${VALUE}'}}}",
    "  two: {url: 'http://x', mapping: {/x: '${VALUE}'}}",
]


@pytest.mark.parametrize("place", SECRET_PLACES)
def test_a_secret_is_never_part_of_a_message(tmp_path: Path, place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, TARGETS + place + "\n", VALUE="sk SECRET")
    assert "SECRET" not in str(caught.value)


def test_a_secret_is_not_shown_by_repr_or_warnings(tmp_path: Path) -> None:
    config = loaded(tmp_path, SEED, OPENAI_API_KEY="sk-openai")
    shown = repr(config) + "".join(map(str, config.warnings))
    assert not any(secret in shown for secret in ("sk-openai", "my-master-key", "the-target-key"))


def test_ssl_true_takes_the_pair_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "certificates").mkdir()
    cert, key = write_pair(tmp_path / "certificates")
    tls = loaded(tmp_path, TARGETS + "system: {ssl: true}").system.tls
    assert tls is not None
    assert (tls.cert, tls.key, tls.client_ca) == (cert, key, None)


def test_ssl_true_without_certificates_says_how_to_get_them(tmp_path: Path) -> None:
    found = problems(tmp_path, TARGETS + "system:\n  ssl: true\n")
    assert lines(found) == [(5, "system.ssl.cert"), (5, "system.ssl.key")]
    assert "mooltiproxy cert new" in found[0].message


def test_a_pair_that_does_not_match_is_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_pair(tmp_path / folder)
    problem = only_problem(tmp_path, TARGETS + "system:\n  ssl: {cert: a/cert.pem, key: b/key.pem}\n")
    assert (problem.line, problem.path) == (5, ("system", "ssl"))
    assert "cannot be used together" in problem.message


def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path) -> None:
    write_pair(tmp_path)
    (tmp_path / "text").write_text("nothing")
    assert only_problem(tmp_path, TARGETS + "system: {ssl: {cert: text, key: key.pem}}").path == ("system", "ssl")
    text = TARGETS + "system: {ssl: {cert: cert.pem, key: key.pem, client_ca: text}}"
    assert only_problem(tmp_path, text).path == ("system", "ssl", "client_ca")


def test_a_key_with_a_password_is_refused_instead_of_asked_for(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    write_pair(tmp_path)
    key = serialization.load_pem_private_key((tmp_path / "key.pem").read_bytes(), None)
    (tmp_path / "locked.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    problem = only_problem(tmp_path, TARGETS + "system: {ssl: {cert: cert.pem, key: locked.pem}}")
    assert "password" in problem.message


def test_mutual_tls_takes_a_ca(tmp_path: Path) -> None:
    cert, _ = write_pair(tmp_path)
    tls = loaded(tmp_path, TARGETS + "system: {ssl: {cert: cert.pem, key: key.pem, client_ca: cert.pem}}").system.tls
    assert tls is not None and tls.client_ca == cert
