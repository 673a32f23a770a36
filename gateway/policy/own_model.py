"""A model that an operator wrote: which rules cover a question under it, and what it answers.

Casbin decides, and what is told of its answer is found by the same matcher with every condition taken to hold.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from casbin.effect import AllowOverrideEffector, PriorityEffector
from casbin.util import escape_assertion, has_eval
from msgspec.structs import replace

from gateway.domain.decision import Effect, Verdict
from gateway.domain.request import AccessRequest, Facts
from gateway.errors import MalformedError
from gateway.policy.encode import encode_field
from gateway.policy.enforcer import GateEnforcer
from gateway.policy.expression import Evaluator, Unproven, evaluator
from gateway.policy.functions import KNOWN_FUNCTIONS
from gateway.policy.matcher import parse_matcher
from gateway.policy.model import SHIPPED, Model, lines_of
from gateway.policy.own_words import check_words
from gateway.policy.roles import Roles
from gateway.policy.rule import Rule
from gateway.policy.stock import QuietFacts, asked_values, row_of
from gateway.policy.verdict import Covering

_MAX_MATCHER_CHARS = 2000
_SUBJECT, _KIND, _LEVEL, _SCOPE = range(4)
Question = tuple[str, str, str, str]


def own_matcher(text: str, linked: Callable[[str, str], bool]) -> Evaluator:
    """Give a matcher as a function of a request's four values and a rule's row, every condition taken to hold.

    Raises:
        MalformedError: it says what is not known to mean here what it means in Casbin.
    """
    if len(text) > _MAX_MATCHER_CHARS or "#" in text:
        raise MalformedError(f"at most {_MAX_MATCHER_CHARS} characters, without `#`")
    # SECURITY: Casbin looks for it in quotes, too, and would read there as a program what a rule says.
    if has_eval(text):
        raise MalformedError("`eval(`: rules are no programs")
    definitions = [line.decode().partition("=")[2] for _, line in lines_of(SHIPPED.encode())]
    asked, ruled = ([each.strip() for each in definitions[at].split(",")] for at in (1, 3))
    names = [*(f"r_{each}" for each in asked), *(f"p_{each}" for each in ruled)]
    functions: dict[str, Callable[..., Any]] = {name: known.function for name, known in KNOWN_FUNCTIONS.items()}
    functions |= {"g": linked, "cond": lambda *_condition: True}
    try:
        parsed = parse_matcher(escape_assertion(text))
        check_words(parsed, names)
        return evaluator(parsed, {name: place for place, name in enumerate(names)}, functions)
    except Unproven as error:
        raise MalformedError(
            f"{error}: it may call g, kind, level, scope and cond, compare texts, and join these"
        ) from None
    except (ValueError, RecursionError, MemoryError):
        raise MalformedError("it is no expression") from None


class OwnModel:
    """Answers by an operator's model."""

    __slots__ = ("_compiled", "_covers", "_enforcer", "_rows", "_rules")

    def __init__(self, model: Model, enforcer: GateEnforcer, rules: Sequence[Rule], roles: Roles) -> None:
        self._enforcer = enforcer
        self._compiled = enforcer.compiled()
        self._rules = tuple(rules)
        self._rows = [tuple(row_of(rule)) for rule in rules]
        definition = next(line for _, line in lines_of(model.text.encode()) if re.match(rb"m\s*=", line))
        self._covers = own_matcher(
            definition.decode().partition("=")[2].strip(), lambda subject, role: role in roles.closure(subject)
        )

    def covering(self, question: Question) -> tuple[Rule, ...]:
        """Give the rules that speak on a question if their conditions hold, in their order."""
        asked = (encode_field(question[_SUBJECT]), str(question[_KIND]), *question[_LEVEL:], None)
        # WHY: what is looked up leaves few of many rules to try.
        found = range(len(self._rules)) if self._compiled is None else self._compiled.matching(asked)
        return tuple(self._rules[number] for number in found if self._covers(asked + self._rows[number]))

    def decide(self, request: AccessRequest, facts: Facts, covering: Covering) -> Verdict:
        """Give Casbin's answer, explained."""
        told = covering.judge(facts)
        counted = told.counters
        quiet = QuietFacts(
            at=facts.at, risk=facts.risk, consent_id=facts.consent_id, approval_id=facts.approval_id,
            used=lambda rule_id, rate: counted[rule_id] if rule_id in counted else facts.used(rule_id, rate),
            attributes=facts.attributes,
        )  # fmt: skip
        allowed, row = self._enforcer.enforce_ex(*asked_values(request, quiet))
        decided = next((at for at, each in enumerate(covering.rules) if row and each.id == row[0]), None)
        if allowed is not True:
            return replace(self._denied(covering, decided, quiet, told), charge=None, counters=counted)
        rule = None if decided is None else covering.rules[decided]
        if rule is not None and rule.effect is Effect.ALLOW:
            # INVARIANT: one rule speaks, so that where it is held nothing else is left that would allow.
            alone = Covering([rule]).judge(quiet)
            return replace(alone, near_misses=told.near_misses, counters=counted)
        if told.effect is not Effect.ALLOW:
            raise RuntimeError("an allow that no rule explains")
        return told

    def _denied(self, covering: Covering, decided: int | None, facts: Facts, told: Verdict) -> Verdict:
        """Explain a deny by the rules that this model's effect would have let decide before it."""
        before = told
        if isinstance(self._enforcer.eft, AllowOverrideEffector):
            before = Covering([rule for rule in covering.rules if rule.effect is Effect.ALLOW]).judge(facts)
        elif isinstance(self._enforcer.eft, PriorityEffector):
            before = Covering(covering.rules[:decided]).judge(facts)
            if decided is not None and not before.near_misses:
                before = Covering([covering.rules[decided]]).judge(facts)
        if before.effect is Effect.ALLOW:
            raise RuntimeError("a deny that no rule explains")
        return before
