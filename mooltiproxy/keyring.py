"""The keys of a configuration in force, as a request looks one up: by digest, or by the names of a certificate."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from mooltiproxy.config.keys import with_file_keys
from mooltiproxy.config.model import Config, Key
from mooltiproxy.keys import MASTER, digest

_ALTERNATIVE = {"DNS": "DNS:", "URI": "URI:", "email": "email:"}
"""The kinds of alternative names that count, as Python calls them, and as the configuration does."""


class Keyring:
    """The keys of `keys:`, of `keys_file`, and the master key. Looked up by digest: the time that takes says nothing
    about a key, and does not grow with their number."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._master = Key(MASTER, digest(config.system.masterkey.encode()), is_admin=True)
        self._by_digest = self._table(config.file_keys)
        self._by_certificate = {key.certificate: key for key in config.keys if key.certificate is not None}
        self.has_certificates = bool(self._by_certificate)

    def find(self, key: bytes) -> Key | None:
        """Whose key this is; an empty one is nobody's, whatever the master key may be."""
        return self._by_digest.get(digest(key)) if key else None

    def of_certificate(self, certificate: Mapping[str, Any] | None) -> Key | None:
        """Whose a verified certificate is, as `ssl` describes it; nobody's if several keys have one of its names."""
        names = names_of(certificate) if certificate else ()
        found = {name: self._by_certificate[name] for name in names if name in self._by_certificate}
        return next(iter(found.values())) if len(found) == 1 else None

    def renew(self) -> list[str]:
        """Read `keys_file` anew; the names of keys that are none any more. Blocks. Raises ConfigError and keeps what it
        had where the file cannot be used."""
        before = self._by_digest
        self._by_digest = self._table(with_file_keys(self._config).file_keys)
        return [key.name for known, key in before.items() if known not in self._by_digest]

    def _table(self, file_keys: Iterable[Key]) -> dict[bytes, Key]:
        keys = (*file_keys, *self._config.keys, self._master)
        return {key.digest: key for key in keys if key.digest is not None}


def has_expired(key: Key) -> bool:
    """Whether a key was one, and is none any more."""
    return key.expires is not None and time.time() >= key.expires


def names_of(certificate: Mapping[str, Any]) -> set[str]:
    """The names that a certificate is known by: its alternative names, and its common name if it has just one."""
    common = [value for one in certificate.get("subject", ()) for kind, value in one if kind == "commonName"]
    names = {f"CN={common[0]}"} if len(common) == 1 else set()
    for kind, value in certificate.get("subjectAltName", ()):
        if kind in _ALTERNATIVE:
            names.add(_ALTERNATIVE[kind] + (value.lower() if kind == "DNS" else value))
    return names
