"""The text of a policy becomes rules, roles, calendars and tables; every problem of every file is told at once."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.domain.condition import Hours
from gateway.errors import Problem
from gateway.policy.approval import ApprovalRules, parse_approval
from gateway.policy.calendars import parse_calendars
from gateway.policy.case_file import Case, parse_cases
from gateway.policy.entities import Entities, parse_entities
from gateway.policy.model import SHIPPED_MODEL, Model, check_model
from gateway.policy.own_model_file import read_own_model
from gateway.policy.pauses import Pause, never
from gateway.policy.problems import Problems
from gateway.policy.risk_file import parse_risk
from gateway.policy.role_checks import check_known, check_reach, check_roles
from gateway.policy.roles import Membership, parse_roles
from gateway.policy.rule import Rule
from gateway.policy.rule_checks import (
    GrantIds,
    check_duplicates,
    check_grants,
    check_ids,
    check_reserved,
    check_wide,
)
from gateway.policy.rules import Lexicon, parse_rules
from gateway.policy.score import UNRATED, RiskTable
from gateway.policy.spelling import did_you_mean
from gateway.policy.text import (
    APPROVAL,
    CONDITIONS,
    ENTITIES,
    GRANTS,
    KNOWN_FILES,
    MODEL,
    REQUIRED,
    RISK,
    ROLES,
    PolicyText,
    is_case_file,
    is_rule_file,
)

__all__ = ["GrantIds", "ParsedPolicy", "parse_policy"]
_NOTES = (".md", ".txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedPolicy:
    """All that a policy's files say, and everything that is wrong with them."""

    text: PolicyText
    rules: tuple[Rule, ...]
    memberships: tuple[Membership, ...]
    calendars: Mapping[str, Hours]
    risk: RiskTable
    approval: ApprovalRules
    entities: Entities
    cases: tuple[Case, ...]
    problems: tuple[Problem, ...]
    model: Model = SHIPPED_MODEL

    @property
    def ok(self) -> bool:
        """Whether it can take effect; warnings do not stop it."""
        return not self.errors

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that keep it from taking effect."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def version(self) -> str:
        """The name of exactly this text."""
        return self.text.version


def parse_policy(
    text: PolicyText,
    *,
    model: Model | None = SHIPPED_MODEL,
    grant_ids: GrantIds | None = None,
    pause: Pause = never,
) -> ParsedPolicy:
    """Read a whole policy; never raises for what is written in it.

    `model` is the one that it must have; None leaves it to the policy's own file, which says what one may.
    `grant_ids` are the grants that the registry knows; None leaves the ids of grants.csv unchecked.
    `pause` is called again and again, so that a long reading keeps nobody from deciding.
    """
    problems = Problems()
    _check_files(text, problems)
    model = _model(text, model, problems)
    calendars = parse_calendars(CONDITIONS, text.files.get(CONDITIONS, b""), problems)
    subjects: dict[str, str] = {}
    memberships = parse_roles(ROLES, text.files.get(ROLES, b""), problems, pause, known=subjects)
    rules = _rules(text, Lexicon(calendars, subjects), problems, pause)
    _check_together(rules, memberships, grant_ids, problems, pause)
    return ParsedPolicy(
        text=text,
        rules=rules,
        memberships=memberships,
        calendars=calendars,
        risk=parse_risk(RISK, text.files[RISK], problems) if RISK in text.files else UNRATED,
        approval=parse_approval(APPROVAL, text.files.get(APPROVAL, b""), problems),
        entities=parse_entities(ENTITIES, text.files.get(ENTITIES, b""), problems),
        cases=parse_cases({path: text.files[path] for path in text.case_files}, problems),
        problems=problems.sorted(pause),
        model=model,
    )


def _model(text: PolicyText, wanted: Model | None, problems: Problems) -> Model:
    data = text.files.get(MODEL)
    if data is None:
        return wanted or SHIPPED_MODEL
    if wanted is None:
        return read_own_model(MODEL, data, problems)
    check_model(MODEL, data, wanted, problems)
    return wanted


def _check_files(text: PolicyText, problems: Problems) -> None:
    for path in REQUIRED:
        if path not in text.files:
            problems.error(path, "the file is missing: `hearthgate init` in an empty folder makes one to copy")
    for path in text.files:
        known = path in KNOWN_FILES or is_rule_file(path) or is_case_file(path)
        if not known and not path.endswith(_NOTES):
            # SECURITY: rules in a file of a misspelt name would be silently out of force.
            hint = did_you_mean(path, KNOWN_FILES) or ": rules are rules/*.csv, cases tests/*.toml, notes *.md"
            problems.error(path, f"unknown file{hint}")


def _rules(text: PolicyText, lexicon: Lexicon, problems: Problems, pause: Pause) -> tuple[Rule, ...]:
    files = [*text.rule_files, *([GRANTS] if GRANTS in text.files else [])]
    rules = tuple(rule for path in files for rule in parse_rules(path, text.files[path], lexicon, problems, pause))
    if all(rule.is_grant for rule in rules) and not _has_rule_error(problems):
        problems.error("rules/", "no rule at all: an empty policy is more likely a lost file than a wish")
    return rules


def _has_rule_error(problems: Problems) -> bool:
    return any(is_rule_file(problem.place.file) for problem in problems.sorted())


def _check_together(
    rules: tuple[Rule, ...],
    memberships: tuple[Membership, ...],
    grant_ids: GrantIds | None,
    problems: Problems,
    pause: Pause,
) -> None:
    check_ids(rules, problems, pause)
    check_duplicates(rules, problems, pause)
    check_reserved(rules, problems, pause)
    check_grants(rules, grant_ids, problems, pause)
    check_wide(rules, problems, pause)
    check_known(memberships, rules, problems, pause)
    if check_roles(memberships, problems, pause):
        check_reach(memberships, rules, problems, pause)
