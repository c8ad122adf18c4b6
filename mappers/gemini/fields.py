"""Protocol-buffer JSON as Google's services read it (protobuf.dev/programming-guides/json), for `Fields`."""

import re
from typing import Any

from mooltiproxy.mapping.fields import Fields

_SNAKE = re.compile(r"_?[a-z][a-z0-9]*(?:_[a-z0-9]+)*")


class ProtoFields(Fields):
    """Fields under their camelCase names, whether the client wrote camelCase or snake_case; errors name the former.

    An object where a list is expected counts as a list of one, as the service takes it.
    """

    def __init__(self, body: Any, path: str = "") -> None:
        super().__init__(camel_keys(body) if isinstance(body, dict) else body, path)

    def items(self, name: str) -> list[Any] | None:
        """A list, or an object as a list of one."""
        value = self.any(name)
        return [value] if isinstance(value, dict) else super().items(name)

    def unread(self) -> list[str]:
        """The names of the fields that nobody asked for, those with empty objects included."""
        return [name for name, value in self._body.items() if name not in self._read and value is not None]

    def word(self, name: str) -> str | None:
        """The value of an enumeration in upper case; `..._UNSPECIFIED` counts as absent."""
        value = self.text(name)
        return None if value is None or value.upper().endswith("UNSPECIFIED") else value.upper()


def camel_keys(value: dict[str, Any]) -> dict[str, Any]:
    """The object with its own keys in camelCase; what lies deeper is left as it is."""
    return {_camel(key): item for key, item in value.items()}


def _camel(key: str) -> str:
    if "_" not in key or not _SNAKE.fullmatch(key):
        return key
    first, *others = key.removeprefix("_").split("_")
    return first + "".join(other.capitalize() for other in others)
