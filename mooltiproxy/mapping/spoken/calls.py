"""Texts in which models write tool calls, read. Everything here is a model's output: what does not parse is no call.

Every function takes the text between the marks of a call and gives the calls in it, and raises ValueError where it is
none. Forms after the public chat templates of the models.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

MAX_PYTHON = 64 * 1024
"""Characters of calls in Python's form: its parser needs far more memory than its text."""


@dataclass(frozen=True, slots=True)
class SpokenCall:
    """A call as the model wrote it. `arguments` are an object; values are all text where `is_untyped`."""

    name: str
    arguments: Mapping[str, Any]
    id: str | None = None
    is_untyped: bool = False


def json_calls(text: str) -> list[SpokenCall]:
    """`{"name": "f", "arguments": {..}}`, or a list of such objects; `parameters` and `tool_name` are known, too."""
    value = _loads(text)
    return [_json_call(one) for one in (value if isinstance(value, list) else [value])]


def json_row(text: str) -> list[SpokenCall]:
    """Objects one behind the other, with semicolons between them or nothing (Llama 3.1)."""
    return [call for piece in _objects(text.removeprefix("<|python_tag|>")) for call in json_calls(piece)]


def mistral_calls(text: str) -> list[SpokenCall]:
    """A list of objects, or from v11 on `f[ARGS]{..}`, with `[CALL_ID]id` before the arguments in some versions."""
    if text.lstrip().startswith(("[{", "{", "[ {")):
        return json_calls(text)
    return [_mistral_call(piece) for piece in text.split("[TOOL_CALLS]") if piece.strip()]


def xml_calls(text: str) -> list[SpokenCall]:
    """`<function=f><parameter=k>v</parameter></function>` (Qwen3-Coder)."""
    found = re.fullmatch(r"\s*<function=([^>\n]+)>(.*?)</function>\s*", text, re.DOTALL)
    if found is None:
        raise ValueError("no function")
    pairs = _rows(found[2], "<parameter=", ">", "</parameter>")
    return [_untyped(found[1], {name: value.removeprefix("\n").removesuffix("\n") for name, value in pairs})]


def key_value_calls(text: str) -> list[SpokenCall]:
    """`f`, then pairs of `<arg_key>k</arg_key>` and `<arg_value>v</arg_value>` (GLM 4.5)."""
    name, mark, rest = text.partition("<arg_key>")
    pairs = _rows(mark + rest, "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")
    return [_untyped(name, {key: value for key, _, value in pairs})]


def deepseek_calls(text: str) -> list[SpokenCall]:
    """Calls between marks of their own: `function<sep>f` and fenced JSON (V3), or `f<sep>{..}` (V3.1)."""
    return [_deepseek_call(piece) for (piece,) in _rows(text, "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>")]


def kimi_calls(text: str) -> list[SpokenCall]:
    """`functions.f:0` and the arguments, between marks; the id must come back in this form."""
    found = _rows(text, "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>")
    return [_kimi_call(identifier.strip(), arguments) for identifier, arguments in found]


