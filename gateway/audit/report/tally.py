"""What a report counts and lists, taken from one record after the other; memory stays bounded."""

from collections import Counter
from datetime import datetime
from typing import Any

from gateway.audit.report.buckets import Buckets, Period
from gateway.domain.request import Json

MAX_ROWS = 10_000  # of a list; how many there were is told
MAX_NAMES = 20_000  # of plugins, users, rules that are counted apart
HIGH_RISK = 70
OTHERS = "(others)"
_TOP = 12
_MAX_WHAT = 600
_SECTION_OF = {
    event_type: section
    for section, words in {
        "approvals": "approved permission_approved permission_denied call_approval_approved call_approval_denied",
        "permissions": "permission_requested permission_revoked call_approval_requested registered activated suspended "
        "updated reloaded revoked uninstalled",
        "consents": "consent_given consent_withdrawn",
        "violations": "permission_violation requests_refused owner_override lockdown_on lockdown_off execution_lost",
        "erasures": "redaction",
        "keys": "key_added key_revoked key_rotated",
        "system": "started stopped recovered exported policy_rejected segment_closed segment_dropped",
    }.items()
    for event_type in words.split()
}
SECTIONS = tuple(dict.fromkeys(_SECTION_OF.values()))
_REASONS = ("reason", "why")
_DATA_KINDS = frozenset({"vault", "user"})

Row = dict[str, Any]


class Listing:
    """Rows up to a number, and how many there were."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.count = 0

    def add(self, row: Row) -> None:
        """Take one more."""
        self.count += 1
        if len(self.rows) < MAX_ROWS:
            self.rows.append(row)

    def as_json(self) -> dict[str, Json]:
        """Give the rows and the number of all."""
        return {"count": self.count, "rows": list(self.rows)}


class Counts:
    """How often each name was allowed and denied; names beyond a number are counted together."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._counts: dict[str, list[int]] = {}
        self._over_time: dict[str, Counter[int]] = {}

    def add(self, name: str, *, allowed: bool, bucket: int) -> None:
        """Count one decision."""
        if name not in self._counts and len(self._counts) >= MAX_NAMES:
            name = OTHERS
        self._counts.setdefault(name, [0, 0])[not allowed] += 1
        self._over_time.setdefault(name, Counter())[bucket] += 1

    def as_json(self) -> list[Json]:
        """Give the names, the most frequent first; the first dozen with their course."""
        order = sorted(self._counts.items(), key=lambda each: (-sum(each[1]), each[0]))
        return [
            {
                "name": name,
                "allowed": allowed,
                "denied": denied,
                **({"over_time": self._course(name)} if number < _TOP else {}),
            }
            for number, (name, (allowed, denied)) in enumerate(order[:MAX_ROWS])
        ]

    def _course(self, name: str) -> list[Json]:
        return [self._over_time[name][number] for number in range(self._buckets.count)]


