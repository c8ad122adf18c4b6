"""The documents against the program: what it offers is mentioned, what they show works."""

import argparse
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from mooltiproxy.certs import write_pair
from mooltiproxy.cli import _parser
from mooltiproxy.config.load import from_data, load
from mooltiproxy.config.model import Config
from mooltiproxy.config.schema import MIDDLEWARES, json_schema
from mooltiproxy.discovery import Registry, discover
from mooltiproxy.errors import BadRequest, UpstreamBroken
from mooltiproxy.explain import Question, explain
from mooltiproxy.mapping.dialect import Dialect
from mooltiproxy.mapping.framing import encode_sse
from mooltiproxy.mapping.losses import CLASSES, NAMES
from mooltiproxy.mapping.neutral import NOWHERE
from mooltiproxy.mapping.prompt import TEMPLATES
from mooltiproxy.mapping.translate import DialectTranslation, NoTranslation, Translated
from mooltiproxy.middlewares import MIDDLEWARES as FACTORIES
from tests.servers.proxy import passing, proxy
from tests.servers.scripted import Peer, Received, answer, upstream

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "certificates" / "README.md",
    *sorted(ROOT.glob("docs/*.md")),
]
README, CONFIGURATION, EXTENDING = ROOT / "README.md", ROOT / "docs/configuration.md", ROOT / "docs/extending.md"
ENVIRON = {"BOB_KEY": "b", "MOOLTIPROXY_KEY": "the-master-key", "OPENAI_API_KEY": "the-openai-key"}
ENVIRON |= {"TABBY_KEY": "the-tabby-key", "TABBY_ADMIN_KEY": "the-admin-key"}
ANY_TARGET = "targets: {default: local, local: {url: 'http://127.0.0.1:8080', speaks: openai}}\n"
JSON, SSE = "application/json", "text/event-stream"
KINDS = {"chat": "chat", "text": "chat", "embeddings": "embeddings", "count": "counts", "health": "health"}
KINDS |= dict.fromkeys(("models", "model", "running"), "models")
"""What the README's table calls the kinds of endpoints."""
FILE = re.compile(r"# (\w+(?:/\w+)?\.py), beside config\.yaml\n")
"""The first line of a Python example that is a file."""


def names_in(file: Path) -> set[str]:
    """The code in headings and in the first cells of table rows."""
    lines = [line.removeprefix("|") for line in file.read_text().splitlines() if line.startswith(("#", "|"))]
    return {name for line in lines for name in re.findall(r"`([^`]+)`", line.partition("|")[0])}


def blocks(file: Path, language: str) -> list[str]:
    """The fenced examples in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", file.read_text(), re.DOTALL | re.MULTILINE)


def configuration_keys() -> Iterator[str]:
    """Every key of the file, `*` for a free name."""
    yield from keys_below(json_schema(), ())


def keys_below(schema: dict[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    for name, below in schema.get("properties", {}).items():
        yield ".".join((*path, name))
        yield from keys_below(below, (*path, name))
    free = schema.get("additionalProperties")
    if isinstance(free, dict):
        yield ".".join((*path, "*"))
        yield from keys_below(free, (*path, "*"))
    for one in schema.get("anyOf", ()):
        yield from keys_below(one, path)


def commands(parser: argparse.ArgumentParser, name: str = "mooltiproxy") -> Iterator[tuple[str, list[str]]]:
    """Every command that can be run, with its options."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for action in below:
        for word, command in action.choices.items():
            yield from commands(command, f"{name} {word}")
    if not below:
        shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
        yield name, [option for action in shown for option in action.option_strings if "-h" not in option]


def write_examples(file: Path, folder: Path) -> list[Path]:
    """Write the Python examples that are files into the folder, with certificates and a CA beside them."""
    cert, _ = write_pair(folder / "certificates")
    (folder / "certificates" / "ca.pem").write_bytes(cert.read_bytes())
    written = []
    for example in blocks(file, "python"):
        found = FILE.match(example)
        if found:
            written.append(folder / found[1])
            written[-1].parent.mkdir(exist_ok=True)
            written[-1].write_text(example)
    return written


def file_of(dialect: Dialect) -> Path:
    return Path(str(sys.modules[dialect.write_error.__module__].__file__))


