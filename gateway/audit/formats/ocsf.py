"""Open Cybersecurity Schema Framework 1.8.0.

API Activity (6003) for decisions, executions and what people do to the gateway, Application Lifecycle (6002) for
plugins and the gateway itself, Detection Finding (2004) for violations, and beside its own event for whatever is of
high risk. What has no place in the schema stands under `unmapped`.
"""

from typing import Any

from gateway.audit import canonical
from gateway.audit.formats.common import PRODUCT, VERSION, milliseconds, risk_level, sentence
from gateway.audit.formats.redaction import Row, pointers

SCHEMA_VERSION = "1.8.0"
_API, _LIFECYCLE, _FINDING = 6003, 6002, 2004
_CREATE, _READ, _UPDATE, _DELETE, _OTHER = 1, 2, 3, 4, 99
_PRODUCT = {"name": PRODUCT, "vendor_name": PRODUCT, "version": VERSION}
_HIGH = 3
_SEVERITY_OF_RISK = {1: 1, 2: 2, 3: 4, 4: 5}
_RISK_LEVELS = {1: "Low", 2: "Medium", 3: "High", 4: "Critical"}
_SEVERITIES = {1: "Informational", 2: "Low", 3: "Medium", 4: "High", 5: "Critical"}
_LIFECYCLE_ACTIVITY = {
    "registered": (1, "Install"),
    "uninstalled": (2, "Remove"),
    "started": (3, "Start"),
    "stopped": (4, "Stop"),
    "recovered": (5, "Restart"),
    "activated": (6, "Enable"),
    "suspended": (7, "Disable"),
    "revoked": (7, "Disable"),
    "updated": (8, "Update"),
    "reloaded": (8, "Update"),
    "approved": (_OTHER, "Approved"),
}
_FINDINGS = frozenset(
    {"permission_violation", "security_scan", "risk_assessment", "lockdown_on", "lockdown_off", "owner_override"}
)
_API_ACTIVITY = {
    "exported": _READ,
    "permission_requested": _CREATE,
    "permission_approved": _CREATE,
    "permission_revoked": _DELETE,
    "consent_given": _CREATE,
    "consent_withdrawn": _DELETE,
    "call_approval_requested": _CREATE,
    "call_approval_approved": _UPDATE,
    "call_approval_denied": _UPDATE,
    "call_approval_used": _DELETE,
    "policy_activated": _UPDATE,
    "key_added": _CREATE,
    "key_revoked": _DELETE,
    "key_rotated": _UPDATE,
    "code_reviewed": _CREATE,
    "redaction": _DELETE,
}
_OF_LEVEL = {"read": _READ, "write": _UPDATE}
_ACTIVITIES = {_CREATE: "Create", _READ: "Read", _UPDATE: "Update", _DELETE: "Delete"}
_STATUS = {"allowed": 1, "completed": 1, "pending": 99, "unknown": 0}
_STATUSES = {0: "Unknown", 1: "Success", 2: "Failure", 99: "Pending"}


def ocsf_lines(row: Row) -> bytes:
    """Give the event of a row as a line, and behind it the finding if it is of high risk."""
    return b"".join(canonical.encode_in_order(event) + b"\n" for event in ocsf_events(row))


def ocsf_events(row: Row) -> list[dict[str, Any]]:
    """Give the events of a row: one, and a finding where the risk is high."""
    if row["event_type"] in _FINDINGS:
        return [_finding(row)]
    if row["event_type"] in _LIFECYCLE_ACTIVITY:
        return [_lifecycle(row)]
    event = _api_activity(row)
    return [event, _finding(row, event)] if risk_level(row) >= _HIGH else [event]


def _api_activity(row: Row) -> dict[str, Any]:
    decision = row["decision"]
    activity = _API_ACTIVITY.get(row["event_type"], _OTHER)
    if decision is not None:
        activity = _OF_LEVEL.get(decision["level"], _OTHER)
    name = _ACTIVITIES.get(activity, "Other") if decision is None else decision["level"]
    event = _base(row, _API, activity, name)
    event["category_uid"], event["category_name"], event["class_name"] = 6, "Application Activity", "API Activity"
    event["actor"] = _actor(row)
    event["api"] = {
        "operation": row["event_type"] if decision is None else decision["permission"],
        "service": {"name": "hearthgate", "version": VERSION},
        "request": {"uid": row["event_id"]},
    }
    event["src_endpoint"] = {"name": row["plugin_id"] or "hearthgate"}
    if decision is not None:
        event["resources"] = [{"name": decision["scope"], "type": decision["kind"]}]
    return event


