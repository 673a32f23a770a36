"""A decision as the log writes it: the committed text, and the values in it that name or describe a person.

INVARIANT: members stand in canonical order. The text is put together from spelt pieces, most of them cached, for this
is done for every decision; a test compares it with what the encoder makes of `Decision.as_json`.
"""

from dataclasses import dataclass
from functools import lru_cache

from gateway.audit import canonical
from gateway.audit.canonical import encode_text, spell_text
from gateway.audit.persons import Persons
from gateway.domain.decision import Decision, RuleRef, timestamp
from gateway.domain.risk import Risk

SAME_USER = "=user_id"
SAME_SUBJECT = "=user:user_id"
_PLUGIN = "plugin:"
_USER = "user:"
_MAX_SAME = 8192  # characters; so a value that is the same as another is never too large to be kept
_BOOL = {False: "false", True: "true"}


@dataclass(slots=True)
class Decided:
    """A decision, spelt; `same` names the personal values that follow from the record's `user_id`."""

    committed: str
    values: dict[str, bytes]  # name of a member -> canonical JSON, in canonical order
    same: dict[str, str]  # name of a member -> SAME_USER or SAME_SUBJECT


def spell_decision(decision: Decision, user_id: str | None, persons: Persons) -> Decided:
    """Spell a decision whose record is of `user_id`.

    Raises:
        LogUnavailableError: a pseudonym cannot be looked up.

    """
    request, verdict = decision.request, decision.verdict
    user, subject = request.user, request.subject
    one = user_id if user_id is not None and len(user_id) <= _MAX_SAME else None
    values: dict[str, bytes] = {}
    same: dict[str, str] = {}
    near, end = '"near_misses":[],', '"user":null}'
    if verdict.near_misses:
        # WHY: its sentences may quote attributes of a person.
        near, values["near_misses"] = "", canonical.spell([miss.as_json() for miss in verdict.near_misses])
    values["scope"] = encode_text(request.scope)
    whose = ""
    if subject.startswith(_PLUGIN):
        whose = f'"subject":{spell_text(subject)},'
    else:
        values["subject"] = encode_text(subject)
        if subject.startswith(_USER):
            other = subject[len(_USER) :]
            if other == one:
                same["subject"] = SAME_SUBJECT
            else:
                whose = f'"subject_person":"{persons.of(other)}",'
    if user is not None:
        values["user"] = encode_text(user)
        if user == one:
            same["user"], end = SAME_USER, "}"
        else:
            end = f'"user_person":"{persons.of(user)}"}}'
    rule = "null" if verdict.rule is None else _spell_rule(verdict.rule)
    spoke = ",".join([f'{{"effect":"{effect}",{_spell_rule(ref)[1:]}' for ref, effect in verdict.spoke])
    body = (
        f'{{{_id("approval_id", decision.approval_id)}"at":"{timestamp(decision.at)}",'
        f'{_id("consent_id", decision.consent_id)}"decision_id":{encode_text(decision.decision_id).decode()},'
        f'"dry_run":{_BOOL[decision.dry_run]},"effect":"{verdict.effect}","generation":{decision.generation},'
        f'"kind":{spell_text(request.kind)},"level":{spell_text(request.level)},"mode":{spell_text(decision.mode)},'
        f'{near}"permission":{spell_text(request.permission)},"policy_version":{spell_text(decision.policy_version)},'
        f'"reason":"{verdict.reason}","risk":{_spell_risk(decision.risk)},"rule":{rule},"spoke":[{spoke}],{whose}'
    )
    return Decided(body[:-1] + end if end == "}" else body + end, values, same)


def _id(name: str, value: str | None) -> str:
    return "" if value is None else f'"{name}":{spell_text(value)},'


@lru_cache(8192)
def _spell_rule(rule: RuleRef) -> str:
    return (
        f'{{"file":{spell_text(rule.file)},"id":{spell_text(rule.id)},"line":{rule.line},"why":{spell_text(rule.why)}}}'
    )


def _spell_risk(risk: Risk) -> str:
    parts = ",".join([f'{{"name":{spell_text(part.name)},"points":{part.points}}}' for part in risk.parts])
    return f'{{"parts":[{parts}],"score":{risk.score},"tier":"{risk.tier}"}}'
