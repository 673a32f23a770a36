"""What an edit would have changed: recorded decisions judged by the policy in force and by the edited one."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.domain.condition import Compare, RiskAtMost
from gateway.domain.decision import Effect, Reason, RuleRef, Verdict, timestamp
from gateway.domain.request import AccessRequest, Json
from gateway.policy.engine import PolicySet
from gateway.policy.replay import UNRULED, NotKeptError, Recorded, judge_again, tier_among
from gateway.policy.rule import Rule

MAX_LISTED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """A recorded decision that the edit would answer otherwise."""

    recorded: Recorded
    before: Effect
    after: Effect
    rule: RuleRef | None  # the rule that makes the difference
    reason: Reason

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        request = self.recorded.request
        return {
            "decision_id": self.recorded.decision_id,
            "from": self.before.value,
            "to": self.after.value,
            "reason": self.reason.value,
            "rule": None if self.rule is None else self.rule.as_json(),
            "subject": request.subject,
            "user": request.user,
            "permission": request.permission,
            "scope": request.scope,
            "at": timestamp(self.recorded.at),
        }


@dataclass(slots=True)
class Impact:
    """What was found so far."""

    replayed: int = 0
    flips: list[Flip] = field(default_factory=list)
    not_listed: int = 0
    missing: Counter[str] = field(default_factory=Counter)  # what a record lacks -> how many
    by_rule: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def flipped(self) -> int:
        """How many decisions the edit would answer otherwise."""
        return len(self.flips) + self.not_listed

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape; grouped by the rule that makes the difference, the largest group first."""
        groups = sorted(self.by_rule.items(), key=lambda group: (-group[1].total(), group[0]))
        return {
            "replayed": self.replayed,
            "flips": [flip.as_json() for flip in self.flips],
            "flipped": self.flipped,
            "cannot_replay": self.missing.total(),
            "missing": dict(sorted(self.missing.items())),
            "by_rule": [{"rule": rule, **counts} for rule, counts in groups],
        }

    def lacks(self, what: str) -> None:
        """Count a decision whose record lacks something."""
        self.missing[what] += 1

    def flip(self, flip: Flip) -> None:
        """Note a decision that is answered otherwise."""
        name = flip.rule.id if flip.rule is not None else "no rule"
        self.by_rule.setdefault(name, Counter())[f"{flip.before}_to_{flip.after}"] += 1
        if len(self.flips) < MAX_LISTED:
            self.flips.append(flip)
        else:
            self.not_listed += 1


class Replay:
    """Judges recorded decisions by two policies; give it some thousand at a time.

    Where the rules that cover a request are the same in both, the answers are, and nothing is judged.
    """

    def __init__(self, now: PolicySet, edited: PolicySet) -> None:
        self.found = Impact()
        self._now = now
        self._edited = edited
        self._layers: list[_Layer] = []
        self._same_risk = now.risk_table == edited.risk_table
        self._same_entities = now.entities == edited.entities

    def add(self, decisions: Iterable[Recorded]) -> None:
        """Judge decisions."""
        for layer, chunk in self._by_layer(decisions):
            for recorded in chunk:
                self._judge(layer, recorded)

    def _judge(self, layer: "_Layer", recorded: Recorded) -> None:
        request = recorded.request
        key = (request.subject, request.kind, request.level, request.scope)
        same = layer.same.get(key)
        if same is None:
            same = layer.same[key] = recorded.reason not in UNRULED and self._covered_alike(layer, request)
        if same or recorded.reason in UNRULED:
            self.found.replayed += 1
            return
        try:
            before = judge_again(layer.now, recorded)
            after = judge_again(layer.edited, recorded, risk=self._risk(recorded))
        except NotKeptError as error:
            self.found.lacks(str(error))
            return
        self.found.replayed += 1
        if before.effect is not after.effect:
            self.found.flip(_flip(recorded, before, after))

    def _covered_alike(self, layer: "_Layer", request: AccessRequest) -> bool:
        before, after = layer.now.candidates(request), layer.edited.candidates(request)
        if {_said(rule) for rule in before} != {_said(rule) for rule in after}:
            return False
        terms = [term for rule in before for _, term in rule.condition.terms]
        return (self._same_entities or not any(isinstance(term, Compare) for term in terms)) and (
            self._same_risk or not any(isinstance(term, RiskAtMost) for term in terms)
        )

    def _risk(self, recorded: Recorded) -> int | None:
        if self._same_risk:
            return None
        return self._edited.score(recorded.request, plugin_tier=tier_among(recorded.memberships)).score

    def _by_layer(self, decisions: Iterable[Recorded]) -> Iterable[tuple["_Layer", Sequence[Recorded]]]:
        """Sort decisions by the memberships of their time; no layer gives a subject two of them."""
        sorted_out: dict[int, list[Recorded]] = {}
        for recorded in decisions:
            if recorded.reason is Reason.NO_POLICY:
                self.found.lacks("a policy")
                continue
            subject = recorded.request.subject
            number = next((n for n, one in enumerate(self._layers) if one.fits(subject, recorded.memberships)), None)
            if number is None:
                number = len(self._layers)
                self._layers.append(_Layer(self._now, self._edited))
            self._layers[number].given.setdefault(subject, recorded.memberships)
            sorted_out.setdefault(number, []).append(recorded)
        for number, chunk in sorted_out.items():
            self._layers[number].refresh(self._now, self._edited)
            yield self._layers[number], chunk


class _Layer:
    """Both policies with one set of memberships."""

    def __init__(self, now: PolicySet, edited: PolicySet) -> None:
        self.now = now
        self.edited = edited
        self.given: dict[str, tuple[str, ...]] = {}
        self.same: dict[tuple[str, str, str, str], bool] = {}
        self._built_for: Mapping[str, tuple[str, ...]] | None = None

    def fits(self, subject: str, memberships: tuple[str, ...]) -> bool:
        return self.given.get(subject, memberships) == memberships

    def refresh(self, now: PolicySet, edited: PolicySet) -> None:
        wanted = {subject: groups for subject, groups in self.given.items() if groups}
        if wanted != self._built_for:
            self._built_for = wanted
            self.now = now.with_memberships(wanted, now.generation)
            self.edited = edited.with_memberships(wanted, edited.generation)


def _said(rule: Rule) -> tuple[object, ...]:
    return rule.id, rule.effect, frozenset(rule.condition.terms)


def _flip(recorded: Recorded, before: Verdict, after: Verdict) -> Flip:
    rule = after.rule or before.rule
    return Flip(recorded=recorded, before=before.effect, after=after.effect, rule=rule, reason=after.reason)
