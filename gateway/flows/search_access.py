"""To search: who may do something, on what somebody may do it, what somebody may do (AuthZEN 1.0).

What is searched is what the gateway knows: the entities that are stored, and the names that rules and roles hold. Each
is judged as a question about it would be. Nothing is used up.
"""

import asyncio
from collections.abc import Iterable, Iterator
from enum import StrEnum

from gateway.domain.caller import Caller
from gateway.domain.condition import Compare, Operator
from gateway.domain.names import split_subject
from gateway.domain.permission import FAMILIES, LEVELS, Kind, Level
from gateway.domain.record import Record, Resolution
from gateway.domain.request import Json
from gateway.errors import MalformedError
from gateway.flows.ask import ask_scope, authorize_question
from gateway.flows.authorize import authorize
from gateway.flows.decide import judge
from gateway.flows.evaluate import Entity, Evaluation, as_question
from gateway.flows.parts import Parts
from gateway.policy.encode import decode_field
from gateway.policy.engine import PolicySet
from gateway.policy.rule import EVERY, Rule, kind_matches

_BREATH = 200  # candidates that are judged before others get their turn
_ACTION = ("action", "name")


class Sought(StrEnum):
    """What a search looks for; the other two of the question are given."""

    SUBJECT = "subject"
    RESOURCE = "resource"
    ACTION = "action"


async def search(parts: Parts, caller: Caller, sought: Sought, like: Evaluation) -> list[str]:
    """Give the ids, or the names, that would be allowed in the place of what `like` says there, in a lasting order.

    Raises:
        DeniedError: the caller may not ask about that subject, or about all; recorded.
        LogUnavailableError: it could not be recorded.
    """
    await _authorize(parts, caller, sought, like)
    found: list[str] = []
    policy = parts.policy.get()
    if like.answerable and policy is not None:
        for number, name in enumerate(dict.fromkeys(_candidates(parts, policy, sought, like))):
            if number % _BREATH == _BREATH - 1:
                await asyncio.sleep(0)
            if _allowed(parts, caller, _with(like, sought, name)):
                found.append(name)
    await parts.log.append(_searched(parts, caller, sought, like, len(found)))
    return found


async def _authorize(parts: Parts, caller: Caller, sought: Sought, like: Evaluation) -> None:
    if sought is Sought.SUBJECT:
        await authorize(parts, caller, Level.READ, ask_scope(None), key_scope="evaluate")
    elif like.answerable:
        question = as_question(_with(like, sought, "-"), caller)
        await authorize_question(parts, caller, question.request, dry_run=True)
    else:
        await authorize(parts, caller, Level.READ, ask_scope(like.subject.subject), key_scope="evaluate")


def _allowed(parts: Parts, caller: Caller, evaluation: Evaluation) -> bool:
    try:
        question = as_question(evaluation, caller)
    except MalformedError:
        return False  # WHY: a name that no request can have
    return judge(parts, question.request, question.context).allowed


def _with(like: Evaluation, sought: Sought, name: str) -> Evaluation:
    subject, resource, action = like.subject, like.resource, like.action
    return Evaluation(
        subject=Entity(subject.type, name, subject.properties) if sought is Sought.SUBJECT else subject,
        resource=Entity(resource.type, name, resource.properties) if sought is Sought.RESOURCE else resource,
        action=name if sought is Sought.ACTION else action,
        action_properties=like.action_properties,
        context=like.context,
    )


def _candidates(parts: Parts, policy: PolicySet, sought: Sought, like: Evaluation) -> Iterable[str]:
    match sought:
        case Sought.SUBJECT:
            return _subjects(parts, policy, like.subject.type)
        case Sought.RESOURCE:
            return _resources(parts, policy, like.resource.type)
        case Sought.ACTION:
            return _actions(policy, like.resource.type)


def _subjects(parts: Parts, policy: PolicySet, wanted: str) -> Iterator[str]:
    yield from _stored(policy, wanted)
    yield from _registered(parts, wanted)
    named = (subject for rule in policy.rules for subject in [rule.subject])
    linked = (member for member, _ in policy.roles.links())
    for subject in (*named, *linked):
        prefix, name = split_subject(subject)
        if prefix == wanted and name != EVERY:
            yield decode_field(name)


def _resources(parts: Parts, policy: PolicySet, kind: str) -> Iterator[str]:
    yield from _stored(policy, kind)
    yield from _registered(parts, kind)
    for rule in _rules_for(policy, kind):
        if EVERY not in rule.scope:
            yield rule.scope


def _actions(policy: PolicySet, kind: str) -> Iterator[str]:
    if kind in FAMILIES:
        yield from LEVELS
    for rule in _rules_for(policy, kind):
        # WHY: beside an action's own name, a rule for all actions may tell them apart by a condition.
        if rule.level != EVERY and (kind in FAMILIES or rule.kind == kind or rule.level not in LEVELS):
            yield rule.level
        for _, term in rule.condition.terms:
            if isinstance(term, Compare) and term.left.path == _ACTION:
                yield from _compared(term)


def _compared(term: Compare) -> Iterator[str]:
    values = term.right if isinstance(term.right, tuple) else (term.right,)
    if term.operator in {Operator.EQUAL, Operator.IN}:
        yield from (each for each in values if isinstance(each, str))


def _rules_for(policy: PolicySet, kind: str) -> Iterator[Rule]:
    return (rule for rule in policy.rules if kind_matches(kind, rule.kind))


def _stored(policy: PolicySet, wanted: str) -> Iterator[str]:
    return (name for kind, name in policy.entities if kind == wanted)


def _registered(parts: Parts, wanted: str) -> Iterator[str]:
    if wanted == Kind.PLUGIN:
        yield from (plugin.id for plugin in parts.registry.plugins.all())
    elif wanted == Kind.USER:
        yield from sorted(parts.registry.keys.users())


def _searched(parts: Parts, caller: Caller, sought: Sought, like: Evaluation, count: int) -> Record:
    given: dict[str, Json] = {"subject": like.subject.subject, "action": like.action, "resource": like.resource.id}
    given.pop(sought.value)
    return Record(
        event_id=parts.event_id(),
        at=parts.now(),
        event_type="access_granted",
        resolution=Resolution.ALLOWED,
        user_id=caller.user_id,
        details={"search": sought.value, "kind": like.resource.type, "results": count},
        personal=given,
        trace_id=caller.trace_id,
    )
