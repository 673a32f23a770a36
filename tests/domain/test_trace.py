"""A `traceparent` is read as W3C Trace Context says, and what is none is ignored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.trace import Trace

ID, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("header", "sampled"),
    [
        (f"00-{ID}-{PARENT}-01", True),
        (f"00-{ID}-{PARENT}-00", False),
        (f"00-{ID}-{PARENT}-fe", False),
        (f"00-{ID}-{PARENT}-ff", True),
        (f"01-{ID}-{PARENT}-01", True),
        (f"cc-{ID}-{PARENT}-01-what-comes-later", True),
    ],
)
def test_what_it_says_is_taken_and_handed_on_in_our_version(header: str, *, sampled: bool) -> None:
    trace = Trace.parse(header)
    assert trace == Trace(id=ID, parent=PARENT, sampled=sampled)
    assert trace.header == f"00-{ID}-{PARENT}-{'01' if sampled else '00'}"


@pytest.mark.parametrize(
    "header",
    [
        "",
        ID,
        f"ff-{ID}-{PARENT}-01",
        f"00-{ID}-{PARENT}-01-more",
        f"00-{ID}-{PARENT}-01-",
        f"cc-{ID}-{PARENT}-01.more",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{ID}-{'0' * 16}-01",
        f"00-{ID.upper()}-{PARENT}-01",
        f"00-{ID}-{PARENT}-1",
        f"00-{ID}-{PARENT}-01\n",
        f" 00-{ID}-{PARENT}-01",
        f"00-{ID[1:]}-{PARENT}-01",
        f"0-{ID}-{PARENT}-01",
        f"00-{ID[:-1]}٣-{PARENT}-01",
        f"cc-{ID}-{PARENT}-01-{'x' * 10_000}",
    ],
)
def test_what_is_none_is_ignored(header: str) -> None:
    assert Trace.parse(header) is None


@given(st.text())
def test_no_text_fails_and_what_is_handed_on_reads_as_itself(text: str) -> None:
    trace = Trace.parse(text)
    assert trace is None or Trace.parse(trace.header or "") == trace


def test_a_trace_whose_step_is_not_known_is_not_handed_on() -> None:
    assert Trace(id=ID).header is None
