"""Environment variables that set a key of the file: `MOOLTIPROXY_SYSTEM_PORT=9000` is `system.port`; those of
llm-proxy-api set theirs, too."""

import re
from collections.abc import Iterable, Mapping

from mooltiproxy.config.document import SECRETS, Document, Place, read_value
from mooltiproxy.config.seed_variables import llm_proxy_api
from mooltiproxy.config.shapes import Where
from mooltiproxy.config.validators import suggestion
from mooltiproxy.errors import Problem

PREFIX = "MOOLTIPROXY_"
MASTER_KEY = "MOOLTIPROXY_KEY"
OWN_SECTIONS = (f"{PREFIX}SYSTEM_", f"{PREFIX}CERBERE_")
"""Variables of these names can only be meant for us, so that an unknown one is a mistake."""


def override(document: Document, paths: Iterable[Where], environ: Mapping[str, str]) -> None:
    """Set what the environment overrides; `paths` are all that may be set. An empty variable sets nothing, and one of
    ours goes before one of llm-proxy-api's."""
    for name, where, value in llm_proxy_api(environ):
        _set(document, where, name, value)
    known = {variable_of(path): path for path in paths}
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name == MASTER_KEY or not environ[name]:
            continue
        path = known.get(name)
        if path is not None:
            _set(document, path, name, environ[name])
        elif name.startswith(OWN_SECTIONS):
            document.problems.append(Problem(f"no key has this variable{suggestion(name, known)}", file=name))


def variable_of(path: Where) -> str:
    """The environment variable that sets this path."""
    return PREFIX + re.sub(r"[^A-Z0-9]", "_", "_".join(map(str, path)).upper())


def _set(document: Document, path: Where, name: str, value: str) -> None:
    section = document.data
    for part in path[:-1]:
        if section.get(part) is None:
            section[part] = {}
        section = section[part]
        if not isinstance(section, dict):
            where = ".".join(map(str, path[:-1]))
            document.problems.append(Problem(f"{where} is no section in the file: set it as a whole", path, file=name))
            return
    section[path[-1]] = value if path[-1] in SECRETS else read_value(value)
    document.places = {where: place for where, place in document.places.items() if where[: len(path)] != path}
    document.places[path] = Place(name)
    document.unreadable = {where for where in document.unreadable if where[: len(path)] != path}
