"""What an edit would have changed: recorded decisions judged by the policy in force and by the edited one."""

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from gateway.domain.condition import Compare, RiskAtMost
from gateway.domain.decision import Effect, Reason, RuleRef, timestamp
from gateway.domain.names import split_subject
from gateway.domain.request import AccessRequest, Json
from gateway.policy.engine import PolicySet
from gateway.policy.plugin_risk import TierChange
from gateway.policy.replay import UNRULED, Asked, NotKeptError, Recorded, tier_among
from gateway.policy.rule import Rule
from gateway.policy.touched import Edit, Touch

MAX_LISTED = 10_000
MOST_KEPT = 65_536
MOST_QUESTIONS = 4_096  # of each who asks
_MOST_WAITING = 10_000


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
            "at": timestamp(self.recorded.facts.at),
        }


@dataclass(slots=True)
class Impact:
    """What was found so far."""

    replayed: int = 0
    flips: list[Flip] = field(default_factory=list)
    not_listed: int = 0
    missing: Counter[str] = field(default_factory=Counter)  # what a record lacks -> how many
    by_rule: dict[str, Counter[str]] = field(default_factory=dict)
    tiers: dict[str, TierChange] = field(default_factory=dict)  # plugins that the edit puts into another tier

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
            "tiers": [change.as_json() for _, change in sorted(self.tiers.items())],
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
    """Judges recorded decisions by two policies; `add` some, then more, then `finish`.

    Each is judged with the memberships of its time; where the policies put its plugin into different tiers, the
    edited one judges it with its own. What the edit does not touch is answered alike and not judged.
    """

    def __init__(self, now: PolicySet, edited: PolicySet) -> None:
        self.found = Impact()
        self._now = now
        self._edited = edited
        self._edit = Edit(now, edited)
        self._askers: dict[tuple[str, tuple[str, ...]], _Asker] = {}
        self._layers: list[_Layer] = []
        # WHY: judged many at a time, for each newcomer's memberships make both policies look their rules up anew.
        self._waiting: list[tuple[_Asker, Recorded]] = []
        self._same_risk = now.risk_table == edited.risk_table
        self._same_entities = now.entities == edited.entities
        # WHY: under another model the order of rules may decide, or what else their lines say.
        self._is_shipped = now.parsed.model.is_shipped and edited.parsed.model.is_shipped

    def add(self, decisions: Iterable[Recorded]) -> None:
        """Take decisions; what is found of them is certain after `finish`."""
        found, askers, waiting = self.found, self._askers, self._waiting
        for recorded in decisions:
            memberships = recorded.facts.memberships
            asker = askers.get((recorded.subject, memberships)) or self._meet(recorded.subject, memberships)
            if recorded.reason is Reason.NO_POLICY:
                found.lacks("a policy")
            elif recorded.reason in UNRULED or not asker.touch.touches(recorded.kind, recorded.level, recorded.scope):
                found.replayed += 1
            else:
                waiting.append((asker, recorded))
        if len(waiting) >= _MOST_WAITING:
            self.finish()

    def finish(self) -> Impact:
        """Judge what is left, and give what was found."""
        for asker, _ in self._waiting:
            self._layer(asker).take(asker)
        for layer in self._layers:
            layer.refresh()
        for asker, recorded in self._waiting:
            self._judge(asker, recorded)
        self._waiting.clear()
        return self.found

    def _meet(self, subject: str, memberships: tuple[str, ...]) -> "_Asker":
        change = None if tier_among(memberships) is None else self._edit.tier_change(subject)
        after = memberships
        if change is not None:
            after = tuple(f"tier:{change.after}" if split_subject(each)[0] == "tier" else each for each in memberships)
            self.found.tiers[subject] = change
        asker = _Asker(subject, memberships, after, self._edit.touch(subject, memberships, after))
        _bounded(self._askers)[subject, memberships] = asker
        return asker

    def _layer(self, asker: "_Asker") -> "_Layer":
        if asker.layer is None:
            asker.layer = next((layer for layer in self._layers if layer.fits(asker)), None)
        if asker.layer is None:
            asker.layer = _Layer(self._now, self._edited)
            self._layers.append(asker.layer)
        return asker.layer

    def _judge(self, asker: "_Asker", recorded: Recorded) -> None:
        layer = self._layer(asker)
        key = (recorded.kind, recorded.level, recorded.scope)
        question = asker.questions.get(key)
        if question is None:
            request = recorded.request
            question = _Question(Asked(layer.edited, request), self._new_risk(asker, request))
            _bounded(asker.questions, MOST_QUESTIONS)[key] = question
        try:
            flip = self._flip(layer, question, recorded)
        except NotKeptError as error:
            self.found.lacks(str(error))
            return
        self.found.replayed += 1
        if flip is not None:
            self.found.flip(flip)

    def _flip(self, layer: "_Layer", question: "_Question", recorded: Recorded) -> Flip | None:
        if recorded.policy_version == self._now.version and recorded.reason is not Reason.ERROR:
            # WHY: the policy in force made this decision itself; what it said need not be judged again to be known.
            # What the record lacks is told only below, for where both say the same nothing is lacking.
            with suppress(NotKeptError):
                after = question.after.judge(layer.edited, recorded, risk=question.risk)
                if recorded.allowed is (after.effect is Effect.ALLOW):
                    return None
        if question.before is None:
            question.before = Asked(layer.now, recorded.request)
            question.alike = self._alike(question.before, question.after, question.risk)
        if question.alike:
            return None
        before = question.before.judge(layer.now, recorded)
        after = question.after.judge(layer.edited, recorded, risk=question.risk)
        if before.effect is after.effect:
            return None
        rule = after.rule or before.rule
        return Flip(recorded=recorded, before=before.effect, after=after.effect, rule=rule, reason=after.reason)

    def _alike(self, before: Asked, after: Asked, risk: int | None) -> bool:
        terms = [term for rule in before.rules for _, term in rule.condition.terms]
        return (
            self._is_shipped
            and {_said(rule) for rule in before.rules} == {_said(rule) for rule in after.rules}
            and (self._same_entities or not any(isinstance(term, Compare) for term in terms))
            and (risk is None or not any(isinstance(term, RiskAtMost) for term in terms))
        )

    def _new_risk(self, asker: "_Asker", request: AccessRequest) -> int | None:
        """Give the score of a request where the edit changes it, else None: the recorded one stands."""
        if self._same_risk and asker.before == asker.after:
            return None
        now = self._now.score(request, plugin_tier=tier_among(asker.before)).score
        edited = self._edited.score(request, plugin_tier=tier_among(asker.after)).score
        return None if now == edited else edited


