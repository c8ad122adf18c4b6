"""The Jinja environment in which chat templates run: that of transformers' `apply_chat_template`, with limits.

A chat template is a program of whoever made the model. Jinja's sandbox keeps it from the interpreter and from files.
What Jinja does not limit is limited here: steps, text and time of a rendering are counted in a `Budget`. Loops, macros,
operators, filters and calls are led through the environment, which spends the budget before or after each of them.
What can grow by more than its operands (`"a" * 10 ** 9`, `replace`, `join`, `%9999999d`) is computed before it is done.

Importing this module imports jinja2, which takes longer than starting: only what has a chat template does it.
"""

import json  # noqa: TID251 - a template's `tojson` must write what Python's own library writes, blanks included
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextvars import ContextVar
from datetime import datetime
from functools import cache, wraps
from types import BuiltinMethodType, MappingProxyType, MethodType
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, pass_context

MAX_STEPS = 2_000_000
MAX_CHARACTERS = 64 * 1024 * 1024
MAX_SECONDS = 2.0
MAX_NUMBER = 100_000
"""The largest count that a template may ask a function for; Jinja's own limit for `range`."""
MAX_BITS = 65_536
MAX_INDENT = 64

_NUMBER = re.compile(r"\d+")
_NESTED = re.compile(r"\{[^{}]*\{")
_ROWS: tuple[type[Iterable[Any]], ...] = (list, tuple, type({}.keys()), type({}.values()), type({}.items()))
_ENCODINGS = frozenset(("utf-8", "utf8", "ascii", "strict", "ignore", "replace"))
"""What `encode` and `decode` may be told: some encodings take time by the square of the text."""


class TooMuch(Exception):
    """A template wants more steps, text or time than it gets; the message says of what."""


class Raised(TemplateError):
    """What a template said by `raise_exception`."""


class Budget:
    """What one rendering may still use."""

    __slots__ = ("_characters", "_deadline", "_steps")

    def __init__(self, share: float = 1.0) -> None:
        self._steps = int(MAX_STEPS * share)
        self._characters = int(MAX_CHARACTERS * share)
        self._deadline = time.monotonic() + MAX_SECONDS * share

    def spend(self, steps: int = 1, characters: int = 0) -> None:
        """Count work that is about to be done or has been done; raises TooMuch."""
        self._steps -= steps
        self._characters -= characters
        if self._steps < 0:
            raise TooMuch(f"it takes more than {MAX_STEPS} steps")
        if self._characters < 0:
            raise TooMuch(f"it makes more than {MAX_CHARACTERS} characters of text")
        if time.monotonic() > self._deadline:
            raise TooMuch(f"it takes longer than {MAX_SECONDS:g} seconds")


_budget: ContextVar[Budget] = ContextVar("budget")


def rendered(template: Any, variables: Mapping[str, Any], share: float = 1.0) -> str:
    """The text of a compiled template, within a share of the limits; raises TooMuch, Raised, and whatever else the
    template's code raises."""
    token = _budget.set(Budget(share))
    try:
        return str(template.render(variables))
    finally:
        _budget.reset(token)


def _spend(steps: int = 1, characters: int = 0) -> None:
    budget = _budget.get(None)
    if budget is None:  # constants are folded while a template is compiled
        budget = Budget()
        _budget.set(budget)
    budget.spend(steps, characters)


def _made(value: Any) -> Any:
    """A value that has just been made, paid for by its size."""
    if isinstance(value, str | bytes):
        _spend(1, len(value))
    elif isinstance(value, list | tuple | dict):
        _spend(1 + len(value))
    else:
        _spend()
    return value


def _read(value: Any) -> Any:
    """A value that is about to be gone through, paid for by all that is in it."""
    _measured(value)
    return value


