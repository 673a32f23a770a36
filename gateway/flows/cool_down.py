"""To let a no stand: what a person denied is not asked for again for a while."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from gateway.domain.decision import timestamp
from gateway.domain.manifest import RequestedPermission
from gateway.domain.names import PluginId
from gateway.errors import ConflictError
from gateway.flows.parts import Parts
from gateway.policy.approval import COOL_DOWN_MINUTES
from gateway.registry.requests import PermissionRequest, RequestState


def check_cool_down(parts: Parts, plugin_id: PluginId, wanted: Sequence[RequestedPermission]) -> None:
    """Refuse what asks again for a permission and scope that were denied too short a while ago.

    Raises:
        ConflictError: it does; `again_at` says when it can be asked.
    """
    asked = {(each.permission, each.scope) for each in wanted}
    ends: list[datetime] = []
    names: set[str] = set()
    for request, end in denied_lately(parts, plugin_id):
        again = asked & {(each.permission, each.scope) for each in request.permissions}
        if again:
            ends.append(end)
            names |= {f"{permission} {scope or ''}".strip() for permission, scope in again}
    if ends:
        at = timestamp(max(ends))
        raise ConflictError(
            f"{', '.join(sorted(names))}: denied a short while ago",
            way_out=f"it can be asked for again at {at}",
            extra={"again_at": at},
        )


def denied_lately(parts: Parts, plugin_id: PluginId) -> Iterator[tuple[PermissionRequest, datetime]]:
    """Give what a person denied of a plugin too short a while ago, each with when it may be asked for again."""
    policy = parts.policy.get()
    pause = timedelta(minutes=COOL_DOWN_MINUTES if policy is None else policy.approval.cool_down_minutes)
    now = parts.now()
    for request in parts.registry.requests.find(state=RequestState.DENIED, plugin_id=plugin_id):
        end = datetime.fromisoformat(request.decided_at or request.requested_at) + pause
        if now < end:
            yield request, end