def python_calls(text: str) -> list[SpokenCall]:
    """`[f(a=1, b="x"), g()]` (Llama 3.2, Llama 4): names and literals, nothing is evaluated."""
    if len(text) > MAX_PYTHON:
        raise ValueError("too long")
    try:
        tree = ast.parse(text.removeprefix("<|python_start|>").removesuffix("<|python_end|>").strip(), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError("no Python") from error
    calls = tree.elts if isinstance(tree, ast.List) else [tree]
    if not calls:
        raise ValueError("no call")
    return [_python_call(call) for call in calls]


def gemma_calls(text: str) -> list[SpokenCall]:
    """`call:f{k:<|"|>v<|"|>,n:1}` (Gemma 4)."""
    found = re.fullmatch(r"\s*call:([^{\s]+)\s*(\{.*\})\s*", text, re.DOTALL)
    if found is None:
        raise ValueError("no call")
    return [SpokenCall(found[1], _GemmaValue(found[2]).whole_object())]


def _loads(text: str) -> Any:
    return orjson.loads(text)


def _object(text: str) -> Mapping[str, Any]:
    value = _loads(text.strip() or "{}")
    if not isinstance(value, dict):
        raise ValueError("the arguments are no object")
    return value


def _json_call(value: Any) -> SpokenCall:
    if not isinstance(value, dict):
        raise ValueError("no object")
    name = value.get("name") or value.get("tool_name")
    arguments: Any = next((value[word] for word in ("arguments", "parameters") if value.get(word) is not None), {})
    if isinstance(arguments, str):
        arguments = _object(arguments)
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise ValueError("no name or no arguments")
    identifier = value.get("id") or value.get("tool_call_id")
    return SpokenCall(name, arguments, identifier if isinstance(identifier, str) else None)


def _objects(text: str) -> Iterator[str]:
    """The JSON objects of a row: each ends where its braces are level again."""
    depth, start, in_string, escaped = 0, 0, False, False
    for at, letter in enumerate(text):
        if in_string:
            in_string = escaped or letter != '"'
            escaped = letter == "\\" and not escaped
        elif letter == '"':
            in_string = True
        elif letter == "{":
            start = start if depth else at
            depth += 1
        elif letter == "}":
            depth -= 1
            if depth == 0:
                yield text[start : at + 1]
        elif depth == 0 and not letter.isspace() and letter not in ";,[]":
            raise ValueError("there is more than calls")
    if depth:
        raise ValueError("an object without end")


def _rows(text: str, *marks: str) -> Iterator[list[str]]:
    """What stands between these marks, time after time; raises ValueError where there is more than that.

    Every letter is looked at once: a model that repeats a mark for ever costs no more than other text.
    """
    at, end = 0, len(text.rstrip())
    while at < end:
        between: list[str] = []
        for mark in marks:
            found = text.find(mark, at)
            if found < 0:
                raise ValueError(f"no {mark}")
            between.append(text[at:found])
            at = found + len(mark)
        if between[0].strip():
            raise ValueError("there is more than calls")
        yield between[1:]


def _untyped(name: str, arguments: Mapping[str, str]) -> SpokenCall:
    if not name.strip():
        raise ValueError("no name")
    return SpokenCall(name.strip(), arguments, is_untyped=True)


def _kimi_call(identifier: str, arguments: str) -> SpokenCall:
    return SpokenCall(identifier.removeprefix("functions.").rpartition(":")[0], _object(arguments), identifier)


def _mistral_call(piece: str) -> SpokenCall:
    head, mark, arguments = piece.partition("[ARGS]")
    name, _, identifier = head.partition("[CALL_ID]")
    if not mark or not arguments.strip():
        raise ValueError("no arguments")
    return SpokenCall(name.strip(), _object(arguments.strip().removesuffix("</s>")), identifier.strip() or None)


def _deepseek_call(piece: str) -> SpokenCall:
    head, mark, rest = piece.partition("<｜tool▁sep｜>")
    if not mark:
        raise ValueError("no name")
    if head.strip() == "function":
        name, _, rest = rest.partition("\n")
        rest = rest.strip().removeprefix("```json").removesuffix("```")
        return SpokenCall(name.strip(), _object(rest))
    return SpokenCall(head.strip(), _object(rest))


def _python_call(node: ast.AST) -> SpokenCall:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name | ast.Attribute) or node.args:
        raise ValueError("no call with named arguments")
    arguments = {word.arg: ast.literal_eval(word.value) for word in node.keywords if word.arg is not None}
    if len(arguments) != len(node.keywords):
        raise ValueError("arguments without names")
    return SpokenCall(ast.unparse(node.func), arguments)


class _GemmaValue:
    """Reads Gemma's values: objects and lists as in JSON, names without quotes, strings between `<|"|>`."""

    QUOTE = '<|"|>'

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def whole_object(self) -> dict[str, Any]:
        value = self._value()
        if not isinstance(value, dict) or self._text[self._at :].strip():
            raise ValueError("no object")
        return value

    def _value(self) -> Any:
        self._skip()
        if self._take(self.QUOTE):
            return self._until(self.QUOTE)
        if self._take("{"):
            return dict(self._row("}", self._pair))
        if self._take("["):
            return list(self._row("]", self._value))
        found = re.compile(r"[^,\]}\s]+").match(self._text, self._at)
        if found is None:
            raise ValueError("no value")
        self._at = found.end()
        return _loads(found[0])

    def _pair(self) -> tuple[str, Any]:
        self._skip()
        name = self._until(self.QUOTE) if self._take(self.QUOTE) else None
        if name is None:
            return self._until(":").strip(), self._value()
        self._until(":")
        return name, self._value()

    def _row(self, end: str, read: Any) -> Iterator[Any]:
        self._skip()
        while not self._take(end):
            yield read()
            self._skip()
            if not self._take(",") and not self._text.startswith(end, self._at):
                raise ValueError("no end")
            self._skip()

    def _until(self, mark: str) -> str:
        end = self._text.find(mark, self._at)
        if end < 0:
            raise ValueError(f"no {mark}")
        text, self._at = self._text[self._at : end], end + len(mark)
        return text

    def _take(self, mark: str) -> bool:
        found = self._text.startswith(mark, self._at)
        self._at += len(mark) * found
        return found

    def _skip(self) -> None:
        while self._text[self._at : self._at + 1].isspace():
            self._at += 1
