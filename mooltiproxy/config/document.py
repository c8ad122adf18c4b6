"""A YAML file as plain data in which every value knows its file and line, and `${NAME}` is filled from the environment.

No message quotes a value of the file: it may be a secret.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from mooltiproxy.config.model import CONFIG, MODEL, PORT
from mooltiproxy.config.shapes import Where
from mooltiproxy.errors import ConfigError, Problem

SECRETS = frozenset({"masterkey", "key"})
"""Keys whose value is text whatever it looks like: a key may well be all digits."""
MAX_VALUES = 100_000
"""Values of one file, aliases counted each time: far more than a configuration needs, far less than a bomb has."""

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_TEXT = frozenset({f"{_TAG}str", f"{_TAG}timestamp", f"{_TAG}value"})
_NUMBERS = frozenset({f"{_TAG}int", f"{_TAG}float"})
_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)\}|\$\{")
_VARIABLE_INSIDE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_RUN_TIME = {"url": (PORT,), "run": (PORT, MODEL, CONFIG)}
"""Words that are filled in when a target's server is started, by the key below a target with `run:`."""
_HOW_TO_START = "`mooltiproxy config new` writes one to start from"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was written; line 0 is none."""

    file: str
    line: int = 0


@dataclass(slots=True)
class Document:
    """Plain data (dict, list, str, int, float, bool, None; keys are text), the place of each path, and what is wrong.

    `unreadable` are the paths whose value is only a stand-in, since its problem is among `problems` already. `files` is
    what the files of `models_dir` say, by the model's name.
    """

    data: Any
    places: dict[Where, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unreadable: set[Where] = field(default_factory=set)
    files: dict[str, Any] = field(default_factory=dict)

    def problem(self, path: Where, message: str) -> Problem:
        """A problem at this path, or at the nearest one above that was written."""
        shown = tuple(part if isinstance(part, int) or part.isprintable() else ascii(part) for part in path)
        for length in range(len(path), -1, -1):
            place = self.places.get(path[:length])
            if place is not None:
                return Problem(message, shown, place.line, place.file)
        return Problem(message, shown)


def read_document(file: Path, environ: Mapping[str, str], text: str | None = None) -> Document:
    """The file, or this text of it, as a Document; raises ConfigError where it cannot be read at all."""
    root = _composed(text_of(file) if text is None else text, str(file))
    if root is None:
        raise ConfigError(Problem(f"the file is empty: {_HOW_TO_START}", line=1, file=str(file)))
    document = Document({}, {(): Place(str(file), 1)})
    try:
        document.data = _Reader(document, str(file), environ).read(root, ())
    except RecursionError:
        raise ConfigError(Problem("nested too deeply", line=1, file=str(file))) from None
    if not isinstance(document.data, dict) and not document.problems:
        message = f"expected sections (`targets:` and others) at the top: {_HOW_TO_START}"
        raise ConfigError(Problem(message, (), root.start_mark.line + 1, str(file)))
    return document


def plain_document(text: str, file: str, *, as_text: bool = False) -> Document:
    """Another program's YAML or JSON as a Document: `${NAME}` in it stays as it is. Data is None for an empty text;
    raises ConfigError with every problem. With `as_text` no value is taken for a number, a flag or a time."""
    document = Document(None, {(): Place(file, 1)})
    root = _composed(text, file)
    try:
        document.data = None if root is None else _Reader(document, file, None, as_text=as_text).read(root, ())
    except RecursionError:
        raise ConfigError(Problem("nested too deeply", line=1, file=file)) from None
    if document.problems:
        raise ConfigError(*document.problems)
    return document


def text_of(file: Path) -> str:
    """What the file holds; raises ConfigError."""
    try:
        data = file.read_bytes()
    except OSError as error:
        hint = f": {_HOW_TO_START}" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(Problem(f"cannot be read: {error.strerror}{hint}", file=str(file))) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(Problem("not UTF-8: save the file with that encoding", line=line, file=str(file))) from None


def _composed(text: str, file: str) -> Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(Problem("a control character, which YAML does not allow", (), line, file)) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError(Problem(_yaml_message(error, text, line), (), line, file)) from None
    except RecursionError:
        raise ConfigError(Problem("nested too deeply", line=1, file=file)) from None


def _yaml_message(error: yaml.MarkedYAMLError, text: str, line: int) -> str:
    """What is wrong, without names of aliases and anchors: an unquoted secret may look like one."""
    problem = error.problem or "not valid"
    written = next(iter(text.splitlines()[line - 1 : line]), "")
    if "'\\t'" in problem or written.startswith("\t"):
        return "a tab: YAML is indented with spaces"
    if "alias" in problem:
        return "an alias (*) without its anchor (&) before it; text that begins with * or & must be quoted"
    if "anchor" in problem:
        return "an anchor (&) that is there twice; text that begins with & must be quoted"
    if "another document" in problem or "single document" in str(error.context):
        return "a second document (---): the file must have one"
    hint = '; inside { } and [ ] a "${NAME}" must be quoted' if "${" in written else ""
    return f"not valid YAML: {re.sub(r'tag .*', 'tag', problem)}{hint}"


class _Reader:
    """Turns nodes into data; what is wrong goes to the document, and the value is left out."""

    def __init__(
        self, document: Document, file: str, environ: Mapping[str, str] | None, *, as_text: bool = False
    ) -> None:
        self._as_text = as_text
        self._document = document
        self._file = file
        self._environ = environ
        self._values = 0
        self._runs: set[Where] = set()  # the sections that have `run:`
        self._open: set[int] = set()  # the collections that are being read: an alias to one of them is endless

    def read(self, node: Node, path: Where) -> Any:
        """The value of a node; raises ConfigError for a file that would grow without end."""
        self._values += 1
        if self._values > MAX_VALUES or id(node) in self._open:
            self._problem("aliases (*) that refer to themselves, or unfold to too many values", path, node)
            raise ConfigError(*self._document.problems)
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if node.tag not in (f"{_TAG}map", f"{_TAG}seq"):
            return self._refuse_tag(path, node)
        self._open.add(id(node))
        try:
            return self._sequence(node, path) if isinstance(node, SequenceNode) else self._mapping(node, path)
        finally:
            self._open.discard(id(node))

    def _sequence(self, node: SequenceNode, path: Where) -> list[Any]:
        items = []
        for position, item in enumerate(node.value):
            where = (*path, position)
            self._document.places[where] = Place(self._file, item.start_mark.line + 1)
            items.append(self.read(item, where))
        return items

    def _mapping(self, node: Node, path: Where) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: list[tuple[ScalarNode, Node]] = []
        for key, value in node.value:
            if key.tag == _MERGE:
                merged = self._merged(value, path) | merged
            elif isinstance(key, ScalarNode):
                own.append((key, value))
            else:
                self._problem("expected a key of plain text", path, key)
        return merged | self._own(own, path)

    def _own(self, pairs: list[tuple[ScalarNode, Node]], path: Where) -> dict[str, Any]:
        data: dict[str, Any] = {}
        first: dict[str, int] = {}
        if any(key.value == "run" for key, _ in pairs):
            self._runs.add(path)
        for key, value in pairs:
            name, line = key.value, key.start_mark.line + 1
            where = (*path, name)
            if name in first:
                self._document.problems.append(
                    Problem(f"this key is there twice, first in line {first[name]}", where, line, self._file)
                )
                continue
            first[name] = line
            self._document.places[where] = Place(self._file, line)
            data[name] = self.read(value, where)
        return data

    def _merged(self, node: Node, path: Where) -> dict[str, Any]:
        """The keys of `<<`: a mapping, or a list of them of which the first wins."""
        nodes = node.value if isinstance(node, SequenceNode) else [node]
        data: dict[str, Any] = {}
        for one in reversed(nodes):
            if not isinstance(one, MappingNode):
                self._problem("expected keys and values behind `<<`, usually an alias (*)", path, one)
                continue
            data |= self.read(one, path)
        return data

    def _scalar(self, node: ScalarNode, path: Where) -> Any:
        secret = self._as_text and node.tag != f"{_TAG}null" or bool(path) and path[-1] in SECRETS
        if node.tag in _TEXT or (secret and node.tag.startswith(_TAG)):
            return self._text(node, path, secret)
        if node.tag == f"{_TAG}null":
            return None
        if node.tag == f"{_TAG}bool":
            return node.value.lower() in ("true", "yes", "on")
        if node.tag in _NUMBERS:
            return _number(node)
        return self._refuse_tag(path, node)

    def _text(self, node: ScalarNode, path: Where, secret: bool) -> Any:
        if self._environ is None:
            return node.value
        expanded = self._expanded(node, path)
        variable = _VARIABLE.fullmatch(node.value)
        if variable and variable[1] is not None and node.style is None and not secret:
            return read_value(expanded)
        return expanded

    def _expanded(self, node: ScalarNode, path: Where) -> str:
        left = _RUN_TIME.get(str(path[2]), ()) if path[:1] == ("targets",) and path[:2] in self._runs else ()

        def filled(match: re.Match[str]) -> str:
            if match[0] == "$${":
                return "${"
            if match[0] in left:
                return match[0]
            inside = _VARIABLE_INSIDE.fullmatch(match[1] or "")
            if inside is None:
                self._problem("expected ${NAME} or ${NAME:-default}; `$${` stands for a plain `${`", path, node)
                return ""
            return self._variable(inside[1], inside[2], path, node)

        return _VARIABLE.sub(filled, node.value)

    def _variable(self, name: str, default: str | None, path: Where, node: ScalarNode) -> str:
        value = (self._environ or {}).get(name)
        if default is not None:
            return value or default
        if value is None:
            self._problem(f"${{{name}}} is not set in the environment; ${{{name}:-x}} gives it a default", path, node)
        return value or ""

    def _refuse_tag(self, path: Where, node: Node) -> None:
        self._problem("a YAML tag (!) that is not known here; text that begins with ! must be quoted", path, node)

    def _problem(self, message: str, path: Where, node: Node) -> None:
        self._document.problems.append(Problem(message, path, node.start_mark.line + 1, self._file))
        self._document.unreadable.add(path)


def _number(node: ScalarNode) -> int | float | str:
    """A number; what YAML 1.1 takes for one of base 60 (1:30) stays text, it is rather an address or a time."""
    if ":" in node.value:
        return str(node.value)
    constructor = yaml.constructor.SafeConstructor()
    try:
        if node.tag == f"{_TAG}int":
            return int(constructor.construct_yaml_int(node))
        return float(constructor.construct_yaml_float(node))
    except ValueError:
        return str(node.value)


def read_value(text: str) -> Any:
    """A value from the environment, read as YAML where it is a number, a flag, nothing, or a list or section in
    brackets; anything else is the text as it stands."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return text
    if node is None:
        return None
    document = Document(None)
    if isinstance(node, ScalarNode) and (node.tag in _TEXT or node.style is not None):
        return text
    if isinstance(node, CollectionNode) and not node.flow_style:
        return text
    try:
        value = _Reader(document, "", {}).read(node, ())
    except (ConfigError, RecursionError):
        return text
    return text if document.problems else value
