"""A shape is a type word or a JSON Schema that cannot be made to run for ever, or to look elsewhere."""

import re

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.shape import KEYWORDS, MOST_SCHEMAS, Shape, parse_shape
from gateway.errors import MalformedError

AGE = {"type": "object", "properties": {"age": {"type": "integer", "minimum": 0}}, "required": ["age"]}


@pytest.mark.parametrize(
    ("schema", "value", "fault"),
    [
        ("string", "x", None),
        ("string", 1, "string is needed"),
        ("any", None, None),
        (AGE, {"age": 3}, None),
        (AGE, {"age": -1}, "age: it is less than the minimum of 0"),
        (AGE, {}, '"age" is a required property'),
        ({"type": "array", "items": AGE}, [{"age": 1}, {"age": "old"}], '[1].age: it is not of type "integer"'),
        ({"type": ["string", "null"]}, None, None),
        ({"pattern": "^(a+)+$"}, "a" * 60 + "b", 'it does not match "^(a+)+$"'),
        ({"format": "date"}, "2026-02-30", 'it is not a "date"'),
        ({"enum": ["low", "high"]}, "low", None),
        ({"maximum": 5}, "a text is not judged by a number", None),
        ({"type": "string", "maxLength": 3}, "\ud800", "cannot be judged"),
    ],
)
def test_a_value_is_judged_and_never_repeated(schema: object, value: object, fault: str | None) -> None:
    assert parse_shape(schema).fault(value) == fault  # type: ignore[arg-type] # JSON


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ("text", "one of string"),
        (3, "a type word or a JSON Schema"),
        ({"$ref": "#"}, "$ref: is not understood"),
        ({"$dynamicRef": "#"}, "$dynamicRef"),
        ({"items": {"$ref": "https://example.com/x"}}, "items.$ref"),
        ({"properties": {"a": {"anyOf": [{"$id": "x"}]}}}, "properties.a.anyOf[0].$id"),
        ({"type": "whole"}, "no JSON Schema"),
        ({"minimum": "1"}, "no JSON Schema"),
        ({"format": "what"}, "format"),
        ({"pattern": "("}, "no JSON Schema"),
        ({"pattern": "(?=a)b"}, "no JSON Schema"),
        ({"pattern": "(a{900}){900}"}, "no JSON Schema"),
        ({"properties": {str(number): {} for number in range(MOST_SCHEMAS)}}, "more than"),
    ],
)
def test_what_says_more_than_is_judged_is_refused(schema: object, why: str) -> None:
    with pytest.raises(MalformedError, match=re.escape(why)):
        parse_shape(schema)  # type: ignore[arg-type] # JSON


def test_a_schema_may_not_be_deep() -> None:
    schema: dict[str, object] = {}
    for _ in range(40):
        schema = {"not": schema}
    with pytest.raises(MalformedError, match="deep"):
        parse_shape(schema)  # type: ignore[arg-type] # JSON


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "a", "ab", "2026-01-01"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
    max_leaves=6,
)
SCHEMAS = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["string", "integer", "object", "array", "null", ["null", "boolean"]]),
            "enum": st.lists(VALUES, min_size=1, max_size=3),
            "minimum": st.integers(-5, 5),
            "maxLength": st.integers(0, 3),
            "minItems": st.integers(0, 2),
            "uniqueItems": st.booleans(),
            "required": st.lists(st.sampled_from(["a", "b"]), unique=True),
            "pattern": st.sampled_from(["^a", "b$"]),
        },
    ),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
            "additionalProperties": inner | st.booleans(),
            "items": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "not": inner,
        },
    ),
    max_leaves=5,
)


@given(SCHEMAS, VALUES)
def test_another_validator_judges_alike(schema: dict[str, object], value: object) -> None:
    shape = parse_shape(schema)  # type: ignore[arg-type] # JSON
    assert (shape.fault(value) is None) is jsonschema.Draft202012Validator(schema).is_valid(value)  # type: ignore[arg-type] # JSON


@given(st.dictionaries(st.sampled_from(sorted(KEYWORDS)), VALUES, max_size=4), VALUES)
def test_whatever_is_written_is_judged_or_refused(schema: dict[str, object], value: object) -> None:
    try:
        shape = parse_shape(schema)  # type: ignore[arg-type] # JSON
    except MalformedError:
        return
    assert isinstance(shape, Shape)
    shape.fault(value)  # type: ignore[arg-type] # JSON
