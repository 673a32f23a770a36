"""How the effects of matching rules become one answer, exactly as Casbin counts them."""

import functools
from typing import Any

import casbin
from casbin.effect import (
    AllowAndDenyEffector,
    AllowOverrideEffector,
    DenyOverrideEffector,
    Effector,
    PriorityEffector,
    effect_to_bool,
)

_EFFECTS = {None: Effector.ALLOW, "allow": Effector.ALLOW, "deny": Effector.DENY}
# These never look whether some rule did not match, so nobody needs to count.
_BLIND = frozenset({AllowAndDenyEffector, AllowOverrideEffector, DenyOverrideEffector, PriorityEffector})
_PROBE = """\
[request_definition]
r = sub
[policy_definition]
p = sub, eft
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = r.sub == p.sub
"""


class Ruling:
    """The effects of the rules that matched so far."""

    def __init__(self, effector: Any, *, every_match: bool) -> None:  # noqa: ANN401 (casbin is not typed)
        self._effector = effector
        self._counts_others = type(effector) not in _BLIND
        self._every_match = every_match
        self._effects: set[int] = set()
        self._matched = 0
        self.is_final = False
        self.explained: int | None = None

    def match(self, number: int, effect: str | None) -> None:
        """Count that the rule of this number matches; numbers ascend."""
        if self._counts_others and number > self._matched:
            self._effects.add(Effector.INDETERMINATE)
        self._matched += 1
        self._effects.add(_EFFECTS.get(effect, Effector.INDETERMINATE))
        self.is_final = self._effector.intermediate_effect(self._effects) != Effector.INDETERMINATE
        if self.is_final or self._every_match:
            self.explained = number

    def allowed(self, rules: int) -> bool:
        """Give the answer, if there are so many rules in all."""
        if self._counts_others and not self.is_final and self._matched < rules:
            self._effects.add(Effector.INDETERMINATE)
        return bool(effect_to_bool(self._effector.final_effect(self._effects)))


@functools.cache
def explains_every_match() -> bool:
    """Tell whether this Casbin explains by the last rule that matched, not only by one that decided early."""
    enforcer = casbin.Enforcer(casbin.Enforcer.new_model(text=_PROBE))
    enforcer.add_policy("a", "allow")
    return bool(enforcer.enforce_ex("a")[1])