def loaded_example(example: str, folder: Path) -> Config:
    (folder / "config").mkdir(exist_ok=True)  # for `models_dir`
    file = folder / "config.yaml"
    file.write_text(example if "targets:" in example else ANY_TARGET + example)
    return load(file, ENVIRON)


@pytest.fixture
def readme(tmp_path: Path) -> Registry:
    """What is found beside a config.yaml after the README's examples were put there."""
    write_examples(README, tmp_path)
    return discover(tmp_path)


def test_every_configuration_key_has_a_heading_or_a_table_row() -> None:
    assert set(configuration_keys()) - names_in(CONFIGURATION) == set()


def test_no_document_explains_a_configuration_key_that_is_not_there() -> None:
    keys = set(configuration_keys())
    sections = {key.partition(".")[0] for key in keys}
    explained = {name for name in names_in(CONFIGURATION) if "." in name and name.partition(".")[0] in sections}
    assert explained - keys == set()


@pytest.mark.parametrize(("command", "options"), list(commands(_parser())))
def test_every_command_and_option_has_a_table_row(command: str, options: list[str]) -> None:
    assert {command, *options} - names_in(CONFIGURATION) == set()


def test_every_middleware_has_a_table_row() -> None:
    assert {*MIDDLEWARES, *FACTORIES} - names_in(CONFIGURATION) == set()


def test_every_mapper_prompter_and_dialect_has_a_table_row() -> None:
    found = discover(None)
    assert {*found.mappers, *found.prompters, *found.dialects} - names_in(EXTENDING) == set()


def test_every_template_is_mentioned() -> None:
    text = EXTENDING.read_text()
    assert [name for name in TEMPLATES if f"`{name}`" not in text] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_no_relative_link_is_dead(document: Path) -> None:
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\((?!https?:)([^)]*)\)", prose)
    assert [link for link in links if not leads_somewhere(document, link)] == []


