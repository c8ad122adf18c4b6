"""`template:` and `templates:`: names of templates, files that hold one, and the prompters that they fit."""

from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
from voluptuous import Invalid, Optional

from mooltiproxy.config.shapes import Checked, Section
from mooltiproxy.config.validators import Json, Word, expected, piece, suggestion, text
from mooltiproxy.mapping.chat_template import (
    DEFAULT,
    BadTemplate,
    ChatTemplate,
    named_sources,
    special_tokens,
)
from mooltiproxy.mapping.formats import FORMATS, source_of
from mooltiproxy.mapping.prompt import PIECES, TEMPLATES

PIECES_PROMPTER, CHAT_PROMPTER = "fromTemplate", "chat_template"
TARGETS_OWN = "target"
"""The name of the template that the target itself tells."""

CONTROL_TOKENS = ("break", "refuse", "keep")
"""What may become of words in messages that only a template should write."""

MAX_FILE = 64 * 1024 * 1024
_CHAT = ("file", "jinja", "format")
_ENDINGS = (".jinja", ".jinja2", ".j2", ".json")
_JINJA, _TOKENIZER, _OLD, _NAMED = (
    "chat_template.jinja",
    "tokenizer_config.json",
    "chat_template.json",
    "additional_chat_templates",
)


def names_in(templates: Any) -> dict[str, bool]:
    """The templates that a file can name, and whether each is a chat template; `templates` is the file's section."""
    own = templates.items() if isinstance(templates, dict) else ()
    known = dict.fromkeys(TEMPLATES, False) | dict.fromkeys((*FORMATS, TARGETS_OWN), True)
    return known | {name: isinstance(one, dict) and any(key in one for key in _CHAT) for name, one in own}


def template_word(known: Mapping[str, bool] | None, folder: Path | None) -> Word:
    """The name of a template, or the path of a file or folder with one, which becomes the `ChatTemplate`."""

    def check(value: Any) -> Any:
        if not isinstance(value, str) or not value:
            raise expected("the name of a template, or the path of one", value)
        if known is None or folder is None or value in known:
            return value
        if not _is_path(value, folder):
            hint = suggestion(value, known)
            raise Invalid(f"there is no such template, nor a file or folder of this name beside the file{hint}")
        return read_template(folder, value)

    return Word(check, {"type": "string"})


def _is_path(value: str, folder: Path) -> bool:
    try:
        return "/" in value or value.endswith(_ENDINGS) or (folder / value).exists()
    except (OSError, ValueError):
        return False


def one_template(folder: Path | None) -> Checked:
    """One entry of `templates:`: five pieces, or a chat template with what is to be said of it."""
    section = Section(
        {
            Optional("preprompt", description="At the very start"): piece,
            Optional("start", description="Behind the system text"): piece,
            Optional("system", description="Before a later system message"): piece,
            Optional("user", description="Before the user's words; also the stop string"): piece,
            Optional("assistant", description="Before the assistant's words, and at the end"): piece,
            Optional(
                "file", description="Instead of pieces: a .jinja, a tokenizer_config.json, a model's folder"
            ): text,
            Optional("jinja", description="Instead of pieces: the text of a chat template (Jinja)"): text,
            Optional("format", description="The built-in format that it is, or that it writes"): text,
            Optional("stop", description="Further strings at which an answer ends"): texts,
            Optional("tokens", description="Special tokens of the tokenizer, as bos_token and eos_token"): tokens,
            Optional("variables", description="What the chat template sees unless a request says otherwise"): values,
        },
        check=_is_of_one_kind,
    )
    return Checked(section, lambda value: _made(value, folder))


def _texts(value: Any) -> tuple[str, ...]:
    given = value if isinstance(value, list) else [value]
    if not given or not all(isinstance(one, str) and one for one in given):
        raise expected("a text or a list of texts", value)
    return tuple(given)


