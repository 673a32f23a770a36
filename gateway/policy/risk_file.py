"""risk.toml: base points by kind and level, modifiers, tier edges, and the modes of isolation that tiers allow."""

from collections.abc import Mapping
from itertools import pairwise

from gateway.domain.isolation import Isolation
from gateway.domain.permission import KNOWN_KINDS, LEVELS, PERMISSIONS
from gateway.domain.risk import MAX_SCORE, TIER_ORDER, Tier
from gateway.policy.problems import Problems
from gateway.policy.score import MODIFIERS, UNRATED, RiskTable
from gateway.policy.toml_file import TomlFile, parse_toml

_RUNSC_FROM = "runsc_from"
_SERVERS_STAY = "mcp_servers"
# SECURITY: what one call of a shared process leaves, the next one meets; that is for what is harmless.
_HIGHEST: Mapping[Isolation, tuple[Tier, ...]] = {Isolation.FORK: TIER_ORDER, Isolation.SHARED: (Tier.LOW,)}


def parse_risk(file: str, data: bytes, problems: Problems) -> RiskTable:
    """Give the risk table; a problem is noted and what it concerns counts as the worst."""
    toml = parse_toml(file, data, problems)
    if toml is None:
        return UNRATED
    toml.only(toml.content, ["base", "modifiers", "tiers", "isolation"])
    return RiskTable(
        base=_base(toml),
        modifiers=_modifiers(toml),
        edges=_edges(toml) or UNRATED.edges,
        isolation=_isolation(toml),
        runsc_from=_tier(toml, _RUNSC_FROM, Tier.LOW),
        servers_stay=_tier(toml, _SERVERS_STAY, None),
    )


def _base(toml: TomlFile) -> dict[str, Mapping[str, int]]:
    table = toml.table(toml.content.get("base", {}), "base")
    toml.only(table, [*sorted(KNOWN_KINDS), "other"], "base")
    found: dict[str, Mapping[str, int]] = {}
    for kind, levels in table.items():
        points = toml.table(levels, "base", kind)
        toml.only(points, LEVELS, "base", kind)
        rated = {level: toml.number(points, level, MAX_SCORE, "base", kind) for level in LEVELS if level in points}
        found[kind] = {level: value for level, value in rated.items() if value is not None}
        _check_rising(toml, kind, found[kind])
    _check_complete(toml, table)
    return found


def _check_rising(toml: TomlFile, kind: str, points: Mapping[str, int]) -> None:
    levels = [level for level in LEVELS if level in points]
    for lower, higher in pairwise(levels):
        if points[higher] < points[lower]:
            toml.error(f"`{higher}` of `{kind}` counts less than `{lower}`, which it includes", "base", kind, higher)


def _check_complete(toml: TomlFile, table: Mapping[str, object]) -> None:
    for permission in PERMISSIONS.values():
        kind, level = permission.kind.value, permission.level.word
        levels = table.get(kind, {})
        if isinstance(levels, Mapping) and level not in levels:
            toml.error(f"`base.{kind}.{level}` is missing", "base", kind)


def _modifiers(toml: TomlFile) -> dict[str, int]:
    table = toml.table(toml.content.get("modifiers", {}), "modifiers")
    toml.only(table, MODIFIERS, "modifiers")
    points = {name: toml.number(table, name, MAX_SCORE, "modifiers") for name in MODIFIERS if name in table}
    return {name: value for name, value in points.items() if value is not None}


def _edges(toml: TomlFile) -> dict[Tier, int] | None:
    table = toml.table(toml.content.get("tiers", {}), "tiers")
    names = [tier.value for tier in TIER_ORDER[1:]]
    toml.only(table, names, "tiers")
    edges = [toml.number(table, name, MAX_SCORE, "tiers") for name in names]
    known = [edge for edge in edges if edge is not None]
    if len(known) < len(names):
        return None
    if known != sorted(set(known)) or known[0] == 0:
        toml.error(f"the tiers must begin one after the other: {' < '.join(names)}, the first above 0", "tiers")
        return None
    return dict(zip(TIER_ORDER[1:], known, strict=True))


def _isolation(toml: TomlFile) -> dict[Isolation, Tier]:
    table = toml.table(toml.content.get("isolation", {}), "isolation")
    toml.only(table, [*_HIGHEST, _RUNSC_FROM, _SERVERS_STAY], "isolation")
    found: dict[Isolation, Tier] = {}
    for mode, tiers in _HIGHEST.items():
        if mode not in table:
            continue
        if table[mode] in tiers:
            found[mode] = Tier(str(table[mode]))
        else:
            toml.error(f"`isolation.{mode}` must be one of {', '.join(tiers)}", "isolation", mode)
    return found


def _tier(toml: TomlFile, name: str, strictest: Tier | None) -> Tier | None:
    """Read a tier, None where it is not there."""
    table = toml.table(toml.content.get("isolation", {}), "isolation")
    if name not in table:
        return None
    if table[name] in TIER_ORDER:
        return Tier(str(table[name]))
    toml.error(f"`isolation.{name}` must be one of {', '.join(TIER_ORDER)}", "isolation", name)
    # SECURITY: what cannot be read is taken as the strictest.
    return strictest