def leads_somewhere(document: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    file = document.parent / name if name else document
    return file.exists() and (not anchor or anchor in anchors(file))


def anchors(file: Path) -> set[str]:
    """The anchors that headings get: lower case, punctuation left out, spaces as `-`."""
    headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_yaml_example_loads_and_every_python_file_beside_it_is_found(document: Path, tmp_path: Path) -> None:
    files = write_examples(document, tmp_path)
    for example in blocks(document, "yaml"):
        assert loaded_example(example, tmp_path).warnings == ()
    registry = discover(tmp_path)
    found = {entry.file for entry in (*registry.mappers.values(), *registry.prompters.values())}
    found |= {file_of(dialect) for dialect in registry.dialects.values()}
    assert {file for file in files if file.parent != tmp_path} - found == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_python_example_is_python(document: Path) -> None:
    for example in blocks(document, "python"):
        compile(example, str(document), "exec")


def test_the_readme_has_both_forms_of_a_target(tmp_path: Path) -> None:
    write_examples(README, tmp_path)
    spoken, mapped, *_ = [loaded_example(example, tmp_path) for example in blocks(README, "yaml")]
    for config in (spoken, mapped):
        assert config.targets["local"].mapping["/chat/completions"].path == "/generate"
        assert config.targets["local"].mapping["/chat/completions"].translation is not None
    assert spoken.targets["local"].speaks == ("tgi",)
    assert mapped.targets["local"].speaks == ()


def test_the_readmes_mapper_maps_a_request(readme: Registry) -> None:
    mapper = readme.mappers["chatReqOpenAItoFoo"].function
    body = {"stream": True, "messages": [{"role": "user", "content": "Tea?"}]}
    assert mapper(body, {}) == {"question": "Tea?", "stream": True}


def test_the_readmes_stream_mapper_maps_a_stream(readme: Registry) -> None:
    mapper = readme.mappers["chatStreamFootoOpenAI"].function
    state: dict[str, Any] = {}
    events = [event for ip in ({"word": "Yes"}, {"word": "!"}, None) for event in mapper(ip, {}, state)]
    assert [event["choices"][0]["delta"].get("content") for event in events[:-1]] == ["Yes", "!", None]
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert events[-1] == "[DONE]"
    assert state == {"words": 2}


def spoken() -> list[Dialect]:
    """The dialects that a target may speak."""
    return [dialect for dialect in discover(None).dialects.values() if not dialect.below_prefix]


def readme_grid() -> dict[tuple[str, str], set[str]]:
    """The README's table of what is translated, by the names of the client's and the server's dialect."""
    rows = [line.strip("| ").split(" | ") for line in README.read_text().splitlines() if line.startswith("| ")]
    servers = [name.strip("`") for name in next(row for row in rows if row[0].startswith("client"))[1:]]
    clients = [row for row in rows if len(row) == len(servers) + 1 and row[0].startswith("`")]
    return {
        (row[0].split("`")[1], server): set(cell.split(", "))
        for row in clients
        for server, cell in zip(servers, row[1:], strict=True)
    }


def reached(client: Dialect, server: str) -> set[str]:
    """What clients of a dialect reach at a server that speaks another one."""
    data = {"targets": {"default": "one", "one": {"url": "http://127.0.0.1:1", "speaks": server}}}
    mapping = from_data(data, ROOT, ENVIRON).targets["one"].mapping
    spellings = [(endpoint, path) for endpoint in client.endpoints for path in endpoint.paths]
    found = [(endpoint, mapping.get(client.alias(path)) or mapping.get(path)) for endpoint, path in spellings]
    entries = [(endpoint, entry.translation) for endpoint, entry in found if entry]
    return {KINDS[endpoint.kind] for endpoint, how in entries if how and not isinstance(how, NoTranslation)}


def test_the_readmes_table_says_what_is_translated() -> None:
    dialects = {dialect.name: dialect for dialect in spoken()}
    expected = {
        (client, server): {"untouched"} if client == server else reached(dialect, server)
        for client, dialect in dialects.items()
        for server in dialects
    }
    assert readme_grid() == expected


def test_every_endpoint_and_class_of_loss_is_mentioned() -> None:
    text = CONFIGURATION.read_text()
    labels = {endpoint.label for dialect in spoken() for endpoint in dialect.endpoints}
    names = {name for names in CLASSES.values() for name in names}
    assert {name for name in {*labels, *NAMES, *names} if f"`{name}`" not in text} == set()


@pytest.fixture
def parrot(readme: Registry) -> tuple[DialectTranslation, DialectTranslation]:
    """OpenAI's chat in front of the README's dialect, and the README's dialect in front of OpenAI's chat."""
    talk, chat = readme.dialects["parrot"].endpoints[0], readme.dialects["openai"].endpoints[0]
    return DialectTranslation(chat, talk, {}, "behind"), DialectTranslation(talk, chat, {}, "in front")


def answered(translated: Translated, media_type: str, *pieces: bytes) -> bytes:
    translator = translated.answer(media_type, {})
    assert translator is not None
    return b"".join(map(translator.feed, pieces)) + translator.end()


def events_of(stream: bytes) -> list[Any]:
    events = [event.removeprefix(b"data: ") for event in stream.split(b"\n\n") if event]
    return [event.decode() if event == b"[DONE]" else orjson.loads(event) for event in events]


def chunks(*events: Any) -> Iterable[bytes]:
    return map(encode_sse, events)


def test_the_readmes_dialect_takes_less_than_80_lines() -> None:
    dialect = next(example for example in blocks(README, "python") if "dialect = Dialect(" in example)
    assert len(dialect.splitlines()) < 80


def test_a_target_may_speak_the_readmes_dialect(tmp_path: Path) -> None:
    write_examples(README, tmp_path)
    config = loaded_example(next(example for example in blocks(README, "yaml") if "parrot" in example), tmp_path)
    for path in ("/v1/chat/completions", "/v1/messages", "/api/chat", "/generate"):
        assert config.targets["polly"].mapping[path].path == "/talk"


def test_explain_shows_what_the_documents_say(tmp_path: Path) -> None:
    write_examples(README, tmp_path)
    config = loaded_example(next(example for example in blocks(README, "yaml") if "parrot" in example), tmp_path)
    body = {"max_tokens": 50, "temperature": 0.5, "messages": [{"role": "user", "content": "Hello"}]}
    shown = explain(config, Question("/v1/chat/completions", body=orjson.dumps(body)))
    text = "".join(f"    {line}".rstrip() + "\n" for line in shown)
    assert text in CONFIGURATION.read_text()


def test_the_readmes_dialect_answers_an_openai_client(parrot: tuple[DialectTranslation, DialectTranslation]) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5, "temperature": 0, "wild": 1}
    translated = parrot[0].request(body, NOWHERE)
    assert orjson.loads(translated.body) == {"say": [{"who": "user", "text": "Hi"}], "max": 5, "live": False}
    assert set(translated.dropped) == {"temperature", "wild"}
    answer = orjson.loads(answered(translated, JSON, b'{"words": "Hello", "end": "cut", "counts": [3, 2]}'))
    assert answer["choices"][0]["message"]["content"] == "Hello"
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["total_tokens"] == 5


