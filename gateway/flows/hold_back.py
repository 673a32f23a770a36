"""To hold a generation back: what it asks for beyond the one in force is put to a person, and nothing else changes."""

from gateway.domain.caller import Caller
from gateway.domain.decision import timestamp
from gateway.domain.names import PluginId
from gateway.domain.request import Json
from gateway.errors import ConflictError
from gateway.flows.cool_down import denied_lately
from gateway.flows.event import event, waiting
from gateway.flows.gates import GATES
from gateway.flows.parts import Parts
from gateway.flows.plugin_risk import requested_risk
from gateway.flows.switch_generation import Following, check_follows
from gateway.registry.plugins import Plugin
from gateway.registry.requests import HeldBack, PermissionRequest, RequestState

UPDATE = "update"


async def hold_back(parts: Parts, caller: Caller, following: Following) -> PermissionRequest:
    """Put a generation into the approval queue; the same content is not asked for twice.

    Raises:
        LogUnavailableError: it could not be recorded; nothing is asked for.
        ConflictError: another generation came into force meanwhile.
        IllegalTransitionError: the plugin was suspended or revoked meanwhile.
    """
    plugin, wanted = following.follows, following.plugin
    digest = str(wanted.digest)
    waits = next((each for each in held_back(parts, plugin.id) if _is_same(each, plugin, digest)), None)
    if waits is not None:
        return waits
    request = PermissionRequest(
        id=parts.new_id(),
        plugin_id=plugin.id,
        type=UPDATE,
        permissions=following.difference.asked,
        state=RequestState.PENDING,
        reason=following.reason or "its new generation asks for more",
        requested_by=caller.user_id,
        requested_at=timestamp(parts.now()),
        held_back=HeldBack(
            digest=digest,
            version=wanted.manifest.version,
            from_digest=plugin.digest,
            from_version=plugin.manifest.version,
            from_generation=plugin.generation,
            difference=following.difference.as_json(),
        ),
    )
    risk = requested_risk(parts, wanted.manifest)
    facts: dict[str, Json] = {
        "request_id": request.id,
        "type": UPDATE,
        "permissions": [each.as_json() for each in request.permissions],
        "reason": request.reason,
        "risk": {"score": risk.score, "tier": risk.tier.value},
        **following.as_json(),
    }
    await parts.log.append(waiting(event(parts, caller, "permission_requested", plugin.id, facts)))
    check_follows(parts, plugin)
    expire_held_back(parts, plugin, by=caller.user_id, why="its folder changed again")
    parts.registry.requests.add(request)
    return request


def held_back(parts: Parts, plugin_id: PluginId) -> tuple[PermissionRequest, ...]:
    """Give the generations of a plugin that wait for a person; there is one at most."""
    pending = parts.registry.requests.find(state=RequestState.PENDING, plugin_id=plugin_id)
    return tuple(each for each in pending if each.held_back is not None)


def expire_held_back(parts: Parts, plugin: Plugin, *, by: str, why: str) -> None:
    """Let no generation of a plugin wait any more."""
    outdated = held_back(parts, plugin.id)
    if outdated:
        parts.registry.requests.decide(outdated, RequestState.EXPIRED, by=by, at=parts.now(), reason=why)


def was_denied(parts: Parts, following: Following) -> bool:
    """Tell whether a person denied this very content, or lately all that it asks for.

    That its code is to be looked at is asked of each code anew.
    """
    plugin, digest = following.follows, following.plugin.digest
    denied = parts.registry.requests.find(state=RequestState.DENIED, plugin_id=plugin.id)
    # SECURITY: else a comment more, saved every second, would ask the same of a person every second.
    lately = [each.held_back.difference for each, _ in denied_lately(parts, plugin.id) if each.held_back is not None]
    asked = [each.as_json() for each in following.difference.changes if each.what not in GATES]
    again = bool(asked) and any(all(change in difference for change in asked) for difference in lately)
    return again or any(_is_same(each, plugin, digest) for each in denied)


def check_same(request: PermissionRequest, plugin: Plugin, digest: str | None) -> None:
    """Refuse an answer to a request whose generation is not what would come into force.

    Raises:
        ConflictError: the code, or what is in force, changed since it was asked.
    """
    if not _is_same(request, plugin, digest):
        raise ConflictError(
            f"`{plugin.id}` changed since this was asked for",
            way_out=f"`hearthgate plugin reload {plugin.id}` asks for what is there now",
            extra={"digest": digest, "asked_digest": request.held_back.digest if request.held_back else None},
        )


def _is_same(request: PermissionRequest, plugin: Plugin, digest: str | None) -> bool:
    held = request.held_back
    return held is not None and held.digest == digest and held.from_generation == plugin.generation
