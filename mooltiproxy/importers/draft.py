"""Our configuration in the making: an importer says what becomes of each foreign key, and the draft keeps count.

A key of which nothing is said is found in the end and listed as not carried: none is lost unseen. What the schema does
not take is taken out again and listed with the schema's reason, so that what is written passes `mooltiproxy check`.
No note quotes a value, which may be a secret.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from voluptuous import Invalid

from mooltiproxy.config.document import Document, Place
from mooltiproxy.config.schema import Known, schema
from mooltiproxy.config.shapes import Where, attempted
from mooltiproxy.discovery import discover
from mooltiproxy.errors import ConfigError, Problem
from mooltiproxy.importers.accounts import Pattern, is_told, leaves, reason_for, texts

Data = dict[str, Any]

NO_COUNTERPART = "mooltiproxy has nothing like it"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*_KEY\w*")


class Variable(str):
    """`${NAME}`, which is filled in from the environment where our file is read; all other text is only text."""


@dataclass(frozen=True, slots=True)
class Note:
    """What became of a key of theirs; of one that is not carried: why, and what to do."""

    place: Place
    path: Where
    text: str
    is_carried: bool

    def __str__(self) -> str:
        return str(Problem(self.text, shown(self.path), self.place.line, self.place.file))


@dataclass(frozen=True, slots=True)
class Imported:
    """Our configuration, what became of each key of theirs, and which environment variables it needs, for what.

    `sources` are the places that an entry of ours (`("models", "llama3")`) comes from.
    """

    data: Data
    notes: tuple[Note, ...]
    variables: Mapping[str, str]
    sources: Mapping[Where, tuple[Place, ...]]


@dataclass(frozen=True, slots=True)
class _Fate:
    theirs: Where
    ours: Where
    text: str
    is_carried: bool = True
    is_value: bool = False  # what stands at `ours` stands there because of this
    is_all: bool = True  # whether it holds for what is below `theirs`, too


class Draft:
    """What an importer fills in; `finish` gives the result."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.data: Data = {"targets": {}}
        self._variables: dict[str, str] = {}
        self._fates: list[_Fate] = []
        self._copies: list[tuple[str, str, Where]] = []
        self._places: dict[Where, Place] = dict(document.places)
        self._schema = schema(Known(dialects=discover(None).dialects))
        self._secrets: dict[str, str] = {}
        self._named = set(_VARIABLE.findall("\n".join(texts(document.data))))

    def put(self, theirs: Where, ours: Where, value: Any, remark: str = "", *, is_all: bool = True) -> None:
        """Set a value of ours because of a key of theirs; `is_all` tells whether what is below that is in it."""
        section = self.data
        for part in ours[:-1]:
            section = section.setdefault(str(part), {})
        section[str(ours[-1])] = value
        self._fates.append(_Fate(theirs, ours, remark, is_value=True, is_all=is_all))

    def tell(self, theirs: Where, ours: Where, remark: str = "") -> None:
        """Say that a key of theirs is in what stands at `ours` already."""
        self._fates.append(_Fate(theirs, ours, remark))

    def say(self, theirs: Where, text: str) -> None:
        """Say in words where a key of theirs is found again, if not in our file."""
        self._fates.append(_Fate(theirs, (), text))

    def drop(self, theirs: Where, why: str) -> None:
        """Say that a key of theirs is not carried, nor what is below it."""
        self._fates.append(_Fate(theirs, (), why, is_carried=False))

    def place(self, theirs: Where, place: Place) -> None:
        """Say where something was written that is not in the file."""
        self._places[theirs] = place

    def copy_model(self, theirs: Where, name: str, original: str) -> None:
        """Give a model of ours a second name, once all is known about it."""
        self._copies.append((name, original, theirs))

    def need(self, variable: str, what: str) -> str:
        """Say that an environment variable must be set, and for what; gives back its name."""
        self._variables.setdefault(variable, what)
        return variable

    def secret(self, value: str, stem: str, what: str) -> str:
        """The variable for a key that stands in their file: the same one for the same key, named by `stem`."""
        if value not in self._secrets:
            plain = re.sub(r"[^A-Z0-9]+", "_", stem.upper()).strip("_") or "TARGET"
            name = f"{'_' if plain[0].isdigit() else ''}{plain}_KEY"
            taken = {*self._named, *self._variables}
            names = [name, *(f"{name}_{number}" for number in range(2, len(taken) + 3))]
            self._secrets[value] = next(name for name in names if name not in taken)
        return self.need(self._secrets[value], f"{what}, which stood in the file")

    def target(self, hint: str, entry: Data) -> str:
        """The name of the target that is such an entry; a new one is called after `hint`."""
        targets = self.data["targets"]
        for name, known in targets.items():
            if known == entry:
                return str(name)
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", hint).strip("-.") or "server"
        names = [stem, *(f"{stem}-{number}" for number in range(2, len(targets) + 4))]
        chosen = next(name for name in names if name not in targets and name != "default")
        targets[chosen] = entry
        return chosen

    def has_model(self, name: str) -> bool:
        """Whether a model of this name is there, or will be."""
        return name in self.data.get("models", {}) or any(name == copy for copy, _, _ in self._copies)

    def finish(self, reasons: Mapping[Pattern, str]) -> Imported:
        """The result; `reasons` say why keys are not carried of which nothing was said. Raises ConfigError if nothing
        is left that could be a target."""
        self._settle()
        self._copy_models()
        self._settle()
        self._account(reasons)
        notes = tuple(sorted(self._notes(), key=lambda note: (note.place.file, note.place.line)))
        return Imported(self._in_order(notes), notes, self._variables, self._sources())

    def _settle(self) -> None:
        """Take out what the schema does not take."""
        while errors := self._errors():
            wrong = {fate: error for error in errors for fate in self._behind(error)}
            if not wrong:
                raise ConfigError(*(Problem(error.msg, tuple(map(str, error.path))) for error in errors))
            for fate, error in wrong.items():
                _remove(self.data, fate.ours)
                reason = NO_COUNTERPART if error.msg.startswith("unknown key") else error.msg
                self._fates[self._fates.index(fate)] = _Fate(fate.theirs, (), reason, is_carried=False)

    def _behind(self, error: Invalid) -> list[_Fate]:
        """What brought about the value that is wrong, or else what it is in."""
        path = tuple(map(str, error.path))
        values = [fate for fate in self._fates if fate.is_value]
        below = [fate for fate in values if fate.ours[: len(path)] == path]
        above = [fate for fate in values if fate.ours == path[: len(fate.ours)]]
        return below or sorted(above, key=lambda fate: len(fate.ours))[-1:]

    def _errors(self) -> list[Invalid]:
        errors: list[Invalid] = []
        complete = {**self.data, "targets": {"default": "any", **self.data["targets"]}}
        attempted(self._schema, _without_variables(complete), errors)
        return errors

    def _copy_models(self) -> None:
        for name, original, theirs in self._copies:
            if original in self.data.get("models", {}):
                self.put(theirs, ("models", name), dict(self.data["models"][original]))
            else:
                self.drop(theirs, "the model that it stands for is not carried")

    def _account(self, reasons: Mapping[Pattern, str]) -> None:
        """Say something of every key of which nothing was said."""
        exactly = {fate.theirs for fate in self._fates}
        with_all = {fate.theirs for fate in self._fates if fate.is_all}
        untold = [leaf for leaf in leaves(self.document.data) if not is_told(leaf, exactly, with_all)]
        for path, reason in dict.fromkeys(reason_for(leaf, reasons) or (leaf, NO_COUNTERPART) for leaf in untold):
            self.drop(path, reason)

    def _notes(self) -> Iterator[Note]:
        places: dict[tuple[Where, str, bool], list[Where]] = {}
        for fate in self._fates:
            places.setdefault((fate.theirs, fate.text, fate.is_carried), []).append(fate.ours)
        for (theirs, text, is_carried), ours in places.items():
            yield Note(self._place_of(theirs), theirs, _in_words(theirs, ours, text, is_carried), is_carried)

    def _place_of(self, theirs: Where) -> Place:
        return next(self._places[theirs[:end]] for end in range(len(theirs), -1, -1) if theirs[:end] in self._places)

    def _in_order(self, notes: tuple[Note, ...]) -> Data:
        targets = self.data["targets"]
        servers = {name: entry for name, entry in targets.items() if name != "default"}
        if not servers:
            reasons = [Problem(note.text, shown(note.path), note.place.line, note.place.file) for note in notes]
            end = Problem("nothing is left that could be a target", file=self._places[()].file)
            raise ConfigError(*reasons, end)
        default = targets.get("default", next(iter(servers)))
        rest = {name: section for name, section in self.data.items() if name != "targets" and section}
        return {"targets": {"default": default, **servers}, **rest}

    def _sources(self) -> dict[Where, tuple[Place, ...]]:
        places: dict[Where, dict[Place, None]] = {}
        for fate in self._fates:
            if len(fate.ours) > 1:
                places.setdefault(fate.ours[:2], {})[self._place_of(fate.theirs)] = None
        return {
            ours: tuple(sorted(found, key=lambda place: (place.file, place.line))) for ours, found in places.items()
        }


def shown(path: Where) -> tuple[str | int, ...]:
    """A path fit for one line of a comment."""
    return tuple(part if isinstance(part, int) or part.isprintable() else ascii(part) for part in path)


def _in_words(theirs: Where, ours: list[Where], text: str, is_carried: bool) -> str:
    if not is_carried:
        return f"not carried: {text}"
    if not ours[0]:
        return text
    verb = "kept as" if ours[0][-1] == theirs[-1] else "mapped to"
    more = f" and {len(ours) - 1} more" if len(ours) > 1 else ""
    return f"{verb} {'.'.join(map(str, shown(ours[0])))}{more}{f': {text}' if text else ''}"


def _remove(data: Data, path: Where) -> None:
    """Take a value out, and the sections that nothing is left in."""
    name = str(path[0])
    if len(path) > 1 and isinstance(data.get(name), dict):
        _remove(data[name], path[1:])
    if len(path) == 1 or data.get(name) == {}:
        data.pop(name, None)


def _without_variables(data: Any) -> Any:
    """The data with a stand-in for what the environment will fill in, which fits every place that takes text."""
    if isinstance(data, dict):
        return {name: _without_variables(value) for name, value in data.items()}
    return "http://variable" if isinstance(data, Variable) else data
