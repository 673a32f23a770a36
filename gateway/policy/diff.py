"""What two policies answer differently: every class of requests, found by going through all that either can tell apart.

A class is who asks (with all they belong to), a kind, a level and a scope. Names of rules, their order, their files
and repetitions make no difference; conditions are compared by what they mean.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gateway.domain.names import PLUGINS_GROUP, USERS_GROUP, PluginId, split_subject
from gateway.domain.permission import FAMILIES, KNOWN_KINDS, LEVELS, Kind
from gateway.domain.request import Json
from gateway.domain.risk import Tier
from gateway.policy.encode import encode_field
from gateway.policy.meaning import Meaning, allows_more, meaning_of, said_by, same
from gateway.policy.parse import ParsedPolicy
from gateway.policy.plugin_risk import TierChange, plugin_risks, tier_change
from gateway.policy.roles import Roles, build_roles
from gateway.policy.rule import EVERY, Rule, kind_matches, level_matches
from gateway.policy.scope_classes import FRESH, SHOWN, covering, representatives, shown
from gateway.policy.text import APPROVAL, ENTITIES, MODEL, RISK

_ARROW = " -> "
_TIERS = tuple(f"tier:{tier.value}" for tier in Tier)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A class of requests that two policies answer differently."""

    subjects: tuple[str, ...]
    kind: str
    level: str
    scope: str
    before: Meaning
    after: Meaning
    rules_before: tuple[str, ...]
    rules_after: tuple[str, ...]

    @property
    def widens(self) -> bool:
        """Whether the second policy allows something of it that the first does not."""
        return allows_more(self.before, self.after)

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {
            "subjects": [*self.subjects],
            "kind": self.kind,
            "level": self.level,
            "scope": self.scope,
            "from": str(self.before),
            "to": str(self.after),
            "widens": self.widens,
            "rules_from": [*self.rules_before],
            "rules_to": [*self.rules_after],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """All that differs: answers, tiers of plugins, and what the answers of `other_files` feed on."""

    differences: tuple[Difference, ...]
    tiers: tuple[TierChange, ...]
    other_files: tuple[str, ...]
    own_model: bool  # one of them is the operator's own, and what it means is not told by its rules

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not self.differences and not self.tiers and not self.other_files

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {
            "same": self.same,
            "differences": [each.as_json() for each in self.differences],
            "tiers": [each.as_json() for each in self.tiers],
            "other_files": [*self.other_files],
            "own_model": self.own_model,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    """Somebody who may ask, with what the gateway would add: by the one policy, and by the other."""

    label: str
    subject: str
    added: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())


def compare(before: ParsedPolicy, after: ParsedPolicy, *, active: Iterable[PluginId] = ()) -> Diff:
    """Give every class of requests that the policies answer differently.

    Each plugin of `active` is in the tier of its risk under either policy; any other may be in any tier.
    """
    found: dict[tuple[object, ...], tuple[Difference, list[str]]] = {}
    tiers = tuple(_tier_changes(before, after, active))
    for labels, rules_before, rules_after in _groups(before, after, tiers):
        for each in _differences(rules_before, rules_after):
            key = (each.kind, each.level, each.scope, each.before, each.after, each.rules_before, each.rules_after)
            found.setdefault(key, (each, []))[1].extend(labels)
    differences = (
        Difference(
            subjects=tuple(_together(labels)), kind=each.kind, level=each.level, scope=each.scope, before=each.before,
            after=each.after, rules_before=each.rules_before, rules_after=each.rules_after,
        )
        for each, labels in found.values()
    )  # fmt: skip
    return Diff(
        differences=tuple(sorted(differences, key=lambda each: (each.subjects, each.kind, each.scope, each.level))),
        tiers=tiers,
        other_files=tuple(_other_files(before, after)),
        own_model=not (before.model.is_shipped and after.model.is_shipped),
    )


def _tier_changes(before: ParsedPolicy, after: ParsedPolicy, active: Iterable[PluginId]) -> Iterator[TierChange]:
    risks = plugin_risks(before), plugin_risks(after)
    changes = (tier_change(*risks, plugin_id) for plugin_id in sorted(active))
    return (change for change in changes if change is not None)


def _other_files(before: ParsedPolicy, after: ParsedPolicy) -> Iterator[str]:
    if not after.model.is_spelt(before.model.text.encode()):
        yield MODEL
    if before.risk != after.risk:
        yield RISK
    if before.approval != after.approval:
        yield APPROVAL
    if before.entities != after.entities:
        yield ENTITIES


def _groups(
    before: ParsedPolicy, after: ParsedPolicy, tiers: Iterable[TierChange]
) -> Iterator[tuple[list[str], list[Rule], list[Rule]]]:
    """Give the rules that speak to somebody, before and after, with all to whom just these speak."""
    spoken = _by_subject(before.rules), _by_subject(after.rules)
    groups: dict[tuple[frozenset[str], frozenset[str]], list[str]] = {}
    for standing, closures in _closures(before, after, tiers):
        one, other = (closure & by_subject.keys() for closure, by_subject in zip(closures, spoken, strict=True))
        groups.setdefault((frozenset(one), frozenset(other)), []).append(standing.label)
    for (one, other), labels in groups.items():
        yield labels, _rules(one, spoken[0]), _rules(other, spoken[1])


def _by_subject(rules: Iterable[Rule]) -> dict[str, list[Rule]]:
    found: dict[str, list[Rule]] = {}
    for rule in rules:
        found.setdefault(rule.subject, []).append(rule)
    return found


def _rules(subjects: Iterable[str], by_subject: Mapping[str, list[Rule]]) -> list[Rule]:
    return [rule for subject in sorted(subjects) for rule in by_subject[subject]]


def _closures(
    before: ParsedPolicy, after: ParsedPolicy, tiers: Iterable[TierChange]
) -> Iterator[tuple[_Standing, tuple[frozenset[str], frozenset[str]]]]:
    slots: list[dict[str, _Standing]] = []
    for standing in (*_standings(before, after), *map(_moved, tiers)):
        slot = next((slot for slot in slots if standing.subject not in slot), None)
        if slot is None:
            slots.append(slot := {})
        slot[standing.subject] = standing
    for slot in slots:
        roles = [
            build_roles(policy.memberships, {subject: standing.added[which] for subject, standing in slot.items()})
            for which, policy in enumerate((before, after))
        ]
        for subject, standing in slot.items():
            yield standing, (_closure(roles[0], subject), _closure(roles[1], subject))


def _closure(roles: Roles, subject: str) -> frozenset[str]:
    return roles.closure(encode_field(subject))


def _moved(tier: TierChange) -> _Standing:
    one, other = ((PLUGINS_GROUP, f"tier:{each.value}") for each in (tier.before, tier.after))
    return _Standing(
        label=f"{tier.subject} (tier {tier.before}{_ARROW}{tier.after})", subject=tier.subject, added=(one, other)
    )


def _standings(before: ParsedPolicy, after: ParsedPolicy) -> Iterator[_Standing]:
    """Give everybody whom either policy can tell from others: who is named, and one of every kind who is not."""
    named = {rule.subject for policy in (before, after) for rule in policy.rules}
    named |= {name for policy in (before, after) for line in policy.memberships for name in (line.member, line.whole)}
    for subject in sorted(named | {f"plugin:{SHOWN}", f"user:{SHOWN}"}):
        prefix, name = split_subject(subject)
        if prefix == "plugin":
            yield _Standing(label=f"{subject} (not active)", subject=subject)
            for tier in _TIERS:
                yield _Standing(label=f"{subject} ({tier})", subject=subject, added=((PLUGINS_GROUP, tier),) * 2)
        elif prefix == "user":
            yield _Standing(label=f"{subject} (without a key)", subject=subject)
            yield _Standing(label=f"{subject} (with a key)", subject=subject, added=((USERS_GROUP,),) * 2)
        elif prefix in {"role", "group"}:
            if subject not in {PLUGINS_GROUP, USERS_GROUP}:
                yield _Standing(
                    label=f"whoever is in {subject}", subject=f"{SHOWN}:{name} {prefix}", added=((subject,),) * 2
                )
        elif prefix != "tier":
            yield _Standing(label=subject, subject=subject)


def _together(labels: Sequence[str]) -> Iterator[str]:
    """Name somebody once, where it makes no difference how they stand."""
    every = {"plugin": len(_TIERS) + 1, "user": 2}
    standing: dict[str, list[str]] = {}
    moved = sorted({label for label in labels if _ARROW in label})
    yield from moved
    for label in sorted({*labels}.difference(moved)):
        standing.setdefault(label.split(" (")[0], []).append(label)
    for name, ways in standing.items():
        yield from [name] if len(ways) == every.get(split_subject(name)[0], 1) else ways


def _differences(before: list[Rule], after: list[Rule]) -> Iterator[Difference]:
    said = Counter(map(said_by, before)), Counter(map(said_by, after))
    changed = [rule for rule in (*before, *after) if said[0][said_by(rule)] != said[1][said_by(rule)]]
    if not changed:
        return
    for kind in _kinds([*before, *after]):
        concerned = [rule for rule in changed if kind_matches(kind, rule.kind)]
        if concerned:
            yield from _of_kind(kind, concerned, before, after)


def _kinds(rules: Iterable[Rule]) -> tuple[str, ...]:
    named = {rule.kind for rule in rules} - {EVERY}
    return tuple(sorted({*FAMILIES, Kind.GATEWAY, *named, FRESH}))


def _of_kind(kind: str, changed: list[Rule], before: list[Rule], after: list[Rule]) -> Iterator[Difference]:
    one, other = (_by_scope(rule for rule in rules if kind_matches(kind, rule.kind)) for rules in (before, after))
    concerned = _by_scope(changed)
    for scope in representatives(kind, {*one, *other}):
        if not covering(scope, concerned):
            continue
        covered = covering(scope, one), covering(scope, other)
        for level in _levels(kind, (rule.level for rules in covered for rule in rules)):
            spoken = [_reaching(kind, level, rules) for rules in covered]
            meanings = [meaning_of(rules) for rules in spoken]
            if not same(*meanings):
                yield Difference(
                    subjects=(), kind=shown(kind), level=shown(level), scope=shown(scope), before=meanings[0],
                    after=meanings[1], rules_before=tuple(rule.id for rule in spoken[0]),
                    rules_after=tuple(rule.id for rule in spoken[1]),
                )  # fmt: skip


def _by_scope(rules: Iterable[Rule]) -> dict[str, list[Rule]]:
    found: dict[str, list[Rule]] = {}
    for rule in rules:
        found.setdefault(rule.scope, []).append(rule)
    return found


def _levels(kind: str, named: Iterable[str]) -> tuple[str, ...]:
    if kind not in KNOWN_KINDS:
        return tuple(sorted({*named, FRESH} - {EVERY}))
    others = set(named) - LEVELS.keys()
    return (*LEVELS, *sorted({*others, FRESH} - {EVERY})) if others and kind != Kind.GATEWAY else tuple(LEVELS)


def _reaching(kind: str, level: str, rules: Iterable[Rule]) -> list[Rule]:
    return [rule for rule in rules if level_matches(kind, level, rule.level, rule.effect)]
