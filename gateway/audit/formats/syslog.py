"""Syslog as RFC 5424 says it: a message for each record, its facts as structured data."""

import re
import socket

from gateway.audit import canonical
from gateway.audit.formats.common import risk_level, sentence
from gateway.audit.formats.redaction import Row
from gateway.domain.spelling import spell_controls

_LOG_AUDIT = 13
_CRITICAL, _WARNING, _NOTICE, _INFORMATIONAL = 2, 4, 5, 6
_UNPRINTABLE = re.compile(r"[^\x21-\x7e]")
_NOT_ASCII = re.compile(r"[^\x20-\x7e]")
_MAX_HOST = 255
_MAX_MSGID = 32
_HOST = _UNPRINTABLE.sub("", socket.gethostname())[:_MAX_HOST] or "-"
# 32473 is the enterprise number that RFC 5612 sets aside for those who have none.
_ELEMENT = "hearthgate@32473"


def syslog_message(row: Row) -> bytes:
    """Give the message of a row, without a line break."""
    decision = row["decision"] or {}
    rule = decision.get("rule") or {}
    facts = (
        ("seq", row["seq"]),
        ("eventId", row["event_id"]),
        ("category", row["category"]),
        ("resolution", row["resolution"]),
        ("risk", row["risk_score"]),
        ("user", row["user_id"]),
        ("person", row["person"]),
        ("plugin", row["plugin_id"]),
        ("effect", decision.get("effect")),
        ("reason", decision.get("reason")),
        ("rule", rule.get("id")),
        ("subject", decision.get("subject")),
        ("permission", decision.get("permission")),
        ("scope", decision.get("scope")),
        ("policyVersion", decision.get("policy_version")),
        ("traceId", row["trace_id"]),
        ("ref", row["ref"]),
        ("details", canonical.encode_in_order(row["details"]).decode() if row["details"] else None),
        ("leaf", row["leaf"]),
    )
    data = " ".join(f'{name}="{_value(value)}"' for name, value in facts if value is not None)
    priority = _LOG_AUDIT * 8 + _severity(row)
    kind = _UNPRINTABLE.sub("", row["event_type"])[:_MAX_MSGID] or "-"
    # WHY: text beyond ASCII would need a byte order mark; the facts above have it in full.
    said = _NOT_ASCII.sub("?", sentence(row))
    return f"<{priority}>1 {row['timestamp']} {_HOST} hearthgate - {kind} [{_ELEMENT} {data}] {said}".encode()


def syslog_line(row: Row) -> bytes:
    """Give the message of a row as a line of a file."""
    return syslog_message(row) + b"\n"


def _severity(row: Row) -> int:
    level = risk_level(row)
    if level > 3 and row["resolution"] != "denied":  # noqa: PLR2004 (critical, and it happened)
        return _CRITICAL
    if row["event_type"] == "permission_violation" or level > 2:  # noqa: PLR2004 (high)
        return _WARNING
    return _NOTICE if row["resolution"] not in {"allowed", "completed"} else _INFORMATIONAL


def _value(value: object) -> str:
    if type(value) is int:
        return str(value)
    return spell_controls(str(value)).replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")
