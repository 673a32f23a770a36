from pathlib import Path
from tempfile import TemporaryDirectory

import casbin
import pytest
from casbin.persist.adapters import FileAdapter
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.domain.condition import Attribute, Compare
from gateway.errors import MalformedError
from gateway.policy.encode import add_lines, decode_field, drop_rules, encode_field, encode_literal, rule_line
from gateway.policy.lines import split_lines
from gateway.policy.model import SHIPPED
from gateway.policy.problems import Problems
from gateway.policy.terms import parse_term

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def read_by_casbin(line: str) -> list[str]:
    with TemporaryDirectory() as folder:
        policy = Path(folder, "policy.csv")
        policy.write_bytes(line.encode() + b"\n")
        enforcer = casbin.Enforcer(casbin.Enforcer.new_model(text=SHIPPED), FileAdapter(str(policy)))
    [fields] = enforcer.get_policy()
    return list(fields)


@settings(max_examples=300, deadline=None)
@given(scope=TEXT.filter(bool), why=TEXT)
@example(scope="a,b%2C#\"'()[](]", why=" 'quoted' ")
@example(scope="[::1]:8080", why="\r\n\u2028\ufeff\u00a0")
@example(scope="%", why="\x00")
def test_what_is_written_is_read_back_by_us_and_by_stock_casbin(scope: str, why: str) -> None:
    line = rule_line(["id", "plugin:notes", "todo", "read", encode_field(scope), "-", "allow"], why=why)
    problems = Problems()
    [ours] = split_lines("rules/x.csv", line.encode(), problems)
    assert problems.sorted() == ()
    assert (decode_field(ours.fields[5]), decode_field(ours.fields[8])) == (scope, why)
    assert read_by_casbin(line) == list(ours.fields[1:])


@settings(max_examples=300, deadline=None)
@given(value=TEXT.filter(bool))
@example(value="true")
@example(value="5")
@example(value="-1.5")
@example(value="subject.id")
@example(value="a|b;c == (d)")
def test_a_literal_is_read_back_as_the_text_it_was(value: str) -> None:
    term = parse_term(f"context.x == {encode_literal(value)}", {})
    assert isinstance(term, Compare)
    assert term.left == Attribute(path=("context", "x"))
    assert term.right == value


@pytest.mark.parametrize("text", ["100%", "%G0", "%2", "%FF", "%C3%28"])
def test_codes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        decode_field(text)


def test_half_a_character_cannot_be_written() -> None:
    with pytest.raises(MalformedError):
        encode_field("\ud800")


FILE = (
    b"# kept\r\np, grant-1, plugin:notes, vault, read, a, -, allow, one\n"
    b"p,grant-10,plugin:notes,vault,read,b,-,allow,two"
)


def test_lines_are_added_behind_an_unended_last_line() -> None:
    assert add_lines(FILE, ["p, grant-2"]) == FILE + b"\np, grant-2\n"
    assert add_lines(b"", ["p, grant-2"]) == b"p, grant-2\n"


def test_dropping_a_rule_keeps_every_other_byte() -> None:
    assert drop_rules(FILE, {"grant-1"}) == b"# kept\r\np,grant-10,plugin:notes,vault,read,b,-,allow,two"
    assert drop_rules(FILE, {"grant-10", "grant-3"}) == FILE[: FILE.rindex(b"p,")]
    assert drop_rules(FILE, set()) == FILE
