"""Risk: a score from 0 to 100 for a request and for a plugin, with the parts it is made of."""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from gateway.domain.isolation import Isolation
from gateway.domain.permission import KNOWN_KINDS, LEVELS, Kind, Permission
from gateway.domain.risk import MAX_SCORE, TIER_ORDER, Risk, RiskPart, Tier
from gateway.domain.scope import split_host_port
from gateway.errors import MalformedError

MISCONDUCT = "misconduct"
MODIFIERS = (
    *("wide_scope", "subtree_scope", "private_host"),
    *("plugin_moderate", "plugin_high", "plugin_critical"),
    MISCONDUCT,
)
_WITH_HOSTS = frozenset({Kind.NETWORK.value, Kind.API.value})
_PRIVATE_NAMES = ("localhost", "local", "internal", "lan", "home.arpa")


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskTable:
    """What risk.toml says: points by kind and level, points that modify, where tiers begin, and what they allow."""

    base: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    modifiers: Mapping[str, int] = field(default_factory=dict)
    edges: Mapping[Tier, int] = field(default_factory=dict)
    isolation: Mapping[Isolation, Tier] = field(default_factory=dict)  # the highest tier that may use a mode
    runsc_from: Tier | None = None  # the lowest tier whose cells have a kernel of their own; None: none has
    servers_stay: Tier | None = None  # the highest tier whose MCP servers stay between calls; None: none does
    _kept: dict[tuple[str, str, str, bool, Tier | None], Risk] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    @property
    def misconduct(self) -> int:
        """The points of each step that a plugin's refused tries add up to."""
        return self.modifiers.get(MISCONDUCT, 0)

    def tier_of(self, score: int) -> Tier:
        """Give the tier into which a score falls."""
        reached = [tier for tier in TIER_ORDER[1:] if score >= self.edges[tier]]
        return reached[-1] if reached else Tier.LOW

    def score_request(
        self, kind: str, level: str, scope: str | None = None, *, plugin_tier: Tier | None = None
    ) -> Risk:
        """Score one request; `plugin_tier` is the standing of the plugin that asks."""
        if kind not in KNOWN_KINDS or level not in LEVELS:
            return self._score(kind, level, scope, plugin_tier)
        # INVARIANT: kinds, levels, shapes and tiers are few, so that what is kept stays small.
        question = (kind, level, _shape(scope), _is_private(kind, scope), plugin_tier)
        kept = self._kept.get(question)
        if kept is None:
            kept = self._kept[question] = self._score(kind, level, scope, plugin_tier)
        return kept

    def _score(self, kind: str, level: str, scope: str | None, plugin_tier: Tier | None) -> Risk:
        return self._risk([self._base(kind, level), *self._of_scope(kind, scope), *self._of_standing(plugin_tier)])

    def score_plugin(self, permissions: Iterable[tuple[Permission, str | None]], *, steps: int = 0) -> Risk:
        """Score all that a plugin holds or requests together; holding more never scores less.

        `steps`: how often what it tried and was refused has added up.
        """
        parts = [RiskPart(name=MISCONDUCT, points=points)] if (points := steps * self.misconduct) else []
        for permission, scope in sorted(set(permissions), key=lambda held: (held[0], held[1] or "")):
            kind = permission.kind.value
            parts += [self._base(kind, permission.level.word), *self._of_scope(kind, scope)]
        return self._risk(parts)

    def _risk(self, parts: list[RiskPart]) -> Risk:
        score = min(sum(part.points for part in parts), MAX_SCORE)
        return Risk(score=score, tier=self.tier_of(score), parts=tuple(parts))

    def _base(self, kind: str, level: str) -> RiskPart:
        points = self.base.get(kind if kind in KNOWN_KINDS else "other", {})
        # SECURITY: what nobody rated counts as the worst that is rated for its kind, else as the worst there is.
        worst = max(points.values(), default=MAX_SCORE)
        return RiskPart(name=f"{kind}.{level}", points=points.get(level, worst))

    def _of_scope(self, kind: str, scope: str | None) -> Iterable[RiskPart]:
        if shape := _shape(scope):
            yield from self._part(shape)
        if _is_private(kind, scope):
            yield from self._part("private_host")

    def _of_standing(self, tier: Tier | None) -> Iterable[RiskPart]:
        if tier is not None and tier is not Tier.LOW:
            yield from self._part(f"plugin_{tier.value}")

    def _part(self, name: str) -> Iterable[RiskPart]:
        points = self.modifiers.get(name, 0)
        if points:
            yield RiskPart(name=name, points=points)


UNRATED = RiskTable(edges=dict.fromkeys(TIER_ORDER[1:], 0))  # nothing is known to be harmless


def _shape(scope: str | None) -> str:
    if scope is None or "*" not in scope:
        return ""
    if scope == "*":
        return "wide_scope"
    return "subtree_scope" if scope.endswith("/*") or scope.startswith("*.") else ""


def _is_private(kind: str, scope: str | None) -> bool:
    return scope is not None and kind in _WITH_HOSTS and is_private_host(scope)


@lru_cache(maxsize=4096)
def is_private_host(scope: str) -> bool:
    """Tell whether a network scope names this host or one of a private network."""
    try:
        host, _ = split_host_port(scope.removeprefix("*."))
    except MalformedError:
        return False
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return any(host == name or host.endswith("." + name) for name in _PRIVATE_NAMES)