def test_the_readmes_dialect_streams_to_an_openai_client(
    parrot: tuple[DialectTranslation, DialectTranslation],
) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "stream": True}
    pieces = chunks({"words": "Hel"}, {"words": "lo"}, {"end": "done", "counts": [3, 2]})
    *told, done = events_of(answered(parrot[0].request(body, NOWHERE), SSE, *pieces))
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in told) == "Hello"
    assert told[-1]["choices"][0]["finish_reason"] == "stop"
    assert done == "[DONE]"


def test_the_readmes_dialect_asks_an_openai_target(parrot: tuple[DialectTranslation, DialectTranslation]) -> None:
    translated = parrot[1].request({"say": [{"who": "user", "text": "Hi"}], "max": 5, "wild": 1}, NOWHERE)
    assert orjson.loads(translated.body) == {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}
    assert translated.dropped == ("wild",)
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
    answer = {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    told = orjson.loads(answered(translated, JSON, orjson.dumps(answer)))
    assert told == {"words": "Hello", "end": "done", "counts": [3, 2]}


def test_the_readmes_dialect_streams_from_an_openai_target(
    parrot: tuple[DialectTranslation, DialectTranslation],
) -> None:
    translated = parrot[1].request({"say": [{"who": "user", "text": "Hi"}], "live": True}, NOWHERE)
    deltas: list[tuple[dict[str, Any], str | None]] = [({"content": "Hel"}, None), ({"content": "lo"}, "length")]
    told = [{"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} for delta, finish in deltas]
    usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    stream = answered(translated, SSE, *chunks(*told, usage, "[DONE]"))
    assert events_of(stream) == [{"words": "Hel"}, {"words": "lo"}, {"end": "cut", "counts": [3, 2]}]


def test_the_readmes_dialect_takes_no_broken_stream_for_an_answer(
    parrot: tuple[DialectTranslation, DialectTranslation],
) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "stream": True}
    with pytest.raises(UpstreamBroken, match="ended before"):
        answered(parrot[0].request(body, NOWHERE), SSE, *chunks({"words": "Hel"}))


def test_the_readmes_dialect_refuses_what_it_cannot_say(parrot: tuple[DialectTranslation, DialectTranslation]) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "response_format": {"type": "json_object"}}
    with pytest.raises(BadRequest, match="knows neither tools nor formats"):
        parrot[0].request(body, NOWHERE)
    with pytest.raises(BadRequest, match="say: expected lines of system"):
        parrot[1].request({"say": [{"who": "cat", "text": "Hi"}]}, NOWHERE)


async def test_the_middleware_of_the_documents_answers_and_adds_a_header_to_forwarded_answers(tmp_path: Path) -> None:
    async def forwarded(peer: Peer, received: Received) -> None:
        await peer.send(answer(received.body))

    write_examples(CONFIGURATION, tmp_path)
    chain = ["bearer_auth", "my_file:office_hours", "routing", "mapping"]
    async with upstream(forwarded) as up, proxy(passing(up.url) | {"middlewares": chain}, tmp_path) as running:
        async with running.client.post("/chat/completions", data=b"weekend") as response:
            assert (response.status, response.headers["x-office"]) == (503, "open")
        async with running.client.post("/chat/completions", data=b"monday") as response:
            assert (response.status, await response.read()) == (200, b"monday")
            assert response.headers["x-office"] == "open"
