"""What a policy says of all that lies at and below a path, not of one path alone."""

from collections.abc import Iterator

from gateway.domain.condition import Approval, Attribute, Compare, Rate, Term
from gateway.domain.decision import Effect
from gateway.domain.names import Subject
from gateway.domain.permission import Kind, Level
from gateway.domain.scope import covers_pattern
from gateway.policy.encode import encode_field
from gateway.policy.engine import PolicySet
from gateway.policy.rule import Rule, kind_matches, level_matches

_OF_ONE_USE = frozenset({"args", "resource"})  # roots of attributes that differ from use to use


def file_rules(policy: PolicySet, subject: Subject, level: Level, effect: Effect) -> Iterator[Rule]:
    """Give the rules of an effect that can speak on a subject's use of files, whatever their scopes and conditions."""
    for whole in sorted(policy.roles.closure(encode_field(subject))):
        for rule in policy.rules_of(whole):
            if (
                rule.effect is effect
                and kind_matches(Kind.FILE, rule.kind)
                and level_matches(Kind.FILE, level.word, rule.level, rule.effect)
            ):
                yield rule


def term_of_one_use(rule: Rule) -> str | None:
    """Give a term of a rule that is judged for each use by itself, as it is written; None if there is none."""
    return next((text for text, term in rule.condition.terms if _is_of_one_use(term)), None)


def covers_all(rule: Rule, path: str, *, is_folder: bool) -> bool:
    """Tell whether a rule covers a path and, if it is a folder, all below it."""
    return covers_pattern(rule.scope, f"{path.rstrip('/')}/*" if is_folder else path)


def _is_of_one_use(term: Term) -> bool:
    if isinstance(term, Compare):
        sides = [each for each in (term.left, term.right) if isinstance(each, Attribute)]
        return any(each.path[0] in _OF_ONE_USE for each in sides)
    return isinstance(term, Rate | Approval)
