"""Grants come and go in a set of many rules: the set is changed where it changes, and shared where it does not."""

from bisect import bisect_left
from collections.abc import Collection
from dataclasses import replace

from gateway.errors import Problem
from gateway.policy.encode import drop_rules
from gateway.policy.engine import PolicySet
from gateway.policy.parse import GrantIds, ParsedPolicy
from gateway.policy.problems import Problems
from gateway.policy.rule import Rule
from gateway.policy.rule_checks import check_duplicates, check_grants, check_ids
from gateway.policy.rules import Lexicon, parse_rules
from gateway.policy.text import GRANTS


def with_grants(policy: PolicySet, grants: bytes, ids: GrantIds, *, generation: int) -> PolicySet | None:
    """Give the set in which grants.csv reads `grants`, where lines were only added to its end.

    None if they were not, or if something is wrong with them: then the whole text has to be read.
    """
    before = policy.parsed.text.files.get(GRANTS, b"")
    kept = before if before.endswith(b"\n") or not before else before + b"\n"
    if not grants.startswith(kept):
        return None
    problems = Problems()
    first = kept.count(b"\n") + 1
    added = parse_rules(GRANTS, grants[len(kept) :], Lexicon(policy.calendars, {}), problems, first=first)
    known = _alike(policy, added)
    check_ids([*known, *added], problems)
    check_duplicates([*known, *added], problems)
    check_grants(added, ids, problems)
    parsed = _with_problems(
        replace(
            policy.parsed,
            text=policy.parsed.text.with_file(GRANTS, grants),
            rules=policy.parsed.rules + added,
        ),
        problems.sorted(),
    )
    if any(problem.severity == "error" for problem in problems.sorted()):
        return None
    start = len(policy.numbered)
    return policy.with_rules(parsed, gone=(), new=dict(enumerate(added, start)), generation=generation)


def without_grants(policy: PolicySet, ids: Collection[str], *, generation: int) -> PolicySet:
    """Give the set without these grants, neither in grants.csv nor in force; those below move up."""
    grants = policy.grants()
    gone = {number for number, rule in grants if rule.id in ids}
    lines = sorted(rule.line for number, rule in grants if number in gone)
    moved = {
        number: replace(rule, line=rule.line - bisect_left(lines, rule.line))
        for number, rule in grants
        if lines and number not in gone and rule.line > lines[0]
    }
    text = policy.parsed.text
    if GRANTS in text.files:
        text = text.with_file(GRANTS, drop_rules(text.files[GRANTS], ids))
    others = policy.rules[: len(policy.rules) - len(grants)]
    left = (moved.get(number, rule) for number, rule in grants if number not in gone)
    parsed = replace(policy.parsed, text=text, rules=(*others, *left))
    return policy.with_rules(_retold(parsed), gone=gone, new=moved, generation=generation)


def _alike(policy: PolicySet, added: Collection[Rule]) -> list[Rule]:
    """Give the rules of a set that name a subject or, being grants, carry an id of those added."""
    subjects, ids = {rule.subject for rule in added}, {rule.id for rule in added}
    found = {number for subject in subjects for number in policy.numbers_of(subject)}
    found.update(number for number, rule in policy.grants() if rule.id in ids)
    return [rule for number in sorted(found) if (rule := policy.numbered[number]) is not None]


def _retold(parsed: ParsedPolicy) -> ParsedPolicy:
    """Tell anew what concerns grants.csv, whose lines have moved."""
    kept = tuple(problem for problem in parsed.problems if not _concerns_grants(problem))
    if len(kept) == len(parsed.problems):
        return parsed
    subjects = {rule.subject for rule in parsed.rules if rule.is_grant}
    problems = Problems()
    check_duplicates([rule for rule in parsed.rules if rule.subject in subjects], problems)
    return _with_problems(replace(parsed, problems=kept), problems.sorted())


def _concerns_grants(problem: Problem) -> bool:
    return problem.place.file == GRANTS or f"{GRANTS}:" in problem.message


def _with_problems(parsed: ParsedPolicy, found: Collection[Problem]) -> ParsedPolicy:
    if not found:
        return parsed
    problems = Problems()
    problems.extend((*parsed.problems, *found))
    return replace(parsed, problems=problems.sorted())
