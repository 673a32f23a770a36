"""The shape of Open Policy Agent's decision log, for tools that read it."""

from typing import Any

from gateway.audit import canonical
from gateway.audit.formats.common import VERSION
from gateway.audit.formats.redaction import Row

_INPUT = ("subject", "user", "permission", "kind", "level", "scope")
_RESULT = ("effect", "reason", "rule", "near_misses", "risk", "generation", "mode")
_POINTERS = {
    "decision.scope": "/input/scope",
    "decision.user": "/input/user",
    "decision.subject": "/input/subject",
    "decision.near_misses": "/result/near_misses",
    "replay": "/input/facts",
    "user_id": "/requested_by",
}


def opa_line(row: Row, source: str) -> bytes:
    """Give the line of a row; a record that is no decision has the path `hearthgate/event/TYPE` and its resolution.

    `erased` and `masked` are JSON pointers to what was erased or redacted.
    """
    decision = row["decision"]
    line: dict[str, Any] = {
        "labels": {"app": "hearthgate", "id": source, "version": VERSION},
        "decision_id": row["event_id"].removeprefix("audit-") if decision is None else decision["decision_id"],
        "timestamp": row["timestamp"],
        "req_id": row["seq"],
        "requested_by": row["user_id"],
    }
    if row["trace_id"] is not None:
        line["trace_id"] = row["trace_id"]
    if decision is None:
        line["path"] = f"hearthgate/event/{row['event_type']}"
        line["input"] = {"plugin": row["plugin_id"], "details": row["details"], "ref": row["ref"]}
        line["result"] = {"resolution": row["resolution"], "risk_score": row["risk_score"]}
    else:
        line["path"] = "hearthgate/decision"
        line["bundles"] = {"policies": {"revision": decision["policy_version"]}}
        line["input"] = {**{name: decision[name] for name in _INPUT}, "facts": row["replay"]}
        line["input"]["details"] = row["details"]
        line["result"] = {"allow": decision["effect"] == "allow", **{name: decision[name] for name in _RESULT}}
    for name in ("erased", "masked"):
        if row[name]:
            line[name] = [_pointer(each) for each in row[name]]
    return canonical.encode_in_order(line) + b"\n"


def _pointer(name: str) -> str:
    if name in _POINTERS:
        return _POINTERS[name]
    return "/input/details/" + name.removeprefix("details.").replace("~", "~0").replace("/", "~1")