def _measured(value: Any) -> tuple[int, int, int]:
    """Items, characters and depth of a value that may hold itself many times over; raises TooMuch."""
    if isinstance(value, str):
        _spend(1 + len(value) // 1024)
        return 1, len(value), 0
    items = characters = deepest = 0
    level: list[Any] = [value]
    while level:
        _spend(len(level))
        items += len(level)
        below: list[Any] = []
        for one in level:
            if isinstance(one, str | bytes):
                characters += len(one)
            elif isinstance(one, dict | MappingProxyType):
                below += one.keys()
                below += one.values()
            elif isinstance(one, _ROWS):
                below += one
            elif isinstance(one, Namespace):
                below += _attributes_of(one)
            else:
                characters += 24
            if len(below) > MAX_STEPS:
                raise TooMuch(f"it takes more than {MAX_STEPS} steps")
        level = below
        deepest += 1
    if characters > MAX_CHARACTERS:
        raise TooMuch(f"it makes more than {MAX_CHARACTERS} characters of text")
    return items, characters, deepest


def _attributes_of(namespace: Namespace) -> Iterable[Any]:
    attributes: dict[str, Any] = object.__getattribute__(namespace, "_Namespace__attrs")
    return attributes.values()


def _fits(characters: int) -> None:
    """Refuse a text of this length before it is made; raises TooMuch."""
    if characters > MAX_CHARACTERS:
        raise TooMuch(f"it makes more than {MAX_CHARACTERS} characters of text")


def _small(*values: Any) -> None:
    """Refuse numbers that say how long something will be; raises TooMuch."""
    if any(isinstance(value, int) and abs(value) > MAX_NUMBER for value in values):
        raise TooMuch(f"it asks for more than {MAX_NUMBER} characters or items at once")


# Operators


def _add(left: Any, right: Any) -> Any:
    return _made(left + right)


def _multiply(left: Any, right: Any) -> Any:
    for text, times in ((left, right), (right, left)):
        if isinstance(text, str | list | tuple | bytes) and isinstance(times, int):
            _fits(len(text) * times)
            if not isinstance(text, str):
                _spend(max(len(text) * times, 0))
    _bits(left, right)
    return _made(left * right)


def _bits(*factors: Any) -> None:
    if sum(factor.bit_length() for factor in factors if isinstance(factor, int)) > MAX_BITS:
        raise TooMuch(f"it makes numbers of more than {MAX_BITS} bits")


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > MAX_BITS:
        raise TooMuch(f"it makes numbers of more than {MAX_BITS} bits")
    return base**exponent


def _modulo(left: Any, right: Any) -> Any:
    if isinstance(left, str | bytes):
        _format_fits(left if isinstance(left, str) else left.decode("latin-1"), right)
    return _made(left % right)


def _format_fits(pattern: str, values: Any) -> None:
    """Refuse a format that writes its values wider, or more often, than there is room for; raises TooMuch."""
    if _NESTED.search(pattern):
        raise TooMuch("it makes one format by another")
    items, characters, _ = _measured(values)
    widths = [int(number[:10]) for number in _NUMBER.findall(pattern)]
    if "*" in pattern and isinstance(values, tuple | list):
        widths += [abs(value) for value in values if isinstance(value, int)]
    places = pattern.count("%") + pattern.count("{")
    _fits(len(pattern) + places * (characters * 4 + items * 8 + max(widths, default=0)))


_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {"+": _add, "*": _multiply, "**": _power, "%": _modulo}


# Methods of values


def _joined_length(separator: str | bytes, values: Sequence[Any]) -> None:
    _, characters, _ = _measured(values)
    _fits(characters * 2 + len(separator) * len(values))


def _replaced_length(text: Any, old: Any, new: Any) -> None:
    _fits(len(text) + (text.count(old) if old else len(text) + 1) * len(new))


def _before_method(value: Any, name: str, arguments: Sequence[Any]) -> None:
    """Look at a call of a value's own method before it is made; raises TooMuch, SecurityError."""
    if isinstance(value, str | bytes):
        if name in ("center", "ljust", "rjust", "zfill"):
            _small(*arguments)
        elif name == "expandtabs":
            _small(*arguments)
            _fits(len(value) * max((8, *(abs(n) for n in arguments if isinstance(n, int)))))
        elif name in ("encode", "decode") and not _ENCODINGS.issuperset(str(word).lower() for word in arguments):
            raise SecurityError(f"a template may {name} UTF-8 and ASCII only")
        elif name == "replace" and len(arguments) > 1 and all(isinstance(text, str | bytes) for text in arguments[:2]):
            _replaced_length(value, arguments[0], arguments[1])
        elif name == "join" and arguments and isinstance(arguments[0], str | list | tuple | dict):
            _joined_length(value, list(arguments[0]))
        elif name == "translate":
            _fits(len(value) * max((1, *(len(new) for new in _texts(arguments)))))
    elif isinstance(value, int):
        _small(*arguments)


def _texts(arguments: Sequence[Any]) -> Iterator[str]:
    for table in arguments:
        yield from (new for new in (table.values() if isinstance(table, dict) else ()) if isinstance(new, str))


# Filters and tests

_SHALLOW = frozenset(
    "attr batch count d default first items last length list map reject rejectattr reverse safe select selectattr "
    "slice".split()
)
"""Filters that do not go into their value's items; those of the tests that they call do that themselves."""

_COMPARING = ("!=", "<", "<=", "==", ">", ">=", "eq", "equalto", "ge", "greaterthan", "gt", "in", "le", "lessthan")
_COUNTED = ("batch", "center", "indent", "round", "slice", "wordwrap")

_BY_ITEM = frozenset("batch join list map random reject rejectattr reverse select selectattr slice sum".split())
_SLOW = frozenset("striptags title urlize wordcount".split())
_SLOWEST = frozenset("dictsort groupby max min pprint sort unique wordwrap".split())
"""Filters that look at every letter of a text; those that take a microsecond for it, and those that take more."""
_SLOW_SHARE = 10


def _limited_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    skipped = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)
    def limited(*arguments: Any, **named: Any) -> Any:
        if len(arguments) <= skipped:
            return function(*arguments, **named)
        value, others = arguments[skipped], [*arguments[skipped + 1 :], *named.values()]
        if name in ("join", "sum", "sort", "unique", "min", "max", "string", "tojson") and isinstance(value, Iterator):
            value = _made(list(value))
            arguments = (*arguments[:skipped], value, *arguments[skipped + 1 :])
        if name not in _SHALLOW:
            _read(value)
        _pay(name, value)
        if others:
            _read(others)
        _before_filter(name, value, others)
        return _made(function(*arguments, **named))

    return limited


