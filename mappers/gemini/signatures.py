"""`thoughtSignature` beside a part's text or call (ai.google.dev/gemini-api/docs/thought-signatures): always base64."""

import base64
from typing import Any

from mooltiproxy.mapping.media import standard_base64
from mooltiproxy.mapping.signatures import GEMINI, is_marked, mark, own

FIELD = "thoughtSignature"
SKIP = "skip_thought_signature_validator"
"""What the service takes in place of the signature of a call that it did not make itself."""


def signed(part: dict[str, Any], signature: str | None) -> dict[str, Any]:
    """The part with its signature; without one that is no base64, at which SDKs raise."""
    return {**part, FIELD: signature} if signature and _is_base64(signature) else part


def _is_base64(signature: str) -> bool:
    try:
        standard_base64(signature)
    except ValueError:
        return False
    return True


def thought_for_client(text: str, signature: str | None) -> dict[str, Any]:
    """A thought as a client gets it; the mark of another vendor's state is no base64 and goes inside."""
    part = {"text": text, "thought": True}
    state = own(GEMINI, signature)
    if state is None and signature is not None:
        state = base64.b64encode(signature.encode()).decode()
    return signed(part, state)


def thought_state(signature: str | None) -> str | None:
    """The neutral state of a thought that a client brings back, from standard base64."""
    if signature is None:
        return None
    inside = base64.b64decode(signature).decode("latin-1")
    return inside if is_marked(inside) else mark(GEMINI, signature)
