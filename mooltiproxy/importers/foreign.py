"""Parts of foreign data, which may be anything: what is not of the expected kind counts as empty."""

from typing import Any

Data = dict[str, Any]


def section(data: Any, name: str) -> Data:
    """The keys and values below a name."""
    found = data.get(name) if isinstance(data, dict) else None
    return found if isinstance(found, dict) else {}


def items(value: Any) -> list[Any]:
    """The items of a list."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str:
    """Text without spaces around it."""
    return value.strip() if isinstance(value, str) else ""