def _tokens(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise expected("names of tokens with their texts", value)
    wrong = next((name for name in value if not str(name).endswith("_token")), None)
    if wrong is not None:
        raise Invalid("expected names as bos_token, eos_token, pad_token", [wrong])
    return value


def _values(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise expected("names of variables with their values", value)
    return value


_TEXT: Json = {"type": "string"}
texts = Word(_texts, {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]})
tokens = Word(_tokens, {"type": "object"})
values = Word(_values, {"type": "object"})


def _is_of_one_kind(section: Mapping[str, Any]) -> Iterator[Invalid]:
    """Pieces, a file, a text, or a built-in format: one of them."""
    pieces = [name for name in PIECES if name in section]
    sources = [name for name in _CHAT if name in section]
    if pieces and sources:
        yield Invalid("expected either pieces (preprompt, start, ...) or a chat template, not both", [sources[0]])
    if "file" in section and "jinja" in section:
        yield Invalid("expected either `file` or `jinja`, both are there", ["jinja"])
    if not sources:
        for name in ("stop", "tokens", "variables"):
            if name in section:
                yield Invalid("is for chat templates: expected `file`, `jinja` or `format` beside it", [name])
    if "format" in section and section["format"] not in FORMATS:
        yield Invalid(f"there is no such format{suggestion(section['format'], FORMATS)}", ["format"])


def _made(section: Mapping[str, Any], folder: Path | None) -> Any:
    """Pieces as they are, anything else as a `ChatTemplate`; raises Invalid."""
    if not any(name in section for name in _CHAT) or (folder is None and "file" in section):
        return section
    said = {
        "known_as": section.get("format"),
        "stops": section.get("stop", ()),
        "variables": section.get("variables", {}),
    }
    own = section.get("tokens", {})
    if "file" in section and folder is not None:
        return read_template(folder, section["file"], own, at="file", **said)
    key = "jinja" if "jinja" in section else "format"
    source = section["jinja"] if key == "jinja" else source_of(section["format"])
    try:
        return ChatTemplate("of templates", {DEFAULT: source}, own, **said)
    except BadTemplate as error:
        raise Invalid(f"line {error.line} of it: {error}" if error.line else str(error), [key]) from error


def read_template(
    folder: Path, name: str, own: Mapping[str, str] | None = None, *, at: str = "", **said: Any
) -> ChatTemplate:
    """The chat template of a file or of a model's folder, with the tokens beside it; raises Invalid, also with the line
    of the template's file. `own` tokens go first; `at` is the key of the error; the rest is for `ChatTemplate`."""
    where: list[Hashable] = [at] if at else []
    try:
        file, config, sources = _read(folder / name)
    except _Unreadable as error:
        raise Invalid(str(error), where) from error
    tokens = special_tokens(config) | dict(own or {})
    try:
        return ChatTemplate(name, sources, tokens, control=_control(config, "".join(sources.values())), **said)
    except BadTemplate as error:
        shown = _shown(file, folder)
        line = f":{error.line}" if error.line and file.suffix != ".json" else ""
        inside = f"line {error.line} of its chat_template: " if error.line and file.suffix == ".json" else ""
        raise Invalid(f"{shown}{line}: {inside}{error}", where) from error


class _Unreadable(Exception):
    """Why there is no template."""


def _shown(file: Path, folder: Path) -> str:
    return str(file.relative_to(folder)) if file.is_relative_to(folder) else str(file)


def _read(path: Path) -> tuple[Path, dict[str, Any], dict[str, str]]:
    """The file that holds the template, the tokenizer's configuration beside it, and the texts by name."""
    if path.is_dir():
        return _read_folder(path)
    if path.suffix != ".json":
        beside = path.with_name(_TOKENIZER) if path.name == _JINJA else None
        return path, _json(beside) if beside and beside.exists() else {}, {DEFAULT: _text(path)}
    config = _json(path)
    if "chat_template" not in config and path.name == _TOKENIZER:
        return _read_folder(path.parent)
    return path, config, _sources(path, config)


def _read_folder(folder: Path) -> tuple[Path, dict[str, Any], dict[str, str]]:
    """A model's folder: the file of its own goes before what the tokenizer's configuration holds."""
    config = _json(folder / _TOKENIZER) if (folder / _TOKENIZER).exists() else {}
    if (folder / _JINJA).exists():
        more = sorted((folder / _NAMED).glob("*.jinja")) if (folder / _NAMED).is_dir() else []
        return folder / _JINJA, config, {DEFAULT: _text(folder / _JINJA)} | {one.stem: _text(one) for one in more}
    if (folder / _OLD).exists():
        return folder / _OLD, config, _sources(folder / _OLD, _json(folder / _OLD))
    if "chat_template" not in config:
        raise _Unreadable(f"there is no chat template here: expected {_JINJA}, or {_TOKENIZER} with chat_template")
    return folder / _TOKENIZER, config, _sources(folder / _TOKENIZER, config)


def _sources(file: Path, config: Mapping[str, Any]) -> dict[str, str]:
    try:
        return named_sources(config.get("chat_template"))
    except BadTemplate as error:
        raise _Unreadable(f"{file.name}: {error}") from error


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > MAX_FILE:
            raise _Unreadable(f"{file.name} is larger than {MAX_FILE} bytes")
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise _Unreadable(f"{file.name} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise _Unreadable(f"{file.name} is no text in UTF-8") from error


def _json(file: Path) -> dict[str, Any]:
    try:
        value = orjson.loads(_text(file))
    except orjson.JSONDecodeError as error:
        raise _Unreadable(f"{file.name}:{error.lineno}: not valid JSON: {error.msg}") from error
    if not isinstance(value, dict):
        raise _Unreadable(f"{file.name}: expected a JSON object")
    return value


def _control(config: Mapping[str, Any], source: str) -> list[str]:
    """The tokens of a tokenizer that only its template should write: special ones, and those that it has in it."""
    added = config.get("added_tokens_decoder")
    found = added.values() if isinstance(added, dict) else ()
    words = [(one.get("content"), one.get("special")) for one in found if isinstance(one, dict)]
    return [word for word, special in words if isinstance(word, str) and (special or word in source) and word.strip()]


def fitting_templates(known: Mapping[str, bool] | None, target: Mapping[str, Any]) -> Iterator[Invalid]:
    """What is wrong with the prompters and templates of a target, as they stand in the file."""
    yield from _misfit(known, target, {}, [])
    mapping = target.get("mapping")
    for path, entry in mapping.items() if isinstance(mapping, dict) else ():
        if isinstance(entry, dict) and ("prompter" in entry or "template" in entry):
            yield from _misfit(known, entry, target, ["mapping", path])


def _misfit(
    known: Mapping[str, bool] | None, values: Mapping[str, Any], above: Mapping[str, Any], where: list[Any]
) -> Iterator[Invalid]:
    prompter = values.get("prompter") or above.get("prompter")
    template = values.get("template") or above.get("template")
    if known is None or not isinstance(template, str | None) or not isinstance(prompter, str | None):
        return
    is_chat = known.get(template, True) if template else None
    if prompter == CHAT_PROMPTER and is_chat is not True:
        key = "template" if "template" in values else "prompter"
        hint = "`template:`, a format (mooltiproxy templates lists them), a file, or `target`"
        yield Invalid(f"{CHAT_PROMPTER} needs a chat template: expected {hint}", [*where, key])
    if prompter == PIECES_PROMPTER and is_chat:
        key = "template" if "template" in values else "prompter"
        message = f"{PIECES_PROMPTER} takes a template of five pieces: remove `prompter`, or name {CHAT_PROMPTER}"
        yield Invalid(message, [*where, key])
