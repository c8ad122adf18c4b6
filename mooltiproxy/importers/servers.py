"""What foreign configurations say of servers: addresses and keys, as entries of our `targets:`."""

import re
from urllib.parse import urlsplit

from voluptuous import Invalid

from mooltiproxy.config import validators
from mooltiproxy.importers.draft import Data, Variable

STAND_INS = frozenset(
    "none null empty dummy fake fake-key no-key not-needed not_needed ollama lm-studio sk-no-key-required".split()
)
"""What people write where a program wants a key and the server does not."""

_CHATS = ("/v1/messages", "/api/chat", "/v1/responses")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def wrong_url(value: object) -> str:
    """Why an address cannot be a target's url, "" if it can; the reason does not quote it."""
    if isinstance(value, Variable):
        return ""
    try:
        validators.url(value)
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
