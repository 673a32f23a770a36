"""Anchors: what of a rule can be looked up, so that a request finds its rules without trying each one.

An anchor is the pattern of a rule itself; a request probes for every pattern that would cover it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.domain.permission import Kind
from gateway.policy.rule import EVERY

_COVERED_BY_ITSELF = frozenset({Kind.GATEWAY.value, EVERY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A function of the matcher whose answer, truth or falsehood, depends on its texts alone.

    With `probes` it can be looked up: `function(value, pattern)` is true if, and only if, `anchor(pattern)`
    is among `probes(value)`, and raises only where `anchor(pattern)` does. `is_total`: it never raises.
    """

    function: Callable[..., bool]
    arity: int
    is_total: bool = True
    anchor: Callable[[str], str] | None = None
    probes: Callable[[str], tuple[str, ...]] | None = None


def scope_probes(scope: str) -> tuple[str, ...]:
    """Give every pattern that covers `scope`, each once."""
    found = [EVERY, scope, scope + "/*"]
    end = scope.find("/")
    while end >= 0:
        found.append(scope[:end] + "/*")
        end = scope.find("/", end + 1)
    end = -1 if scope.endswith("/*") else scope.find(".", 1)
    while end >= 0:
        found.append("*" + scope[end:])
        end = scope.find(".", end + 1)
    return tuple(dict.fromkeys(found)) if "*" in scope else tuple(found)


def kind_probes(kind: str) -> tuple[str, ...]:
    """Give every kind of a rule that covers requests for `kind`."""
    return (kind,) if kind in _COVERED_BY_ITSELF else (kind, EVERY)


def as_written(text: str) -> str:
    """Give what is looked up as it stands."""
    return text
