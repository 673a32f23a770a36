"""What is wrong with the rules of all files taken together."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.domain.condition import Term
from gateway.domain.decision import Effect
from gateway.domain.names import split_subject
from gateway.domain.permission import FAMILIES
from gateway.policy.pauses import Pause, emptied, never, paced
from gateway.policy.problems import Problems
from gateway.policy.rule import Rule

_MANY = ("tier:", "group:")
_EFFECT = 6  # its place among the fields
_GRANT_ID = re.compile(r"grant-[1-9]\d{0,17}\Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantIds:
    """The ids of grants that the registry knows: in force, and revoked or expired."""

    live: frozenset[str] = frozenset()
    dead: frozenset[str] = frozenset()


def check_ids(rules: Iterable[Rule], problems: Problems, pause: Pause = never) -> None:
    """Note ids that two rules carry, whatever files they stand in."""
    first: dict[str, Rule] = {}
    for rule in paced(rules, pause):
        other = first.setdefault(rule.id, rule)
        if other is not rule:
            problems.error(rule.file, f"id '{rule.id}' is also that of {other.file}:{other.line}", rule.line)
    emptied(first, pause)


def check_duplicates(rules: Iterable[Rule], problems: Problems, pause: Pause = never) -> None:
    """Note rules that say the same twice; a grant may say what a rule says."""
    first: dict[tuple[object, ...], Rule] = {}
    terms_of: dict[int, frozenset[Term]] = {}  # by the condition, which rules share
    for rule in paced(rules, pause):
        condition = rule.condition
        terms = terms_of.get(id(condition))
        if terms is None:
            terms = terms_of[id(condition)] = frozenset(term for _, term in condition.terms)
        said = (rule.subject, rule.kind, rule.level, rule.scope, terms, rule.fields[_EFFECT])
        other = first.setdefault(said, rule)
        if other is rule:
            continue
        message = f"says the same as `{other.id}` of {other.file}:{other.line}"
        if rule.is_grant or other.is_grant:
            problems.warning(rule.file, message, rule.line)
        else:
            problems.error(rule.file, message, rule.line)
    emptied(first, pause)


def check_reserved(rules: Sequence[Rule], problems: Problems, pause: Pause = never) -> None:
    """Note ids in rules/ that only an approval gives."""
    for rule in paced(rules, pause):
        if rule.id.startswith("grant-") and not rule.is_grant:
            problems.error(rule.file, f"id '{rule.id}': `grant-` is for grants.csv, choose another", rule.line)


def check_wide(rules: Iterable[Rule], problems: Problems, pause: Pause = never) -> None:
    """Note allows that reach plugins which never asked."""
    for rule in paced(rules, pause):
        if rule.subject.startswith(_MANY) and rule.effect is Effect.ALLOW and rule.in_families:
            message = f"allows `{rule.subject}` what its plugins never requested: grant it to each that asks"
            problems.warning(rule.file, message, rule.line)


def check_grants(rules: Iterable[Rule], ids: GrantIds | None, problems: Problems, pause: Pause = never) -> None:
    """Note lines of grants.csv that no approval can have written."""
    for rule in (rule for rule in paced(rules, pause) if rule.is_grant):
        for message in _grant_trouble(rule, ids):
            problems.error(rule.file, message, rule.line)


def _grant_trouble(rule: Rule, ids: GrantIds | None) -> Iterable[str]:
    if rule.effect is not Effect.ALLOW:
        yield "a grant allows: put a deny into rules/"
    if split_subject(rule.subject)[0] != "plugin":
        yield f"subject '{rule.subject}': a grant is for one `plugin:`"
    if rule.kind not in FAMILIES:
        yield f"kind '{rule.kind}': a grant is for one of {', '.join(FAMILIES)}"
    if not _GRANT_ID.match(rule.id):
        yield f"id '{rule.id}': grants are `grant-<n>`: put a right of your own into rules/"
    elif ids is not None and rule.id in ids.dead:
        yield f"id '{rule.id}': this grant was revoked or has expired: delete the line"
    elif ids is not None and rule.id not in ids.live:
        yield f"id '{rule.id}': no approval made this grant: put a right of your own into rules/"
