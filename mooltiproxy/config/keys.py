"""`keys:` and `keys_file:`: who may ask, and for what."""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from voluptuous import Invalid

from mooltiproxy.config.document import Document, plain_document
from mooltiproxy.config.limits import built_limits
from mooltiproxy.config.model import Config, Key
from mooltiproxy.config.shapes import Where
from mooltiproxy.config.validators import key as key_word
from mooltiproxy.config.validators import key_name
from mooltiproxy.errors import ConfigError, Problem
from mooltiproxy.keys import PREFIX, digest

ADMIN = "admin_key"
"""TabbyAPI's word for keys that may do everything."""
MAX_SIZE = 4 * 1024 * 1024
"""Bytes of a file with keys."""


def built_key(name: str, values: Mapping[str, Any], environ: Mapping[str, str]) -> Key:
    """One entry of `keys:`."""
    own = None
    if "hash" in values:
        own = bytes.fromhex(values["hash"].removeprefix(PREFIX))
    elif "envkey" in values:
        own = digest(environ[values["envkey"]].encode())
    return Key(
        name,
        own,
        targets=frozenset(values["targets"]) if "targets" in values else None,
        losses=values.get("losses", {}),
        is_admin=values.get("admin", False),
        models=values.get("models"),
        endpoints=frozenset(values["endpoints"]) if "endpoints" in values else None,
        expires=values.get("expires"),
        certificate=values.get("certificate"),
        limits=built_limits(values.get("limits", {}), name),
        envkey=values.get("envkey"),
    )


def with_file_keys(config: Config) -> Config:
    """The same configuration with the keys of its `keys_file` as it is now; raises ConfigError where that cannot be
    read, or has a key or a name that `keys:` has too."""
    if config.keys_file is None:
        return config
    found = read_keys_file(config.keys_file)
    names = {key.name for key in config.keys}
    known = {key.digest for key in config.keys}
    twice = [key for key in found if key.name in names or key.digest in known]
    message = "this key, or one of this name, is under `keys:` of the configuration as well"
    if twice:
        raise ConfigError(*(Problem(message, (key.name,), file=str(config.keys_file)) for key in twice))
    return replace(config, file_keys=found)


def read_keys_file(file: Path) -> tuple[Key, ...]:
    """The keys of a file: `name: key` or `name: [key, ...]`, then called `name-1`, `name-2` and so on; TabbyAPI's
    `admin_key` is an admin's. Raises ConfigError; no message holds a key."""
    document = plain_document(_text_of(file), str(file), as_text=True)
    if not isinstance(document.data, dict):
        message = "expected `api_key:`, `admin_key:` or other names, each with a key or a list of keys; {} is none"
        raise ConfigError(document.problem((), message))
    found: dict[bytes, Key] = {}
    for path, name, value in _entries(document.data):
        own = _checked(document, path, name, value)
        if own is not None and (own not in found or name.startswith(ADMIN)):
            found[own] = Key(name, own, is_admin=path[0] == ADMIN)
    if document.problems:
        raise ConfigError(*document.problems)
    return tuple(found.values())


def _text_of(file: Path) -> str:
    if file.exists() and not file.is_file() and not file.is_dir():  # a pipe would be waited for
        raise ConfigError(Problem("cannot be read: it is no file", file=str(file)))
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_SIZE + 1)
    except OSError as error:
        raise ConfigError(Problem(f"cannot be read: {error.strerror}", file=str(file))) from error
    if len(data) > MAX_SIZE:
        raise ConfigError(Problem(f"is longer than {MAX_SIZE} bytes", file=str(file)))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(Problem("not UTF-8: save the file with that encoding", file=str(file))) from None


def _entries(data: Mapping[str, Any]) -> Iterator[tuple[Where, str, Any]]:
    """Where each key stands, its name, and the key."""
    for name, value in data.items():
        if isinstance(value, list):
            yield from (((name, at), f"{name}-{at + 1}", one) for at, one in enumerate(value))
        elif value is not None:
            yield (name,), name, value


def _checked(document: Document, path: Where, name: str, value: Any) -> bytes | None:
    """What a key is recognised by; None where it is none, which is then among the problems."""
    try:
        key_name(name)
        known = key_word(value)
        if not known:
            raise Invalid("expected a key, this one is empty")
        if known.startswith(PREFIX):
            raise Invalid("expected a key, not its hash: an entry with a hash belongs under `keys:` of config.yaml")
    except Invalid as error:
        document.problems.append(document.problem(path, error.msg))
        return None
    return digest(known.encode())


def doubtful(file: Path | None) -> Iterator[Problem]:
    """What works but should not stay: a file of keys that everybody on this machine can read."""
    if file is not None and os.name == "posix" and file.stat().st_mode & stat.S_IROTH:
        yield Problem("everybody on this machine can read these keys: chmod 600 it", file=str(file))


def contradictory(config: Config) -> Iterator[tuple[Where, str]]:
    """Entries that cannot be meant, each with its place."""
    yield from _same(config.keys, "digest", "this key is the same as that of")
    yield from _same(config.keys, "certificate", "this certificate is the same as that of")
    if config.system.tls is None or config.system.tls.client_ca is None:
        message = "no client is asked for a certificate: set `client_ca` under `system.ssl`"
        yield from ((("keys", key.name, "certificate"), message) for key in config.keys if key.certificate)


def _same(keys: Iterable[Key], what: str, message: str) -> Iterator[tuple[Where, str]]:
    first: dict[Any, str] = {}
    for key in keys:
        value = getattr(key, what)
        if value is not None and value in first:
            yield ("keys", key.name), f"{message} {first[value]}"
        first.setdefault(value, key.name)
