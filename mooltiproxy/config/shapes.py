"""How words are put together: sections with fixed keys, entries with free names, lists, and "a section or a word".

Every shape is called with a value and gives the coerced one, or raises voluptuous' errors with their paths. `json` is
its JSON Schema; `paths` are the places below it that an environment variable may set.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, Protocol

from voluptuous import Invalid, Marker, MultipleInvalid, Required, Schema

from mooltiproxy.config.validators import Json, Word, expected, suggestion

Where = tuple[str | int, ...]


class Shape(Protocol):
    """A word, or what is made of words."""

    @property
    def json(self) -> Json:
        """The JSON Schema."""

    def __call__(self, value: Any) -> Any:
        """The coerced value; raises Invalid."""


def paths_of(shape: Shape, data: Any) -> Iterator[Where]:
    """The paths below a shape: its fixed keys, and those of the names that `data` has."""
    if isinstance(shape, Section | Entries | SectionOr | Checked):
        yield from shape.paths(data)


class Section:
    """Fixed keys: `{Optional("port", description="..."): port}`. A key without a value counts as absent.

    `check` yields the errors that concern several keys, from the section as it was written.
    """

    def __init__(
        self,
        keys: Mapping[Marker, Shape],
        check: Callable[[Mapping[str, Any]], Iterator[Invalid]] = lambda section: iter(()),
    ) -> None:
        self.keys = {str(marker): shape for marker, shape in keys.items()}
        self._markers = list(keys)
        self._schema = Schema(dict(keys))
        self._check = check

    def __call__(self, value: Any) -> Any:
        """The coerced section; raises MultipleInvalid with every error in it."""
        if not isinstance(value, dict):
            raise expected("keys and values", value)
        present = {name: given for name, given in value.items() if name in self.keys and given is not None}
        errors = [_unknown_key(name, self.keys) for name in value if name not in self.keys]
        errors += self._check(present)
        return validated(self._schema, present, errors)

    @property
    def json(self) -> Json:
        """An object that has these keys and no others; one without a value is null."""
        properties = {
            str(marker): {"description": marker.description, "anyOf": [self.keys[str(marker)].json, {"type": "null"}]}
            if not isinstance(marker, Required)
            else {"description": marker.description, **self.keys[str(marker)].json}
            for marker in self._markers
        }
        required = [str(marker) for marker in self._markers if isinstance(marker, Required)]
        return {
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
            **({"required": required} if required else {}),
        }

    def paths(self, data: Any) -> Iterator[Where]:
        """See `paths_of`."""
        for name, shape in self.keys.items():
            yield (name,)
            below = data.get(name) if isinstance(data, dict) else None
            yield from ((name, *path) for path in paths_of(shape, below))


class Entries:
    """Free names, each with the same shape: `Entries(target_name, TARGET)`; `fixed` are the keys that are no names."""

    def __init__(self, name: Word, shape: Shape, fixed: Mapping[Marker, Word] | None = None) -> None:
        self._name = name
        self._shape = shape
        self._fixed = Section(fixed or {})

    def __call__(self, value: Any) -> Any:
        """The coerced entries; raises MultipleInvalid with every error in them."""
        if not isinstance(value, dict):
            raise expected("names, each with its keys and values", value)
        fixed = {name: given for name, given in value.items() if name in self._fixed.keys}
        entries = {name: given for name, given in value.items() if name not in fixed}
        errors = [error for name in entries for error in self._name_errors(name, entries[name])]
        wrong = {error.path[0] for error in errors}
        schema = Schema({name: self._shape for name in entries if name not in wrong})
        result = attempted(schema, {name: given for name, given in entries.items() if name not in wrong}, errors)
        return validated(self._fixed, fixed, errors) | result

    def _name_errors(self, name: str, given: Any) -> Iterator[Invalid]:
        if self._fixed.keys and not isinstance(given, dict | None):
            hint = suggestion(name, self._fixed.keys)
            if "did you mean" in hint:
                yield Invalid(f"unknown key{hint}", [name])
                return
        try:
            self._name(name)
        except Invalid as error:
            yield Invalid(error.msg, [name])

    @property
    def json(self) -> Json:
        """An object with the fixed keys and any other names."""
        fixed = self._fixed.json
        names = [self._name.json, *({"const": name} for name in self._fixed.keys)]
        return {**fixed, "propertyNames": {"anyOf": names}, "additionalProperties": self._shape.json}

    def paths(self, data: Any) -> Iterator[Where]:
        """See `paths_of`."""
        yield from self._fixed.paths(data)
        for name, below in data.items() if isinstance(data, dict) else ():
            if name not in self._fixed.keys:
                yield from ((name, *path) for path in paths_of(self._shape, below))


class ListOf:
    """A list of one shape, as a tuple; a single value counts as a list of one."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape

    def __call__(self, value: Any) -> Any:
        """The coerced items; raises MultipleInvalid with every error in them."""
        if not isinstance(value, list):
            return (self._shape(value),)
        errors: list[Invalid] = []
        items = [attempted(self._shape, item, errors, position) for position, item in enumerate(value)]
        if errors:
            raise MultipleInvalid(errors)
        return tuple(items)

    @property
    def json(self) -> Json:
        """An array of it, or one."""
        return {"anyOf": [{"type": "array", "items": self._shape.json}, self._shape.json]}


class SectionOr:
    """A section or entries, or a word where the value is neither."""

    def __init__(self, section: Section | Entries, otherwise: Word) -> None:
        self._section = section
        self._otherwise = otherwise

    def __call__(self, value: Any) -> Any:
        """The coerced section, entries or word; raises Invalid."""
        return self._section(value) if isinstance(value, dict) else self._otherwise(value)

    @property
    def json(self) -> Json:
        """Either."""
        return {"anyOf": [self._otherwise.json, self._section.json]}

    def paths(self, data: Any) -> Iterator[Where]:
        """See `paths_of`."""
        return self._section.paths(data)


class Checked:
    """A shape, then a check or a coercion of its result."""

    def __init__(self, shape: Shape, check: Callable[[Any], Any]) -> None:
        self._shape = shape
        self._check = check

    def __call__(self, value: Any) -> Any:
        """What the check gives; raises Invalid."""
        return self._check(self._shape(value))

    @property
    def json(self) -> Json:
        """The shape's."""
        return self._shape.json

    def paths(self, data: Any) -> Iterator[Where]:
        """See `paths_of`."""
        return paths_of(self._shape, data)


def validated(shape: Callable[[Any], Any], value: Any, errors: list[Invalid]) -> Any:
    """The shape's result; raises MultipleInvalid with its errors and those that were found before."""
    result = attempted(shape, value, errors)
    if errors:
        raise MultipleInvalid(errors)
    return result


def attempted(shape: Callable[[Any], Any], value: Any, errors: list[Invalid], *path: Hashable) -> Any:
    """The shape's result, or None after its errors were added to `errors`, their paths below `path`."""
    try:
        return shape(value)
    except Invalid as error:
        error.prepend(list(path))
        errors += error.errors if isinstance(error, MultipleInvalid) else [error]
        return None


def _unknown_key(name: str, known: Mapping[str, Any]) -> Invalid:
    return Invalid(f"unknown key{suggestion(name, known)}", [name])
