"""A record as the log commits to it.

The committed record is canonical JSON. Values that name or describe a person are not in it; in their
place, under `personal`, stands SHA-256(salt || name || 0x1f || canonical JSON of the value), with a random salt
for each value. Forgetting value and salt leaves a hash that tells nothing, and the log still verifies.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec
from msgspec import Raw, Struct

from gateway.audit import canonical
from gateway.audit.canonical import encode_text, spell_text
from gateway.audit.checkpoint import LogKey
from gateway.audit.decided import Decided, spell_decision
from gateway.audit.persons import Persons
from gateway.domain.decision import Decision, timestamp
from gateway.domain.record import CATEGORY_OF, Record
from gateway.domain.request import Json
from gateway.domain.risk import MAX_SCORE
from gateway.entropy import random_bytes
from gateway.errors import MalformedError, TooLargeError

FORMAT = 1
SALT_BYTES = 16
DETAILS = "details."
DECISION = "decision."
MAX_RECORD_BYTES = 1024 * 1024

_EVENT_ID = re.compile(r"audit-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MAX_CACHED_NAMES = 12
_ID_PREFIX = len("audit-")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_sha256 = hashlib.sha256
_NO_DECISION = Decided()
_encode = msgspec.json.Encoder().encode


class Personal(Struct, frozen=True):
    """The values of a record that can be forgotten, spelt as members and grouped by where a line shows them.

    `names` are those that have a salt, in order, as JSON texts; `salts` their salts one after the other.
    """

    names: str
    salts: bytes
    top: str  # the members `user_id` and `replay`, both
    decision: str
    details: str


class _Head(Struct, frozen=True, kw_only=True):
    """The members of a committed record that sort before its number, in their order."""

    category: str
    decision: Raw
    details: Raw
    event_id: str
    event_type: str
    person: str | None
    personal: Raw
    plugin_id: str | None
    ref: str | None
    resolution: str
    risk_score: int


@dataclass(slots=True)
class Prepared:
    """A record ready to be written, but for its number: `committed(seq)` gives the text the leaf hashes."""

    head: bytes
    tail: bytes
    personal: Personal | None
    columns: tuple[object, ...]  # ts_us, id, event_type, category, plugin, effect, risk, resolution, ref, rule
    sign: bool = field(default=False)  # a checkpoint is wanted right behind this record
    next_key: LogKey | None = field(default=None)  # takes over with this record

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

    def committed(self, seq: int) -> bytes:
        """Give the canonical text of the record as number `seq`."""
        # INVARIANT: `head` holds the members that sort before "seq", `tail` those that sort behind it.
        return b'%b"seq":%d%b' % (self.head, seq, self.tail)


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
    ref = None if record.ref is None else event_bytes(record.ref)
    user_id, decision = record.user_id, record.decision
    decided = _NO_DECISION if decision is None else spell_decision(decision, user_id, persons)
    values = _personal_values(record, decided)
    commitments, personal = _commit(values, decided) if values else (b"{}", None)
    plugin = None if record.plugin_id is None else canonical.tidy_text(record.plugin_id)
    risk = max(0, min(MAX_SCORE, int(record.risk_score)))
    members = _Head(
        category=category,
        decision=Raw(decided.committed),
        details=Raw(_public_details(record.details, values) if record.details else b"{}"),
        event_id=record.event_id,
        event_type=record.event_type,
        person=None if user_id is None else persons.of(user_id),
        personal=Raw(commitments),
        plugin_id=plugin,
        ref=record.ref,
        resolution=record.resolution,
        risk_score=risk,
    )
    head = _encode(members)[:-1] + b","
    trace_id = b"null" if record.trace_id is None else encode_text(record.trace_id)
    tail = b',"timestamp":"%b","trace_id":%b,"v":%d}' % (timestamp(record.at).encode(), trace_id, FORMAT)
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


def _effect_and_rule(decision: Decision | None) -> tuple[str | None, str | None]:
    if decision is None:
        return None, None
    rule = decision.verdict.rule
    return decision.verdict.effect.value, None if rule is None else canonical.tidy_text(rule.id)


def _public_details(given: Mapping[str, Json], values: Mapping[str, bytes]) -> bytes:
    # INVARIANT: no public detail has the name of a personal one; a reader sees both in one place.
    taken = {name.removeprefix(DETAILS) for name in values if name.startswith(DETAILS)}
    if taken and not _apart(given, taken):
        given = {name: value for name, value in canonical.tidy(given).items() if name not in taken}
    spelt = canonical.spell(given)
    if len(spelt) > canonical.MAX_VALUE_BYTES:
        omitted = canonical.digest(spelt)
        spelt = canonical.encode({name: value for name, value in omitted.items() if name not in taken})
    return spelt


def _apart(given: Mapping[str, Json], taken: set[str]) -> bool:
    """Tell whether no name is in both, however it is spelt."""
    return taken.isdisjoint(given) and all(type(name) is str and name.isascii() for name in given)


def _personal_values(record: Record, decided: Decided) -> dict[str, bytes]:
    """Gather the personal values in the order of their names, each in canonical JSON or as its digest."""
    values = {**decided.values}
    if record.personal:
        details = {canonical.tidy_text(str(name)): value for name, value in record.personal.items()}
        for name in sorted(details):
            values[DETAILS + name] = canonical.clip(canonical.spell(details[name]))
    if record.replay:
        values["replay"] = canonical.clip(canonical.spell(record.replay))
    if record.user_id is not None:
        values["user_id"] = canonical.clip(encode_text(record.user_id))
    return values if sum(map(len, values.values())) <= canonical.MAX_VALUE_BYTES else _shrink(values)


def _shrink(values: dict[str, bytes]) -> dict[str, bytes]:
    """Replace details too large to be recorded together by their digest, so that the record itself is kept."""
    if sum(map(len, values.values())) + sum(map(len, values)) <= MAX_RECORD_BYTES:
        return values
    kept = {name: value for name, value in values.items() if not name.startswith(DETAILS)}
    gone = [f"{spell_text(name)}:{values[name].decode()}" for name in values if name not in kept]
    omitted = canonical.encode(canonical.digest(f"{{{','.join(gone)}}}".encode()))
    return dict(sorted({**kept, f"{DETAILS}omitted": omitted}.items()))


def _commit(values: dict[str, bytes], decided: Decided) -> tuple[bytes, Personal]:
    """Give the member `personal` of the committed record, and what can be forgotten."""
    names = tuple(values)
    layout = _layout(names, decided.same) if len(names) <= _MAX_CACHED_NAMES else _Layout(names, decided.same)
    salts = random_bytes(SALT_BYTES * len(names))
    salted = zip(range(0, len(salts), SALT_BYTES), layout.marked, values.values(), strict=True)
    hashes = [_sha256(salts[at : at + SALT_BYTES] + marked + value).hexdigest() for at, marked, value in salted]
    details = ""
    if layout.details:
        details = ",".join([f"{shown}:{values[name].decode()}" for name, shown in layout.details])
    user_id, replay = values.get("user_id", b"null").decode(), values.get("replay", b"null").decode()
    top = f'"user_id":{user_id},"replay":{replay}'
    return (layout.commitments % tuple(hashes)).encode(), Personal(layout.names, salts, top, decided.shown, details)


class _Layout:
    """What is the same for all records with personal values of the same names."""

    __slots__ = ("commitments", "details", "marked", "names")

    def __init__(self, names: tuple[str, ...], same: tuple[tuple[str, str], ...]) -> None:
        self.names = ",".join(map(spell_text, names))
        self.marked = [name.encode() + b"\x1f" for name in names]
        self.details = [(name, spell_text(name[len(DETAILS) :])) for name in names if name.startswith(DETAILS)]
        spelt = sorted([*same, *((name, "%s") for name in names)])
        members = ",".join(f'{spell_text(name).replace("%", "%%")}:"{value}"' for name, value in spelt)
        self.commitments = f"{{{members}}}"


@lru_cache(1024)
def _layout(names: tuple[str, ...], same: tuple[tuple[str, str], ...]) -> _Layout:
    return _Layout(names, same)