class Tally:
    """One report in the making."""

    def __init__(self, period: Period, person: str | None) -> None:
        self._period, self._person = period, person
        self._buckets = Buckets(period)
        self._over_time = [[0, 0] for _ in range(self._buckets.count)]
        self._totals: Counter[str] = Counter()
        self._by = {name: Counts(self._buckets) for name in ("plugin", "user", "rule", "reason")}
        self._lists = {name: Listing() for name in (*SECTIONS, "high_risk")}
        self._denied: dict[tuple[str, ...], Row] = {}
        self._uses: dict[tuple[str, ...], Row] = {}
        self._unlisted_uses = 0
        self.records = 0

    def add(self, row: Row, at: datetime) -> None:
        """Take in a record."""
        if at not in self._period:
            return
        self.records += 1
        self._totals[row["event_type"]] += 1
        if row["decision"] is not None:
            self._decided(row, row["decision"], at)
        section = _SECTION_OF.get(row["event_type"])
        if section is not None:
            self._lists[section].add(event_row(row))

    def _decided(self, row: Row, decision: Row, at: datetime) -> None:
        if decision["dry_run"]:
            self._totals["dry_run"] += 1
            return
        allowed, bucket = decision["effect"] == "allow", self._buckets.number(at)
        self._over_time[bucket][not allowed] += 1
        names = {
            "plugin": row["plugin_id"],
            "user": decision["user"] or row["user_id"],
            "rule": (decision["rule"] or {}).get("id"),
            "reason": decision["reason"],
        }
        for by, name in names.items():
            if name is not None:
                self._by[by].add(name, allowed=allowed, bucket=bucket)
        if row["risk_score"] >= HIGH_RISK:
            self._lists["high_risk"].add(event_row(row))
        if not allowed:
            key = (decision["subject"] or "", decision["permission"], decision["scope"] or "", decision["reason"])
            _group(self._denied, key, row)
        elif decision["kind"] in _DATA_KINDS and self._person in {None, decision["user"]}:
            key = (decision["user"] or "", decision["subject"] or "", decision["permission"], decision["scope"] or "")
            self._unlisted_uses += not _group(self._uses, key, row)

    def as_json(self) -> dict[str, Json]:
        """Give what was counted."""
        allowed, denied = (sum(each[number] for each in self._over_time) for number in (0, 1))
        starts = self._buckets.starts()
        listed: dict[str, Json] = {name: each.as_json() for name, each in self._lists.items()}
        return {
            "records": self.records,
            "event_types": dict(sorted(self._totals.items())),
            "decisions": {
                "allowed": allowed,
                "denied": denied,
                "dry_runs": self._totals["dry_run"],
                "step": self._buckets.name,
                "over_time": [
                    {"from": start, "allowed": yes, "denied": no}
                    for start, (yes, no) in zip(starts, self._over_time, strict=True)
                ],
                **{f"by_{name}": counts.as_json() for name, counts in self._by.items()},
                "denials": _sorted(self._denied, ("subject", "permission", "scope", "reason")),
            },
            **listed,
            "data_uses": {
                "count": len(self._uses),
                "not_listed": self._unlisted_uses,
                "rows": _sorted(self._uses, ("person", "subject", "permission", "scope")),
            },
        }


def event_row(row: Row) -> Row:
    """Give one line of a list: what happened, by whom, and why."""
    details, decision = row["details"], row["decision"]
    why = next((str(details[name]) for name in _REASONS if details.get(name)), "")
    if decision is None:
        rest = {name: value for name, value in details.items() if name not in (*_REASONS, "on_behalf")}
        what = "\n".join(f"{name}: {_said(value)}" for name, value in rest.items() if value not in (None, "", [], {}))
    else:
        rule = decision["rule"] or {}
        what = f"{decision['effect']} {decision['subject']} {decision['permission']} {decision['scope']}"
        why = why or f"{decision['reason']} {rule.get('id', '')} {rule.get('why', '')}".strip()
    return {
        "seq": row["seq"],
        "event_id": row["event_id"],
        "at": row["timestamp"],
        "event_type": row["event_type"],
        "plugin": row["plugin_id"],
        "by": row["user_id"],
        "on_behalf": details.get("on_behalf"),
        "risk": row["risk_score"],
        "resolution": row["resolution"],
        "what": what if len(what) <= _MAX_WHAT else what[:_MAX_WHAT] + " ...",
        "why": why if len(why) <= _MAX_WHAT else why[:_MAX_WHAT] + " ...",
    }


def _said(value: Json) -> str:
    """Give a value of a record's details in a few words."""
    match value:
        case dict():
            return " ".join(_said(each) for each in value.values() if each not in (None, "", "-", [], {}))
        case list():
            return ", ".join(map(_said, value))
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)


def _group(groups: dict[tuple[str, ...], Row], key: tuple[str, ...], row: Row) -> bool:
    known = groups.get(key)
    if known is None:
        if len(groups) >= MAX_ROWS:
            return False
        known = groups[key] = {"count": 0, "first": row["timestamp"], "example": row["event_id"]}
    known["count"] += 1
    known["last"] = row["timestamp"]
    return True


def _sorted(groups: dict[tuple[str, ...], Row], names: tuple[str, ...]) -> list[Json]:
    order = sorted(groups.items(), key=lambda each: (-each[1]["count"], each[0]))
    return [{**dict(zip(names, key, strict=True)), **row} for key, row in order]
