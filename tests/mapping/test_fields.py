from typing import Any

import pytest

from mooltiproxy.errors import BadRequest
from mooltiproxy.mapping.fields import Fields


def refused(body: Any, method: str, *arguments: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        getattr(Fields(body, "parent"), method)("field", *arguments)
    return caught.value


@pytest.mark.parametrize(
    ("method", "value"),
    [
        ("text", 1),
        ("text", ["a"]),
        ("flag", 1),
        ("flag", "true"),
        ("number", "1"),
        ("number", True),
        ("number", float("inf")),
        ("integer", True),
        ("integer", 1.5),
        ("integer", "1"),
        ("texts", 1),
        ("texts", ["a", 1]),
        ("texts", {"a": 1}),
        ("items", "a"),
        ("object", []),
        ("plain", "a"),
        ("required_text", None),
        ("required_object", None),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_its_name(method: str, value: Any) -> None:
    error = refused({"field": value}, method)
    assert error.param == "parent.field"
    assert "parent.field" in str(error)
    assert error.status == 400


@pytest.mark.parametrize("value", [-0.1, 2.1])
def test_a_number_outside_its_bounds_is_refused(value: float) -> None:
    assert "got" in str(refused({"field": value}, "number", 0, 2))


@pytest.mark.parametrize("method", ["text", "flag", "number", "integer", "items", "object", "plain"])
@pytest.mark.parametrize("body", [{}, {"field": None}])
def test_null_counts_as_absent(method: str, body: dict[str, Any]) -> None:
    assert getattr(Fields(body), method)("field") is None


def test_an_integral_float_is_an_integer() -> None:
    value = Fields({"n": 256.0}).integer("n")
    assert value == 256
    assert isinstance(value, int)


def test_one_string_is_a_list_of_one_and_empty_strings_are_left_out() -> None:
    assert Fields({"stop": "a"}).texts("stop") == ("a",)
    assert Fields({"stop": ["a", "", "b"]}).texts("stop") == ("a", "b")
    assert Fields({"stop": None}).texts("stop") == ()


def test_a_field_inside_a_list_is_named_with_its_place() -> None:
    with pytest.raises(BadRequest) as caught:
        for item in Fields({"a": [{"b": "x"}, {"b": 1}]}).objects("a"):
            item.text("b")
    assert caught.value.param == "a[1].b"


def test_what_nobody_asked_for_is_left_over() -> None:
    fields = Fields({"a": 1, "b": 2, "c": None, "d": [], "e": {}})
    fields.integer("a")
    assert fields.leftovers() == {"b": 2}


def test_the_first_spelling_with_a_value_counts_and_all_are_read() -> None:
    fields = Fields({"new": None, "old": 3})
    assert fields.integer(fields.first("new", "old")) == 3
    assert fields.leftovers() == {}


@pytest.mark.parametrize("body", [[], "text", None, 1])
def test_a_body_that_is_no_object_is_refused(body: Any) -> None:
    with pytest.raises(BadRequest, match="the body must be a JSON object"):
        Fields(body)
