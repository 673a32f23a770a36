"""To record a refusal: what a plugin tried by itself and its cell refused, with what would have allowed it.

Told by the plugin's own process, or by its cell's init when the kernel asked it. The first proves nothing, the second
was read in memory that the plugin can change meanwhile: a hint for people, and nothing is allowed by it.
"""

import asyncio
from collections.abc import Mapping

from gateway.domain.decision import Effect
from gateway.domain.names import plugin_subject
from gateway.domain.permission import LEVELS, Kind
from gateway.domain.record import Record, Resolution
from gateway.domain.request import AccessRequest, Json
from gateway.domain.scope import canonical_scope
from gateway.errors import HearthgateError, MalformedError
from gateway.flows.asking import Asking
from gateway.flows.conduct import count_try
from gateway.flows.decide import Judged, judge
from gateway.flows.parts import Parts
from gateway.policy.suggest import line_for

_INSTEAD: Mapping[str, str] = {
    Kind.FILE: "name its folder in `sandbox_config.file_access`, or use `ctx.files`",
    Kind.NETWORK: "use `ctx.http`, or a client that heeds the proxy of the environment",
    Kind.SYSTEM: "use `ctx.system.run`",
}
_TOLD_BY: Mapping[object, str] = {"kernel": "the kernel", "plugin": "the plugin's own process"}


async def record_refusal(asking: Asking, told: Mapping[str, Json]) -> None:
    """Record what a plugin's own process tells of a try that its cell refused; what makes no sense is passed over."""
    try:
        request = await asyncio.to_thread(_request, asking, told)
    except HearthgateError:
        await _record_unnamed(asking, told)
        return
    judged = judge(asking.parts, request)
    details: dict[str, Json] = {"why": "cell", "permission": request.permission, "told_by": _TOLD_BY[told.get("by")]}
    personal = {"scope": request.scope, **_way_in(asking.parts, judged, asking.execution_id)}
    await asking.parts.log.append(violation(asking, judged.risk.score, details, personal))
    if not judged.allowed:
        await count_try(asking.parts, asking.plugin, f"{request.permission} {request.scope}")


async def _record_unnamed(asking: Asking, told: Mapping[str, Json]) -> None:
    """Record a try that names no scope, as that of a socket, where the kernel told of it."""
    if told.get("by") != "kernel" or told["kind"] not in _INSTEAD:
        return
    permission = f"{told['kind']}_{told['level']}"
    details: dict[str, Json] = {"why": "cell", "permission": permission, "told_by": _TOLD_BY["kernel"]}
    personal: dict[str, Json] = {"scope": str(told["scope"]), "instead": _INSTEAD[str(told["kind"])]}
    await asking.parts.log.append(violation(asking, 0, details, personal))
    await count_try(asking.parts, asking.plugin, f"{permission} {told['scope']}")


def violation(
    asking: Asking, risk_score: int, details: Mapping[str, Json], personal: Mapping[str, Json], ref: str | None = None
) -> Record:
    """Make the record of something that a call tried and did not get."""
    return Record(
        event_id=asking.parts.event_id(),
        at=asking.parts.now(),
        event_type="permission_violation",
        resolution=Resolution.REFUSED,
        plugin_id=asking.plugin.id,
        user_id=asking.call.user,
        risk_score=risk_score,
        details={"execution_id": asking.execution_id, **details},
        personal=personal,
        trace_id=asking.call.trace_id,
        ref=ref,
    )


def _request(asking: Asking, told: Mapping[str, Json]) -> AccessRequest:
    kind, level, scope = str(told["kind"]), str(told["level"]), str(told["scope"])
    if kind not in _INSTEAD or level not in LEVELS:
        raise MalformedError("a refusal of something that a cell does not refuse")
    if kind == Kind.FILE:
        scope = str(asking.parts.resources.files.resolve(scope))
    elif kind == Kind.SYSTEM and scope.startswith("/"):
        scope = asking.parts.resources.system.resolve_program(scope)
    return AccessRequest(
        subject=plugin_subject(asking.plugin.id),
        user=asking.call.user,
        kind=kind,
        level=level,
        scope=canonical_scope(kind, scope),
    )


def _way_in(parts: Parts, judged: Judged, execution_id: str) -> dict[str, Json]:
    """Say what would have allowed it: a rule's line, or another way to do it."""
    instead = _INSTEAD[judged.request.kind]
    if judged.allowed:
        return {"instead": f"the policy allows it: {instead}"}
    policy = judged.policy
    denies = [ref for ref, effect in judged.verdict.spoke if effect is Effect.DENY]
    files = parts.resources.files
    if judged.request.kind == Kind.FILE and files.is_forbidden(files.resolve(judged.request.scope)):
        return {"instead": "nothing: no plugin ever gets that"}
    if policy is None or denies:
        named = f"rule `{denies[0].id}` ({denies[0].file}:{denies[0].line}) denies it" if denies else "no policy"
        return {"instead": f"nothing: {named}"}
    return {"would_allow": line_for(policy, judged.request, f"tried in execution {execution_id}"), "instead": instead}
