"""What people settle: consents, lockdowns and keys."""

from typing import Any

from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from gateway.audit.query import LogReader
from gateway.domain.caller import Caller
from gateway.domain.names import parse_plugin_id, parse_user_id
from gateway.domain.permission import Level, parse_permission
from gateway.domain.quota import parse_quota
from gateway.domain.scope import canonical_pattern
from gateway.flows import consent, keys, lockdown
from gateway.flows.authorize import authorize, judge_right
from gateway.flows.consent import ConsentWish
from gateway.flows.parts import Parts
from gateway.flows.without_consent import without_consent
from gateway.http.bodies import ConsentBody, KeyBody, LiftBody, LockdownBody, user_or_none


@get("/v1/consents")
async def list_consents(
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    reader: NamedDependency[LogReader],
    user_id: FromQuery[str | None] = None,
    plugin_id: FromQuery[str | None] = None,
) -> dict[str, Any]:
    """List the consents of a user, with what needs none of that user, or the consents of all.

    Without `user_id` who may not see those of all gets their own.
    """
    user = user_or_none(user_id)
    if user is None and not judge_right(parts, caller, Level.READ, "consents").allowed:
        user = caller.user_id
    await authorize(parts, caller, Level.READ, "consents" if user is None else f"consents/{user}")
    found = parts.registry.consents.find(user_id=user, plugin_id=plugin_id)
    told = {"consents": [each.as_json() for each in found]}
    return told if user is None else {**told, "without_consent": await without_consent(parts, reader, user)}


@post("/v1/consents", status_code=201)
async def give_consent(
    data: JSONBody[ConsentBody], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Consent, as oneself or as the owner on a user's behalf."""
    permission = parse_permission(data.permission)
    wish = ConsentWish(
        user_id=parse_user_id(data.user_id),
        plugin_id=parse_plugin_id(data.plugin_id),
        permission=permission,
        scope=canonical_pattern(permission.kind, data.scope),
        purpose=data.purpose,
        until=data.until,
        once=data.once,
        session_id=data.session_id,
    )
    return (await consent.give_consent(parts, caller, wish)).as_json()


@delete("/v1/consents/{consent_id:str}", status_code=200)
async def withdraw_consent(
    consent_id: FromPath[str], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Withdraw a consent; the next use is denied."""
    return (await consent.withdraw_consent(parts, caller, consent_id)).as_json()


@get("/v1/lockdown")
async def list_lockdowns(parts: NamedDependency[Parts], caller: NamedDependency[Caller]) -> dict[str, Any]:
    """List the lockdowns in force."""
    await authorize(parts, caller, Level.READ, "lockdown")
    return {"lockdowns": [each.as_json() for each in parts.registry.holds.lockdowns.values()]}


@post("/v1/lockdown", status_code=201)
async def lock_down(
    data: JSONBody[LockdownBody], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Forbid everything that a scope names, at once."""
    return (await lockdown.lock_down(parts, caller, data.scope, data.reason)).as_json()


@delete("/v1/lockdown/{lockdown_id:str}", status_code=200)
async def lift_lockdown(
    lockdown_id: FromPath[str], data: JSONBody[LiftBody], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Lift a lockdown."""
    return (await lockdown.lift(parts, caller, lockdown_id, data.reason)).as_json()


@get("/v1/keys")
async def list_keys(parts: NamedDependency[Parts], caller: NamedDependency[Caller]) -> dict[str, Any]:
    """List the keys; no secret is in them."""
    await authorize(parts, caller, Level.READ, "keys")
    return {"keys": [each.as_json() for each in parts.registry.keys.all()]}


@post("/v1/keys", status_code=201)
async def add_key(
    data: JSONBody[KeyBody], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Make a key; its text is in this answer and nowhere else."""
    rate = None if data.rate is None else parse_quota(data.rate)
    key, text = await keys.add_key(parts, caller, parse_user_id(data.user), frozenset(data.scopes), data.expires, rate)
    return {**key.as_json(), "key": text}


@delete("/v1/keys/{key_id:str}", status_code=200)
async def revoke_key(
    key_id: FromPath[str], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """End a key."""
    return (await keys.revoke_key(parts, caller, key_id)).as_json()


ROUTES = [
    list_consents,
    give_consent,
    withdraw_consent,
    list_lockdowns,
    lock_down,
    lift_lockdown,
    list_keys,
    add_key,
    revoke_key,
]
