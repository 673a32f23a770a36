"""What the log commits to, spelt from pieces, is what the encoder makes of the whole."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit import canonical
from gateway.audit.decided import SAME_SUBJECT, SAME_USER, spell_decision
from gateway.audit.leaf import prepare
from gateway.audit.log import DecisionLog
from gateway.audit.persons import Persons
from gateway.audit.query import LogReader
from gateway.audit.schema import migrate
from gateway.audit.wanted import Filter
from gateway.domain.decision import Decision, Effect, NearMiss, Reason, RuleRef, Verdict, timestamp
from gateway.domain.names import Subject, UserId
from gateway.domain.record import Record, Resolution
from gateway.domain.request import AccessRequest
from gateway.domain.risk import Risk, RiskPart, Tier

TEXT = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(['"', "\\", "\x00\x1f\x7f", "é😀", "%s{}"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
NAMES = ["plugin:notes", "user:alice", "user:bob", "role:owner", "key:k-1"]
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=-3, minutes=-30))])
RULES = st.builds(RuleRef, id=TEXT, file=TEXT, line=st.integers(0, 9999), why=TEXT)
DECISIONS = st.builds(
    Decision,
    decision_id=st.uuids().map(str),
    at=st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1), timezones=ZONES),  # noqa: DTZ001 # the zone is drawn
    request=st.builds(
        AccessRequest,
        subject=st.sampled_from(NAMES).map(Subject),
        user=st.sampled_from([None, "alice", "bob"]).map(lambda user: user and UserId(user)),
        kind=TEXT,
        level=TEXT,
        scope=TEXT,
    ),
    verdict=st.builds(
        Verdict,
        effect=st.sampled_from(Effect),
        reason=st.sampled_from(Reason),
        rule=st.none() | RULES,
        near_misses=st.lists(st.builds(NearMiss, rule=RULES, unmet=st.lists(TEXT, max_size=2).map(tuple))).map(tuple),
        spoke=st.lists(st.tuples(RULES, st.sampled_from(Effect)), max_size=2).map(tuple),
    ),
    risk=st.builds(
        Risk,
        score=st.integers(0, 100),
        tier=st.sampled_from(Tier),
        parts=st.lists(st.builds(RiskPart, name=TEXT, points=st.integers(-9, 100)), max_size=3).map(tuple),
    ),
    policy_version=TEXT,
    generation=st.integers(0, 2**40),
    consent_id=st.none() | TEXT,
    approval_id=st.none() | TEXT,
    dry_run=st.booleans(),
    mode=st.sampled_from(["enforce", "monitor"]),
)


@pytest.fixture(scope="module")
def persons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Persons]:
    path = tmp_path_factory.mktemp("persons") / "audit.db"
    connection = sqlite3.connect(path)
    migrate(connection)
    connection.close()
    known = Persons(path)
    yield known
    known.close()


@given(decision=DECISIONS, user_id=st.sampled_from([None, "alice", "bob"]))
@settings(deadline=None)
def test_a_decision_is_spelt_as_the_encoder_would(decision: Decision, user_id: str | None, persons: Persons) -> None:
    decided = spell_decision(decision, user_id, persons)
    whole: dict[str, Any] = decision.as_json()
    values = {
        name: canonical.encode(whole.pop(name))
        for name in ("near_misses", "scope", "subject", "user")
        if whole[name] not in (None, [])
    }
    if values.get("subject", b"").startswith(b'"plugin:'):
        whole["subject"] = decision.request.subject
        del values["subject"]
    request = decision.request
    others = {"user": request.user, "subject": request.subject.removeprefix("user:")}
    if request.user is not None and request.user != user_id:
        whole["user_person"] = persons.of(request.user)
    if request.subject.startswith("user:") and others["subject"] != user_id:
        whole["subject_person"] = persons.of(request.subject.removeprefix("user:"))
    assert decided.committed == canonical.encode(canonical.tidy(whole))
    shown = ",".join(f'"{name}":{value.decode()}' for name, value in values.items())
    assert decided.shown == shown
    same = {"user": SAME_USER} if request.user == user_id and user_id is not None else {}
    if user_id is not None and request.subject == f"user:{user_id}":
        same["subject"] = SAME_SUBJECT
    assert dict(decided.same) == {f"decision.{name}": marker for name, marker in same.items()}
    assert decided.values == {f"decision.{name}": value for name, value in values.items() if name not in same}


@given(
    details=st.dictionaries(TEXT, JSON, max_size=3),
    personal=st.dictionaries(TEXT, JSON, max_size=3),
    seq=st.integers(1),
)
@settings(deadline=None)
def test_a_record_has_one_spelling_whatever_it_holds(
    details: dict[str, Any], personal: dict[str, Any], seq: int, persons: Persons
) -> None:
    record = Record(
        event_id="audit-019a0000-0000-7000-8000-000000000001",
        at=datetime(2026, 11, 22, tzinfo=UTC),
        event_type="started",
        resolution=Resolution.COMPLETED,
        user_id="alice",
        details=details,
        personal=personal,
        replay=details,
    )
    prepared = prepare(record, persons)
    text = prepared.committed(seq)
    assert canonical.encode(canonical.decode_exact(text)) == text
    assert prepared.personal is not None
    for members in (prepared.personal.top, prepared.personal.decision, prepared.personal.details):
        json.loads(f"{{{members}}}")


@given(value=JSON)
@settings(deadline=None)
def test_the_short_way_to_a_canonical_spelling_gives_what_the_long_way_gives(value: object) -> None:
    assert canonical.spell(value) == canonical.encode(canonical.tidy(value))


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        {1: 2},
        {"a": (1,)},
        float("nan"),
        [float("inf")],
        1.0,
        1e300,
        -0.0,
        2**70,
        10**5000,
        "\ud800",
        {"\ud800": 1},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_only_looks_fit_takes_the_long_way(value: object) -> None:
    assert canonical.spell(value) == canonical.encode(canonical.tidy(value))
    assert canonical.spell({"a": [value]}) == canonical.encode(canonical.tidy({"a": [value]}))


def test_moments_are_spelt_in_utc_with_microseconds() -> None:
    east = timezone(timedelta(hours=2))
    assert timestamp(datetime(2026, 1, 1, 1, 0, tzinfo=east)) == "2025-12-31T23:00:00.000000Z"
    assert timestamp(datetime(2026, 1, 1, 1, 0, 0, 5, tzinfo=UTC)) == "2026-01-01T01:00:00.000005Z"


def test_a_person_keeps_the_pseudonym_over_restarts_and_gets_another_when_erased(
    folder: Path, open_log: Callable[[], DecisionLog], decided: Callable[..., Record]
) -> None:
    async def write(*users: str) -> None:
        log = open_log()
        await log.append(*(decided(user=user) for user in users))
        await log.close()

    asyncio.run(write("alice", "bob"))
    asyncio.run(write("alice"))
    with sqlite3.connect(folder / "audit.db") as connection:
        connection.execute("DELETE FROM person WHERE user = 'alice'")
    connection.close()
    asyncio.run(write("alice", "bob"))
    rows = LogReader(folder).find(Filter()).rows
    first, second, third, fourth, fifth = (row["person"] for row in reversed(rows))
    assert first == third != fourth
    assert second == fifth
    assert len({first, second, fourth}) == 3
    assert all(len(each) == 32 for each in (first, second, fourth))


def test_a_record_of_nobody_has_no_pseudonym(
    folder: Path, open_log: Callable[[], DecisionLog], record: Callable[..., Record]
) -> None:
    async def story() -> None:
        log = open_log()
        await log.append(record())
        await log.close()

    asyncio.run(story())
    assert LogReader(folder).find(Filter()).rows[0]["person"] is None
