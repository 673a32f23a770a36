"""To approve an update: a generation that was held back is granted what it asks for, tried, and comes into force."""

from dataclasses import replace

from gateway.domain.caller import Caller
from gateway.domain.reloading import Trigger, version_flags
from gateway.errors import ConflictError, HearthgateError, LogUnavailableError, MalformedError
from gateway.flows.approval import approval_event, check_four_eyes
from gateway.flows.compare_generations import compare_generations, still_all_asked
from gateway.flows.event import event
from gateway.flows.gates import check_gates
from gateway.flows.hold_back import check_same
from gateway.flows.lifecycle import find
from gateway.flows.old_snapshots import trying
from gateway.flows.parts import Parts
from gateway.flows.plugin_risk import assessed, requested_risk
from gateway.flows.read_generation import Read, read_generation
from gateway.flows.reload_plugin import numbered, take_generation
from gateway.flows.review import who_brought
from gateway.flows.switch_generation import Following, check_follows, failed_event
from gateway.registry.requests import PermissionRequest, RequestState


async def approve_update(
    parts: Parts, caller: Caller, request: PermissionRequest, reason: str, *, is_whole: bool
) -> None:
    """Approve what a generation asks for, whole; whether the caller may was asked before.

    Raises:
        ConflictError: the code, or what is in force, changed since it was asked for, or a gate does not let it pass.
        DeniedError: a second person is needed.
        MalformedError: a part of it was chosen, or a time.
        PolicyBrokenError: the policy files have errors, so no grant can be added.
        ReloadFailedError: the generation did not pass its trial; the request waits on.
    """
    if not is_whole:
        raise MalformedError("an update is approved whole, and for good", way_out="leave out permissions and until")
    async with parts.reloads.turn(request.plugin_id):
        following, read = await _following(parts, caller, request, reason)
        try:
            async with trying(parts, read.digest):
                await take_generation(parts, caller, following, read)
        except LogUnavailableError:
            raise
        except HearthgateError as error:
            await parts.log.append(failed_event(parts, caller, following, error.message))
            raise


async def _following(parts: Parts, caller: Caller, request: PermissionRequest, reason: str) -> tuple[Following, Read]:
    plugin = check_follows(parts, find(parts, request.plugin_id))
    current = parts.registry.requests.get(request.id)
    if current is None or current.state is not RequestState.PENDING:
        raise ConflictError("the request was answered, or outdated, meanwhile")
    read = await read_generation(parts, plugin)
    # SECURITY: a person approves what they looked at; by now other code may lie in the folder.
    check_same(request, plugin, read.digest)
    coming = replace(plugin, manifest=read.manifest, digest=read.digest)
    # SECURITY: who brought the code does not open its gate.
    check_gates(parts, coming, read.digest, besides=request.requested_by)
    difference = await compare_generations(parts, plugin, read)
    known = request.held_back.difference if request.held_back else ()
    if not still_all_asked(request.permissions, difference, known):
        raise ConflictError(
            f"`{plugin.id}` asks for more than it did then, for it holds less by now",
            way_out=f"deny this, and `hearthgate plugin reload {plugin.id}`",
        )
    for asked_by in sorted({request.requested_by, plugin.registered_by, *who_brought(parts, plugin, read.digest)}):
        check_four_eyes(parts, caller, asked_by, difference.asked)
    approved = approval_event(parts, caller, replace(request, permissions=difference.asked), reason)
    facts = assessed(read.manifest, requested_risk(parts, read.manifest))
    risk = event(parts, caller, "risk_assessment", plugin.id, facts)
    following = Following(
        follows=plugin,
        plugin=replace(plugin, manifest=read.manifest, digest=read.digest),
        difference=difference,
        flags=version_flags(plugin.manifest.version, read.manifest.version),
        reason=reason,
        trigger=Trigger.APPROVAL,
        given=difference.asked,
        request=request,
        records=(approved, risk),
    )
    return numbered(parts, following), read
