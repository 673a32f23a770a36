import sqlite3
from contextlib import closing, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.index.schema import WORDS
from gateway.audit.index.words import match_expression
from gateway.errors import MalformedError


def found(text: str, typed: str) -> bool:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE VIRTUAL TABLE said USING fts5(words, {WORDS})")
        connection.execute("INSERT INTO said VALUES (?)", (text,))
        return bool(connection.execute("SELECT 1 FROM said WHERE said MATCH ?", (match_expression(typed),)).fetchall())


@pytest.mark.parametrize(
    ("typed", "matches"),
    [
        ("diary", True),
        ("DIARY alice", True),
        ("alice bob", False),
        ("user_data/diary", True),
        ("data user", True),
        ('"data user"', False),
        ('"read user data"', True),
        ("dia*", True),
        ('"user da"*', True),
        ("dia", False),
        ("NOT diary", False),
        ("diary OR nothing", False),
        ("words:diary", False),
        ("{words} : diary", False),
        ("diary)", True),
        ("^diary", True),
        ("NEAR(alice diary, 2)", False),
    ],
)
def test_words_phrases_and_beginnings_are_found_and_nothing_else_is_an_operator(*, typed: str, matches: bool) -> None:
    assert found("access_granted alice vault_read user_data/diary", typed) is matches


@given(st.text(max_size=60))
def test_whatever_is_typed_is_an_expression_that_the_index_takes_or_malformed(typed: str) -> None:
    with suppress(MalformedError):
        found("access granted", typed)
