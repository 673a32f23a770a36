"""A rule: one line of a policy file, read."""

from dataclasses import dataclass

from gateway.domain.condition import Condition
from gateway.domain.decision import Effect, RuleRef
from gateway.domain.permission import FAMILIES, KNOWN_KINDS, LEVELS, Kind
from gateway.policy.text import GRANTS

EVERY = "*"
_OF_FAMILIES = frozenset({EVERY, *(kind.value for kind in FAMILIES)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Who may, or may not, do what to what, and under which condition."""

    id: str
    subject: str  # as written: a request's subject is encoded to compare
    kind: str
    level: str
    scope: str  # decoded and canonical
    condition: Condition
    effect: Effect
    why: str  # decoded
    file: str
    line: int
    fields: tuple[str, ...]  # the eight values as written, as Casbin holds them

    @property
    def ref(self) -> RuleRef:
        """The rule as a person finds it."""
        return RuleRef(id=self.id, file=self.file, line=self.line, why=self.why)

    @property
    def is_grant(self) -> bool:
        """Whether an approval wrote it."""
        return self.file == GRANTS

    @property
    def in_families(self) -> bool:
        """Whether it can cover a request for one of the eight families."""
        return self.kind in _OF_FAMILIES


def kind_matches(asked: str, ruled: str) -> bool:
    """Tell whether a rule's kind covers a request's; `*` is every kind but the gateway itself."""
    return asked == ruled or (ruled == EVERY and asked != Kind.GATEWAY)


def level_matches(kind: str, asked: str, ruled: str, effect: str) -> bool:
    """Tell whether a rule's level covers a request's: an allow reaches down, a deny reaches up."""
    if kind not in KNOWN_KINDS:
        return ruled in {asked, EVERY}
    wanted = LEVELS.get(asked)
    if wanted is None:
        # SECURITY: the name of an action that is no level is allowed by its own name alone, or by `*`, and denied
        # by every deny.
        return effect == Effect.DENY or ruled in {asked, EVERY}
    if ruled == EVERY:
        return True
    named = LEVELS.get(ruled)
    if named is None:
        return False
    return named >= wanted if effect == Effect.ALLOW else named <= wanted
