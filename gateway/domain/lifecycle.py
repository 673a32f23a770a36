"""The states of a plugin and what may be done in each."""

from collections.abc import Mapping
from enum import StrEnum

LIFECYCLE_EVENTS = (
    "registered",
    "approved",
    "activated",
    "suspended",
    "updated",
    "reloaded",
    "revoked",
    "uninstalled",
)


class State(StrEnum):
    """Where a plugin stands."""

    REGISTERED = "registered"
    APPROVED = "approved"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    FAILED = "failed"
    REVOKED = "revoked"
    UNINSTALLED = "uninstalled"


class Verb(StrEnum):
    """What people do to a plugin."""

    APPROVE = "approve"
    ACTIVATE = "activate"  # the gateway's own step after an approval
    SUSPEND = "suspend"
    RESUME = "resume"
    RELOAD = "reload"
    FAIL = "fail"  # the gateway's own step when the host cannot keep a promise
    REVOKE = "revoke"
    UNINSTALL = "uninstall"


TRANSITIONS: Mapping[State, Mapping[Verb, State]] = {
    State.REGISTERED: {
        Verb.APPROVE: State.APPROVED,
        Verb.REVOKE: State.REVOKED,
        Verb.FAIL: State.FAILED,
        Verb.UNINSTALL: State.UNINSTALLED,
    },
    State.APPROVED: {
        Verb.ACTIVATE: State.ACTIVE,
        Verb.FAIL: State.FAILED,
        Verb.REVOKE: State.REVOKED,
        Verb.UNINSTALL: State.UNINSTALLED,
    },
    State.ACTIVE: {
        Verb.SUSPEND: State.SUSPENDED,
        Verb.RELOAD: State.ACTIVE,
        Verb.FAIL: State.FAILED,
        Verb.REVOKE: State.REVOKED,
        Verb.UNINSTALL: State.UNINSTALLED,
    },
    State.SUSPENDED: {
        Verb.RESUME: State.ACTIVE,
        Verb.REVOKE: State.REVOKED,
        Verb.UNINSTALL: State.UNINSTALLED,
    },
    State.FAILED: {
        Verb.RELOAD: State.ACTIVE,
        Verb.REVOKE: State.REVOKED,
        Verb.UNINSTALL: State.UNINSTALLED,
    },
    State.REVOKED: {Verb.UNINSTALL: State.UNINSTALLED},
    State.UNINSTALLED: {},
}
_OWN_STEPS = frozenset({Verb.ACTIVATE, Verb.FAIL})


def after(state: State, verb: Verb) -> State | None:
    """Give the state that `verb` leads to, None where it is illegal."""
    return TRANSITIONS[state].get(verb)


def legal_verbs(state: State) -> tuple[str, ...]:
    """Name what a person may do in `state`, `execute` included."""
    verbs = [verb.value for verb in TRANSITIONS[state] if verb not in _OWN_STEPS]
    return tuple(["execute", *verbs] if state is State.ACTIVE else verbs)
