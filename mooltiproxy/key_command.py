"""`mooltiproxy key`: keys are listed, written into the configuration file, and taken out of it or of `keys_file`."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from voluptuous import Invalid

from mooltiproxy.config.edit import CannotEdit, lines_of, plain_data, read, with_entry, without, write
from mooltiproxy.config.model import Config, Key
from mooltiproxy.config.shapes import Where
from mooltiproxy.config.validators import key_name
from mooltiproxy.errors import ConfigError, Problem
from mooltiproxy.keyring import has_expired

SECTION, FILE = "keys", "keys_file"
ALL, NEVER = "everything", "never"
_SHOWN = 8
"""Hexadecimal digits of a key's hash that are shown: enough to tell two keys apart, of no use to find one."""
_NUMBERED = re.compile(r"(.+)-([1-9][0-9]*)")


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a key is written: the file, and the place in it."""

    file: Path
    path: Where

    def lines(self) -> str:
        """The file and the lines, to be shown; raises CannotEdit."""
        found = lines_of(read(self.file), self.path)
        if found is None:
            return str(self.file)
        return f"{self.file}:{found[0]}" + (f"-{found[1]}" if found[1] > found[0] else "")


def rows(config: Config) -> list[tuple[str, ...]]:
    """The keys of a configuration as a table with its head: never a key, nor all of its hash."""
    assert config.file is not None
    ours = [_row(key, Entry(config.file, (SECTION, key.name))) for key in config.keys]
    keys = plain_data(read(config.keys_file)) if config.keys_file else {}
    theirs = [
        _row(key, Entry(config.keys_file, _in_keys_file(keys, key.name) or ()))
        for key in config.file_keys
        if config.keys_file is not None
    ]
    return [("name", "sha256", "may", "expires", "where"), *ours, *theirs]


def _row(key: Key, entry: Entry) -> tuple[str, ...]:
    digest = key.digest.hex()[:_SHOWN] if key.digest is not None else "-"
    expires = NEVER if key.expires is None else f"{datetime.fromtimestamp(key.expires, UTC):%Y-%m-%d %H:%M}Z"
    expires += " (over)" if has_expired(key) else ""
    return key.name, digest, "; ".join(_rights(key)), expires, entry.lines()


def _rights(key: Key) -> Iterator[str]:
    limits = {"targets": key.targets, "models": key.models, "endpoints": key.endpoints}
    said = [f"{what} {', '.join(sorted(names)) or 'none'}" for what, names in limits.items() if names is not None]
    yield from said or [ALL]
    if key.is_admin:
        yield "admin"
    if key.certificate is not None:
        yield f"as {key.certificate}"


def entry_of(file: Path, name: str) -> Entry | None:
    """Where the key of this name is written, in the configuration file or in the one that its `keys_file` names; raises
    CannotEdit for a file that cannot be read."""
    data = plain_data(read(file))
    section = data.get(SECTION) if isinstance(data, dict) else None
    if isinstance(section, dict) and name in section:
        return Entry(file, (SECTION, name))
    other = data.get(FILE) if isinstance(data, dict) else None
    if not isinstance(other, str) or not other:
        return None
    keys = file.parent / os.path.expandvars(other)
    path = _in_keys_file(plain_data(read(keys)), name)
    return None if path is None else Entry(keys, path)


def _in_keys_file(data: Any, name: str) -> Where | None:
    """The place of a key there, also of one of a list, which has a number behind the list's name."""
    if not isinstance(data, dict):
        return None
    if isinstance(data.get(name), str):
        return (name,)
    numbered = _NUMBERED.fullmatch(name)
    listed = data.get(numbered[1]) if numbered else None
    if numbered and isinstance(listed, list) and int(numbered[2]) <= len(listed):
        return (numbered[1], int(numbered[2]) - 1)
    return None


def check_name(name: str) -> None:
    """Raises ConfigError for a name that no key can have."""
    try:
        key_name(name)
    except Invalid as error:
        raise ConfigError(Problem(error.msg, (SECTION, name))) from None


def add(file: Path, name: str, entry: str) -> None:
    """Write an entry under `keys:`; raises ConfigError for a name that cannot be one or is there, CannotEdit."""
    check_name(name)
    taken = False
    with suppress(CannotEdit):  # what cannot be read now is none of the new key's business
        taken = entry_of(file, name) is not None
    if taken:
        message = f"there is a key of this name: take it back by `mooltiproxy key revoke {name}` first"
        raise ConfigError(Problem(message, (SECTION, name), file=str(file)))
    write(file, with_entry(read(file), SECTION, name, entry))


def revoke(file: Path, name: str) -> Entry:
    """Take a key out of the file that it is written in, and nothing else; raises ConfigError where there is none of
    this name, CannotEdit that says which lines are to be taken out by hand."""
    entry = entry_of(file, name)
    if entry is None:
        message = "there is no such key: `mooltiproxy key list` shows them"
        raise ConfigError(Problem(message, (SECTION, name), file=str(file)))
    where = entry.lines()
    try:
        write(entry.file, without(read(entry.file), entry.path))
    except CannotEdit as reason:
        raise CannotEdit(f"{where}: take this out by hand, and then reload the proxy: {reason}") from None
    return entry
