"""Top-level fields set in bytes that otherwise stay as they are."""

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from mooltiproxy.mapping.json_edit import with_fields

scalars = st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.text(max_size=6)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
objects = st.dictionaries(st.text(max_size=3), values, max_size=5)


@given(objects, objects, st.booleans())
def test_what_is_set_is_set_and_the_rest_is_the_same(body: dict[str, Any], fields: dict[str, Any], wide: bool) -> None:
    written = orjson.dumps(body, option=orjson.OPT_INDENT_2 if wide else None)
    expected = {name: value for name, value in (body | fields).items() if name not in fields or value is not None}
    assert orjson.loads(with_fields(written, fields)) == expected


def test_no_other_byte_is_touched() -> None:
    body = b'{ "a" : 1.0 ,\n "b": [1, {"a": 2}], "model":"x" }'
    assert with_fields(body, {"a": 2}) == b'{ "a" : 2 ,\n "b": [1, {"a": 2}], "model":"x" }'
    assert with_fields(body, {"c": "d"}) == b'{ "a" : 1.0 ,\n "b": [1, {"a": 2}], "model":"x" ,"c":"d"}'
    assert with_fields(body, {"b": None}) == b'{ "a" : 1.0 , "model":"x" }'


def test_an_empty_object_gets_its_first_field_and_loses_its_last() -> None:
    assert with_fields(b"{}", {"a": 1}) == b'{"a":1}'
    assert with_fields(b'{"a": {"b": 1}}', {"a": None}) == b"{}"


def test_a_field_that_is_there_twice_is_set_twice() -> None:
    assert with_fields(b'{"a": 1, "a": 2}', {"a": 3}) == b'{"a": 3, "a": 3}'