def _pay(name: str, value: Any) -> None:
    """Count the steps of filters that take more than a value of this size costs; raises TooMuch."""
    if name in _SLOWEST:
        _spend(_SLOW_SHARE * len(value) if isinstance(value, Sized) else 1)
    elif name in _SLOW or name in _BY_ITEM:
        _spend(len(value) if isinstance(value, str | bytes) else 1)
    if name == "wordwrap":
        _small(len(str(value)))


def _before_filter(name: str, value: Any, others: Sequence[Any]) -> None:
    """Look at a filter before it is called; raises TooMuch."""
    if name in _COUNTED:
        _small(*others)
    texts = [other for other in others if isinstance(other, str)]
    if name == "indent":
        width = max((4, *(n for n in others if isinstance(n, int)), *map(len, texts)))
        _fits(len(str(value)) + (str(value).count("\n") + 1) * width)
    elif name == "replace" and len(texts) > 1:
        _replaced_length(str(value), texts[0], texts[1])
    elif name == "join" and isinstance(value, list | tuple | dict | str):
        _joined_length(max(texts, key=len, default=""), list(value))
    elif name in ("wordwrap", "urlize", "truncate"):
        _fits(len(str(value)) * (1 + sum(map(len, texts))))
    elif name == "format" and isinstance(value, str):
        _format_fits(value, list(others))
    elif name == "sum" and any(isinstance(other, list | tuple) for other in others):
        raise TooMuch("it adds up lists, which may grow without bounds")