class _Question:
    """A question of somebody to the edited policy; to the one in force it is put only where it matters."""

    __slots__ = ("after", "alike", "before", "risk")

    def __init__(self, after: Asked, risk: int | None) -> None:
        self.after = after
        self.risk = risk  # where the edit scores it otherwise
        self.before: Asked | None = None
        self.alike = False


class _Asker:
    """Who asked, with the memberships of the time, and those that the edit makes of them."""

    __slots__ = ("after", "before", "layer", "questions", "subject", "touch")

    def __init__(self, subject: str, before: tuple[str, ...], after: tuple[str, ...], touch: Touch) -> None:
        self.subject = subject
        self.before = before
        self.after = after
        self.touch = touch
        self.layer: _Layer | None = None
        self.questions: dict[tuple[str, str, str], _Question] = {}


class _Layer:
    """Both policies with memberships of which no subject has two."""

    def __init__(self, now: PolicySet, edited: PolicySet) -> None:
        self.now = now
        self.edited = edited
        self._before: dict[str, tuple[str, ...]] = {}
        self._after: dict[str, tuple[str, ...]] = {}
        self._fresh = False

    def fits(self, asker: _Asker) -> bool:
        return self._before.get(asker.subject, asker.before) == asker.before

    def take(self, asker: _Asker) -> None:
        if asker.subject not in self._before:
            self._before[asker.subject], self._after[asker.subject] = asker.before, asker.after
            self._fresh = False

    def refresh(self) -> None:
        if not self._fresh:
            self._fresh = True
            self.now, self.edited = (
                policy.with_memberships({who: what for who, what in given.items() if what}, policy.generation)
                for policy, given in ((self.now, self._before), (self.edited, self._after))
            )


Kept = TypeVar("Kept")
Key = TypeVar("Key")


def _bounded(kept: dict[Key, Kept], most: int = MOST_KEPT) -> dict[Key, Kept]:
    # WHY: a log may hold more subjects and questions than memory does; what is forgotten is found again.
    if len(kept) >= most:
        kept.clear()
    return kept


def _said(rule: Rule) -> tuple[object, ...]:
    return rule.id, rule.effect, frozenset(rule.condition.terms)
