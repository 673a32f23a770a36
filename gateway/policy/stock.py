"""The only door to Casbin: an enforcer built aside from rules and roles that were read strictly."""

from collections.abc import Iterable, Mapping
from importlib import metadata

import casbin
from casbin.model import Model
from casbin.persist import Adapter

from gateway.domain.condition import Hours
from gateway.domain.request import AccessRequest, Facts
from gateway.errors import UnavailableError
from gateway.policy.encode import encode_field
from gateway.policy.functions import RuleText, build_functions
from gateway.policy.model import SHIPPED
from gateway.policy.roles import Roles
from gateway.policy.rule import Rule

_CONDITION = 5
_TRIES = 20
_NOBODY = "-:-"  # no rule and no role can name it


class _ReadAlready(Adapter):  # type: ignore[misc] # casbin is not typed
    """Hands rules and roles to Casbin that were checked before."""

    def __init__(self, rules: Iterable[Rule], roles: Roles) -> None:
        self.rules = rules
        self.roles = roles

    def load_policy(self, model: Model) -> None:
        """Put every rule and membership into `model`, each value as the file spells it."""
        model["p"]["p"].policy.extend(_values(rule) for rule in self.rules)
        model["g"]["g"].policy.extend(list(link) for link in self.roles.links())


def _values(rule: Rule) -> list[str]:
    values = list(rule.fields)
    values[_CONDITION] = RuleText(values[_CONDITION], rule.id)
    return values


class StockCasbin:
    """A stock `casbin.Enforcer` for one set of rules; it is never loaded a second time."""

    def __init__(self, rules: Iterable[Rule], roles: Roles, calendars: Mapping[str, Hours]) -> None:
        rules = tuple(rules)
        model = casbin.Enforcer.new_model(text=SHIPPED)
        self._enforcer = casbin.Enforcer(model, _ReadAlready(rules, roles))
        for name, function in build_functions(calendars).items():
            self._enforcer.add_function(name, function)
        self._known = frozenset({rule.subject for rule in rules} | {name for link in roles.links() for name in link})

    def allows(self, request: AccessRequest, facts: Facts) -> bool:
        """Give Casbin's answer."""
        # SECURITY: Casbin keeps a role object for every subject it ever saw; strangers would fill the memory.
        subject = encode_field(request.subject)
        subject = subject if subject in self._known else _NOBODY
        for left in reversed(range(_TRIES)):
            try:
                answer = self._enforcer.enforce(subject, request.kind, request.level, request.scope, facts)
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
        UnavailableError: `pycasbin` is installed beside `casbin`.

    """
    try:
        metadata.version("pycasbin")
    except metadata.PackageNotFoundError:
        return
    raise UnavailableError(
        "the packages `casbin` and `pycasbin` overwrite each other's files",
        way_out="pip uninstall pycasbin, then reinstall casbin",
    )