def _limited_test(function: Any) -> Callable[..., Any]:
    @wraps(function)
    def limited(*arguments: Any) -> Any:
        for argument in arguments:
            _read(argument)
        return function(*arguments)

    return limited


@pass_context
def _tick(context: Context, characters: int) -> None:
    """One round of a loop or one call of a macro, which writes this much text of its own."""
    _spend(1, characters)


@pass_context
def _looped(context: Context, values: Any) -> Any:
    """What a loop goes through, also where a condition passes over most of it."""
    if isinstance(values, str | list | tuple | dict | range):
        _spend(1 + len(values))
        return values
    return _counted(values) if isinstance(values, Iterator) else values


def _counted(values: Iterator[Any]) -> Iterator[Any]:
    for value in values:
        _spend()
        yield value


@pass_context
def _concatenated(context: Context, values: Sequence[Any]) -> Any:
    """`a ~ b`"""
    for value in values:
        _read(value)
    return _made("".join(map(str, values)))


def _shown(value: Any) -> Any:
    """What `{{ ... }}` is about to write."""
    if isinstance(value, str):
        _spend(1, len(value))
    elif not isinstance(value, int | float | None):
        _read(value)
    return value


_TICK, _LOOPED, _CONCATENATED, _MADE, _READ = "~tick", "~looped", "~concatenated", "~made", "~read"
"""Filters that no template can name."""


# What templates may call, as in transformers


def _raise_exception(message: Any) -> None:
    raise Raised(str(message))


def _strftime_now(form: str) -> str:
    _format_fits(form, ())
    return datetime.now().strftime(form)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    """JSON as Python writes it: blanks behind commas and colons, nothing escaped for HTML, keys in their order."""
    items, characters, depth = _measured(value)
    width = len(indent) if isinstance(indent, str) else indent if isinstance(indent, int) else 0
    if width > MAX_INDENT:
        raise TooMuch(f"it indents by more than {MAX_INDENT}")
    between = sum(map(len, separators)) if isinstance(separators, list | tuple) else 4
    _fits(characters * 6 + items * (4 + between + max(width, 0) * depth))
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class _Dict:
    """`dict` without the attributes of the class."""

    def __call__(self, *arguments: Any, **named: Any) -> dict[Any, Any]:
        return dict(*arguments, **named)

    def fromkeys(self, *arguments: Any) -> dict[Any, Any]:
        """The class's method of this name."""
        return dict.fromkeys(*arguments)


