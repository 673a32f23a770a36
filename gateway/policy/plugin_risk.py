"""How risky a plugin is by all that a policy allows it, and so which tier the gateway puts it into."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from gateway.domain.decision import Effect
from gateway.domain.names import PLUGINS_GROUP, PluginId, Subject, plugin_subject
from gateway.domain.permission import FAMILIES, LEVELS, Kind, Level, Permission
from gateway.domain.request import Json
from gateway.domain.risk import MAX_SCORE, Risk, Tier
from gateway.policy.engine import PolicySet
from gateway.policy.parse import ParsedPolicy
from gateway.policy.pauses import Pause, never, paced
from gateway.policy.roles import build_roles
from gateway.policy.rule import EVERY, Rule
from gateway.policy.score import RiskTable

_OWN = Permission(Kind.PLUGIN, Level.EXECUTE)


_NO_STEPS: Mapping[PluginId, int] = {}
_Right = tuple[Permission, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginRisks:
    """What one policy makes of any plugin."""

    _table: RiskTable
    _rules_of: Callable[[str], Iterable[Rule]]
    _wholes: Mapping[str, tuple[str, ...]]  # who belongs to what by a person's lines
    _steps: Mapping[PluginId, int] = field(default_factory=dict)  # that a plugin's refused tries add up to
    # Kept, for many plugins hold the same by their groups.
    _rights: dict[str, tuple[_Right, ...]] = field(init=False, repr=False, default_factory=dict)
    _points: dict[_Right, int] = field(init=False, repr=False, default_factory=dict)

    def tier(self, plugin_id: PluginId) -> Tier:
        """Give the tier of an active plugin."""
        held = {(_OWN, str(plugin_id))}
        points = sum(map(self._points_of, held)) + self._steps.get(plugin_id, 0) * self._table.misconduct
        counted, new = set[str](), self._first(plugin_id)
        while new:
            for right in (right for subject in new for right in self._rights_of(subject)):
                # WHY: holding more never scores less, so beyond the highest score nothing more can matter.
                if points >= MAX_SCORE:
                    return self._table.tier_of(MAX_SCORE)
                if right not in held:
                    held.add(right)
                    points += self._points_of(right)
            counted |= new
            new = self._brought_by(self._table.tier_of(min(points, MAX_SCORE))) - counted
        return self._table.tier_of(min(points, MAX_SCORE))

    def risk(self, plugin_id: PluginId, *, asked: Iterable[_Right] = ()) -> Risk:
        """Score all that the rules give a plugin, and what is asked for besides; conditions do not make it less."""
        return self._table.score_plugin(self.rights(plugin_id, asked=asked), steps=self._steps.get(plugin_id, 0))

    def rights(self, plugin_id: PluginId, *, asked: Iterable[_Right] = ()) -> set[_Right]:
        """Give all that the rules give a plugin, its right to run among it; conditions do not make it less."""
        held = {(_OWN, str(plugin_id)), *asked}
        steps = self._steps.get(plugin_id, 0)
        counted, new = set[str](), self._first(plugin_id)
        while new:
            held.update(right for subject in new for right in self._rights_of(subject))
            # WHY: a tier may bring rights of its own, and they a higher tier; what counted once goes on counting.
            counted |= new
            new = self._brought_by(self._table.score_plugin(held, steps=steps).tier) - counted
        return held

    def _first(self, plugin_id: PluginId) -> set[str]:
        return self._belongings({plugin_subject(plugin_id), PLUGINS_GROUP})

    def _brought_by(self, tier: Tier) -> set[str]:
        return self._belongings({f"tier:{tier.value}"})

    def _rights_of(self, subject: str) -> tuple[_Right, ...]:
        found = self._rights.get(subject)
        if found is None:
            rules = (rule for rule in self._rules_of(subject) if rule.effect is Effect.ALLOW)
            found = self._rights[subject] = tuple(right for rule in rules for right in _permissions(rule))
        return found

    def _points_of(self, right: _Right) -> int:
        found = self._points.get(right)
        if found is None:
            found = self._points[right] = self._table.score_plugin([right]).score
        return found

    def _belongings(self, subjects: set[str]) -> set[str]:
        """Give subjects with all the groups that a person's lines put them into."""
        found, border = set(subjects), set(subjects)
        while border:
            border = {whole for member in border for whole in self._wholes.get(member, ())} - found
            found |= border
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class TierChange:
    """An active plugin that two policies put into different tiers."""

    subject: Subject
    before: Tier
    after: Tier

    def __str__(self) -> str:
        return f"{self.subject}: tier {self.before} -> {self.after}"

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {"subject": self.subject, "from": self.before.value, "to": self.after.value}


def tier_change(before: PluginRisks, after: PluginRisks, plugin_id: PluginId) -> TierChange | None:
    """Tell how an active plugin moves, None if it stays in its tier."""
    one, other = before.tier(plugin_id), after.tier(plugin_id)
    return None if one is other else TierChange(subject=plugin_subject(plugin_id), before=one, after=other)


def plugin_risks(
    policy: ParsedPolicy | PolicySet, pause: Pause = never, *, steps: Mapping[PluginId, int] = _NO_STEPS
) -> PluginRisks:
    """Look at plugins as a policy does; `steps` are what their refused tries add up to."""
    if isinstance(policy, PolicySet):
        return PluginRisks(
            _table=policy.risk_table, _rules_of=policy.rules_of, _wholes=policy.roles.written, _steps=steps
        )
    rules: dict[str, list[Rule]] = {}
    for rule in paced(policy.rules, pause):
        rules.setdefault(rule.subject, []).append(rule)
    wholes = build_roles(policy.memberships, {}).written
    return PluginRisks(
        _table=policy.risk, _rules_of=lambda subject: rules.get(subject, ()), _wholes=wholes, _steps=steps
    )


def _permissions(rule: Rule) -> Iterator[_Right]:
    level = Level.ADMIN if rule.level == EVERY else LEVELS.get(rule.level)
    if level is None:
        return
    for kind in FAMILIES:
        if rule.kind in {kind.value, EVERY}:
            yield Permission(kind, level), rule.scope
