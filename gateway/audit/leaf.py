"""A record as the log commits to it, and as people read it.

The committed record is canonical JSON. Values that name or describe a person are not in it; in their
place, under `personal`, stands SHA-256(salt || name || 0x1f || canonical JSON of the value), with a random salt
for each value. Forgetting value and salt leaves a hash that tells nothing, and the log still verifies.
"""

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import MsgspecError, Raw

from gateway.audit import canonical
from gateway.domain.decision import Decision, timestamp
from gateway.domain.record import CATEGORY_OF, Record
from gateway.domain.request import Json
from gateway.domain.risk import MAX_SCORE
from gateway.errors import MalformedError, TooLargeError, VerificationError

FORMAT = 1
SALT_BYTES = 16
DETAILS = "details."
DECISION = "decision."
UNCOMMITTED = ("leaf", "salt", "proof", "checkpoint")
MAX_VALUE_BYTES = 64 * 1024
MAX_RECORD_BYTES = 1024 * 1024

_EVENT_ID = re.compile(r"audit-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_ID_PREFIX = len("audit-")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_PLUGIN = "plugin:"


@dataclass(slots=True)
class Prepared:
    """A record ready to be written, but for its number: `committed(seq)` gives the bytes the leaf hashes."""

    head: bytes
    tail: bytes
    personal: str | None
    salts: bytes
    columns: tuple[object, ...]  # ts_us, id, event_type, category, plugin, effect, risk, resolution, ref, rule
    sign: bool = field(default=False)  # a checkpoint is wanted right behind this record

    @property
    def weight(self) -> int:
        """How many bytes it holds, roughly."""
        return len(self.head) + len(self.personal or "")

    @property
    def ts_us(self) -> int:
        """When it happened, in microseconds since 1970."""
        return self.columns[0]  # type: ignore[return-value] # the first column is an integer by construction

    def committed(self, seq: int) -> bytes:
        """Give the canonical bytes of the record as number `seq`."""
        # INVARIANT: `head` holds the members that sort before "seq", `tail` those that sort behind it.
        return b'%b,"seq":%d,%b' % (self.head, seq, self.tail)


def event_bytes(event_id: str) -> bytes:
    """Give the 16 bytes of an event id.

    Raises:
        MalformedError: it is not `audit-` and a lower-case UUID.

    """
    if not _EVENT_ID.fullmatch(event_id):
        raise MalformedError(f"`{event_id[:80]}` is not an event id", way_out="`audit-` and a lower-case UUID")
    return bytes.fromhex(event_id[_ID_PREFIX:].replace("-", ""))


def microseconds(at: datetime) -> int:
    """Give a moment as microseconds since 1970."""
    return (at - _EPOCH) // _MICROSECOND


def commitment(salt: bytes, name: str, value: bytes) -> str:
    """Commit to a value without showing it; `value` is its canonical JSON."""
    return hashlib.sha256(b"%b%b\x1f%b" % (salt, name.encode(), value)).hexdigest()


def prepare(record: Record) -> Prepared:
    """Turn `record` into what will be written.

    Raises:
        MalformedError: its event id or reference is no event id, or its type is unknown.
        TooLargeError: what cannot be left out of it, its decision, is too large.

    """
    try:
        return _prepare(record, None if record.decision is None else record.decision.as_json())
    except UnicodeEncodeError:
        # WHY: only a value that UTF-8 cannot carry comes here; every other record is spared the walk.
        decision = None if record.decision is None else canonical.tidy(record.decision.as_json())
        return _prepare(record, decision)


def _prepare(record: Record, decision: dict[str, Json] | None) -> Prepared:
    if record.event_type not in CATEGORY_OF:
        raise MalformedError(f"`{record.event_type[:80]}` is not an event type")
    ref = None if record.ref is None else event_bytes(record.ref)
    event_id = event_bytes(record.event_id)
    plugin = None if record.plugin_id is None else canonical.tidy_text(record.plugin_id)
    risk = max(0, min(MAX_SCORE, int(record.risk_score)))
    values = _personal_values(record, decision)
    commitments, salts, personal = _commit(values)
    category = record.category.value
    head = canonical.encode(
        {
            "category": category,
            "decision": decision,
            "details": _public_details(record, values),
            "event_id": record.event_id,
            "event_type": record.event_type,
            "personal": commitments,
            "plugin_id": plugin,
            "ref": record.ref,
            "resolution": record.resolution.value,
            "risk_score": risk,
        },
    )[:-1]
    trace_id = None if record.trace_id is None else canonical.tidy_text(record.trace_id)
    tail = canonical.encode({"timestamp": timestamp(record.at), "trace_id": trace_id, "v": FORMAT})[1:]
    if len(head) > MAX_RECORD_BYTES:
        raise TooLargeError(f"a `{record.event_type}` record is too large", way_out="ask with smaller values")
    effect, rule = _effect_and_rule(record.decision)
    columns = (
        microseconds(record.at),
        event_id,
        record.event_type,
        category,
        plugin,
        effect,
        risk,
        record.resolution.value,
        ref,
        rule,
    )
    return Prepared(head, tail, personal, salts, columns)


def _effect_and_rule(decision: Decision | None) -> tuple[str | None, str | None]:
    if decision is None:
        return None, None
    rule = decision.verdict.rule
    return decision.verdict.effect.value, None if rule is None else canonical.tidy_text(rule.id)


def _public_details(record: Record, values: dict[str, bytes]) -> dict[str, Any]:
    if not record.details:
        return {}
    details: dict[str, Any] = canonical.tidy(record.details)
    # INVARIANT: no public detail has the name of a personal one; a reader sees both in one place.
    taken = {name.removeprefix(DETAILS) for name in values if name.startswith(DETAILS)}
    encoded = canonical.encode({name: value for name, value in details.items() if name not in taken})
    if len(encoded) > MAX_VALUE_BYTES:
        details = {**_omitted(encoded)}
    return {name: value for name, value in details.items() if name not in taken}


def _personal_values(record: Record, decision: dict[str, Json] | None) -> dict[str, bytes]:
    """Take the personal members out of `decision` and gather them with the others, in canonical JSON."""
    values: dict[str, Any] = {}
    if record.user_id is not None:
        values["user_id"] = canonical.tidy_text(record.user_id)
    if record.replay:
        values["replay"] = canonical.tidy(record.replay)
    for name, value in record.personal.items():
        values[DETAILS + canonical.tidy_text(str(name))] = canonical.tidy(value)
    if decision is not None:
        for name in _personal_members(decision):
            values[DECISION + name] = decision.pop(name)
    encoded = {name: _clip(canonical.encode(values[name])) for name in sorted(values)}
    return encoded if sum(map(len, encoded.values())) + sum(map(len, encoded)) <= MAX_RECORD_BYTES else _shrink(encoded)


def _shrink(values: dict[str, bytes]) -> dict[str, bytes]:
    """Replace details too large to be recorded together by their digest, so that the record itself is kept."""
    kept = {name: value for name, value in values.items() if not name.startswith(DETAILS)}
    omitted = canonical.encode(_omitted(_members({name: values[name] for name in values.keys() - kept.keys()})))
    return dict(sorted({**kept, f"{DETAILS}omitted": omitted}.items()))


def _personal_members(decision: dict[str, Json]) -> list[str]:
    names = ["scope"]
    if decision["user"] is not None:
        names.append("user")
    if not str(decision["subject"]).startswith(_PLUGIN):
        names.append("subject")
    if decision["near_misses"]:
        names.append("near_misses")  # WHY: its sentences may quote attributes of a person.
    return names


def _commit(values: dict[str, bytes]) -> tuple[dict[str, str], bytes, str | None]:
    if not values:
        return {}, b"", None
    salts = os.urandom(SALT_BYTES * len(values))
    commitments = {
        name: commitment(salts[at : at + SALT_BYTES], name, value)
        for at, (name, value) in zip(range(0, len(salts), SALT_BYTES), values.items(), strict=True)
    }
    return commitments, salts, _members(values).decode()


def _members(values: dict[str, bytes]) -> bytes:
    return canonical.encode({name: Raw(value) for name, value in values.items()})


def _clip(encoded: bytes) -> bytes:
    return encoded if len(encoded) <= MAX_VALUE_BYTES else canonical.encode(_omitted(encoded))


def _omitted(encoded: bytes) -> dict[str, Json]:
    return {"omitted_bytes": len(encoded), "omitted_sha256": hashlib.sha256(encoded).hexdigest()}


Stored = tuple[int, str, bytes, str | None, bytes | None]  # seq, committed, leaf, personal, salts


def row_of(stored: Stored, decode: Callable[[str], Any] = canonical.decode) -> dict[str, Any]:
    """Put a stored record together again as people and exports see it; what was erased is null or absent.

    Raises:
        VerificationError: what is stored is not what the log wrote.

    """
    try:
        return _row_of(stored, decode)
    except (MsgspecError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise VerificationError(f"record {stored[0]} in audit.db was changed: it cannot be read") from error


def _row_of(stored: Stored, decode: Callable[[str], Any]) -> dict[str, Any]:
    _, committed, leaf, personal, salts = stored
    record = decode(committed)
    values: dict[str, Any] = {} if personal is None else decode(personal)
    details, decision = record["details"], record["decision"]
    for name in record["personal"]:
        if name.startswith(DETAILS):
            if name in values:
                details[name.removeprefix(DETAILS)] = values[name]
        elif name.startswith(DECISION):
            decision[name.removeprefix(DECISION)] = values.get(name)
    return {
        "event_id": record["event_id"],
        "seq": record["seq"],
        "timestamp": record["timestamp"],
        "user_id": values.get("user_id"),
        "plugin_id": record["plugin_id"],
        "event_type": record["event_type"],
        "category": record["category"],
        "details": details,
        "risk_score": record["risk_score"],
        "resolution": record["resolution"],
        "decision": decision,
        "trace_id": record["trace_id"],
        "ref": record["ref"],
        "replay": values.get("replay"),
        "v": record["v"],
        "personal": record["personal"],
        "leaf": leaf.hex(),
        "salt": _salts_by_name(values, salts or b""),
    }


def _salts_by_name(values: dict[str, Any], salts: bytes) -> dict[str, str]:
    steps = range(0, len(salts), SALT_BYTES)
    return {name: salts[at : at + SALT_BYTES].hex() for name, at in zip(sorted(values), steps, strict=False)}
