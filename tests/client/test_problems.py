"""Errors survive the wire."""

import json
from collections.abc import Iterator

import pytest

from gateway.client.problems import error_of, problem_of
from gateway.errors import HearthgateError, IllegalTransitionError, Place, Problem


def every(kind: type[HearthgateError]) -> Iterator[type[HearthgateError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from every(narrower)


@pytest.mark.parametrize("kind", list(every(HearthgateError)))
def test_every_error_comes_back_as_what_it_was(kind: type[HearthgateError]) -> None:
    place = Place(file="rules/20-vault.csv", line=14)
    sent = kind(
        "it cannot be done",
        way_out="do it otherwise",
        decision_id="019a",
        problems=[Problem(place=place, message="a comma is missing", severity="warning")],
        retry_after_s=3,
        extra={"legal": ["approve"]},
    )
    body = json.loads(json.dumps(problem_of(sent)))
    back = error_of(body, status=sent.status)
    assert type(back) is kind
    assert str(back) == str(sent)
    assert (back.decision_id, back.retry_after_s, back.extra) == ("019a", 3, {"legal": ["approve"]})


def test_what_was_not_said_is_not_sent() -> None:
    assert problem_of(IllegalTransitionError("no")) == {
        "type": "urn:hearthgate:problem:illegal_transition",
        "title": "Not possible in this state",
        "status": 409,
        "detail": "no",
    }


def test_an_unknown_type_is_still_an_error_with_its_words() -> None:
    error = error_of({"type": "about:blank", "title": "Teapot", "status": 418}, status=418)
    assert type(error) is HearthgateError
    assert str(error) == "Teapot"


def test_an_answer_without_words_says_its_status() -> None:
    assert "answered 502" in str(error_of({}, status=502))
