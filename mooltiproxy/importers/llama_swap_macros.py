"""llama-swap's macros: `${NAME}` stands for a value of the file, for a port, or for an environment variable."""

import re
from typing import Any

from mooltiproxy.importers.draft import Data, Draft, Variable
from mooltiproxy.importers.servers import is_variable_name

PORT, PROCESS = "${PORT}", "${PID}"
"""What only a running server has; it gets its port when it is started."""
_MACRO = re.compile(r"\$\{([^}]*)\}")
_ENVIRON = "env."
_MAX_LENGTH = 10_000
"""Of a text with its macros filled in, which may name each other."""
_RUN_TIME = ("port", "model", "config")
"""What variables are called that our file would take for something else."""


def filled(value: str, macros: Data) -> str:
    """A text with its macros filled in, those in macros as well; what is no macro stays."""
    for _ in range(len(macros) + 1):
        result = _MACRO.sub(lambda match: str(macros.get(match[1], match[0])), value)
        if result == value or len(result) > _MAX_LENGTH:
            break
        value = result
    return value


def filled_in(value: Any, macros: Data) -> Any:
    """A value with the macros in its texts filled in; a text that is one macro becomes that one's value."""
    if isinstance(value, dict):
        return {name: filled_in(below, macros) for name, below in value.items()}
    if isinstance(value, list):
        return [filled_in(item, macros) for item in value]
    match = _MACRO.fullmatch(value) if isinstance(value, str) else None
    if match and not isinstance(macros.get(match[1], ""), str):
        return macros[match[1]]
    return filled(value, macros) if isinstance(value, str) else value


def variable_of(value: str) -> str:
    """The environment variable that a text is, "" if it is none."""
    match = _MACRO.fullmatch(value)
    return _variable(match[1]) if match else ""


def has_unknown(value: str) -> bool:
    """Whether anything is left in a text that is neither an environment variable nor the port."""
    left = (match for match in _MACRO.finditer(value) if match[0] != PORT)
    return any(not _variable(match[1]) for match in left)


def in_our_spelling(draft: Draft, value: str, what: str) -> str:
    """A text with its environment variables, and the port that is picked, as our file has them; `what` they are for."""
    parts = [_our_part(draft, part, what) for part in re.split(r"(\$\{[^}]*\})", value)]
    is_text = not any(isinstance(part, Variable) for part in parts)
    return value if is_text else Variable("".join(map(str, parts)))


def _our_part(draft: Draft, part: str, what: str) -> str:
    variable = variable_of(part)
    if variable:
        return Variable(f"${{{draft.need(variable, what)}}}")
    return Variable("${port}") if part == PORT else part.replace("${", "$${")


def _variable(name: str) -> str:
    """The environment variable that a macro's name stands for, "" if for none."""
    variable = name.removeprefix(_ENVIRON)
    is_one = name.startswith(_ENVIRON) and is_variable_name(variable) and variable not in _RUN_TIME
    return variable if is_one else ""
