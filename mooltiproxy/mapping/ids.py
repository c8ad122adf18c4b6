"""Identifiers of answers, in the form that clients expect."""

import secrets


def new_id(prefix: str) -> str:
    """A fresh identifier such as `chatcmpl-3f9a...`: the prefix and 24 random hexadecimal digits."""
    return prefix + secrets.token_hex(12)
