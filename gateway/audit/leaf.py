"""A record as the log commits to it.

The committed record is canonical JSON. Values that name or describe a person are not in it; in their
place, under `personal`, stands SHA-256(salt || name || 0x1f || canonical JSON of the value), with a random salt
for each value. Forgetting value and salt leaves a hash that tells nothing, and the log still verifies.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.audit import canonical
from gateway.audit.canonical import encode_text, spell_text
from gateway.audit.decided import Decided, spell_decision
from gateway.audit.persons import Persons
from gateway.domain.decision import Decision, timestamp
from gateway.domain.record import CATEGORY_OF, Record
from gateway.domain.request import Json
from gateway.domain.risk import MAX_SCORE
from gateway.errors import MalformedError, TooLargeError

FORMAT = 1
SALT_BYTES = 16
DETAILS = "details."
DECISION = "decision."
MAX_VALUE_BYTES = 64 * 1024
MAX_RECORD_BYTES = 1024 * 1024

_EVENT_ID = re.compile(r"audit-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_ID_PREFIX = len("audit-")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NO_DECISION = Decided("null", {}, {})
_DECISION_NAMES = {name: DECISION + name for name in ("near_misses", "scope", "subject", "user")}


@dataclass(frozen=True, slots=True)
class Personal:
    """The values of a record that can be forgotten, spelt as members and grouped by where a line shows them.

    `names` are those that have a salt, in order, as JSON texts; `salts` their salts one after the other.
    """

    names: str
    salts: bytes
    top: str  # the members `user_id` and `replay`, both
    decision: str
    details: str


@dataclass(slots=True)
class Prepared:
    """A record ready to be written, but for its number: `committed(seq)` gives the text the leaf hashes."""

    head: str
    tail: str
    personal: Personal | None
    columns: tuple[object, ...]  # ts_us, id, event_type, category, plugin, effect, risk, resolution, ref, rule
    sign: bool = field(default=False)  # a checkpoint is wanted right behind this record

    @property
    def weight(self) -> int:
        """How many characters it holds, roughly."""
        personal = self.personal
        if personal is None:
            return len(self.head)
        return len(self.head) + len(personal.top) + len(personal.decision) + len(personal.details)

    @property
    def ts_us(self) -> int:
        """When it happened, in microseconds since 1970."""
        return self.columns[0]  # type: ignore[return-value] # the first column is an integer by construction

    def committed(self, seq: int) -> str:
        """Give the canonical text of the record as number `seq`."""
        # INVARIANT: `head` holds the members that sort before "seq", `tail` those that sort behind it.
        return f'{self.head}"seq":{seq}{self.tail}'


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


def prepare(record: Record, persons: Persons) -> Prepared:
    """Turn `record` into what will be written.

    Raises:
        MalformedError: its event id or reference is no event id, or its type is unknown.
        TooLargeError: what cannot be left out of it, its decision, is too large.
        LogUnavailableError: a pseudonym cannot be looked up.

    """
    category = CATEGORY_OF.get(record.event_type)
    if category is None:
        raise MalformedError(f"`{record.event_type[:80]}` is not an event type")
    event_id = event_bytes(record.event_id)
    ref, ref_text = (None, "null") if record.ref is None else (event_bytes(record.ref), f'"{record.ref}"')
    user_id, decision = record.user_id, record.decision
    decided = _NO_DECISION if decision is None else spell_decision(decision, user_id, persons)
    values, same = _personal_values(record, decided)
    commitments, personal = _commit(values, same, decided)
    plugin = None if record.plugin_id is None else canonical.tidy_text(record.plugin_id)
    risk = max(0, min(MAX_SCORE, int(record.risk_score)))
    details = _public_details(record.details, values) if record.details else "{}"
    head = (
        f'{{"category":"{category}","decision":{decided.committed},"details":{details},"event_id":"{record.event_id}",'
        f'"event_type":"{record.event_type}","person":{_pseudonym(user_id, persons)},"personal":{commitments},'
        f'"plugin_id":{_text(plugin)},"ref":{ref_text},"resolution":"{record.resolution}","risk_score":{risk},'
    )
    tail = f',"timestamp":"{timestamp(record.at)}","trace_id":{_text(record.trace_id)},"v":{FORMAT}}}'
    if len(head) > MAX_RECORD_BYTES:
        raise TooLargeError(f"a `{record.event_type}` record is too large", way_out="ask with smaller values")
    effect, rule = _effect_and_rule(decision)
    columns = (
        microseconds(record.at),
        event_id,
        record.event_type,
        category.value,
        plugin,
        effect,
        risk,
        record.resolution.value,
        ref,
        rule,
    )
    return Prepared(head, tail, personal, columns)


def _text(text: str | None) -> str:
    return "null" if text is None else spell_text(text)


def _pseudonym(user_id: str | None, persons: Persons) -> str:
    return "null" if user_id is None else f'"{persons.of(user_id)}"'


def _effect_and_rule(decision: Decision | None) -> tuple[str | None, str | None]:
    if decision is None:
        return None, None
    rule = decision.verdict.rule
    return decision.verdict.effect.value, None if rule is None else canonical.tidy_text(rule.id)


def _public_details(given: Mapping[str, Json], values: Mapping[str, bytes]) -> str:
    # INVARIANT: no public detail has the name of a personal one; a reader sees both in one place.
    taken = {name.removeprefix(DETAILS) for name in values if name.startswith(DETAILS)}
    if taken:
        given = {name: value for name, value in canonical.tidy(given).items() if name not in taken}
    encoded = canonical.spell(given)
    if len(encoded) > MAX_VALUE_BYTES:
        omitted = _omitted(encoded)
        encoded = canonical.encode({name: value for name, value in omitted.items() if name not in taken})
    return encoded.decode()


def _personal_values(record: Record, decided: Decided) -> tuple[dict[str, bytes], dict[str, str]]:
    """Gather the personal values in the order of their names, each in canonical JSON; and those that are the same.

    What is too large is replaced by its digest.
    """
    values: dict[str, bytes] = {}
    same: dict[str, str] = {}
    for name, value in decided.values.items():
        if name in decided.same:
            same[_DECISION_NAMES[name]] = decided.same[name]
        else:
            values[_DECISION_NAMES[name]] = value
    for name, detail in record.personal.items():
        values[DETAILS + canonical.tidy_text(str(name))] = canonical.spell(detail)
    if len(record.personal) > 1:
        values = dict(sorted(values.items()))
    if record.replay:
        values["replay"] = canonical.spell(record.replay)
    if record.user_id is not None:
        values["user_id"] = encode_text(record.user_id)
    if sum(map(len, values.values())) + sum(map(len, values)) > MAX_VALUE_BYTES:
        values = _shrink({name: _clip(value) for name, value in values.items()})
    return values, same


def _clip(encoded: bytes) -> bytes:
    return encoded if len(encoded) <= MAX_VALUE_BYTES else canonical.encode(_omitted(encoded))


def _shrink(values: dict[str, bytes]) -> dict[str, bytes]:
    """Replace details too large to be recorded together by their digest, so that the record itself is kept."""
    if sum(map(len, values.values())) + sum(map(len, values)) <= MAX_RECORD_BYTES:
        return values
    kept = {name: value for name, value in values.items() if not name.startswith(DETAILS)}
    gone = [f"{spell_text(name)}:{values[name].decode()}" for name in values if name not in kept]
    omitted = canonical.encode(_omitted(f"{{{','.join(gone)}}}".encode()))
    return dict(sorted({**kept, f"{DETAILS}omitted": omitted}.items()))


def _commit(values: dict[str, bytes], same: dict[str, str], decided: Decided) -> tuple[str, Personal | None]:
    """Give the member `personal` of the committed record, and what can be forgotten."""
    if not values:
        return "{}", None
    salts = os.urandom(SALT_BYTES * len(values))
    hashes = {
        name: commitment(salts[at : at + SALT_BYTES], name, value)
        for at, (name, value) in zip(range(0, len(salts), SALT_BYTES), values.items(), strict=True)
    }
    committed = dict(sorted((hashes | same).items())) if same else hashes
    spelt = ",".join([f'{spell_text(name)}:"{value}"' for name, value in committed.items()])
    return f"{{{spelt}}}", _grouped(values, decided, salts)


def _grouped(values: dict[str, bytes], decided: Decided, salts: bytes) -> Personal:
    user_id, replay = values.get("user_id", b"null").decode(), values.get("replay", b"null").decode()
    details = [
        f"{spell_text(name.removeprefix(DETAILS))}:{value.decode()}"
        for name, value in values.items()
        if name.startswith(DETAILS)
    ]
    of_decision = [
        f'"{name}":{values.get(_DECISION_NAMES[name], value).decode()}' for name, value in decided.values.items()
    ]
    return Personal(
        names=",".join(map(spell_text, values)),
        salts=salts,
        top=f'"user_id":{user_id},"replay":{replay}',
        decision=",".join(of_decision),
        details=",".join(details),
    )


def _omitted(encoded: bytes) -> dict[str, Any]:
    return {"omitted_bytes": len(encoded), "omitted_sha256": hashlib.sha256(encoded).hexdigest()}
