"""A decision as the log writes it: the committed text, and the values in it that name or describe a person."""

from dataclasses import dataclass, field

import msgspec
from msgspec import UNSET, Struct, UnsetType

from gateway.audit import canonical
from gateway.audit.canonical import clip, encode_text
from gateway.audit.persons import Persons
from gateway.domain.decision import Decision, Effect, Reason, RuleRef, timestamp
from gateway.domain.risk import Risk

SAME_USER = "=user_id"
SAME_SUBJECT = "=user:user_id"
_PLUGIN = "plugin:"
_USER = "user:"
_MAX_SAME = 8192  # characters; so a value that is the same as another is never too large to be kept
# INVARIANT: sorted by code point, as the canonical spelling wants it, for every member of these structs is ASCII.
_encode = msgspec.json.Encoder(order="sorted").encode


class _Spoke(Struct, frozen=True, gc=False):
    """A rule that matched, as a decision names it."""

    effect: Effect
    file: str
    id: str
    line: int
    why: str


class _Committed(Struct, frozen=True, kw_only=True):
    """What the log commits to of a decision."""

    approval_id: str | UnsetType
    at: str
    consent_id: str | UnsetType
    decision_id: str
    degraded: tuple[str, ...] | UnsetType
    dry_run: bool
    effect: Effect
    generation: int
    kind: str
    level: str
    mode: str
    near_misses: tuple[()] | UnsetType
    permission: str
    policy_version: str
    reason: Reason
    risk: Risk
    rule: RuleRef | None
    spoke: list[_Spoke]
    subject: str | UnsetType
    subject_person: str | UnsetType
    user: UnsetType | None
    user_person: str | UnsetType


class _Named(Struct, frozen=True, kw_only=True):
    """A subject or a user: told as it is, by a pseudonym, or as the same as another value."""

    told: str | UnsetType = UNSET
    person: str | UnsetType = UNSET
    value: bytes | None = None  # personal, with a commitment of its own
    shown: bytes = b""
    same: str | None = None


@dataclass(slots=True)
class Decided:
    """A decision, spelt: what is committed, and the personal members as a line shows them.

    `values` are the personal values with a commitment of their own, `same` those that follow from `user_id`; both by
    their names under `personal`, in canonical order.
    """

    committed: bytes = b"null"
    shown: str = ""
    values: dict[str, bytes] = field(default_factory=dict)
    same: tuple[tuple[str, str], ...] = ()


def spell_decision(decision: Decision, user_id: str | None, persons: Persons) -> Decided:
    """Spell a decision whose record is of `user_id`.

    Raises:
        LogUnavailableError: a pseudonym cannot be looked up.

    """
    request, verdict = decision.request, decision.verdict
    values: dict[str, bytes] = {}
    shown: list[bytes] = []
    if verdict.near_misses:
        # WHY: its sentences may quote attributes of a person.
        value = values["decision.near_misses"] = clip(canonical.spell([miss.as_json() for miss in verdict.near_misses]))
        shown.append(b'"near_misses":%b' % value)
    scope = values["decision.scope"] = clip(encode_text(request.scope))
    shown.append(b'"scope":%b' % scope)
    one = user_id if user_id is not None and len(user_id) <= _MAX_SAME else None
    subject, user = _name_subject(request.subject, one, persons), _name_user(request.user, one, persons)
    same: list[tuple[str, str]] = []
    for name, named in (("subject", subject), ("user", user)):
        if named.shown:
            shown.append(b'"%b":%b' % (name.encode(), named.shown))
        if named.value is not None:
            values[f"decision.{name}"] = named.value
        if named.same is not None:
            same.append((f"decision.{name}", named.same))
    committed = _Committed(
        approval_id=UNSET if decision.approval_id is None else decision.approval_id,
        at=timestamp(decision.at),
        consent_id=UNSET if decision.consent_id is None else decision.consent_id,
        decision_id=decision.decision_id,
        degraded=decision.degraded or UNSET,
        dry_run=decision.dry_run,
        effect=verdict.effect,
        generation=decision.generation,
        kind=request.kind,
        level=request.level,
        mode=decision.mode,
        near_misses=UNSET if verdict.near_misses else (),
        permission=request.permission,
        policy_version=decision.policy_version,
        reason=verdict.reason,
        risk=decision.risk,
        rule=verdict.rule,
        spoke=[_Spoke(effect, rule.file, rule.id, rule.line, rule.why) for rule, effect in verdict.spoke],
        subject=subject.told,
        subject_person=subject.person,
        user=None if request.user is None else UNSET,
        user_person=user.person,
    )
    return Decided(_spell(committed), b",".join(shown).decode(), values, tuple(same))


def _spell(committed: _Committed) -> bytes:
    try:
        return _encode(committed)
    except UnicodeEncodeError:
        return canonical.encode(canonical.tidy(msgspec.to_builtins(committed)))


def _name_subject(subject: str, user_id: str | None, persons: Persons) -> _Named:
    if subject.startswith(_PLUGIN):
        return _Named(told=subject)
    value = clip(encode_text(subject))
    if not subject.startswith(_USER):
        return _Named(value=value, shown=value)
    other = subject[len(_USER) :]
    if other == user_id:
        return _Named(shown=value, same=SAME_SUBJECT)
    return _Named(person=persons.of(other), value=value, shown=value)


def _name_user(user: str | None, user_id: str | None, persons: Persons) -> _Named:
    if user is None:
        return _NOBODY
    value = clip(encode_text(user))
    if user == user_id:
        return _Named(shown=value, same=SAME_USER)
    return _Named(person=persons.of(user), value=value, shown=value)


_NOBODY = _Named()
