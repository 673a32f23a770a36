"""A policy's own cases: asked of the policy itself, with a stopped clock, before it takes effect."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.domain.condition import Rate
from gateway.domain.decision import Effect, Verdict
from gateway.domain.names import PLUGINS_GROUP, split_subject
from gateway.domain.permission import LEVELS, PERMISSIONS
from gateway.domain.request import Facts
from gateway.domain.risk import Tier
from gateway.domain.scope import covers_pattern
from gateway.policy.case_file import Case
from gateway.policy.engine import PolicySet, build_policy_set, without_grants
from gateway.policy.pauses import Pause, never
from gateway.policy.text import GRANTS

_FEW = 1000  # grants that are sooner taken out of a set than left out of a new one
Memberships = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """What became of a case; `spoke` are the ids of the rules that it exercised."""

    name: str
    file: str
    line: int
    passed: bool
    message: str = ""
    spoke: tuple[str, ...] = ()


def run_cases(
    policy_set: PolicySet, pause: Pause = never, *, wanted: Callable[[Case], bool] = lambda _case: True
) -> tuple[CaseResult, ...]:
    """Judge every case of a policy set by its rules; what approvals granted counts only for `with_grants`.

    Those that are not `wanted` are left out.
    """
    results: dict[int, CaseResult] = {}
    cases = [(i, case) for i, case in enumerate(policy_set.parsed.cases) if wanted(case)]
    for with_grants in (False, True):
        numbered = [(i, case) for i, case in cases if case.with_grants is with_grants]
        judged = policy_set if with_grants or not numbered else _ungranted(policy_set)
        for layer in _layers(numbered, policy_set.roles.added):
            judge = judged
            if layer.memberships != judged.memberships:
                judge = judged.with_memberships(layer.memberships, policy_set.generation)
            for i, case in layer.cases:
                results[i] = judge_case(judge, case)
                pause()
    return tuple(results[i] for i in sorted(results))


def _ungranted(policy_set: PolicySet) -> PolicySet:
    """Give the set without what approvals granted."""
    grants = [number for number, _ in policy_set.grants()]
    if not grants and GRANTS not in policy_set.parsed.text.files:
        return policy_set
    parsed = without_grants(policy_set.parsed)
    if len(grants) > _FEW:
        return build_policy_set(parsed, memberships=policy_set.memberships, generation=policy_set.generation)
    return policy_set.with_rules(parsed, gone=grants, new={}, generation=policy_set.generation)


def unexercised(policy_set: PolicySet, results: Iterable[CaseResult]) -> tuple[str, ...]:
    """Name the rules, grants aside, that no case exercises."""
    spoke = {rule_id for result in results for rule_id in result.spoke}
    return tuple(rule.id for rule in policy_set.rules if not rule.is_grant and rule.id not in spoke)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """Cases that one set of memberships serves: no subject is given two different standings."""

    memberships: dict[str, tuple[str, ...]]
    cases: list[tuple[int, Case]]
    given: dict[str, tuple[str, ...]]


def _layers(cases: Sequence[tuple[int, Case]], added: Memberships) -> list[_Layer]:
    layers: list[_Layer] = []
    for number, case in cases:
        subject, standing = case.ask.subject, _standing(case, added)
        layer = next((layer for layer in layers if layer.given.get(subject, standing) == standing), None)
        if layer is None:
            layer = _Layer(memberships=dict(added), cases=[], given={})
            layers.append(layer)
        layer.given[subject] = layer.memberships[subject] = standing
        layer.cases.append((number, case))
    return layers


def _standing(case: Case, added: Memberships) -> tuple[str, ...]:
    """Give what the asking subject belongs to; a tier that the case names stands for the registry's."""
    roles = case.given.roles
    names_tier = any(split_subject(role)[0] == "tier" for role in roles)
    known = [
        whole for whole in added.get(case.ask.subject, ()) if not (names_tier and split_subject(whole)[0] == "tier")
    ]
    plugins = [PLUGINS_GROUP] if split_subject(case.ask.subject)[0] == "plugin" else []
    return tuple(dict.fromkeys([*known, *plugins, *roles]))


def judge_case(policy_set: PolicySet, case: Case) -> CaseResult:
    """Ask the question of one case and compare the answer."""
    verdict = policy_set.decide(case.ask, facts_of(policy_set, case))
    wrong = "; ".join(_wrong(case, verdict))
    return CaseResult(
        name=case.name,
        file=case.file,
        line=case.line,
        passed=not wrong,
        message=wrong,
        spoke=tuple(rule.id for rule, _ in verdict.spoke) + tuple(miss.rule.id for miss in verdict.near_misses),
    )


def facts_of(policy_set: PolicySet, case: Case) -> Facts:
    """Give the facts that a case takes as known."""
    given = case.given

    def used(rule_id: str, _rate: Rate) -> int:
        return given.used.get(rule_id, 0)

    tiers = [name for prefix, name in map(split_subject, given.roles) if prefix == "tier"]
    tier = Tier(tiers[0]) if tiers else None
    return Facts(
        at=given.at,
        risk=given.risk if given.risk is not None else policy_set.score(case.ask, plugin_tier=tier).score,
        consent_id="case" if _has_consent(case) else None,
        approval_id="case" if given.approved else None,
        used=used,
        attributes=policy_set.attributes(case.ask, given.attributes),
    )


def _has_consent(case: Case) -> bool:
    return any(
        PERMISSIONS[permission].kind == case.ask.kind
        and case.ask.level in LEVELS
        and PERMISSIONS[permission].level >= LEVELS[case.ask.level]
        and covers_pattern(scope, case.ask.scope)
        for permission, scope in case.given.consents
    )


def _wrong(case: Case, verdict: Verdict) -> Iterable[str]:
    if verdict.effect is not case.want:
        yield f"wanted {case.want}, got {_answer(verdict)}"
    if case.rule is not None and case.rule not in _deciding(verdict):
        yield f"wanted rule `{case.rule}`, got {_answer(verdict)}"
    if case.reason is not None and verdict.reason is not case.reason:
        yield f"wanted reason `{case.reason}`, got {_answer(verdict)}"
    if case.near_miss is not None and case.near_miss not in [miss.rule.id for miss in verdict.near_misses]:
        yield f"wanted near miss `{case.near_miss}`, got {_answer(verdict)}"


def _deciding(verdict: Verdict) -> set[str]:
    """Name the deciding rule and those that alone would have decided the same."""
    alike = {rule.id for rule, effect in verdict.spoke if effect is verdict.effect}
    return alike | ({verdict.rule.id} if verdict.rule is not None else set())


def _answer(verdict: Verdict) -> str:
    if verdict.rule is None:
        return f"{verdict.effect} ({verdict.reason})"
    rule = verdict.rule
    word = "by" if verdict.effect is Effect.ALLOW or verdict.reason.value == "rule" else f"({verdict.reason}) for"
    return f"{verdict.effect} {word} `{rule.id}` ({rule.file}:{rule.line})"
