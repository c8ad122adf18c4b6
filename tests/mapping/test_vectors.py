import base64
import struct

import pytest

from mooltiproxy.mapping.vectors import pack, unpack


def test_a_vector_is_packed_as_little_endian_float32() -> None:
    assert base64.b64decode(pack([1, -2.5, 0.1])) == struct.pack("<3f", 1, -2.5, 0.1)


def test_what_was_packed_is_unpacked() -> None:
    assert unpack(pack([1.0, -2.5, 0.25])) == [1.0, -2.5, 0.25]


def test_an_empty_vector_is_an_empty_text() -> None:
    assert pack([]) == ""
    assert unpack("") == []


@pytest.mark.parametrize("text", ["AAA", "!!!!", "AAAA"])
def test_what_holds_no_float32_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        unpack(text)
