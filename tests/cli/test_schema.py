"""The published shapes are the ones that are used."""

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from gateway.cli.decision_schema import decision_schema
from gateway.domain.decision import Decision, Effect, NearMiss, Reason, RuleRef, Verdict
from gateway.domain.names import OWNER
from gateway.domain.request import AccessRequest
from gateway.domain.risk import Risk, RiskPart, Tier

Run = Callable[..., subprocess.CompletedProcess[str]]


def decision() -> dict[str, Any]:
    rule = RuleRef(id="r", file="rules/1.csv", line=1, why="because")
    miss = NearMiss(rule=rule, unmet=("consent",), reasons=("not given",))
    return Decision(
        decision_id="019a",
        at=datetime(2026, 11, 22, tzinfo=UTC),
        request=AccessRequest(subject=OWNER, user=None, kind="vault", level="read", scope="a"),
        verdict=Verdict(effect=Effect.DENY, reason=Reason.RULE, rule=rule, near_misses=(miss,)),
        risk=Risk(score=5, tier=Tier.LOW, parts=(RiskPart(name="vault.read", points=5),)),
        policy_version="sha256:00",
        generation=1,
    ).as_json()


def members(schema: dict[str, Any], value: Any, path: str = "") -> list[str]:  # noqa: ANN401 (any JSON value)
    """List every member of `value` that `schema` does not require, or requires and does not find."""
    schema = next((one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"), schema)
    if isinstance(value, list):
        return [wrong for one in value for wrong in members(schema["items"], one, f"{path}[]")]
    if not isinstance(value, dict):
        return []
    missing = [f"{path}.{name} is missing" for name in schema["required"] if name not in value]
    known = schema["properties"]
    return missing + [wrong for name in value if name in known for wrong in members(known[name], value[name], name)]


def test_a_decision_has_every_member_of_its_schema() -> None:
    assert members(decision_schema(), decision()) == []
    assert set(decision_schema()["properties"]) == set(decision())


def test_every_shape_is_printed_as_json_schema(hearthgate: Run) -> None:
    for shape in ("manifest", "policy-test", "decision"):
        left = hearthgate("schema", shape)
        assert left.returncode == 0, left.stderr
        assert json.loads(left.stdout)["$id"] == f"urn:hearthgate:schema:{shape}"
