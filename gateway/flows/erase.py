"""To erase a person: their values leave log, registry, vault and memory; their acts stay, linked and nameless."""

import asyncio
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from msgspec import structs

from gateway.audit.erase import Erased, Survey, acts, survey
from gateway.audit.naming import Mentions
from gateway.audit.query import LogReader
from gateway.domain.caller import Caller
from gateway.domain.names import UserId, same_person
from gateway.domain.permission import Level
from gateway.domain.record import Record, Resolution
from gateway.domain.request import Json
from gateway.errors import (
    ConflictError,
    DeniedError,
    LogUnavailableError,
    MalformedError,
    NotFoundError,
    Place,
    Problem,
    UnavailableError,
)
from gateway.flows.authorize import authorize
from gateway.flows.parts import Parts
from gateway.flows.reload_policy import refresh_memberships
from gateway.flows.tell import tell_untold
from gateway.registry.erasures import Erasure

_ENDED_S = 20.0
_POLL_S = 0.02
_TOLD_EXPORTS = 200
_TOLD_PLACES = 200
_TOLD_OTHERS = 1000
_FOLDERS = ("policies", "data/policy/files", "plugins")


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureWish:
    """Who is to be erased, and why; `keep_policy` leaves what policy files and manifests say."""

    user_id: UserId
    reason: str
    keep_policy: bool = False


async def erase_user(parts: Parts, caller: Caller, wish: ErasureWish) -> dict[str, Json]:
    """Erase a person, or note that it is wanted where approval.toml asks for a second person.

    Raises:
        DeniedError: the caller may not, is the person, or is the one who asked already.
        NotFoundError: nobody of that name was ever seen.
        ConflictError: policy files, manifests or a lockdown name the person, and `keep_policy` was not said.
        MalformedError: no reason, or one that names the person.
        LogUnavailableError: it is begun and not finished; it is, at the next try or the next start.
    """
    await authorize(parts, caller, Level.ADMIN, "audit/erase", key_scope="admin")
    await _not_oneself(parts, caller, wish.user_id)
    if not wish.reason.strip() or Mentions(wish.user_id).in_text(wish.reason):
        raise MalformedError("reason: it is kept for ever, so say why, without naming the person")
    found = await asyncio.to_thread(_survey, parts.home / "data", wish.user_id)
    if not found.found.pseudonyms and not _is_known(parts, wish.user_id):
        # SECURITY: a word that is nobody's name would take values out of other people's records.
        raise NotFoundError(f"nobody is known as `{wish.user_id}`")
    if not wish.keep_policy and (places := await asyncio.to_thread(_places, parts, wish.user_id)):
        raise ConflictError(
            "the person is named where erasing does not reach",
            way_out="edit these lines away, or leave them as they are with --keep-policy",
            problems=places[:_TOLD_PLACES],
        )
    async with parts.editing:
        erasure = parts.registry.erasures.get(wish.user_id)
        if erasure is None:
            erasure = parts.registry.erasures.ask(
                wish.user_id, reason=wish.reason, keep_policy=wish.keep_policy, by=caller.user_id, at=parts.now()
            )
            if _needs_two(parts):
                await _tell_asked(parts, caller, erasure)
                return erasure.as_json()
        elif erasure.event_id is None and _needs_two(parts) and same_person(caller.user_id, erasure.asked_by):
            raise DeniedError(
                "a second person must confirm an erasure",
                way_out="approval.toml says so",
                extra={"reason": "four_eyes"},
            )
        if erasure.event_id is None:
            erasure = replace(
                erasure,
                keep_policy=wish.keep_policy,
                event_id=parts.event_id(),
                begun_by=caller.user_id,
                alias=f"erased-{secrets.token_hex(16)}",
            )
            parts.registry.erasures.begin(erasure)
        return await _carry_out(parts, erasure)


async def resume_erasures(parts: Parts) -> None:
    """Finish what a stop left half done.

    Raises:
        LogUnavailableError: it could not be; the next start tries again.
    """
    for each in parts.registry.erasures.all():
        async with parts.editing:
            erasure = parts.registry.erasures.get(each.user_id)
            if erasure is not None and erasure.event_id is not None:
                await _carry_out(parts, erasure)


async def _not_oneself(parts: Parts, caller: Caller, user_id: UserId) -> None:
    if not (same_person(user_id, caller.user_id) or same_person(user_id, caller.on_behalf)):
        return
    # SECURITY: nobody takes their own traces away, nor has the owner do it in their name.
    await parts.log.append(
        Record(
            event_id=parts.event_id(),
            at=parts.now(),
            event_type="access_denied",
            resolution=Resolution.DENIED,
            user_id=caller.user_id,
            details={"why": "people are erased by others", "key_id": caller.key_id},
            personal={"scope": "audit/erase"},
            trace_id=caller.trace_id,
        )
    )
    raise DeniedError("nobody erases themselves", way_out="ask another administrator", extra={"reason": "own_erasure"})


def _is_known(parts: Parts, user: UserId) -> bool:
    registry, kept = parts.registry, parts.resources
    if registry.erasures.get(user) is not None or any(key.user_id == user for key in registry.keys.all()):
        return True
    return bool(registry.consents.find(user_id=user) or kept.vault.list(user) or kept.users.list(user))


def _needs_two(parts: Parts) -> bool:
    policy = parts.policy.get()
    return policy is None or policy.approval.two_for_erasure


async def _tell_asked(parts: Parts, caller: Caller, erasure: Erasure) -> None:
    record = _record(parts, erasure, Resolution.PENDING, {"step": "asked", "by_key": caller.key_id})
    try:
        await parts.log.append(structs.replace(record, personal={**record.personal, "holder": erasure.user_id}))
    except LogUnavailableError:
        parts.registry.erasures.withdraw(erasure)
        raise


