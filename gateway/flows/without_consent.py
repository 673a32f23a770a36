"""To tell what plugins may do with a user's things without the user's consent: rules that ask for none."""

import asyncio

from gateway.audit.query import LogReader
from gateway.audit.wanted import Filter
from gateway.domain.decision import Effect
from gateway.domain.names import UserId
from gateway.domain.request import Json
from gateway.flows.parts import Parts
from gateway.policy.rule import Rule

_MOST = 100  # rules that are told
_KEPT_PER_USER = frozenset({"vault", "user", "*"})
_PLUGIN = "plugin:"
_ALL_PLUGINS = "group:plugins"
_BY_TIER = "tier:"


async def without_consent(parts: Parts, reader: LogReader, user: UserId) -> list[dict[str, Json]]:
    """Give the rules in force by which plugins reach what is kept for each user, the first 100 that need no consent.

    Each tells since when (of a grant) and when it was last used for this user, null for never. A deny rule may still
    forbid what is told.

    Raises:
        LogUnavailableError: a file of the log cannot be read.
    """
    policy = parts.policy.get()
    rules = [] if policy is None else [rule for rule in policy.rules if _asks_nobody(parts, rule)][:_MOST]
    since = {grant.id: grant.granted_at for grant in parts.registry.grants.live()}
    last = await asyncio.to_thread(lambda: [_last_used(reader, rule, user) for rule in rules])
    return [
        {
            "plugin_id": rule.subject.removeprefix(_PLUGIN) if rule.subject.startswith(_PLUGIN) else None,
            "subject": rule.subject,
            "permission": f"{rule.kind}_{rule.level}",
            "scope": rule.scope,
            "condition": rule.fields[5],
            "rule": rule.id,
            "since": since.get(rule.id),
            "last_used_at": used,
        }
        for rule, used in zip(rules, last, strict=True)
    ]


def _asks_nobody(parts: Parts, rule: Rule) -> bool:
    return (
        rule.effect is Effect.ALLOW
        and rule.kind in _KEPT_PER_USER
        and rule.subject.startswith((_PLUGIN, _ALL_PLUGINS, _BY_TIER))
        and "consent" not in [text for text, _ in rule.condition.terms]
        and rule.id not in parts.registry.holds.held_grants(rule.subject.removeprefix(_PLUGIN))
    )


def _last_used(reader: LogReader, rule: Rule, user: UserId) -> str | None:
    rows = reader.find(Filter(user=user, rule=rule.id, effect="allow"), limit=1).rows
    return str(rows[0]["timestamp"]) if rows else None