def _lifecycle(row: Row) -> dict[str, Any]:
    activity, name = _LIFECYCLE_ACTIVITY[row["event_type"]]
    event = _base(row, _LIFECYCLE, activity, name)
    event["category_uid"], event["category_name"] = 6, "Application Activity"
    event["class_name"] = "Application Lifecycle"
    event["actor"] = _actor(row)
    plugin = row["plugin_id"]
    event["app"] = _PRODUCT if plugin is None else {"name": plugin, "uid": plugin}
    return event


def _finding(row: Row, of: dict[str, Any] | None = None) -> dict[str, Any]:
    event = _base(row, _FINDING, _CREATE, "Create")
    event["category_uid"], event["category_name"], event["class_name"] = 2, "Findings", "Detection Finding"
    event["severity_id"] = max(event["severity_id"], 4 if row["event_type"] == "permission_violation" else 1)
    event["severity"] = _SEVERITIES[event["severity_id"]]
    event["status_id"], event["status"] = 1, "New"
    event["is_alert"] = True
    event["actor"] = _actor(row)
    event["finding_info"] = {
        "uid": row["event_id"],
        "title": sentence(row),
        "types": [row["event_type"]],
        "created_time": event["time"],
        "product": _PRODUCT,
    }
    if of is not None:
        event["metadata"] = {**event["metadata"], "uid": f"{row['event_id']}-finding"}
        event["finding_info"]["related_events"] = [{"uid": row["event_id"], "type_uid": of["type_uid"]}]
    return event


def _base(row: Row, class_uid: int, activity: int, activity_name: str) -> dict[str, Any]:
    level = risk_level(row)
    status = _STATUS.get(row["resolution"], 2)
    severity = _SEVERITY_OF_RISK[level]
    event: dict[str, Any] = {
        "class_uid": class_uid,
        "activity_id": activity,
        "activity_name": activity_name,
        "type_uid": class_uid * 100 + activity,
        "time": milliseconds(row["timestamp"]),
        "severity_id": severity,
        "severity": _SEVERITIES[severity],
        "status_id": status,
        "status": _STATUSES[status],
        "status_detail": row["resolution"],
        "message": sentence(row),
        "metadata": _metadata(row),
        "risk_score": row["risk_score"],
        "risk_level_id": level,
        "risk_level": _RISK_LEVELS[level],
        "unmapped": _unmapped(row),
    }
    decision = row["decision"]
    if decision is not None:
        allowed = decision["effect"] == "allow"
        event["action_id"], event["action"] = (1, "Allowed") if allowed else (2, "Denied")
        event["disposition_id"], event["disposition"] = (1, "Allowed") if allowed else (2, "Blocked")
        event["policy"] = _policy(decision)
        event["authorizations"] = [{"decision": decision["effect"], "policy": event["policy"]}]
        event["is_alert"] = level >= _HIGH
    return event


def _metadata(row: Row) -> dict[str, Any]:
    told = {
        "version": SCHEMA_VERSION,
        "product": _PRODUCT,
        "profiles": ["security_control"],
        "uid": row["event_id"],
        "event_code": row["event_type"],
        "log_name": "hearthgate",
        "log_format": f"hearthgate.log/{row['v']}",
        "sequence": row["seq"],
        "original_time": row["timestamp"],
    }
    related = row["ref"] or row["trace_id"]
    return told if related is None else {**told, "correlation_uid": related}


def _actor(row: Row) -> dict[str, Any]:
    actor: dict[str, Any] = {"app_name": row["plugin_id"] or "hearthgate"}
    if row["user_id"] is not None:
        actor["user"] = {"name": row["user_id"], **({} if row["person"] is None else {"uid": row["person"]})}
    return actor


def _policy(decision: dict[str, Any]) -> dict[str, Any]:
    rule = decision["rule"]
    policy = {"version": decision["policy_version"], "is_applied": rule is not None}
    if rule is None:
        return {"uid": "default", "name": decision["reason"], **policy}
    return {"uid": rule["id"], "name": rule["why"] or rule["id"], "desc": f"{rule['file']}:{rule['line']}", **policy}


def _unmapped(row: Row) -> dict[str, Any]:
    told = {
        "category": row["category"],
        "resolution": row["resolution"],
        "person": row["person"],
        "details": row["details"],
        "replay": row["replay"],
        "ref": row["ref"],
        "trace_id": row["trace_id"],
        "leaf": row["leaf"],
    }
    decision = row["decision"]
    if decision is not None:
        told["decision"] = {
            name: value for name, value in decision.items() if name not in {"policy_version", "kind", "permission"}
        }
    for name in ("masked", "erased"):
        if row[name]:
            told[name] = pointers(row[name])
    return {name: value for name, value in told.items() if value is not None}
