"""The report over a period: what the log says, what the policy was, and who could have read whose data."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from gateway.audit.query import LogReader
from gateway.audit.report.gather import Asked, gather
from gateway.audit.wanted import Filter
from gateway.domain.caller import Caller
from gateway.domain.decision import timestamp
from gateway.domain.permission import Kind
from gateway.domain.request import Json
from gateway.flows.parts import Parts
from gateway.policy.diff import Difference, compare
from gateway.policy.layout import difference
from gateway.policy.parse import ParsedPolicy, parse_policy
from gateway.policy.rule import EVERY
from gateway.policy.text import PolicyText

FORMAT = 1
MAX_GENERATIONS = 500  # whose changes are shown, and which are read for who could
MAX_DIFFERENCE = 20_000  # characters of one change
_DATA_KINDS = (Kind.VAULT.value, Kind.USER.value)
_PAGE = 500
_GENERATIONS = Filter(event_type="policy_activated")

Row = dict[str, Any]


async def make_report(parts: Parts, caller: Caller, asked: Asked) -> dict[str, Json]:
    """Gather a report; the log is signed first, so that its newest record is covered.

    Raises:
        LogUnavailableError: the log cannot be read, or not be signed.
    """
    await parts.log.checkpoint()
    return await asyncio.to_thread(_make, parts, caller, asked)


def _make(parts: Parts, caller: Caller, asked: Asked) -> dict[str, Json]:
    folder = parts.home / "data"
    body = gather(folder, asked, parts.log.keys)
    since, until = (datetime.fromisoformat(body["period"][name]) for name in ("since", "until"))  # type: ignore[index, call-overload, arg-type] # its own shape
    generations, left_out = _generations(LogReader(folder), since, until)
    return {
        "format": FORMAT,
        "made_at": timestamp(parts.now()),
        "made_by": caller.user_id,
        "person": asked.person,
        **body,
        "policy": {"count": len(generations) + left_out, "rows": [_change(parts, each) for each in generations]},
        "could_read": _could(parts, generations, since, until),
    }


@dataclass(frozen=True, slots=True)
class _Generation:
    """A policy that was in force, with the record of its activation."""

    row: Row
    since: str
    until: str | None  # None: it is in force still, or was when the period ended
    before_period: bool


def _generations(reader: LogReader, since: datetime, until: datetime) -> tuple[list[_Generation], int]:
    """Give the policies in force in a period, oldest first, and how many more there were."""
    newest = list(_activations(reader, since, until))
    shown = newest[:MAX_GENERATIONS]
    before = reader.find(replace(_GENERATIONS, until=since), limit=1).rows
    rows = [(row, False) for row in shown]
    if len(shown) == len(newest):
        rows += [(row, True) for row in before]
    ends = [None, *(row["timestamp"] for row, _ in rows)]
    found = [
        _Generation(row, timestamp(since) if early else row["timestamp"], end, early)
        for (row, early), end in zip(rows, ends, strict=False)
    ]
    return found[::-1], len(newest) - len(shown)


def _activations(reader: LogReader, since: datetime, until: datetime) -> Iterator[Row]:
    cursor = None
    while True:
        page = reader.find(replace(_GENERATIONS, since=since, until=until), limit=_PAGE, cursor=cursor)
        yield from page.rows
        cursor = page.cursor
        if cursor is None:
            return


def _change(parts: Parts, generation: _Generation) -> dict[str, Json]:
    details = generation.row["details"]
    changed = None if generation.before_period else _difference(parts, details)
    if changed is not None and len(changed) > MAX_DIFFERENCE:
        changed = changed[:MAX_DIFFERENCE] + f"\n... ({len(changed)} characters)\n"
    return {
        "seq": generation.row["seq"],
        "event_id": generation.row["event_id"],
        "generation": details["generation"],
        "version": details["policy_version"],
        "from_version": details["from_version"],
        "at": generation.row["timestamp"],
        "by": generation.row["user_id"],
        "why": details.get("why"),
        "rules": details.get("rules"),
        "in_force_before": generation.before_period,
        "difference": changed,
    }


def _difference(parts: Parts, details: Row) -> str | None:
    before = details["from_version"]
    old = PolicyText({}) if before is None else parts.registry.sets.read(before)
    new = parts.registry.sets.read(details["policy_version"])
    return None if old is None or new is None else difference(old, new)


_Untold = Literal["not_kept", "own_model"]  # why it is not told what a policy allowed


@dataclass(slots=True)
class _Interval:
    """A right, and the times at which it was there."""

    body: dict[str, Json]
    times: list[list[str | None]] = field(default_factory=list)

    def extend(self, since: str, until: str | None) -> None:
        """Take in that it was there from `since` until `until`, too."""
        if self.times and self.times[-1][1] == since:
            self.times[-1][1] = until
        else:
            self.times.append([since, until])


def _could(parts: Parts, generations: list[_Generation], since: datetime, until: datetime) -> dict[str, Json]:
    """Give who could read people's data by the policies of a period, from when until when, and under which terms."""
    found: dict[tuple[object, ...], _Interval] = {}
    untold: dict[_Untold, list[Json]] = {"not_kept": [], "own_model": []}
    known: dict[str, list[Difference] | _Untold] = {}
    for generation in generations:
        version = generation.row["details"]["policy_version"]
        if version not in known:
            known[version] = _rights(parts, version)
        rights = known[version]
        if not isinstance(rights, list):
            untold[rights].append(version)
            continue
        for each in rights:
            key = (each.subjects, each.kind, each.level, each.scope, str(each.after), each.rules_after)
            interval = found.setdefault(key, _Interval(_right(each)))
            interval.extend(max(generation.since, timestamp(since)), generation.until)
    rows: list[Json] = [
        {**each.body, "times": [[begin, end or timestamp(until)] for begin, end in each.times]}
        for each in found.values()
    ]
    return {"count": len(rows), "rows": rows, "not_kept": untold["not_kept"], "own_model": untold["own_model"]}


def _right(each: Difference) -> dict[str, Json]:
    return {
        "subjects": [*each.subjects],
        "permission": f"{each.kind}_{each.level}",
        "scope": each.scope,
        "terms": str(each.after),
        "rules": [*each.rules_after],
    }


def _rights(parts: Parts, version: str) -> list[Difference] | _Untold:
    """Give what a kept policy allows of people's data: all that differs from a policy that allows nothing."""
    text = parts.registry.sets.read(version)
    if text is None:
        return "not_kept"
    parsed = parse_policy(text, model=None)
    if not parsed.model.is_shipped:
        return "own_model"  # WHY: what its rules allow is not told by the rules alone
    rules = tuple(rule for rule in parsed.rules if rule.kind in (*_DATA_KINDS, EVERY))
    about: ParsedPolicy = replace(parsed, rules=rules)
    found = compare(replace(about, rules=()), about).differences
    return [each for each in found if each.kind in _DATA_KINDS and each.widens]