class _Namespace(Namespace):
    """`namespace` whose attributes cannot be Python's own."""

    def __init__(*arguments: Any, **named: Any) -> None:  # noqa: N805 - `self` may be one of the names
        itself, *given = arguments
        attributes = dict(*given, **named)
        for name in attributes:
            _check_name(name)
        Namespace.__init__(itself, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a template cannot have attributes that begin with an underscore: {name}")


class _Generation(Extension):
    """`{% generation %}`, with which trainers mark what the model says: its body."""

    tags = {"generation"}  # noqa: RUF012 - as the base class has it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller: Callable[[], str]) -> str:
        return caller()


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """transformers' environment for chat templates, with the limits of this module."""

    intercepted_binops = frozenset(_OPERATORS)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, loopcontrols],
            optimized=False,
            finalize=_shown,
        )
        self.binop_table.update(_OPERATORS)
        self.filters["tojson"] = _tojson
        self.filters = {name: _limited_filter(name, function) for name, function in self.filters.items()}
        own = {_TICK: _tick, _LOOPED: _looped, _CONCATENATED: _concatenated, _MADE: _made, _READ: _read}
        self.filters.update(own)
        self.tests.update({name: _limited_test(self.tests[name]) for name in _COMPARING})
        del self.globals["lipsum"]
        self.globals.update(
            raise_exception=_raise_exception, strftime_now=_strftime_now, dict=_Dict(), namespace=_Namespace
        )

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as in the base
        """Call what a template calls, within limits."""
        if not isinstance(__obj, Macro):
            # What `join` goes through may be made on the way: it must be there to be measured.
            args = tuple(_made(list(one)) if isinstance(one, Iterator) else one for one in args)
            given = [*args, *kwargs.values()]
            _read(given)
            if isinstance(__obj, BuiltinMethodType | MethodType):
                _before_method(__obj.__self__, __obj.__name__, given)
        return _made(super().call(__context, __obj, *args, **kwargs))

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`obj[argument]`, where a key of many parts costs what it is: it is hashed, or shown in an error."""
        return super().getitem(obj, argument if isinstance(argument, str | int) else _read(argument))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`str.format` within limits, None for anything else."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None
        pattern = str(value.__self__)

        @wraps(wrapped)
        def limited(*arguments: Any, **named: Any) -> str:
            _format_fits(pattern, [*arguments, *named.values()])
            return wrapped(*arguments, **named)

        return limited

    def _generate(self, source: nodes.Template, *arguments: Any, **named: Any) -> str:
        """Python code of a parsed template, in which everything that takes time or room is counted."""
        _limit(source)
        return super()._generate(source, *arguments, **named)


def _limit(node: nodes.Node) -> None:
    """Lead the nodes below through the filters that count."""
    for child in node.iter_child_nodes():
        _limit(child)
    for name, value in node.iter_fields():
        if isinstance(value, list):
            value[:] = [_led(one) if isinstance(one, nodes.Expr) else one for one in value]
        elif isinstance(value, nodes.Expr):
            setattr(node, name, _led(value))
    if isinstance(node, nodes.For):
        node.iter = _filtered(_LOOPED, node.iter)
    if isinstance(node, nodes.For | nodes.Macro | nodes.CallBlock):
        text = sum(len(data.data) for statement in node.body for data in _data(statement))
        node.body.insert(0, nodes.ExprStmt(_filtered(_TICK, nodes.Const(text))).set_lineno(node.lineno))
    if isinstance(node, nodes.Compare):
        _limit_compare(node)
    if isinstance(node, nodes.Dict):
        for pair in node.items:
            pair.key = pair.key if isinstance(pair.key, nodes.Const) else _filtered(_READ, pair.key)


def _data(statement: nodes.Node) -> Iterator[nodes.TemplateData]:
    yield from statement.find_all(nodes.TemplateData)


def _limit_compare(node: nodes.Compare) -> None:
    """A comparison with a constant ends at the first difference in length; anything else may take long."""
    if all(operand.op in ("eq", "ne") and isinstance(operand.expr, nodes.Const) for operand in node.ops):
        return
    node.expr = _filtered(_READ, node.expr)
    for operand in node.ops:
        operand.expr = _filtered(_READ, operand.expr)


def _led(node: nodes.Expr) -> nodes.Expr:
    if isinstance(node, nodes.Concat):
        return _filtered(_CONCATENATED, nodes.List(node.nodes).set_lineno(node.lineno))
    if isinstance(node, nodes.List | nodes.Tuple | nodes.Dict) and getattr(node, "ctx", "load") == "load":
        return _filtered(_MADE, node)
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
        return _filtered(_MADE, node)
    return node


def _filtered(name: str, node: Any) -> nodes.Filter:
    filtered = nodes.Filter(node, name, [], [], None, None)
    filtered.set_lineno(node.lineno if node.lineno is not None else 1).set_environment(node.environment)
    return filtered


@cache
def environment() -> ChatEnvironment:
    """The one environment of all templates."""
    return ChatEnvironment()