async def _carry_out(parts: Parts, erasure: Erasure) -> dict[str, Json]:
    """Erase, step after step, each of which may be done again."""
    found = await asyncio.to_thread(_survey, parts.home / "data", erasure.user_id)
    exports: list[Json] = [*found.exports[-_TOLD_EXPORTS:]]
    others: list[Json] = [*found.found.others[-_TOLD_OTHERS:]]
    facts: dict[str, Json] = {
        "pseudonyms": [*sorted(found.found.pseudonyms)],
        "records": len(found.found.records),
        "records_of_others": len(found.found.others),
        "others": others,
        "named_in_public": len(found.public),
        "exports": exports,
        "exports_count": len(found.exports),
        "sinks": [*parts.sinks.names],
        "keep_policy": erasure.keep_policy,
    }
    resumed = await _begun_before(parts, erasure)
    if not resumed:
        await parts.log.append(
            structs.replace(
                _record(parts, erasure, Resolution.PENDING, {"step": "begun", **facts}), event_id=str(erasure.event_id)
            )
        )
    counts = parts.registry.erasures.forget_user(erasure.user_id, _renaming(erasure))
    registry = parts.registry
    for part in (registry.keys, registry.consents, registry.approvals, registry.holds, registry.plugins):
        part.read()
    await _end_calls(parts, erasure.user_id)
    await refresh_memberships(parts, by=erasure.begun_by or parts.owner, why="a person was erased")
    _unname(parts)
    await tell_untold(parts)
    if parts.untold:
        raise LogUnavailableError("what is not recorded yet could name the person", retry_after_s=1)
    kept = await asyncio.to_thread(_forget_kept, parts, erasure.user_id)
    parts.registry.rates.forget(erasure.user_id)
    erased = await parts.log.forget(erasure.user_id)
    await asyncio.to_thread(_forget_elsewhere, parts, erasure.user_id, erased)
    done: dict[str, Json] = {
        "records": len(erased.records),
        "records_of_others": len(erased.others),
        "kept_values": kept,
        "keys": counts["api_key"],
        "consents": counts["consent"],
        "call_approvals": counts["call_approval"],
        "resumed": resumed,
    }
    ended = _record(parts, erasure, Resolution.COMPLETED, {"step": "finished", **facts, **done})
    await parts.log.append(structs.replace(ended, ref=erasure.event_id))
    parts.registry.erasures.end(erasure)
    return {"status": "erased", "event_id": ended.event_id, **facts, **done}


def _record(parts: Parts, erasure: Erasure, resolution: Resolution, details: dict[str, Json]) -> Record:
    by = erasure.begun_by or erasure.asked_by
    second: dict[str, Json] = {} if by == erasure.asked_by else {"requested_by": erasure.asked_by}
    return Record(
        event_id=parts.event_id(),
        at=parts.now(),
        event_type="redaction",
        resolution=resolution,
        user_id=by,
        details=details,
        personal={"reason": erasure.reason, **second},
    )


async def _begun_before(parts: Parts, erasure: Erasure) -> bool:
    reader = LogReader(parts.home / "data")
    return await asyncio.to_thread(reader.get, str(erasure.event_id)) is not None


def _survey(data: Path, user: str) -> Survey:
    with LogReader(data).whole() as whole:
        return survey(whole, user)


def _renaming(erasure: Erasure) -> Callable[[str], str]:
    mentions, alias = Mentions(erasure.user_id), str(erasure.alias)
    return lambda text: mentions.renamed(text, alias)


async def _end_calls(parts: Parts, user: str) -> None:
    """End what runs for the person, and wait until its outcome is recorded."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _ENDED_S
    reader = LogReader(parts.home / "data")

    def acting() -> bool:
        with reader.whole() as whole:
            return acts(whole, user)

    while parts.pool.kill(lambda job: job.user_id == user, "the person was erased") or await asyncio.to_thread(acting):
        if loop.time() > deadline:
            raise UnavailableError("calls of the person do not end", way_out="try again")
        await asyncio.sleep(_POLL_S)


def _unname(parts: Parts) -> None:
    """See to it that the file of memberships names the person no longer."""
    policy = parts.policy.get()
    try:
        parts.memberships.say({} if policy is None else policy.memberships)
    except OSError as error:
        raise UnavailableError(
            f"data/memberships.csv may name the person, and cannot be written: {error.strerror}",
            way_out="the erasure is finished at the next try, or start",
        ) from None


def _forget_kept(parts: Parts, user: str) -> int:
    return parts.resources.vault.forget(user) + parts.resources.users.forget(user)


def _forget_elsewhere(parts: Parts, user: str, erased: Erased) -> None:
    for forget in parts.forgetting:
        forget(user, erased.seqs)


def _places(parts: Parts, user: str) -> list[Problem]:
    """Name the lines that name a person in what people wrote: policy files, kept generations of them, manifests."""
    mentions, found = Mentions(user), []
    for file in _files(parts.home):
        try:
            text = file.read_text("utf-8", errors="replace")
        except OSError:
            continue
        if mentions.in_text(text):
            name = str(file.relative_to(parts.home))
            found += [
                Problem(place=Place(file=name, line=number), message="names the person")
                for number, line in enumerate(text.splitlines(), 1)
                if mentions.in_text(line)
            ]
    locked = [each for each in parts.registry.holds.lockdowns.values() if each.scope == f"user:{user}"]
    return found + [Problem(place=Place(file=f"lockdown {each.id}"), message="is of the person") for each in locked]


def _files(home: Path) -> Iterator[Path]:
    for folder in _FOLDERS:
        yield from (each for each in sorted((home / folder).rglob("*")) if each.is_file())
