"""Identifiers of answers, in the form that clients expect."""

import hashlib
import secrets


def new_id(prefix: str) -> str:
    """A fresh identifier such as `chatcmpl-3f9a...`: the prefix and 24 random hexadecimal digits."""
    return prefix + secrets.token_hex(12)


def stable_id(prefix: str, *place: object) -> str:
    """An identifier that is the same whenever it is made for the same place: for calls of a history without ids."""
    return prefix + hashlib.sha256(repr(place).encode()).hexdigest()[:24]
