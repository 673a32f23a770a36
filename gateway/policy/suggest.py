"""The smallest change that would allow a call: thought up here, proven by whoever applies it aside."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.domain.condition import Rate, RiskAtMost, Term
from gateway.domain.decision import Decision, Effect, NearMiss
from gateway.domain.names import PLUGINS_GROUP, USERS_GROUP, split_subject
from gateway.domain.request import AccessRequest, Json
from gateway.domain.scope import covers
from gateway.policy.encode import add_lines, encode_field, rule_line
from gateway.policy.engine import PolicySet
from gateway.policy.replay import Recorded
from gateway.policy.rule import Rule, kind_matches, level_matches
from gateway.policy.text import ROLES, PolicyText

ADDED = "rules/90-added.csv"
_MOST_ROLES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A line to add to a file."""

    type: str  # `role` or `rule`
    file: str
    line: str

    def applied(self, text: PolicyText) -> PolicyText:
        """Give the text with the line in it."""
        return text.with_file(self.file, add_lines(text.files.get(self.file, b""), [self.line]))

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {"type": self.type, "file": self.file, "line": self.line}


def edits(policy: PolicySet, recorded: Recorded, misses: Sequence[NearMiss] = ()) -> Iterator[tuple[Edit, ...]]:
    """Give edits that may allow a call; of each group the first that does is the smallest, and the others are more.

    First a role or group that has the right; then a rule of its own: with what a rule that nearly spoke asks for and
    got, then with no condition.
    """
    request = recorded.request
    member = encode_field(request.subject)
    for whole in _wholes(policy, request):
        yield (Edit(type="role", file=ROLES, line=f"g, {member}, {whole}"),)
    id_ = _free_id(policy, request)
    fields = (id_, member, request.kind, request.level, encode_field(request.scope))
    why = f"asked for by decision {recorded.decision_id}"
    conditions = dict.fromkeys([*_eased(policy, recorded, misses), "-"])
    yield tuple(
        Edit(type="rule", file=ADDED, line=rule_line((*fields, condition, "allow"), why=why))
        for condition in conditions
    )


def way_in(decision: Decision) -> str:
    """Give the line of a rule that allows what a decision was about, where no rule denies it.

    It is thought up without a look at the rules; `edits` gives what is proven.
    """
    named = decision.decision_id
    return _line(f"asked-{named}", decision.request, f"asked for by decision {named}")


def line_for(policy: PolicySet, request: AccessRequest, why: str) -> str:
    """Spell the one rule that would allow a request, if nothing denies it."""
    return _line(_free_id(policy, request), request, why)


def _line(id_: str, request: AccessRequest, why: str) -> str:
    fields = (id_, encode_field(request.subject), request.kind, request.level, encode_field(request.scope))
    return rule_line((*fields, "-", Effect.ALLOW.value), why=why)


def _eased(policy: PolicySet, recorded: Recorded, misses: Sequence[NearMiss]) -> Iterator[str]:
    """Give the conditions of rules that nearly spoke, less what was not met, the one that asks for most first."""
    rules = {rule.id: rule for rule in policy.candidates(recorded.request)}
    met = []
    for miss in misses:
        rule = rules.get(miss.rule.id)
        terms = () if rule is None else rule.condition.terms
        # WHY: a rate counts anew for a new rule, so it would not be the condition that was met.
        kept = [_eased_term(text, term, miss, recorded) for text, term in terms if not isinstance(term, Rate)]
        met.append([text for text in kept if text is not None])
    for texts in sorted(met, key=len, reverse=True):
        yield "; ".join(texts) or "-"


def _eased_term(text: str, term: Term, miss: NearMiss, recorded: Recorded) -> str | None:
    if text not in miss.unmet:
        return text
    return f"risk<={recorded.facts.risk}" if isinstance(term, RiskAtMost) else None


def _wholes(policy: PolicySet, request: AccessRequest) -> list[str]:
    prefix, _ = split_subject(request.subject)
    wanted = {"user": ("role", "group"), "key": ("role", "group"), "plugin": ("group",)}.get(prefix, ())
    able = {rule.subject for rule in policy.rules if rule.effect is Effect.ALLOW and _speaks_of(rule, request)}
    named = {rule.subject for rule in policy.rules} | {line.whole for line in policy.parsed.memberships}
    has = policy.roles.closure(encode_field(request.subject))
    found = [
        whole
        for whole in sorted(named - has - {PLUGINS_GROUP, USERS_GROUP})
        if split_subject(whole)[0] in wanted and able & policy.roles.closure(whole)
    ]
    return found[:_MOST_ROLES]


def _speaks_of(rule: Rule, request: AccessRequest) -> bool:
    return (
        kind_matches(request.kind, rule.kind)
        and level_matches(request.kind, request.level, rule.level, rule.effect)
        and covers(rule.scope, request.scope)
    )


def _free_id(policy: PolicySet, request: AccessRequest) -> str:
    name = "".join(char if char.isascii() and char.isalnum() else "-" for char in split_subject(request.subject)[1])
    stem = f"{name.strip('-') or 'added'}-{request.kind}-{request.level}"[:100]
    taken = {rule.id for rule in policy.rules}
    return next(name for n in range(1, len(taken) + 3) if (name := stem if n == 1 else f"{stem}-{n}") not in taken)
