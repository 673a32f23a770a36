from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.policy.layout import difference, lay_out
from gateway.policy.parse import parse_policy
from gateway.policy.text import PolicyText

Edited = Callable[..., PolicyText]
RAGGED = """\
# what notes may do, and why, and why not
# id, subject, kind, level, scope, condition, effect, why
p,a,plugin:notes,vault,read,notes/*,-,allow,one
  p, longer-id,   plugin:notes, vault, write, x, consent; risk<=60, allow, two, three
p, longer-id,   plugin:notes, vault, write, x, consent; risk<=60, allow, two

# p, later, plugin:notes, vault, read, y, -, allow, not yet
nonsense
"""
LAID_OUT = """\
# what notes may do, and why, and why not
# id,         subject,      kind,  level, scope,   condition,         effect, why
p, a,         plugin:notes, vault, read,  notes/*, -,                 allow,  one
  p, longer-id,   plugin:notes, vault, write, x, consent; risk<=60, allow, two, three
p, longer-id, plugin:notes, vault, write, x,       consent; risk<=60, allow,  two

# p, later, plugin:notes, vault, read, y, -, allow, not yet
nonsense
"""


def test_columns_are_aligned_and_everything_else_stays() -> None:
    assert lay_out(RAGGED.encode()).decode() == LAID_OUT


def test_line_ends_and_what_is_no_text_stay() -> None:
    crlf = RAGGED.replace("\n", "\r\n").encode()
    assert lay_out(crlf) == LAID_OUT.replace("\n", "\r\n").encode()
    assert lay_out(b"p, \xff\n") == b"p, \xff\n"
    assert lay_out(b"") == b""


def test_the_starter_policy_is_laid_out(starter_text: PolicyText) -> None:
    for path in (*starter_text.rule_files, "roles.csv"):
        assert lay_out(starter_text.files[path]) == starter_text.files[path]


CELL = st.text("abc %,#-()", min_size=0, max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(rows=st.lists(st.lists(CELL, min_size=0, max_size=10).map(lambda cells: ", ".join(["p", *cells])), max_size=5))
def test_laying_out_changes_no_meaning_and_nothing_twice(rows: list[str], edited: Edited) -> None:
    good = "p, good, plugin:notes, vault, read, a, -, allow, why"
    data = "\n".join([good, *rows]).encode()
    once = lay_out(data)
    assert lay_out(once) == once
    one, other = (parse_policy(edited({"rules/90-here.csv": each})) for each in (data, once))
    assert [rule.fields for rule in one.rules] == [rule.fields for rule in other.rules]
    assert [(each.place.line, each.message) for each in one.problems] == [
        (each.place.line, each.message) for each in other.problems
    ]


def test_a_difference_names_files_that_come_and_go() -> None:
    told = difference(PolicyText({"a": b"1\n", "b": b"2\n"}), PolicyText({"b": b"3", "c": b"4\n"}))
    assert told.splitlines() == [
        "--- a", "+++ /dev/null", "@@ -1 +0,0 @@", "-1",
        "--- b", "+++ b", "@@ -1 +1 @@", "-2", "+3", "\\ No newline at end of file",
        "--- /dev/null", "+++ c", "@@ -0,0 +1 @@", "+4",
    ]  # fmt: skip
