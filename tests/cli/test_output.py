"""What people and programs see."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.output import cell_text, columns, fail, print_facts, print_json, print_table
from gateway.domain.visible import clean
from gateway.errors import OutcomeUnknownError, Place, PolicyBrokenError, Problem

ROWS = [
    {"id": "notes", "risk": {"score": 5}, "tags": ["a", "b"], "on": True},
    {"id": "weather-report", "risk": {"score": 40}, "tags": [], "on": False},
]


def test_away_from_a_terminal_a_table_is_plain_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(columns(id="id", risk="#risk.score", tags="tags", switched_on="on"), ROWS, empty="none")
    assert capsys.readouterr().out.splitlines() == [
        "id              risk  tags  switched on",
        "notes              5  a, b  yes",
        "weather-report    40  -     no",
    ]


def test_an_empty_table_is_a_remark_and_no_output(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(columns(id="id"), [], empty="no plugins")
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "no plugins\n")


def test_facts_leave_out_what_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts({"id": "notes"}, columns(id="id", name="name"))
    assert capsys.readouterr().out == "id    notes\n"


def test_no_line_of_a_text_passes_for_another_fact(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts({"id": "notes", "text": "harmless\nid    other"}, columns(id="id", text="text"))
    assert capsys.readouterr().out.splitlines() == ["id    notes", "text  harmless", "      id    other"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), ("", "-"), ([], "-"), (0, "0"), ({"a": 1}, '{"a": 1}'), ("x\x1b[2J", "x\\x1b[2J")],
)
def test_a_cell_says_what_it_holds(value: object, text: str) -> None:
    assert cell_text({"a": {"b": value}}, "a.b") == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("zwölf Äpfel", "zwölf Äpfel"),
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("a\rb", "a\\x0db"),
        ("\x9b31m", "\\x9b31m"),
        ("safe\u202etxt.exe", "safe\\u202etxt.exe"),
        ("two\nlines", "two\nlines"),
    ],
)
def test_control_and_invisible_characters_are_spelt_out(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(st.text())
def test_nothing_that_is_printed_can_steer_a_terminal(text: str) -> None:
    assert all(char == "\n" or char.isprintable() or not char.isascii() for char in clean(text))
    assert "\x1b" not in clean(text)
    assert "\x9b" not in clean(text)


def test_a_json_document_holds_no_raw_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"text": "\x1b\x9b\u202e"})
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == {"text": "\x1b\x9b\u202e"}


def test_an_error_is_a_sentence_on_stderr_with_its_places_and_its_exit_status(
    capsys: pytest.CaptureFixture[str],
) -> None:
    problem = Problem(place=Place(file="rules/20.csv", line=3), message="a comma is missing")
    status = fail(
        PolicyBrokenError("nothing can be granted", way_out="mend the file", problems=[problem]), as_json=False
    )
    told = capsys.readouterr()
    assert status == 1
    assert told.out == ""
    assert told.err == "hearthgate: nothing can be granted: mend the file\n  rules/20.csv:3: a comma is missing\n"


def test_for_programs_an_error_is_a_document_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail(OutcomeUnknownError("nobody knows", decision_id="019a"), as_json=True) == 5
    told = capsys.readouterr()
    assert json.loads(told.out)["type"] == "urn:hearthgate:problem:outcome_unknown"
    assert "decision: 019a" in told.err
