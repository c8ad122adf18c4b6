"""What foreign configurations say of servers: addresses, keys and commands, as entries of our `targets:`."""

import re
import shlex
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from voluptuous import Invalid

from mooltiproxy.config import validators
from mooltiproxy.importers.draft import Data, Variable

STAND_INS = frozenset(
    "none null empty dummy fake fake-key no-key not-needed not_needed ollama lm-studio sk-no-key-required".split()
)
"""What people write where a program wants a key and the server does not."""

_CHATS = ("/v1/messages", "/api/chat", "/v1/responses")
_SECRET = re.compile(r"(api|hf|auth|access)[-_]?(key|token)|secret|passw(or)?d", re.IGNORECASE)
_SECRET_OPTION = re.compile(rf"--?(hft|token|[\w-]*({_SECRET.pattern}))", re.IGNORECASE)
_SERVERS_KEY = re.compile(r"--api[-_]key|(LLAMA|VLLM)_API_KEY")
_ASSIGNED = re.compile(r"(--?[\w-]+|[A-Za-z_]\w*)=(.+)", re.DOTALL)
_UNQUOTED = re.compile(r"([\w@%+=:,./-]|\$\{[\w.]+\})+")
_REFERENCE = re.compile(r"\$\{[^}]*\}")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def wrong_url(value: object) -> str:
    """Why an address cannot be a target's url, "" if it can; the reason does not quote it. A variable at its beginning
    may hold all of it, one behind that a host or a port."""
    if isinstance(value, Variable) and value.startswith("${"):
        return ""
    try:
        validators.url(_REFERENCE.sub("1", value) if isinstance(value, Variable) else value)
    except Invalid as error:
        return str(error.msg)
    return ""


def openai_server(base: str) -> Data:
    """The target whose OpenAI API begins at `base`, as clients of that API are told it.

    `speaks` asks below /v1. A base that ends in something else is mapped path by path.
    """
    base = base if isinstance(base, Variable) else base.rstrip("/")
    if isinstance(base, Variable) or base.endswith("/v1") or not urlsplit(base).path:
        return {"url": base, "speaks": "openai"}
    own: Data = {path: None for path in ("/chat/completions", "/completions", "/embeddings", "/models")}
    return {"url": base, "mapping": own | {path: {"to": "openai", "path": "/chat/completions"} for path in _CHATS}}


def hint_for(url: str) -> str:
    """What to call a target of this address: its host, and its port if it has one."""
    try:
        parts = urlsplit(url)
        return f"{parts.hostname}-{parts.port}" if parts.port else str(parts.hostname)
    except ValueError:
        return "server"


def is_variable_name(name: str) -> bool:
    """Whether an environment variable may have this name in our file."""
    return bool(_VARIABLE_NAME.fullmatch(name))


def is_secret(name: str) -> bool:
    """Whether a variable of this name holds a key, a token or a password."""
    return bool(_SECRET.search(name)) or name.upper().endswith(("_KEY", "_TOKEN"))


def is_servers_key(name: str) -> bool:
    """Whether an option or a variable of this name is the key that a model server wants of its clients."""
    return bool(_SERVERS_KEY.fullmatch(name))


def keys_replaced(words: Sequence[str], replaced: Callable[[str, str], str]) -> list[str]:
    """A command's words, with what `replaced` says for each key in them: it is told what the option or variable is
    called, and its value."""
    result: list[str] = []
    for word in words:
        assigned = _ASSIGNED.fullmatch(word)
        before = result[-1] if result else ""
        if _SECRET_OPTION.fullmatch(before) and not word.startswith("-"):
            result.append(replaced(before, word))
        elif assigned and (_SECRET_OPTION.fullmatch(assigned[1]) or is_secret(assigned[1])):
            result.append(f"{assigned[1]}={replaced(assigned[1], assigned[2])}")
        else:
            result.append(word)
    return result


def joined(words: Sequence[str]) -> str:
    """One line that is cut into these words again; `${NAME}` in them needs no quotes."""
    return " ".join(word if _UNQUOTED.fullmatch(word) else shlex.quote(word) for word in words)
