"""A record as one row of a table: the same columns, in the same order, for ever; new ones come behind."""

from typing import Any

from gateway.audit import canonical
from gateway.audit.formats.redaction import Row

INTEGERS = frozenset({"seq", "risk_score", "rule_line", "generation"})
BOOLEANS = frozenset({"dry_run"})
MOMENTS = frozenset({"timestamp", "decision_at"})
JSON = frozenset({"near_misses", "details", "replay"})
_TOP = (
    "seq",
    "event_id",
    "timestamp",
    "event_type",
    "category",
    "resolution",
    "risk_score",
    "user_id",
    "person",
    "plugin_id",
    "trace_id",
    "ref",
)
_DECISION = (
    "decision_id",
    "effect",
    "reason",
    "subject",
    "user",
    "permission",
    "kind",
    "level",
    "scope",
    "policy_version",
    "generation",
    "mode",
    "dry_run",
    "at",
    "consent_id",
    "approval_id",
)
_RENAMED = {"user": "decision_user", "at": "decision_at"}
COLUMNS = (
    *_TOP,
    *(_RENAMED.get(name, name) for name in _DECISION),
    "rule_id",
    "rule_file",
    "rule_line",
    "rule_why",
    "risk_tier",
    "near_misses",
    "details",
    "replay",
    "leaf",
)
_NO_DECISION = (None,) * (len(_DECISION) + 6)


def cells(row: Row) -> list[Any]:
    """Give the cells of a row: texts, integers, truths and None; what is nested as JSON in a text."""
    found = [row[name] for name in _TOP]
    decision = row["decision"]
    if decision is None:
        found += _NO_DECISION
    else:
        found += [decision.get(name) for name in _DECISION]
        rule, risk = decision["rule"] or {}, decision["risk"]
        found += [rule.get("id"), rule.get("file"), rule.get("line"), rule.get("why"), risk["tier"]]
        found.append(_text(decision["near_misses"]))
    found += [_text(row["details"]), _text(row["replay"]), row["leaf"]]
    return found


def _text(value: Any) -> str | None:  # noqa: ANN401 (any JSON value)
    return None if value is None else canonical.encode_in_order(value).decode()
