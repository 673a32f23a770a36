"""To consent, and to withdraw: only the user themself, or the owner on their behalf, and never for user data."""

from dataclasses import dataclass
from datetime import datetime

from gateway.domain.caller import Caller
from gateway.domain.decision import timestamp
from gateway.domain.names import PluginId, UserId
from gateway.domain.permission import Kind, Level, Permission
from gateway.domain.request import Json
from gateway.errors import ConflictError, DeniedError, NotFoundError
from gateway.flows.authorize import authorize
from gateway.flows.event import event
from gateway.flows.lifecycle import find
from gateway.flows.parts import Parts
from gateway.flows.tell import tell
from gateway.registry.consents import ConsentRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentWish:
    """What a user wants to allow a plugin."""

    user_id: UserId
    plugin_id: PluginId
    permission: Permission
    scope: str
    purpose: str | None = None
    until: datetime | None = None
    once: bool = False
    session_id: str | None = None


async def give_consent(parts: Parts, caller: Caller, wish: ConsentWish) -> ConsentRecord:
    """Write a user's consent into the ledger.

    Raises:
        DeniedError: the caller is neither that user nor the owner, or the owner consents for user data.
        ConflictError: the plugin was registered anew, or somebody is being erased.
    """
    begun = parts.registry.erasures.begun
    await authorize(parts, caller, Level.WRITE, f"consents/{wish.user_id}", key_scope="consent")
    on_behalf = caller.user_id != wish.user_id
    if on_behalf and (not caller.owner or wish.permission.kind is Kind.USER):
        raise DeniedError(
            f"only `{wish.user_id}` can consent to that",
            way_out="with their own key of scope consent",
            extra={"reason": "not_yours"},
        )
    plugin = find(parts, wish.plugin_id)
    consent = ConsentRecord(
        id=parts.new_id(),
        user_id=wish.user_id,
        plugin_id=wish.plugin_id,
        permission=wish.permission,
        scope=wish.scope,
        purpose=wish.purpose,
        until=wish.until,
        once=wish.once,
        session_id=wish.session_id,
        on_behalf=on_behalf,
        given_by=caller.user_id,
        given_at=timestamp(parts.now()),
    )
    await parts.log.append(event(parts, caller, "consent_given", wish.plugin_id, _facts(consent)))
    # INVARIANT: judged again, for a plugin registered under the same id meanwhile inherits no consent.
    if find(parts, wish.plugin_id).generation != plugin.generation:
        raise ConflictError(f"`{plugin.id}` was registered anew meanwhile", way_out="look at it again")
    erasures = parts.registry.erasures
    under_way = [erasures.get(user) for user in (wish.user_id, caller.user_id)]
    # SECURITY: what a person who is erased meanwhile had asked for must not bring their name back.
    if erasures.begun != begun or any(each is not None and each.event_id is not None for each in under_way):
        raise ConflictError("somebody was erased meanwhile", way_out="ask again")
    parts.registry.consents.give(consent)
    return consent


async def withdraw_consent(parts: Parts, caller: Caller, consent_id: str) -> ConsentRecord:
    """Withdraw a consent: the next use is denied, and what runs with it is killed.

    Raises:
        DeniedError: it is not the caller's, or there is none; which of them is not told.
        NotFoundError: there is no such consent, or none any more (told to the owner and to whose it was).
    """
    consent = parts.registry.consents.get(consent_id)
    if consent is not None and consent.user_id != caller.user_id and not caller.owner:
        # SECURITY: another's consent is answered as one that is not there, so that nobody learns that there is one.
        consent = None
    whose = caller.user_id if consent is None else consent.user_id
    await authorize(parts, caller, Level.WRITE, f"consents/{whose}", key_scope="consent")
    if consent is None:
        own = any(each.id == consent_id for each in parts.registry.consents.find(user_id=caller.user_id))
        if not caller.owner and not own:
            raise DeniedError(
                f"`{caller.subject}` may not withdraw this consent",
                way_out="people withdraw their own",
                extra={"reason": "not_yours"},
            )
        raise NotFoundError(f"there is no consent `{consent_id[:80]}`")
    # INVARIANT: taken out before the record is awaited: a withdrawal waits for nothing.
    ended = parts.registry.consents.end(consent, at=parts.now(), reason="withdrawn")
    parts.pool.kill(
        lambda job: job.plugin_id == consent.plugin_id and job.user_id == consent.user_id, "a consent was withdrawn"
    )
    await tell(parts, event(parts, caller, "consent_withdrawn", consent.plugin_id, _facts(ended)))
    return ended


def _facts(consent: ConsentRecord) -> dict[str, Json]:
    body = consent.as_json()
    return {
        name: body[name]
        for name in ("id", "permission", "purpose", "until", "once", "on_behalf", "ended_at", "end_reason")
    }
