import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit import canonical

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()) | st.integers(), inner),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("value", "spelt"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (0.1, "0.1"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (1.5e300, "1.5e+300"),
        (5e-324, "5e-324"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (-1.25, "-1.25"),
        (333333333.33333329, "333333333.3333333"),
        (295147905179352830000.0, "295147905179352830000"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (math.nan, '"NaN"'),
        (-math.inf, '"-Infinity"'),
        (2**70, str(2**70)),
        ("\ud800x", '"\ufffdx"'),
        ('\x00\x1f\b"\\\u2028', '"\\u0000\\u001f\\b\\"\\\\\u2028"'),
        ({1: 2, "": 0, "\U0001f600": 1, "\uffee": 2}, '{"":0,"1":2,"\uffee":2,"\U0001f600":1}'),
        ((1, frozenset({2})), "[1,[2]]"),
        (b"x", "\"b'x'\""),
    ],
)
def test_every_value_has_one_spelling(value: object, spelt: str) -> None:
    assert canonical.encode(canonical.tidy(value)).decode() == spelt


@given(ANYTHING)
def test_anything_can_be_spelt_and_is_spelt_the_same_after_reading(value: object) -> None:
    spelt = canonical.encode(canonical.tidy(value))
    assert canonical.encode(canonical.decode_exact(spelt)) == spelt
    json.loads(spelt)


@given(st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: value != 0))
def test_a_number_is_read_back_as_the_number_it_was(value: float) -> None:
    assert float(canonical.spell_float(value)) == value


def test_what_is_nested_too_deep_is_said_to_be() -> None:
    value: object = "bottom"
    for _ in range(100_000):
        value = [value]
    assert canonical.TOO_DEEP in canonical.encode(canonical.tidy(value)).decode()


def test_a_number_of_a_million_digits_does_no_harm() -> None:
    assert canonical.tidy_json([10**1_000_000]) == [canonical.TOO_LONG]
