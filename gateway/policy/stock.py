"""The only door to Casbin: enforcers built aside from rules and roles that were read strictly."""

import logging
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from typing import Any

import casbin

from gateway.domain.condition import Hours
from gateway.domain.request import AccessRequest, Facts
from gateway.errors import UnavailableError
from gateway.policy.compiled import Compiled
from gateway.policy.encode import encode_field
from gateway.policy.enforcer import GateEnforcer
from gateway.policy.fixed_roles import FixedRoles
from gateway.policy.functions import RuleText, build_functions
from gateway.policy.model import SHIPPED_MODEL, Model
from gateway.policy.roles import Roles
from gateway.policy.rule import Rule

Row = tuple[str, ...]
_CONDITION = 5
_TRIES = 20
_SILENT = logging.getLogger("hearthgate.casbin")
_SILENT.setLevel(logging.CRITICAL + 1)


class QuietFacts(Facts, frozen=True, kw_only=True):
    """Facts that Casbin's request log cannot spell out."""

    def __str__(self) -> str:
        return "facts"


def row_of(rule: Rule) -> Row:
    """Give a rule as Casbin holds it: each value as the file spells it."""
    if rule.condition.terms and rule.condition.rate is not None:
        fields = rule.fields
        # WHY: a rate counts by rule, and Casbin hands its functions nothing but the texts of a row.
        return (*fields[:_CONDITION], RuleText(fields[_CONDITION], rule.id), *fields[_CONDITION + 1 :])
    return rule.fields


def build_enforcer(
    rows: list[Row], roles: Roles, calendars: Mapping[str, Hours], model: Model = SHIPPED_MODEL
) -> GateEnforcer:
    """Give our enforcer over rules and roles; neither is ever loaded a second time, and the list becomes its own."""
    enforcer = GateEnforcer(casbin.Enforcer.new_model(text=model.text), opaque=(Facts, QuietFacts))
    # SECURITY: Casbin prints who asks for what, which nobody's terminal or journal is for.
    enforcer.logger = _SILENT
    _fill(enforcer, rows, calendars)
    set_roles(enforcer, roles)
    return enforcer


def derive_enforcer(rows: list[Row], roles: Roles, calendars: Mapping[str, Hours], compiled: Compiled) -> GateEnforcer:
    """Give the enforcer over rules that were compiled already, by an edit of those of another enforcer."""
    enforcer = build_enforcer(rows, roles, calendars)
    enforcer.use_compiled(compiled)
    return enforcer


def set_roles(enforcer: GateEnforcer, roles: Roles) -> None:
    """Let an enforcer answer by these roles."""
    fixed = FixedRoles(roles)
    enforcer.set_role_manager(fixed)
    enforcer.model["g"]["g"].rm = fixed


def build_stock(
    rules: Iterable[Rule], roles: Roles, calendars: Mapping[str, Hours], model: Model = SHIPPED_MODEL
) -> casbin.Enforcer:
    """Give a stock `casbin.Enforcer` with Casbin's own role manager over the same rules, to compare with."""
    enforcer = casbin.Enforcer(casbin.Enforcer.new_model(text=model.text))
    _fill(enforcer, [list(row_of(rule)) for rule in rules], calendars)
    enforcer.model["g"]["g"].policy = [list(link) for link in roles.links()]
    enforcer.build_role_links()
    return enforcer


def _fill(enforcer: Any, rows: list[Any], calendars: Mapping[str, Hours]) -> None:  # noqa: ANN401 (casbin is not typed)
    functions: Mapping[str, Callable[..., bool]] = build_functions(calendars)
    for name, function in functions.items():
        enforcer.add_function(name, function)
    enforcer.model["p"]["p"].policy = rows


def asked_values(request: AccessRequest, facts: Facts) -> tuple[Any, ...]:
    """Give a request as Casbin is asked it."""
    # WHY: a kind may be a word of ours, and what is compiled looks up plain texts alone.
    return encode_field(request.subject), str(request.kind), request.level, request.scope, facts


def stock_allows(enforcer: GateEnforcer, request: AccessRequest, facts: Facts) -> bool:
    """Give the answer of stock Casbin's own `enforce_ex`, whatever is compiled."""
    subject, *others = asked_values(request, facts)
    for left in reversed(range(_TRIES)):
        try:
            answer, _ = super(GateEnforcer, enforcer).enforce_ex(subject, *others)
        except SystemError:
            # WHY: Casbin parses its matcher at each call, and `ast.parse` of this Python counts its depth in one
            # place for all threads: it gives up when another parses at the same moment, as while a policy is built.
            if not left:
                raise
        else:
            return answer is True
    return False


def check_casbin() -> None:
    """Refuse to work with a Casbin whose files another package has overwritten.

    Raises:
        UnavailableError: `casbin` and `pycasbin` are installed beside each other.

    """
    if _is_installed("pycasbin") and _is_installed("casbin"):
        raise UnavailableError(
            "the packages `casbin` and `pycasbin` overwrite each other's files",
            way_out="pip uninstall pycasbin, then reinstall casbin",
        )


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
