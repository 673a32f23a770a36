"""The four functions of the model's matcher, as stock Casbin calls them: with what a rule's line says, as written."""

from collections.abc import Callable, Mapping
from typing import Self

from gateway.domain.condition import Condition, Hours
from gateway.domain.decision import Effect
from gateway.domain.request import Facts
from gateway.domain.scope import covers
from gateway.policy.anchors import Known, as_written, kind_probes, scope_probes
from gateway.policy.conditions import unmet_terms
from gateway.policy.encode import decode_field
from gateway.policy.rule import kind_matches, level_matches
from gateway.policy.terms import parse_condition


class RuleText(str):
    """A condition as written that also knows the id of its rule, whose rate it counts."""

    __slots__ = ("rule_id",)
    rule_id: str

    def __new__(cls, text: str, rule_id: str) -> Self:
        """Make the text of one rule's condition."""
        made = super().__new__(cls, text)
        made.rule_id = rule_id
        return made


def scope_matches(asked: str, ruled: str) -> bool:
    """Tell whether the scope of a rule, as written, covers a request's."""
    return covers(decode_field(ruled), asked)


KNOWN_FUNCTIONS: Mapping[str, Known] = {
    "kind": Known(function=kind_matches, arity=2, anchor=as_written, probes=kind_probes),
    "level": Known(function=level_matches, arity=4),
    "scope": Known(function=scope_matches, arity=2, is_total=False, anchor=decode_field, probes=scope_probes),
}


def build_functions(calendars: Mapping[str, Hours]) -> dict[str, Callable[..., bool]]:
    """Give the functions to register with a Casbin enforcer, by their names in the matcher."""
    parsed: dict[str, Condition] = {}

    def cond(text: str, effect: str, facts: Facts) -> bool:
        condition = parsed.get(text)
        if condition is None:
            condition, wrong = parse_condition(text, calendars)
            if wrong:
                # SECURITY: a condition that cannot be read is unmet for an allow and met for a deny.
                return effect == Effect.DENY
            parsed[str(text)] = condition
        rule_id = text.rule_id if isinstance(text, RuleText) else ""
        return not unmet_terms(condition, facts, effect=Effect(effect), rule_id=rule_id)

    return {"kind": kind_matches, "level": level_matches, "scope": scope_matches, "cond": cond}
