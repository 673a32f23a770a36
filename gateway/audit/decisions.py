"""Reading many decisions at once, as they are needed to be judged again."""

from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway.audit.leaf import event_bytes
from gateway.audit.query import LogReader
from gateway.audit.selection import conditions
from gateway.audit.wanted import Filter
from gateway.domain.decision import Effect, Reason
from gateway.policy.replay import KeptFacts, Recorded

PAGE_ROWS = 1000
_PAGE = """
    SELECT record.seq, committed, personal FROM record LEFT JOIN pii USING (seq)
    WHERE effect IS NOT NULL AND record.seq > ? AND record.seq <= ? ORDER BY record.seq LIMIT ?
"""
_ONE = """
    SELECT committed, personal FROM record LEFT JOIN pii USING (seq)
    WHERE effect IS NOT NULL AND id = ? ORDER BY record.seq LIMIT 1
"""
_ALLOWS = "SELECT rule, committed, personal FROM record LEFT JOIN pii USING (seq) WHERE rule IS NOT NULL"


class _Rule(Struct, gc=False):
    id: str


class _Decision(Struct, gc=False):
    decision_id: str
    effect: Effect
    reason: Reason
    kind: str
    level: str
    policy_version: str
    dry_run: bool = False
    rule: _Rule | None = None
    subject: str | None = None


class _Names(Struct, gc=False, frozen=True):
    user: str | None = msgspec.field(name="decision.user", default=None)


class _Committed(Struct, gc=False):
    decision: _Decision
    personal: _Names = _Names()


class _Asked(Struct, gc=False):
    scope: str | None = None
    user: str | None = None
    subject: str | None = None


class _Personal(Struct, gc=False):
    decision: _Asked
    replay: KeptFacts | None = None


_committed = msgspec.json.Decoder(_Committed)
_personal = msgspec.json.Decoder(_Personal)


def count_records(folder: Path) -> int:
    """Tell how many records of any kind the log has."""
    with LogReader(folder).whole() as whole:
        return whole.size


def read_decisions(folder: Path) -> Iterator[tuple[int, list[Recorded], int]]:
    """Give every decision, oldest first, a page at a time.

    A page is the number of its last record, the decisions that can be told, and how many cannot: a person's
    data was erased, or an older version kept less.

    Raises:
        LogUnavailableError: the log cannot be read.
    """
    with LogReader(folder).whole() as whole:
        newest, after = whole.size, 0
        for part in whole.parts:
            while found := part.connection.execute(_PAGE, (after, newest, PAGE_ROWS)).fetchall():
                after = found[-1][0]
                told = [recorded for row in found if (recorded := _recorded(row[1], row[2])) is not None]
                yield after, told, len(found) - len(told)


def read_allows(folder: Path, rules: Collection[str], *, since: datetime) -> Iterator[Recorded]:
    """Give the decisions since a moment that one of `rules` allowed and that were no dry runs, oldest first.

    Raises:
        LogUnavailableError: the log cannot be read.
    """
    wanted = Filter(since=since, effect="allow")
    with LogReader(folder).whole() as whole:
        for part in whole.between(*wanted.span):
            where, values = conditions(wanted, part.connection)
            sql = f"{_ALLOWS} AND {' AND '.join(where)} ORDER BY record.seq"
            for rule, committed, personal in part.connection.execute(sql, values):
                recorded = _recorded(committed, personal) if rule in rules else None
                if recorded is not None and not recorded.dry_run:
                    yield recorded


def read_decision(folder: Path, decision_id: str) -> Recorded | None:
    """Give one decision, None if there is none or its record does not tell it whole.

    Raises:
        LogUnavailableError: the log cannot be read.
        MalformedError: the id is none.
    """
    wanted = (event_bytes(f"audit-{decision_id}"),)
    with LogReader(folder).whole() as whole:
        found = (part.connection.execute(_ONE, wanted).fetchone() for part in whole.newest_first())
        row = next((each for each in found if each is not None), None)
    return None if row is None else _recorded(row[0], row[1])


def _recorded(committed: str, personal: str | None) -> Recorded | None:
    if personal is None:
        return None
    try:
        whole, values = _committed.decode(committed), _personal.decode(personal)
    except msgspec.ValidationError:
        return None
    decision, facts, asked = whole.decision, values.replay, values.decision
    subject = decision.subject or asked.subject
    if facts is None or asked.scope is None or subject is None:
        return None
    if asked.user is None and whole.personal.user is not None:
        return None
    return Recorded(
        decision_id=decision.decision_id,
        subject=subject,
        user=asked.user,
        kind=decision.kind,
        level=decision.level,
        scope=asked.scope,
        allowed=decision.effect is Effect.ALLOW,
        reason=decision.reason,
        facts=facts,
        policy_version=decision.policy_version,
        rule_id=None if decision.rule is None else decision.rule.id,
        dry_run=decision.dry_run,
    )
