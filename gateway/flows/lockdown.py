"""The kill switch: nothing that it names is allowed or runs until it is lifted; it survives a restart."""

from gateway.domain.caller import Caller
from gateway.domain.decision import timestamp
from gateway.domain.names import parse_plugin_id, parse_user_id
from gateway.domain.permission import KNOWN_KINDS, Level
from gateway.errors import MalformedError, NotFoundError
from gateway.executor.broker import Job
from gateway.flows.authorize import authorize
from gateway.flows.event import event
from gateway.flows.parts import Parts
from gateway.flows.tell import tell
from gateway.flows.void_calls import void_calls_in
from gateway.registry.holds import Lockdown


async def lock_down(parts: Parts, caller: Caller, scope: str, reason: str) -> Lockdown:
    """Forbid everything that `scope` names, and kill what runs of it.

    Raises:
        DeniedError: the caller may not.
        MalformedError: the scope is not `all`, `plugin:ID`, `user:ID` or `kind:KIND`.
    """
    _check_scope(scope)
    await authorize(parts, caller, Level.ADMIN, "lockdown", key_scope="admin")
    lockdown = Lockdown(id=parts.new_id(), scope=scope, reason=reason, by=caller.user_id, at=timestamp(parts.now()))
    # INVARIANT: in force before its record is awaited: taking away waits for nothing.
    parts.registry.holds.lock(lockdown)
    void_calls_in(parts, scope, "a lockdown is in force")
    parts.pool.kill(lambda job: _names(scope, job), "a lockdown is in force")
    await tell(parts, event(parts, caller, "lockdown_on", _plugin_of(scope), {"id": lockdown.id, "reason": reason}))
    return lockdown


async def lift(parts: Parts, caller: Caller, lockdown_id: str, reason: str) -> Lockdown:
    """Lift a lockdown.

    Raises:
        DeniedError: the caller may not.
        NotFoundError: there is no such lockdown.
    """
    await authorize(parts, caller, Level.ADMIN, "lockdown", key_scope="admin")
    lockdown = parts.registry.holds.lockdowns.get(lockdown_id)
    if lockdown is None:
        raise NotFoundError(f"there is no lockdown `{lockdown_id[:80]}`")
    await parts.log.append(
        event(parts, caller, "lockdown_off", _plugin_of(lockdown.scope), {"id": lockdown.id, "reason": reason})
    )
    parts.registry.holds.unlock(lockdown)
    return lockdown


def _check_scope(scope: str) -> None:
    word, _, name = scope.partition(":")
    if scope == "all" or (word == "kind" and name in KNOWN_KINDS):
        return
    if word == "plugin":
        parse_plugin_id(name)
    elif word == "user":
        parse_user_id(name)
    else:
        raise MalformedError(f"scope: `{scope[:80]}`", way_out="all, plugin:ID, user:ID or kind:KIND")


def _names(scope: str, job: Job) -> bool:
    # WHY: a call may use any kind of resource, so a locked kind ends all that runs.
    users = {f"user:{job.user_id}", f"user:{job.by_user}"}
    return scope in {"all", f"plugin:{job.plugin_id}", *users} or scope.startswith("kind:")


def _plugin_of(scope: str) -> str | None:
    return scope.removeprefix("plugin:") if scope.startswith("plugin:") else None
