"""A folder for a log, a clock that ticks by itself, and records as the gateway makes them."""

import itertools
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.log import DecisionLog
from gateway.domain.decision import Decision, Effect, Reason, RuleRef, Verdict
from gateway.domain.names import Subject, UserId
from gateway.domain.record import Record, Resolution
from gateway.domain.request import AccessRequest
from gateway.domain.risk import Risk, RiskPart, Tier

_START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def now() -> Callable[[], datetime]:
    ticks = itertools.count()
    return lambda: _START + timedelta(milliseconds=next(ticks))


@pytest.fixture
def new_id() -> Callable[[], str]:
    return lambda: str(uuid.uuid4())


@pytest.fixture
def open_log(
    folder: Path,
    now: Callable[[], datetime],
    new_id: Callable[[], str],
) -> Callable[[], DecisionLog]:
    return lambda: DecisionLog.open(folder, now=now, new_id=new_id)


@pytest.fixture
def record(now: Callable[[], datetime], new_id: Callable[[], str]) -> Callable[..., Record]:
    def make(**members: Any) -> Record:  # noqa: ANN401 # any member of a record
        given = {
            "event_id": f"audit-{new_id()}",
            "at": now(),
            "event_type": "started",
            "resolution": Resolution.COMPLETED,
        }
        return Record(**(given | members))

    return make


@pytest.fixture
def decided(now: Callable[[], datetime], new_id: Callable[[], str]) -> Callable[..., Record]:
    def make(*, user: str = "alice", effect: Effect = Effect.ALLOW, risk: int = 20, plugin: str = "notes") -> Record:
        at, decision_id = now(), new_id()
        allowed = effect is Effect.ALLOW
        decision = Decision(
            decision_id=decision_id,
            at=at,
            request=AccessRequest(
                subject=Subject(f"plugin:{plugin}"),
                user=UserId(user),
                kind="vault",
                level="read",
                scope="user_data/diary",
            ),
            verdict=Verdict(
                effect=effect,
                reason=Reason.RULE,
                rule=RuleRef(id="notes-diary", file="rules/20-vault.csv", line=14, why="notes read notes"),
            ),
            risk=Risk(score=risk, tier=Tier.LOW, parts=(RiskPart(name="vault.read", points=risk),)),
            policy_version="sha256:00",
            generation=7,
        )
        return Record(
            event_id=f"audit-{decision_id}",
            at=at,
            event_type="access_granted" if allowed else "access_denied",
            resolution=Resolution.ALLOWED if allowed else Resolution.DENIED,
            plugin_id=plugin,
            user_id=user,
            risk_score=risk,
            decision=decision,
            replay={"resource": {"owner": user}},
        )

    return make
