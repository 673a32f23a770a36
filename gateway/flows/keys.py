"""Keys: made for a user, for some purposes, for a time; ended at the next request."""

from datetime import datetime

from gateway.domain.caller import Caller
from gateway.domain.names import UserId
from gateway.domain.permission import Level
from gateway.domain.quota import Quota
from gateway.domain.request import Json
from gateway.errors import MalformedError, NotFoundError
from gateway.flows.authorize import authorize
from gateway.flows.event import event, naming
from gateway.flows.parts import Parts
from gateway.flows.reload_policy import refresh_memberships
from gateway.flows.tell import tell
from gateway.registry.keys import KEY_SCOPES, Key


async def add_key(
    parts: Parts,
    caller: Caller,
    user_id: UserId,
    scopes: frozenset[str],
    expires_at: datetime | None,
    rate: Quota | None = None,
) -> tuple[Key, str]:
    """Make a key; its text is given here once.

    Raises:
        DeniedError: the caller may not.
        MalformedError: a scope is none, or it would be over already.
    """
    await authorize(parts, caller, Level.ADMIN, "keys", key_scope="admin")
    unknown = sorted(scopes - KEY_SCOPES)
    if unknown or not scopes:
        raise MalformedError(f"scopes: `{', '.join(unknown)}`", way_out=f"some of {', '.join(sorted(KEY_SCOPES))}")
    if expires_at is not None and expires_at <= parts.now():
        raise MalformedError("expires: a time that is past")
    async with parts.editing:
        wanted: list[Json] = [*sorted(scopes)]
        # WHY: recorded before the id is known; the key is worth nothing until this is durable.
        facts: dict[str, Json] = {"scopes": wanted, "rate": None if rate is None else str(rate)}
        await parts.log.append(naming(event(parts, caller, "key_added", None, facts), holder=user_id))
        key, text = parts.registry.keys.add(user_id, scopes, expires_at=expires_at, at=parts.now(), rate=rate)
        await refresh_memberships(parts, by=caller.user_id, why="a key was added")
    return key, text


async def revoke_key(parts: Parts, caller: Caller, key_id: str) -> Key:
    """End a key; the next request with it is refused.

    Raises:
        DeniedError: the caller may not.
        NotFoundError: there is no such key.
    """
    await authorize(parts, caller, Level.ADMIN, "keys", key_scope="admin")
    key = parts.registry.keys.get(key_id)
    if key is None:
        raise NotFoundError(f"there is no key `{key_id[:80]}`")
    # INVARIANT: over before its record is awaited: taking away waits for nothing.
    parts.registry.keys.revoke(key, at=parts.now())
    await tell(parts, naming(event(parts, caller, "key_revoked", None, {"key_id": key.id}), holder=key.user_id))
    async with parts.editing:
        await refresh_memberships(parts, by=caller.user_id, why="a key was revoked")
    return parts.registry.keys.get(key_id) or key
