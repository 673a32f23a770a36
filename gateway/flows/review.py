"""To review a plugin's code: a second person looked at this very code and says so."""

import re
from collections.abc import Iterable

from gateway.domain.caller import Caller
from gateway.domain.decision import timestamp
from gateway.domain.names import same_person
from gateway.domain.permission import Level
from gateway.domain.request import Json
from gateway.errors import ConflictError, DeniedError, MalformedError
from gateway.flows.authorize import authorize
from gateway.flows.event import event
from gateway.flows.lifecycle import find
from gateway.flows.parts import Parts
from gateway.registry.plugins import Plugin
from gateway.registry.requests import RequestState
from gateway.registry.vetting import Review

_BETWEEN_IDS = re.compile(r"[^A-Za-z0-9._@+-]+")


async def review_plugin(parts: Parts, caller: Caller, plugin_id: str, digest: str, reason: str) -> Review:
    """Record that the caller reviewed a plugin's code of this digest: what it has now, or is to get.

    Raises:
        DeniedError: the caller may not, or is who registered it, brought this code or is named as its author.
        MalformedError: no reason is given.
        ConflictError: there is no such code.
    """
    await authorize(parts, caller, Level.ADMIN, f"plugins/{plugin_id}", key_scope="approve")
    if not reason.strip():
        raise MalformedError("reason: say what was looked at")
    async with parts.editing:
        plugin = find(parts, plugin_id)
        _check(parts, plugin, caller, digest)
        facts: dict[str, Json] = {"digest": digest, "generation": plugin.generation, "reason": reason}
        await parts.log.append(event(parts, caller, "code_reviewed", plugin.id, facts))
        review = Review(
            id=parts.new_id(),
            plugin_id=plugin.id,
            digest=digest,
            reviewed_by=caller.user_id,
            reviewed_at=timestamp(parts.now()),
            reason=reason,
        )
        parts.registry.vetting.keep_review(review)
        return review


def standing_review(parts: Parts, plugin: Plugin, digest: str | None, *, besides: str | None = None) -> Review | None:
    """Give a review of this very code by another than who registered it now, who brought it, and than `besides`."""
    brought = {*who_brought(parts, plugin, digest), besides}
    found = parts.registry.vetting.reviews(plugin.id, digest)
    return next((each for each in found if not _is_own(plugin, each.reviewed_by, brought)), None)


def who_brought(parts: Parts, plugin: Plugin, digest: str | None) -> frozenset[str]:
    """Name the people who asked for this very code to be taken, whatever became of it.

    SECURITY: who asked once, and then has another ask for the same, or the watch of the folder, stays who asked.
    """
    # WHY: the watch asks in the owner's name, who need not have seen the code; what the owner asks now counts anyway.
    return parts.registry.requests.brought(plugin.id, digest) - {parts.owner}


def _check(parts: Parts, plugin: Plugin, caller: Caller, digest: str) -> None:
    waiting = parts.registry.requests.find(state=RequestState.PENDING, plugin_id=plugin.id)
    held_back = {each.held_back.digest for each in waiting if each.held_back is not None}
    if plugin.digest is None and not held_back:
        raise ConflictError(f"`{plugin.id}` has no code", way_out=f"put it in plugins/{plugin.id}/")
    if digest not in {plugin.digest, *held_back}:
        raise ConflictError(
            f"the code of `{plugin.id}` has the digest {plugin.digest}", way_out="look at what is there now"
        )
    # SECURITY: by the credential's user; whose name is said beside it counts for nothing.
    if _is_own(plugin, caller.user_id, who_brought(parts, plugin, digest)):
        raise DeniedError(
            f"`{caller.user_id}` registered `{plugin.id}`, brought this code or is its author",
            way_out="another person must review it: another user with a key of scope approve can",
            extra={"reason": "four_eyes"},
        )


def _is_own(plugin: Plugin, user: str, brought: Iterable[str | None]) -> bool:
    """Tell whether code is a user's own; an author may be told as `Bob Baker <bob@example.org>`."""
    author = plugin.manifest.author
    own = (plugin.registered_by, author.strip(), *_BETWEEN_IDS.split(author), *brought)
    return any(same_person(user, each) for each in own)
