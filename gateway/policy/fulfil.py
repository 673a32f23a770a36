"""What would have to come true for a rule that nearly allowed a call: each unmet term in words, and as a fact to try.

What cannot come true (a moment that is past, a fact of the gateway's) is not offered.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import assert_never

from msgspec.structs import replace

from gateway.domain.condition import (
    Approval,
    Attribute,
    Compare,
    Consent,
    From,
    Hours,
    Literal,
    Operator,
    Rate,
    RiskAtMost,
    Term,
    Until,
)
from gateway.domain.decision import NearMiss, timestamp
from gateway.domain.names import split_subject
from gateway.domain.permission import FAMILIES
from gateway.domain.request import Json
from gateway.policy.engine import PolicySet
from gateway.policy.entities import Entities
from gateway.policy.openings import LATEST, LOOKED_AT, first_open
from gateway.policy.replay import KeptFacts, Recorded, tier_among
from gateway.policy.rule import Rule
from gateway.policy.text import ENTITIES

Wanted = Json | tuple[Literal, ...]
_FIXED = {
    "subject": frozenset({"id", "type"}),
    "resource": frozenset({"id", "type"}),
    "action": frozenset({"name"}),
}
_SHOWN_CHARACTERS = 80
_WORDS = {
    Operator.EQUAL: "is {}",
    Operator.UNEQUAL: "is known and is not {}",
    Operator.LESS: "is less than {}",
    Operator.AT_MOST: "is at most {}",
    Operator.GREATER: "is more than {}",
    Operator.AT_LEAST: "is at least {}",
    Operator.IN: "is one of {}",
    Operator.STARTS_WITH: "begins with {}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fulfilment:
    """What must come true for a rule that is there; `recorded` and `entities` are as if it had."""

    miss: NearMiss
    sentence: str
    recorded: Recorded
    entities: Entities

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {
            "type": "condition",
            "rule": self.miss.rule.as_json(),
            "terms": [*self.miss.unmet],
            "sentence": self.sentence,
        }


@dataclass(frozen=True, slots=True)
class _World:
    """The facts of a call, and what is stored, while they are changed."""

    facts: KeptFacts
    entities: Entities


class _ImpossibleError(Exception):
    """Nothing makes the term hold."""


def fulfilments(policy: PolicySet, recorded: Recorded, misses: tuple[NearMiss, ...]) -> Iterator[Fulfilment]:
    """Give what would let rules speak that nearly did."""
    rules = {rule.id: rule for rule in policy.candidates(recorded.request)}
    for miss in misses:
        if miss.rule.id in rules:
            try:
                yield _fulfilled(policy, rules[miss.rule.id], miss, recorded)
            except _ImpossibleError:
                continue


def _fulfilled(policy: PolicySet, rule: Rule, miss: NearMiss, recorded: Recorded) -> Fulfilment:
    world, said = _World(recorded.facts, policy.entities), dict[str, None]()
    for text, term in rule.condition.terms:
        if text in miss.unmet:
            words, world = _term(policy, rule, term, recorded, world)
            said[words] = None
    return Fulfilment(
        miss=miss,
        sentence=f"Rule `{rule.id}` allows it once {', and '.join(said)}.",
        recorded=replace(recorded, facts=world.facts),
        entities=world.entities,
    )


def _term(policy: PolicySet, rule: Rule, term: Term, recorded: Recorded, world: _World) -> tuple[str, _World]:
    facts = world.facts
    match term:
        case Consent():
            return _consent(recorded), _World(replace(facts, consent_id="suggested"), world.entities)
        case Approval():
            words = "a person approves this very call"
            return words, _World(replace(facts, approval_id="suggested"), world.entities)
        case Rate(count=count, per_s=per_s):
            used, rates = {**facts.counters, rule.id: 0}, {**facts.rates, rule.id: per_s}
            words = f"fewer than {count} of its calls were allowed within {per_s} s"
            return words, _World(replace(facts, counters=used, rates=rates), world.entities)
        case RiskAtMost(score=score):
            return _risk(policy, recorded, score), _World(replace(facts, risk=score), world.entities)
        case Hours() | From():
            at = _opens(rule, facts.at)
            words = f"it is asked at {timestamp(at).replace('.000000', '')}"
            return words, _World(replace(facts, at=at), world.entities)
        case Until():
            raise _ImpossibleError
        case Compare():
            return _comparison(policy, term, recorded, world)
        case _:
            assert_never(term)


def _consent(recorded: Recorded) -> str:
    if split_subject(recorded.subject)[0] != "plugin" or recorded.kind not in FAMILIES:
        raise _ImpossibleError  # consents are given to plugins
    user = recorded.user
    return f"`{user}` consents" if user is not None else "it is asked on behalf of a user who consents"


def _risk(policy: PolicySet, recorded: Recorded, score: int) -> str:
    words = f"its risk is at most {score} (it is {recorded.facts.risk})"
    standing = tier_among(recorded.facts.memberships)
    tiers = [*type(standing)] if standing is not None else []
    calmer = [tier for tier in tiers if policy.score(recorded.request, plugin_tier=tier).score <= score]
    return f"{words}, as it is for a plugin of tier {calmer[-1]}" if calmer else words


def _opens(rule: Rule, after: datetime) -> datetime:
    begins = [term.at for _, term in rule.condition.terms if isinstance(term, From)]
    hours = [term for _, term in rule.condition.terms if isinstance(term, Hours)]
    first = max([after, *begins]).astimezone(UTC)
    found = first_open(hours, first, first + LOOKED_AT) if first < LATEST else None
    if found is None:
        raise _ImpossibleError
    return found


def _comparison(policy: PolicySet, term: Compare, recorded: Recorded, world: _World) -> tuple[str, _World]:
    known = _known(policy, recorded, world)
    left, right = term.left, term.right
    wanted: Wanted
    if isinstance(right, Attribute):
        wanted, here = _value(known, right), _value(known, left)
        if term.operator is Operator.EQUAL and here is not None and (wanted is None or _is_fixed(left)):
            left, right, wanted = right, left, here
        if wanted is None:
            raise _ImpossibleError
        words = _WORDS[term.operator].format(f"{_shown(wanted)}, as is {_name(right)}")
    else:
        wanted = right
        many = right if isinstance(right, tuple) else (right,)
        words = _WORDS[term.operator].format(" or ".join(map(_shown, many)))
    if _is_fixed(left):
        raise _ImpossibleError
    here = _value(known, left)
    now = "it was not given" if here is None else f"it is {_shown(here)}"
    value = _satisfying(term.operator, wanted)
    owner = _stored(policy, recorded, left)
    if owner is None:
        return f"{_name(left)} {words} ({now})", _World(_sent(world.facts, left.path, value), world.entities)
    kind, name = owner
    stored = {**world.entities.get(owner, {}), left.path[1]: value}
    words = f"{ENTITIES} says of {kind} `{name[:_SHOWN_CHARACTERS]}` that {_name(left)} {words} ({now})"
    return words, _World(world.facts, {**world.entities, owner: stored})


def _known(policy: PolicySet, recorded: Recorded, world: _World) -> Mapping[str, Mapping[str, Json]]:
    return policy.attributes(recorded.request, world.facts.sent)


def _is_fixed(attribute: Attribute) -> bool:
    return attribute.path[1] in _FIXED.get(attribute.path[0], ())


def _stored(policy: PolicySet, recorded: Recorded, attribute: Attribute) -> tuple[str, str] | None:
    """Give the entity that says what an attribute is, None if whoever asks says so."""
    prefix, name = split_subject(recorded.subject)
    owners = {"subject": (prefix, name), "resource": (recorded.kind, recorded.scope)}
    owner = owners.get(attribute.path[0])
    return owner if owner is not None and attribute.path[1] in policy.entities.get(owner, {}) else None


def _value(known: Mapping[str, Mapping[str, Json]], attribute: Attribute) -> Json:
    value: object = known
    for name in attribute.path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value  # type: ignore[return-value] # what is inside of Json is Json


def _satisfying(operator: Operator, wanted: Wanted) -> Json:
    """Give a value for which the comparison with `wanted` holds."""
    if operator is Operator.IN:
        if not isinstance(wanted, list | tuple) or not wanted:
            raise _ImpossibleError
        return wanted[0]
    if isinstance(wanted, bool):
        return not wanted if operator is Operator.UNEQUAL else wanted
    if isinstance(wanted, int | float):
        step = {Operator.LESS: -1, Operator.GREATER: 1, Operator.UNEQUAL: 1}
        return wanted + step.get(operator, 0)
    if isinstance(wanted, str):
        return f"{wanted}-other" if operator is Operator.UNEQUAL else wanted
    raise _ImpossibleError


def _sent(facts: KeptFacts, path: tuple[str, ...], value: Json) -> KeptFacts:
    """Give the facts as if an attribute had been sent, beside what was."""
    root, name, *below = path
    key = f"{root}.{name}"
    return replace(facts, attributes={**facts.attributes, key: _within(facts.attributes.get(key), below, value)})


def _within(whole: Json, path: Sequence[str], value: Json) -> Json:
    if not path:
        return value
    members = whole if isinstance(whole, dict) else {}
    return {**members, path[0]: _within(members.get(path[0]), path[1:], value)}


def _name(attribute: Attribute) -> str:
    return f"`{'.'.join(attribute.path)}`"


def _shown(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text[:_SHOWN_CHARACTERS]}`"
