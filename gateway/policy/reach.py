"""What a policy says in vain: rules that can never speak, and allows that a deny takes back whole.

Looked at after the rest, for it is the slowest check and stops nothing: all that it finds are warnings.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise

from gateway.domain.condition import Attribute, Compare, Condition, From, Hours, Operator, RiskAtMost, Until
from gateway.domain.decision import Effect
from gateway.domain.names import PLUGINS_GROUP, split_subject
from gateway.domain.permission import FAMILIES, KNOWN_KINDS, LEVELS, Kind, Level
from gateway.domain.scope import covers_pattern
from gateway.errors import Problem
from gateway.policy.comparisons import UnknownAttributeError, holds
from gateway.policy.openings import EARLIEST, LATEST, LOOKED_AT, first_open
from gateway.policy.parse import ParsedPolicy
from gateway.policy.pauses import Pause, never, paced
from gateway.policy.problems import Problems
from gateway.policy.roles import Roles, build_roles
from gateway.policy.rule import EVERY, Rule
from gateway.policy.scope_classes import patterns_over
from gateway.policy.score import RiskTable

_SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC)
_ORDER = {Operator.LESS, Operator.AT_MOST, Operator.GREATER, Operator.AT_LEAST}
_Denies = Mapping[str, Mapping[str, Sequence[Rule]]]  # subject -> scope -> unconditional denies


def check_reach(parsed: ParsedPolicy, pause: Pause = never) -> tuple[Problem, ...]:
    """Warn of every rule that can never make a difference."""
    problems = Problems()
    for rule in paced(parsed.rules, pause):
        for message in _never_holds(rule, parsed.risk):
            problems.warning(rule.file, message, rule.line)
    _check_covered(parsed, problems, pause)
    return problems.sorted(pause)


def _never_holds(rule: Rule, risk: RiskTable) -> Iterator[str]:
    yield from _never_open(rule.condition)
    yield from _contradictions(rule.condition)
    lowest = _lowest_risk(rule, risk)
    for text, term in rule.condition.terms:
        if isinstance(term, RiskAtMost) and lowest is not None and term.score < lowest:
            yield f"condition '{text}' never holds: the risk of such a request is at least {lowest}"


def _lowest_risk(rule: Rule, risk: RiskTable) -> int | None:
    if rule.kind not in FAMILIES and rule.kind != Kind.GATEWAY:
        return None
    named = LEVELS.get(rule.level, Level.ADMIN)
    return min(risk.score_request(rule.kind, level.word).score for level in Level if level <= named)


def _never_open(condition: Condition) -> Iterator[str]:
    hours = [(text, term) for text, term in condition.terms if isinstance(term, Hours)]
    begins = [term.at for _, term in condition.terms if isinstance(term, From)]
    ends = [term.at for _, term in condition.terms if isinstance(term, Until)]
    if not hours or (begins and ends and max(begins) >= min(ends)):
        return
    if not all(EARLIEST <= at < LATEST for at in (*begins, *ends)):
        return
    last = min(ends) if ends else None
    first = max(begins) if begins else _SOME_DAY if last is None else last - LOOKED_AT
    if last is not None and last - first > LOOKED_AT:
        return
    until = first + LOOKED_AT if last is None else last
    terms = [term for _, term in hours]
    if first_open(terms, first, until) is None:
        names = " and ".join(f"'{text}'" for text, _ in hours)
        when = " between `from` and `until`" if begins and ends else ""
        yield f"condition {names} never holds{when}: these hours are never open" + (
            " at once" if len(hours) > 1 else ""
        )


def _contradictions(condition: Condition) -> Iterator[str]:
    by_path: dict[tuple[str, ...], list[tuple[str, Compare]]] = {}
    for text, term in condition.terms:
        if isinstance(term, Compare) and not isinstance(term.right, Attribute):
            by_path.setdefault(term.left.path, []).append((text, term))
    for path, terms in by_path.items():
        if len(terms) > 1 and not _can_all_hold(path, [term for _, term in terms]):
            names = " and ".join(f"'{text}'" for text, _ in terms)
            yield f"condition {names}: never all at once"


def _can_all_hold(path: tuple[str, ...], terms: list[Compare]) -> bool:
    exact = [term for term in terms if term.operator in {Operator.EQUAL, Operator.IN}]
    if exact:
        right = exact[0].right
        return any(_all_hold(path, value, terms) for value in (right if isinstance(right, tuple) else (right,)))
    ordered = [term for term in terms if term.operator in _ORDER]
    if not ordered:
        return True
    edges = sorted({float(term.right) for term in ordered if isinstance(term.right, int | float)})
    between = [(one + other) / 2 for one, other in pairwise(edges)]
    tried = [edges[0] - 1, *edges, *between, edges[-1] + 1]
    return any(_all_hold(path, value, ordered) for value in tried)


def _all_hold(path: tuple[str, ...], value: object, terms: Iterable[Compare]) -> bool:
    for name in reversed(path[1:]):
        value = {name: value}
    try:
        return all(holds(term, {path[0]: value}) for term in terms)  # type: ignore[dict-item] # a path has two names or more
    except UnknownAttributeError:
        return False


def _check_covered(parsed: ParsedPolicy, problems: Problems, pause: Pause) -> None:
    denies: dict[str, dict[str, list[Rule]]] = {}
    for rule in parsed.rules:
        if rule.effect is Effect.DENY and not rule.condition.terms:
            denies.setdefault(rule.subject, {}).setdefault(rule.scope, []).append(rule)
    if not denies:
        return
    plugins = {rule.subject for rule in parsed.rules if split_subject(rule.subject)[0] in {"plugin", "tier"}}
    # WHY: plugins that are not active hold nothing, so every rule for a plugin meets those for all plugins.
    roles = build_roles(parsed.memberships, dict.fromkeys(plugins, (PLUGINS_GROUP,)))
    for rule in paced(parsed.rules, pause):
        if rule.effect is Effect.ALLOW:
            deny = next(_covering_denies(rule, roles, denies), None)
            if deny is not None:
                problems.warning(rule.file, _covered_by(rule, deny), rule.line)


def _covering_denies(rule: Rule, roles: Roles, denies: _Denies) -> Iterator[Rule]:
    for subject in sorted(roles.closure(rule.subject)):
        by_scope = denies.get(subject)
        if by_scope is None:
            continue
        for pattern in dict.fromkeys(_patterns_over(rule.scope)):
            for deny in by_scope.get(pattern, ()):
                if _denies_all(rule, deny):
                    yield deny


def _patterns_over(scope: str) -> Iterator[str]:
    inside = scope[:-2] if scope.endswith("/*") else scope.removeprefix("*") if scope.startswith("*.") else scope
    yield scope
    if scope == EVERY:
        return
    yield from patterns_over(inside)
    if scope.startswith("*."):
        yield from ("*" + inside[i:] for i, char in enumerate(inside) if char == ".")


def _denies_all(rule: Rule, deny: Rule) -> bool:
    if not covers_pattern(deny.scope, rule.scope):
        return False
    if deny.kind != rule.kind and not (deny.kind == EVERY and rule.kind != Kind.GATEWAY):
        return False
    if rule.kind in KNOWN_KINDS and rule.level not in LEVELS:
        return True  # WHY: what is no level is denied by every deny of its kind
    if rule.level in LEVELS and (rule.kind in KNOWN_KINDS or rule.kind == EVERY):
        return deny.level == EVERY or (deny.level in LEVELS and LEVELS[deny.level] <= LEVELS[rule.level])
    return deny.level in {rule.level, EVERY}


def _covered_by(rule: Rule, deny: Rule) -> str:
    where = f"`{deny.id}` of {deny.file}:{deny.line}"
    if rule.level in LEVELS and deny.level in LEVELS and LEVELS[deny.level] > Level.READ:
        below = Level(LEVELS[deny.level] - 1).word
        return f"{where} denies `{deny.level}` and more of all this: it allows no more than `{below}`"
    return f"never allows anything: {where} denies all of it"
