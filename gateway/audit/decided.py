"""A decision as the log writes it: the committed text, and the values in it that name or describe a person.

INVARIANT: members stand in canonical order. The text is put together from spelt pieces, most of them cached, for this
is done for every decision; a test compares it with what the encoder makes of `Decision.as_json`.
"""

from dataclasses import dataclass, field

from gateway.audit import canonical
from gateway.audit.canonical import clip, encode_text, spell_text
from gateway.audit.persons import Persons
from gateway.domain.decision import Decision, RuleRef, timestamp
from gateway.domain.risk import Risk

SAME_USER = "=user_id"
SAME_SUBJECT = "=user:user_id"
_SAME_USER = (("decision.user", SAME_USER),)
_PLUGIN = "plugin:"
_USER = "user:"
_MAX_SAME = 8192  # characters; so a value that is the same as another is never too large to be kept
_MAX_RULES = 8192
_BOOL = {False: "false", True: "true"}


@dataclass(slots=True)
class Decided:
    """A decision, spelt: what is committed, and the personal members as a line shows them.

    `values` are the personal values with a commitment of their own, `same` those that follow from `user_id`; both by
    their names under `personal`, in canonical order.
    """

    committed: str = "null"
    shown: str = ""
    values: dict[str, bytes] = field(default_factory=dict)
    same: tuple[tuple[str, str], ...] = ()


def spell_decision(decision: Decision, user_id: str | None, persons: Persons) -> Decided:
    """Spell a decision whose record is of `user_id`.

    Raises:
        LogUnavailableError: a pseudonym cannot be looked up.

    """
    request, verdict = decision.request, decision.verdict
    near, near_shown, values = '"near_misses":[],', "", {}
    if verdict.near_misses:
        # WHY: its sentences may quote attributes of a person.
        value = clip(canonical.spell([miss.as_json() for miss in verdict.near_misses]))
        near, near_shown, values = "", f'"near_misses":{value.decode()},', {"decision.near_misses": value}
    scope = values["decision.scope"] = clip(encode_text(request.scope))
    one = user_id if user_id is not None and len(user_id) <= _MAX_SAME else None
    subject = _spell_subject(request.subject, one, persons)
    user = _spell_user(request.user, one, persons)
    values |= subject.values | user.values
    rule = "null" if verdict.rule is None else _spell_rule(verdict.rule)
    spoke = ",".join([f'{{"effect":"{effect!s}",{_spell_rule(ref)[1:]}' for ref, effect in verdict.spoke])
    text = (
        f'{{{_id("approval_id", decision.approval_id)}"at":"{timestamp(decision.at)}",'
        f'{_id("consent_id", decision.consent_id)}"decision_id":{encode_text(decision.decision_id).decode()},'
        f"{_spell_degraded(decision.degraded)}"
        f'"dry_run":{_BOOL[decision.dry_run]},"effect":"{verdict.effect!s}","generation":{decision.generation},'
        f'"kind":{spell_text(request.kind)},"level":{spell_text(request.level)},"mode":{spell_text(decision.mode)},'
        f'{near}"permission":{spell_text(request.permission)},"policy_version":{spell_text(decision.policy_version)},'
        f'"reason":"{verdict.reason!s}","risk":{_spell_risk(decision.risk)},"rule":{rule},"spoke":[{spoke}]'
        f"{subject.committed}{user.committed}}}"
    )
    shown = f'{near_shown}"scope":{scope.decode()}{subject.shown}{user.shown}'
    return Decided(text, shown, values, subject.same + user.same)


def _spell_subject(subject: str, user_id: str | None, persons: Persons) -> Decided:
    """Spell the member `subject`, or what stands for it."""
    if subject.startswith(_PLUGIN):
        return Decided(f',"subject":{spell_text(subject)}')
    value = clip(encode_text(subject))
    shown = f',"subject":{value.decode()}'
    if subject.startswith(_USER):
        other = subject[len(_USER) :]
        if other == user_id:
            return Decided("", shown, same=(("decision.subject", SAME_SUBJECT),))
        return Decided(f',"subject_person":"{persons.of(other)}"', shown, {"decision.subject": value})
    return Decided("", shown, {"decision.subject": value})


def _spell_user(user: str | None, user_id: str | None, persons: Persons) -> Decided:
    """Spell the member `user`, or what stands for it."""
    if user is None:
        return Decided(',"user":null')
    value = clip(encode_text(user))
    shown = f',"user":{value.decode()}'
    if user == user_id:
        return Decided("", shown, same=_SAME_USER)
    return Decided(f',"user_person":"{persons.of(user)}"', shown, {"decision.user": value})


def _id(name: str, value: str | None) -> str:
    return "" if value is None else f'"{name}":{spell_text(value)},'


def _spell_degraded(names: tuple[str, ...]) -> str:
    return f'"degraded":[{",".join([spell_text(each) for each in names])}],' if names else ""


def _spell_rule(rule: RuleRef) -> str:
    known = _rules.get(id(rule))
    # INVARIANT: the entry keeps its rule alive, so no other object has that identity.
    if known is not None:
        return known[1]
    if len(_rules) >= _MAX_RULES:
        _rules.clear()
    return _rules.setdefault(id(rule), (rule, _make_rule(rule)))[1]


def _make_rule(rule: RuleRef) -> str:
    return (
        f'{{"file":{spell_text(rule.file)},"id":{spell_text(rule.id)},"line":{rule.line},"why":{spell_text(rule.why)}}}'
    )


_rules: dict[int, tuple[RuleRef, str]] = {}


def _spell_risk(risk: Risk) -> str:
    parts = ",".join([f'{{"name":{spell_text(part.name)},"points":{part.points}}}' for part in risk.parts])
    return f'{{"parts":[{parts}],"score":{risk.score},"tier":"{risk.tier!s}"}}'
