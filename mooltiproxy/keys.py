"""Keys of clients: made, and written down as what cannot be turned back into a key."""

import hashlib
import secrets

MASTER = "master"
"""What the log calls the master key."""
PREFIX = "sha256:"
BYTES = 32


def new_key() -> str:
    """A key that nobody can guess."""
    return f"mooltiproxy-{secrets.token_urlsafe(BYTES)}"


def digest(key: bytes) -> bytes:
    """What keys are compared by. No salt and no work factor: keys are random, unlike passwords."""
    return hashlib.sha256(key).digest()


def hash_of(key: str) -> str:
    """What stands under `keys:` for a key."""
    return PREFIX + digest(key.encode()).hex()
