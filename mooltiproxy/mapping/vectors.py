"""Embedding vectors between JSON's numbers and base64 of float32, little-endian, as OpenAI's embeddings API packs them
(platform.openai.com/docs/api-reference/embeddings, `encoding_format`)."""

import base64
import binascii
import sys
from array import array
from collections.abc import Sequence

WIDTH = 4
"""Bytes of a float32."""


def pack(vector: Sequence[float]) -> str:
    """A vector as base64; its numbers are rounded to float32."""
    packed = array("f", vector)
    if sys.byteorder == "big":
        packed.byteswap()
    return base64.b64encode(packed).decode("ascii")


def unpack(text: str) -> list[float]:
    """The vector that base64 holds; raises ValueError where it is none."""
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("this is not base64") from error
    if len(data) % WIDTH:
        raise ValueError(f"{len(data)} bytes are no float32 numbers")
    packed = array("f", data)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tolist()
