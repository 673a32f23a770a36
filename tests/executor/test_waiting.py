"""Whoever waits for a call hears what makes sense, and no more than is good for them."""

import pytest

from gateway.executor.waiting import MAX_TELLINGS, Waiting


@pytest.mark.parametrize(
    ("fraction", "message", "told"),
    [
        (0, "begun", [(0.0, "begun")]),
        (1.0, "done", [(1.0, "done")]),
        (None, "on my way", [(None, "on my way")]),
        (0.5, None, [(0.5, "")]),
        (0.5, {"not": "text"}, [(0.5, "")]),
        ("0.5", "a text", [(None, "a text")]),
        (True, "a truth", [(None, "a truth")]),
        (-0.1, "back", []),
        (1.1, "beyond", []),
        (10**400, "huge", []),
        (0.5, "x" * 5000, [(0.5, "x" * 1000)]),
    ],
)
def test_what_makes_no_sense_is_passed_over(fraction: object, message: object, told: list[object]) -> None:
    heard: list[object] = []
    Waiting(lambda *each: heard.append(each)).hear(fraction, message)
    assert heard == told


def test_there_is_an_end_to_it() -> None:
    heard: list[object] = []
    waiting = Waiting(lambda *each: heard.append(each))
    for _ in range(MAX_TELLINGS * 2):
        waiting.hear(0.5, "again")
    assert len(heard) == MAX_TELLINGS


def test_who_gave_up_hears_nothing_more() -> None:
    heard: list[object] = []
    waiting = Waiting(lambda *each: heard.append(each))
    waiting.has_given_up = True
    waiting.hear(0.5, "still there?")
    assert heard == []
