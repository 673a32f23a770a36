"""ArcSight Common Event Format, version 0: a line for each record, UTF-8."""

from gateway.audit import canonical
from gateway.audit.formats.common import PRODUCT, VERSION, milliseconds, risk_level, sentence
from gateway.audit.formats.redaction import Row
from gateway.domain.spelling import spell_controls

_SEVERITY = {1: 2, 2: 5, 3: 8, 4: 10}
_VIOLATION = "permission_violation"
_VIOLATION_SEVERITY = 8


def cef_line(row: Row) -> bytes:
    """Give the line of a row."""
    severity = _SEVERITY[risk_level(row)]
    if row["event_type"] == _VIOLATION:
        severity = max(severity, _VIOLATION_SEVERITY)
    head = (PRODUCT, "gateway", VERSION, row["event_type"], sentence(row), str(severity))
    line = "|".join(("CEF:0", *map(_head, head), " ".join(_extension(row))))
    return line.encode() + b"\n"


def _extension(row: Row) -> list[str]:
    decision = row["decision"] or {}
    rule = decision.get("rule") or {}
    given = (
        ("rt", milliseconds(row["timestamp"])),
        ("externalId", row["event_id"]),
        ("cat", row["category"]),
        ("outcome", row["resolution"]),
        ("act", decision.get("effect")),
        ("reason", decision.get("reason")),
        ("suser", row["user_id"]),
        ("sproc", row["plugin_id"]),
        ("request", decision.get("scope")),
        ("fileHash", row["leaf"]),
    )
    labelled = (
        ("cs1", "permission", decision.get("permission")),
        ("cs2", "rule", rule.get("id")),
        ("cs3", "policyVersion", decision.get("policy_version")),
        ("cs4", "subject", decision.get("subject")),
        ("cs5", "details", canonical.encode_in_order(row["details"]).decode() if row["details"] else None),
        ("cs6", "traceId", row["trace_id"]),
        ("cn1", "seq", row["seq"]),
        ("cn2", "riskScore", row["risk_score"]),
        ("deviceCustomDate1", "timestamp", row["timestamp"]),
        ("flexString1", "ref", row["ref"]),
        ("flexString2", "person", row["person"]),
    )
    pairs = [f"{name}={_value(value)}" for name, value in given if value is not None]
    pairs += [f"{name}Label={label} {name}={_value(value)}" for name, label, value in labelled if value is not None]
    return pairs


def _head(text: str) -> str:
    return spell_controls(text).replace("\\", "\\\\").replace("|", "\\|")


def _value(value: object) -> str:
    if type(value) is int:
        return str(value)
    text = spell_controls(str(value), breaks=False).replace("\\", "\\\\").replace("=", "\\=")
    return text.replace("\n", "\\n").replace("\r", "\\r")
