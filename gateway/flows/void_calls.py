"""To void approvals of exact calls where what they were given for is taken away."""

from gateway.domain.call_approval import CallApproval
from gateway.flows.parts import Parts


def void_calls_of(parts: Parts, plugin_id: str, why: str) -> None:
    """End every open approval of a plugin's calls, at once."""
    parts.registry.approvals.void(lambda each: _is_of(each, plugin_id), at=parts.now(), reason=why)


def void_calls_in(parts: Parts, scope: str, why: str) -> None:
    """End every open approval that a lockdown's scope names, at once."""
    word, _, name = scope.partition(":")

    def names(each: CallApproval) -> bool:
        match word:
            case "all":
                return True
            case "plugin":
                return _is_of(each, name)
            case "user":
                return each.is_own(name) or each.subject == scope
            case _:
                return each.permission.rpartition("_")[0] == name

    parts.registry.approvals.void(names, at=parts.now(), reason=why)


def _is_of(approval: CallApproval, plugin_id: str) -> bool:
    return plugin_id in {each.partition("@")[0] for each in approval.code.split()}
