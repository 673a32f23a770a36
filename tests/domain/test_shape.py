"""A shape is a type word or a JSON Schema that cannot be made to run for ever, or to look elsewhere."""

import re
import resource
import time

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.shape import KEYWORDS, MOST_MATCHED, MOST_MULTIPLES, MOST_SCHEMAS, Shape, parse_shape
from gateway.errors import MalformedError

_MEMORY_KIB = 64 << 10
_SECONDS = 2.0
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
        ({"properties": {str(number): {} for number in range(MOST_SCHEMAS)}}, "more than 64 schemas"),
        ({"enum": [[number] for number in range(MOST_SCHEMAS)]}, "more than 64 schemas"),
        ({"enum": [f"text {number}" for number in range(10_000)]}, "more than 64 KiB"),
        ({"allOf": [{"multipleOf": 0.01}] * (MOST_MULTIPLES + 1)}, "more than 4 `multipleOf`"),
        ({"allOf": [{"pattern": "a[ab]{700}c"}] * 2}, "no JSON Schema"),
    ],
)
def test_what_says_more_than_is_judged_is_refused(schema: object, why: str) -> None:
    with pytest.raises(MalformedError, match=re.escape(why)):
        parse_shape(schema)  # type: ignore[arg-type] # JSON


ONES = [1] * 300_000
LISTS: dict[str, object] = {"items": {"type": "string"}}
COSTLY: dict[str, tuple[dict[str, object], object, str]] = {
    "alternatives within": ({"items": {"anyOf": [{"const": f"{each}"} for each in range(50)]}}, ONES, "schema says"),
    "alternatives around": ({"anyOf": [LISTS] * 30}, ONES, "schema says"),
    "one of many": ({"oneOf": [{"anyOf": [LISTS] * 5}] * 5}, ONES, "schema says"),
    "each is wrong": (LISTS, ONES, '[0]: it is not of type "string"'),
    "each is none of many": ({"items": {"enum": [*range(2, 9000)]}}, ONES, "[0]: it is not one of"),
    "each lacks": ({"items": {"required": ["a"]}}, [{}] * 300_000, '[0]: "a" is a required property'),
    "a pattern that no table holds": ({"pattern": "a[ab]{800}c"}, "ab" * MOST_MATCHED, "not judged by patterns"),
    "patterns of names": ({"propertyNames": {"pattern": "a[ab]{800}c"}}, {"a" * (MOST_MATCHED + 1): 1}, "not judged"),
    "patterns of items": ({"items": {"pattern": "a[ab]{800}c"}}, ["a" * 1000] * 300, "not judged by patterns"),
}


@pytest.mark.parametrize("name", COSTLY)
def test_a_large_value_is_refused_without_a_list_of_all_that_is_wrong(name: str) -> None:
    schema, value, fault = COSTLY[name]
    shape = parse_shape(schema)  # type: ignore[arg-type] # JSON
    most, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    told = shape.fault(value)  # type: ignore[arg-type] # JSON
    assert fault in str(told)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most < _MEMORY_KIB
    assert time.process_time() - began < _SECONDS


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ([1], "[0]: it is not valid under any of the schemas listed in the 'anyOf' keyword"),
        ("x" * (MOST_MATCHED + 1), 'it is not of type "array"'),
    ],
)
def test_a_small_value_is_told_where_it_fits_no_alternative(value: object, fault: str) -> None:
    schema = {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "null"}]}}
    assert parse_shape(schema).fault(value) == fault  # type: ignore[arg-type] # JSON


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
