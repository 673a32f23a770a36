import dataclasses
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec import structs

from gateway.domain.condition import Rate
from gateway.domain.decision import Effect, Reason
from gateway.domain.request import Facts
from gateway.policy.conditions import Met, Unmet, meet
from gateway.policy.hours import parse_hours, within
from gateway.policy.terms import parse_condition, parse_term

TESTDATA = Path(__file__).parents[1] / "testdata"
HOURS = tomllib.loads((TESTDATA / "hours.toml").read_text())["row"]
COMPARISONS = tomllib.loads((TESTDATA / "comparisons.toml").read_text())
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
FACTS = Facts(at=NOON, risk=50)
MOMENTS = [
    (row["hours"], row.get("holidays", []), moment, moment in row["in"])
    for row in HOURS
    for moment in [*row["in"], *row["out"]]
]


@pytest.mark.parametrize(("text", "holidays", "moment", "want"), MOMENTS)
def test_hours_are_those_on_the_wall_of_the_zone(text: str, holidays: list[str], moment: str, *, want: bool) -> None:
    hours = dataclasses.replace(parse_hours(text), holidays=frozenset(holidays))
    assert within(hours, datetime.fromisoformat(moment)) is want


@pytest.mark.parametrize(("text", "want"), COMPARISONS["rows"].items())
def test_a_comparison_that_cannot_be_told_refuses(text: str, want: str) -> None:
    facts = structs.replace(FACTS, attributes=COMPARISONS["attributes"])
    term = parse_term(text, {})
    answers = {effect: isinstance(meet(term, facts, effect=effect), Met) for effect in (Effect.ALLOW, Effect.DENY)}
    wanted = {"yes": (True, True), "no": (False, False), "unknown": (False, True)}[want]
    assert (answers[Effect.ALLOW], answers[Effect.DENY]) == wanted


@pytest.mark.parametrize(
    ("text", "facts", "reason"),
    [
        ("consent", {"consent_id": "c"}, Reason.CONSENT_REQUIRED),
        ("approval", {"approval_id": "a"}, Reason.APPROVAL_REQUIRED),
        ("risk<=60", {}, None),
        ("risk<=50", {}, None),
        ("risk <= 49", {"risk": 49}, Reason.RISK_TOO_HIGH),
        ("rate(1/60s)", {}, None),
        ("from(2026-11-23T12:00:00Z)", {}, None),
        ("from(2026-11-23T13:00:01+01:00)", {"at": datetime(2026, 11, 23, 12, 0, 1, tzinfo=UTC)}, Reason.CONDITION),
        ("until(2026-11-23T12:00:00Z)", {"at": datetime(2026, 11, 23, 11, 59, 59, tzinfo=UTC)}, Reason.CONDITION),
        ("until(2026-11-23T12:00:00.5Z)", {}, None),
        ("hours(13:00-14:00 UTC)", {"at": datetime(2026, 11, 23, 13, tzinfo=UTC)}, Reason.CONDITION),
    ],
)
def test_a_term_is_met_only_by_what_it_asks_for(text: str, facts: dict[str, object], reason: Reason | None) -> None:
    term = parse_term(text, {})
    before = meet(term, FACTS)
    assert (before.reason if isinstance(before, Unmet) else None) is reason
    assert isinstance(meet(term, structs.replace(FACTS, **facts)), Met)  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "per_s"), [("60s", 60), ("1m", 60), ("2h", 7200), ("1d", 86400)])
def test_a_rate_counts_per_rule(text: str, per_s: int) -> None:
    term = parse_term(f"rate(3/{text})", {})
    assert term == Rate(count=3, per_s=per_s)
    counts = {"busy": 3, "idle": 2}
    facts = structs.replace(FACTS, used=lambda rule_id, _rate: counts[rule_id])
    assert isinstance(meet(term, facts, rule_id="idle"), Met)
    assert meet(term, facts, rule_id="busy") == Unmet(
        reason=Reason.RATE_LIMITED, sentence=f"3 of 3 calls in {per_s} s are used"
    )


@pytest.mark.parametrize("text", ["consent", "hours(00:00-24:00 UTC)", "until(2027-01-01T00:00:00Z)"])
def test_a_moment_without_a_zone_refuses(text: str) -> None:
    facts = Facts(at=datetime(2026, 11, 23, 12), consent_id="c")  # noqa: DTZ001 (that is the point)
    assert isinstance(meet(parse_term(text, {}), facts), Unmet)
    assert isinstance(meet(parse_term(text, {}), facts, effect=Effect.DENY), Met)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, [], {}, b"x", object()])
@pytest.mark.parametrize("operator", ["==", "!=", "<", ">="])
def test_values_that_are_no_values_refuse(value: object, operator: str) -> None:
    facts = structs.replace(FACTS, attributes={"context": {"x": value}})  # type: ignore[dict-item]
    term = parse_term(f"context.x {operator} 5", {})
    assert isinstance(meet(term, facts), Unmet)
    assert isinstance(meet(term, facts, effect=Effect.DENY), Met)


def test_all_terms_are_read_and_every_wrong_one_is_told() -> None:
    condition, wrong = parse_condition("consent; risk<=10 ; nonsense; rate(x)", {})
    assert [text for text, _ in condition.terms] == ["consent", "risk<=10"]
    assert len(wrong) == 2
