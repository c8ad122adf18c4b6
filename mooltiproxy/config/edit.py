"""Takes an entry out of a YAML file, or puts one in, and leaves every other byte as it was, comments too.

What comes out is read again and compared: where the file turns out to say anything else than wanted, it is not touched.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from mooltiproxy.config.shapes import Where
from mooltiproxy.errors import MooltiError


class CannotEdit(MooltiError):
    """The file is left to the user, for the reason that this says."""


def plain_data(text: str) -> Any:
    """What a file says, all values as text; None for an empty one. Raises CannotEdit where it is no YAML."""
    try:
        return yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError):
        raise CannotEdit("it is not valid YAML: `mooltiproxy check` says where") from None


def lines_of(text: str, path: Where) -> tuple[int, int] | None:
    """The first and the last line of an entry, None where it is not there."""
    found = _found(text, path)
    if found is None:
        return None
    start, end = found.span
    return text.count("\n", 0, start) + 1, text.count("\n", 0, end) + 1


def without(text: str, path: Where) -> str:
    """The text without the entry that is there; raises CannotEdit."""
    found = _found(text, path)
    if found is None:
        raise CannotEdit("the entry is not written there")
    cut = found.flow_cut() if found.container.flow_style else found.block_cut()
    left = text[: cut[0]] + text[cut[1] :]
    if len(path) == 1 and len(found.spans) == 1:
        left += "{}" + _newline(text)
    return _checked(left, _data_without(plain_data(text), path))


def _data_without(data: Any, path: Where) -> Any:
    """The same data without one entry; nothing is changed, for what is said by an alias is there twice."""
    first, rest = path[0], path[1:]
    items = list(data.items()) if isinstance(data, dict) else list(enumerate(data))
    items = [(name, value) for name, value in items if rest or name != first]
    kept = [(name, _data_without(value, rest) if name == first else value) for name, value in items]
    return dict(kept) if isinstance(data, dict) else [value for _, value in kept]


def with_entry(text: str, section: str, name: str, entry: str) -> str:
    """The text with `name: entry`, in flow style, at the end of a section, which is made where there is none; raises
    CannotEdit."""
    wanted = plain_data(text)
    before = (wanted.get(section) or {}) if isinstance(wanted, dict) else None
    if not isinstance(before, dict):
        raise CannotEdit("no entry fits there")
    wanted[section] = {**before, name: plain_data(entry)}
    found, newline = _found(text, (section,)), _newline(text)
    line = f"{name}: {entry}"
    if found is None:
        end = "" if text.endswith("\n") else newline
        return _checked(f"{text}{end}{newline}{section}:{newline}  {line}{newline}", wanted)
    value = found.value
    if not isinstance(value, CollectionNode):
        return _checked(_after_line(text, found.span[1], f"  {line}", newline), wanted)
    spans = _spans(value, text)
    if not value.flow_style:
        indent = " " * value.start_mark.column
        return _checked(_after_line(text, spans[-1][1], indent + line, newline), wanted)
    at = spans[-1][1] if spans else value.start_mark.index + 1
    return _checked(text[:at] + (", " if spans else "") + line + text[at:], wanted)


def write(file: Path, text: str) -> None:
    """Put the text in the place of the file's, at once, with the same rights; raises CannotEdit."""
    real = file.resolve()
    new = real.with_name(f".{real.name}.new")
    try:
        status = real.stat()
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, status.st_mode & 0o777)
        try:
            with os.fdopen(descriptor, "wb") as out:
                out.write(text.encode("utf-8"))
            with suppress(OSError):  # only root may give files away
                os.chown(new, status.st_uid, status.st_gid)
            os.chmod(new, status.st_mode & 0o777)
            os.replace(new, real)
        except OSError:
            new.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CannotEdit(f"{error.filename} cannot be written: {error.strerror}") from error


def read(file: Path) -> str:
    """The text, with its line ends and the mark of its encoding if it has one; raises CannotEdit."""
    try:
        return file.read_bytes().decode("utf-8")
    except OSError as error:
        raise CannotEdit(f"it cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise CannotEdit("it is not UTF-8") from None


class _Found:
    """An entry of a container, among the others there."""

    def __init__(self, text: str, container: CollectionNode, at: int) -> None:
        self.text = text
        self.container = container
        self.spans = _spans(container, text)
        self._at = at
        self.span = self.spans[at]
        item = container.value[at]
        self.value: Node = item[1] if isinstance(container, MappingNode) else item

    def block_cut(self) -> tuple[int, int]:
        """The lines of the entry, from the first letter to behind the end of the last."""
        start, end = self.span
        begin = self.text.rfind("\n", 0, start) + 1
        before = self.text[begin:start].strip("\ufeff \t")
        if before != ("-" if isinstance(self.container, SequenceNode) else ""):
            raise CannotEdit("something else is in its line")
        behind = self.text.find("\n", end)
        return begin, len(self.text) if behind < 0 else behind + 1

    def flow_cut(self) -> tuple[int, int]:
        """The entry and one of the commas beside it."""
        if self._at + 1 < len(self.spans):
            cut = self.span[0], self.spans[self._at + 1][0]
        elif self._at:
            cut = self.spans[self._at - 1][1], self.span[1]
        else:
            cut = self.span
        if "#" in self.text[cut[0] : self.span[0]] or "#" in self.text[self.span[1] : cut[1]]:
            raise CannotEdit("there is a comment beside it")
        return cut


def _found(text: str, path: Where) -> _Found | None:
    plain_data(text)
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    found = None
    for part in path:
        at = _place(node, part)
        if at is None:
            return None
        assert isinstance(node, CollectionNode)
        found = _Found(text, node, at)
        node = found.value
    return found


def _place(node: Node | None, part: str | int) -> int | None:
    """Where in a node a part of a path is."""
    if isinstance(node, MappingNode):
        keys = [key.value if isinstance(key, ScalarNode) else None for key, _ in node.value]
        return keys.index(part) if part in keys else None
    if isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
        return part
    return None


def _spans(container: Node, text: str) -> list[tuple[int, int]]:
    """Where each entry of a container begins and ends, its key included."""
    if isinstance(container, MappingNode):
        return [(key.start_mark.index, max(key.end_mark.index, _end(value, text))) for key, value in container.value]
    return [(value.start_mark.index, _end(value, text)) for value in container.value]


def _end(node: Node, text: str) -> int:
    """Behind the last letter of a node."""
    if isinstance(node, CollectionNode) and not node.flow_style and node.value:
        return _spans(node, text)[-1][1]
    end: int = node.end_mark.index
    return len(text[:end].rstrip()) if isinstance(node, ScalarNode) and node.style in ("|", ">") else end


def _after_line(text: str, index: int, line: str, newline: str) -> str:
    behind = text.find("\n", index)
    if behind < 0:
        return f"{text}{newline}{line}{newline}"
    return text[: behind + 1] + line + newline + text[behind + 1 :]


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _checked(text: str, wanted: Any) -> str:
    """The text, if it says what is wanted: something that has become empty may be there as nothing."""
    if not _same(plain_data(text), wanted):
        raise CannotEdit("other parts of it would change as well")
    return text


def _same(said: Any, wanted: Any) -> bool:
    if wanted in ({}, []) and said in ({}, [], "", None):
        return True
    if isinstance(wanted, dict) and isinstance(said, dict):
        return list(said) == list(wanted) and all(_same(said[name], wanted[name]) for name in wanted)
    if isinstance(wanted, list) and isinstance(said, list):
        return len(said) == len(wanted) and all(map(_same, said, wanted))
    return bool(said == wanted)
