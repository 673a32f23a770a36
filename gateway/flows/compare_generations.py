"""To compare a generation with the one in force: what it asks for beyond it, and which grants it needs no longer."""

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.domain.decision import Effect
from gateway.domain.grant import Grant
from gateway.domain.manifest import Manifest, RequestedPermission
from gateway.domain.names import PluginId, plugin_subject
from gateway.domain.narrower import Right, covers_right, meet
from gateway.domain.permission import Kind, Level, Permission, parse_permission
from gateway.domain.request import Json
from gateway.domain.widening import Change, wider_limits, wider_manifest
from gateway.executor.confine import confine
from gateway.flows.grants import resolved
from gateway.flows.parts import Parts
from gateway.policy.encode import encode_field
from gateway.policy.rule import Rule
from gateway.registry.plugins import Plugin

_MB = 1 << 20
_TO_RUN = Permission(Kind.PLUGIN, Level.EXECUTE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What changes with a generation.

    `wider` waits for a person, and so does `asked`, which an approval grants. `dropped` are grants that are
    taken back when it comes into force, `narrowed` is what stays of them.
    """

    wider: tuple[Change, ...]
    asked: tuple[RequestedPermission, ...]
    dropped: tuple[Grant, ...]
    narrowed: tuple[RequestedPermission, ...]

    @property
    def widens(self) -> bool:
        """Whether a person has to be asked."""
        return bool(self.wider or self.asked)

    @property
    def changes(self) -> tuple[Change, ...]:
        """Everything that a person is asked about."""
        return (*(Change(what="permission", text=str(_right(each))) for each in self.asked), *self.wider)

    def as_json(self) -> tuple[Json, ...]:
        """Give the wire shape of what a person is asked about."""
        return tuple(each.as_json() for each in self.changes)


async def compare_generations(parts: Parts, plugin: Plugin, manifest: Manifest) -> Difference:
    """Compare what a manifest asks for with what is in force, granted and asked for already."""
    return await asyncio.to_thread(_compare, parts, plugin, manifest)


def _compare(parts: Parts, plugin: Plugin, manifest: Manifest) -> Difference:
    granted = _granted(parts, plugin.id)
    # WHY: what was shown to the person who approved it was asked for already, also where it was not given.
    before, after = (_required(parts, each) for each in (plugin.manifest, manifest))
    known = [*(right for right, _ in granted), *map(_right, before)]
    asked = tuple(each for each in after if not any(covers_right(right, _right(each)) for right in known))
    # WHY: what is approved may hold all of an older grant, which then says nothing any more.
    outdone = [(right, grant) for right, grant in granted if any(covers_right(_right(each), right) for each in asked)]
    rest = [each for each in granted if each not in outdone]
    dropped, narrowed = _fitted(
        rest, [_right(each) for each in _named(parts, plugin.manifest)], _named(parts, manifest)
    )
    wider = (
        *wider_manifest(plugin.manifest, manifest),
        *wider_limits(_limits(parts, plugin.manifest), _limits(parts, manifest)),
    )
    return Difference(wider=wider, asked=asked, dropped=(*(grant for _, grant in outdone), *dropped), narrowed=narrowed)


def _fitted(
    granted: Sequence[tuple[Right, Grant]], before: Sequence[Right], after: Sequence[RequestedPermission]
) -> tuple[tuple[Grant, ...], tuple[RequestedPermission, ...]]:
    """Say which grants a manifest no longer asks for whole, and what stays of them.

    A grant that no manifest asked for was given by people for other reasons, and stays.
    """
    dropped: list[Grant] = []
    kept = [right for right, _ in granted]
    left: list[tuple[Right, RequestedPermission]] = []
    for right, grant in granted:
        from_manifest = any(right.permission == each.permission and right.scope == each.scope for each in before)
        if not from_manifest or any(covers_right(_right(each), right) for each in after):
            continue
        parts = [(found, each) for each in after if (found := meet(right, _right(each))) is not None]
        if any(covers_right(found, right) for found, _ in parts):
            continue  # WHY: what cannot be written any narrower stays as it is
        dropped.append(grant)
        kept.remove(right)
        left += parts
    narrowed: list[RequestedPermission] = []
    for right, source in left:
        if not any(covers_right(each, right) for each in kept):
            kept.append(right)
            narrowed.append(
                RequestedPermission(
                    permission=right.permission, scope=right.scope, condition=right.condition, purpose=source.purpose
                )
            )
    return tuple(dropped), tuple(narrowed)


def _granted(parts: Parts, plugin_id: PluginId) -> list[tuple[Right, Grant]]:
    """Give the grants in force, as their lines say; people may have edited them."""
    policy = parts.policy.get()
    if policy is None:
        return []
    live = {grant.id: grant for grant in parts.registry.grants.live(plugin_id)}
    held = parts.registry.holds.held_grants(plugin_id)
    return [
        (_right_of(rule), live[rule.id])
        for rule in policy.rules_of(encode_field(plugin_subject(plugin_id)))
        if rule.is_grant and rule.effect is Effect.ALLOW and rule.id in live and rule.id not in held
        if not (live[rule.id].permission == _TO_RUN and rule.scope == plugin_id)
    ]


def _right_of(rule: Rule) -> Right:
    return Right(permission=parse_permission(f"{rule.kind}_{rule.level}"), scope=rule.scope, condition=rule.fields[5])


def _required(parts: Parts, manifest: Manifest) -> list[RequestedPermission]:
    return [each for each in _named(parts, manifest) if not each.optional]


def _named(parts: Parts, manifest: Manifest) -> list[RequestedPermission]:
    return resolved(parts, [each for each in manifest.permissions if each.scope is not None])


def _right(wish: RequestedPermission) -> Right:
    return Right(permission=wish.permission, scope=wish.scope or "", condition=wish.condition)


def _limits(parts: Parts, manifest: Manifest) -> Mapping[str, float]:
    limits = confine(manifest, Path("/"), parts.caps).limits
    return {
        "seconds": limits.timeout_s,
        "MB of memory": limits.memory_bytes / _MB,
        "MB of disk": limits.scratch_bytes / _MB,
        "percent of a core": float(limits.cpu_percent or math.inf),
    }


def still_all_asked(before: Iterable[RequestedPermission], now: Difference, known: Iterable[Json]) -> bool:
    """Tell whether everything that a generation asks for by now was in what a person was shown."""
    shown = [_right(each) for each in before]
    told = list(known)
    return all(any(covers_right(right, _right(each)) for right in shown) for each in now.asked) and all(
        each.as_json() in told for each in now.wider
    )
