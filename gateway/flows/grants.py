"""To give and to take grants: lines of grants.csv, put in force as a person's edit would be.

Giving needs a clean folder and waits for its record. Taking never waits: a durable hold denies first.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from gateway.domain.caller import Caller
from gateway.domain.grant import Grant
from gateway.domain.manifest import RequestedPermission
from gateway.domain.names import PluginId, plugin_subject
from gateway.domain.permission import Kind
from gateway.domain.record import Record
from gateway.domain.request import Json
from gateway.domain.scope import canonical_pattern
from gateway.errors import ConflictError, HearthgateError, UnavailableError
from gateway.flows.build_policy import build_granted
from gateway.flows.event import event
from gateway.flows.memberships import memberships
from gateway.flows.parts import Parts
from gateway.flows.reload_policy import activate
from gateway.flows.tell import settle, tell
from gateway.policy.changes import without_grants
from gateway.policy.encode import add_lines, drop_rules, encode_field, rule_line
from gateway.policy.engine import PolicySet
from gateway.policy.rule import EVERY
from gateway.policy.text import GRANTS
from gateway.policy_files import read_policy_folder, write_grants
from gateway.registry.grants import grant_of
from gateway.registry.holds import Hold, new_hold

_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Giving:
    """What is to be granted to which plugin, and why; `joining` if the plugin becomes active by it.

    `others` are granted with them, to other plugins: all of it, or nothing. `in_force` gives the records that belong to
    the moment when the grants come into force.
    """

    plugin_id: PluginId
    wanted: Sequence[RequestedPermission]
    reason: str
    joining: bool = False
    others: Sequence[tuple[PluginId, RequestedPermission]] = ()
    in_force: Callable[[tuple[Grant, ...]], Sequence[Record]] = lambda _grants: ()


async def give_grants(
    parts: Parts,
    giving: Giving,
    caller: Caller,
    *,
    records: Sequence[Record],
    noted: Callable[[], None],
    undone: Callable[[], None],
) -> tuple[Grant, ...]:
    """Grant what is wanted: checked and built aside, recorded with `records`, written, in force.

    `noted` is called when the record is durable, before the file is written; `undone` if the file then cannot be
    written, or the set not recorded: then the lines are taken out again, and the record is corrected by another.
    What names no scope grants nothing and is left out; what names files is granted where links lead by now.

    Raises:
        PolicyBrokenError: the folder has errors, or the new lines would make some; nothing changed.
        ConflictError: grants.csv was edited meanwhile; nothing is in force that was not before.
        LogUnavailableError: it could not be recorded; nothing changed.
    """
    prepared = await asyncio.to_thread(_prepare, parts, giving, by=caller.user_id)
    plugin_id, grants, policy = giving.plugin_id, prepared.grants, prepared.policy
    await parts.log.append(*records)
    parts.registry.grants.add(grants)
    try:
        noted()
        await _write(parts, prepared)
        further = giving.in_force(grants)
        await activate(parts, policy, by=caller.user_id, why=f"grants for {plugin_id}", further=further)
    except BaseException:
        if parts.policy.get() is not policy:
            taken: list[Json] = [grant.as_json() for grant in grants]
            facts: dict[str, Json] = {"grants": taken, "reason": "the approval could not be finished and was undone"}
            correction = event(parts, caller, "permission_revoked", plugin_id, facts)
            await settle(parts, partial(_take_back, parts, grants, undone, by=caller.user_id), correction)
        raise
    return grants


async def _write(parts: Parts, prepared: "_Prepared") -> None:
    """Write the file; who is cancelled meanwhile goes on only when it is written, or not."""
    writing = asyncio.ensure_future(
        asyncio.to_thread(write_grants, parts.policies, expected=prepared.before, new=prepared.after)
    )
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        # INVARIANT: what takes the lines out again finds them there: a thread cannot be cancelled, it writes later.
        while not writing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([writing])
        writing.exception()
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    grants: tuple[Grant, ...]
    before: bytes
    after: bytes
    policy: PolicySet


def _prepare(parts: Parts, giving: Giving, *, by: str) -> _Prepared:
    # WHY: all in one visit to a thread, for each way there and back is time that the approval waits.
    text = read_policy_folder(parts.policies, parts.policy_files, whole=False)
    before = text.files.get(GRANTS, b"")
    at = parts.now()
    grants = tuple(
        grant_of(
            each,
            number=parts.registry.grants.number(),
            plugin_id=plugin_id,
            by=by,
            at=at,
            why=each.purpose or giving.reason,
        )
        for plugin_id, wish in [*((giving.plugin_id, each) for each in giving.wanted), *giving.others]
        for each in resolved(parts, [wish])
        if each.scope is not None
    )
    after = add_lines(before, [grant_line(grant) for grant in grants])
    policy = build_granted(
        parts,
        text,
        after,
        joining=[giving.plugin_id] if giving.joining else [],
        new_grants=frozenset(grant.id for grant in grants),
    )
    return _Prepared(grants=grants, before=before, after=after, policy=policy)


def resolved(parts: Parts, wanted: Sequence[RequestedPermission]) -> list[RequestedPermission]:
    """Give what is wanted, file scopes as they lie on the host: whoever moves a link later moves no right."""
    return [
        each
        if each.scope in {None, EVERY} or each.permission.kind is not Kind.FILE
        else _resolved_file(parts, each, str(each.scope))
        for each in wanted
    ]


def _resolved_file(parts: Parts, wish: RequestedPermission, scope: str) -> RequestedPermission:
    below = "/*" if scope.endswith("/*") else ""
    path = str(parts.resources.files.resolve(scope.removesuffix("/*") or "/"))
    found = canonical_pattern(Kind.FILE, f"{path.rstrip('/')}{below}" or path)
    if found == scope:
        return wish
    return replace(wish, scope=found, purpose=f"{wish.purpose or 'files'} (asked for as {scope})")


async def _take_back(parts: Parts, grants: Sequence[Grant], undone: Callable[[], None], *, by: str) -> None:
    """Undo grants that never came into force; may be called again where it could not be finished."""
    reason = "the approval could not be finished"
    parts.registry.grants.end([grant.number for grant in grants], by=by, at=parts.now(), reason=reason)
    undone()
    if not await drop_from_file(parts, frozenset(grant.id for grant in grants)):
        raise UnavailableError("grants.csv cannot be written")


async def take_grants(
    parts: Parts, caller: Caller, plugin_id: PluginId, grants: Sequence[Grant], *, reason: str
) -> None:
    """Take grants away: held at once, then out of the file and out of the set in force.

    Waits for the edit that is under way only when the hold already denies; call it without `parts.editing`.

    Raises:
        LogUnavailableError: it could not be recorded; the holds are set all the same.
    """
    if not grants:
        return
    at = parts.now()
    holds = [
        new_hold(parts.new_id(), plugin_id, grant.number, reason=reason, by=caller.user_id, at=at) for grant in grants
    ]
    # INVARIANT: the hold comes before the record, for taking away waits for nothing.
    parts.registry.holds.hold(holds)
    parts.pool.kill(lambda job: job.plugin_id == plugin_id, "its grants were revoked")
    await end_held(parts, caller, plugin_id, (grants, holds), reason=reason)


async def end_held(
    parts: Parts, caller: Caller, plugin_id: PluginId, held: tuple[Sequence[Grant], Sequence[Hold]], *, reason: str
) -> None:
    """End grants on which there are holds: recorded, then out of the file and out of the set in force.

    Raises:
        LogUnavailableError: it could not be recorded; the holds are set all the same.
    """
    grants, holds = held
    parts.registry.grants.end([grant.number for grant in grants], by=caller.user_id, at=parts.now(), reason=reason)
    taken: list[Json] = [grant.as_json() for grant in grants]
    await tell(parts, event(parts, caller, "permission_revoked", plugin_id, {"grants": taken, "reason": reason}))
    async with parts.editing:
        if await drop_lines(parts, frozenset(grant.id for grant in grants), by=caller.user_id):
            parts.registry.holds.lift(holds)


async def drop_lines(parts: Parts, ids: frozenset[str], *, by: str) -> bool:
    """Take rules out of grants.csv and of the set in force; tells whether both are done."""
    dropped = await drop_from_file(parts, ids)
    policy = parts.policy.get()
    if policy is not None:
        generation = parts.registry.memory.next_generation()
        # WHY: made of the set in force, and without its cases, so that no broken file and no failing case
        # can keep a right alive.
        smaller = await asyncio.to_thread(_without, parts, policy, ids, generation)
        problems = parts.policy.problems
        await activate(parts, smaller, by=by, why="grants were revoked")
        # WHY: the files are as broken as they were; only what is in force has less.
        parts.policy.reject(problems)
        return dropped
    return False


def _without(parts: Parts, policy: PolicySet, ids: frozenset[str], generation: int) -> PolicySet:
    less = without_grants(policy, ids, generation=generation)
    facts = memberships(parts, less)
    return less if facts == less.memberships else less.with_memberships(facts, generation)


async def drop_from_file(parts: Parts, ids: frozenset[str]) -> bool:
    """Take rules out of grants.csv, however broken the files are; tells whether none of them is there any more."""
    path = parts.policies / GRANTS
    for _ in range(_TRIES):
        try:
            before = await asyncio.to_thread(path.read_bytes)
            after = await asyncio.to_thread(drop_rules, before, ids)
            if after != before:
                await asyncio.to_thread(write_grants, parts.policies, expected=before, new=after)
        except ConflictError:
            continue
        except (OSError, HearthgateError):
            return False
        return True
    return False


def grant_line(grant: Grant) -> str:
    """Spell a grant as a line of grants.csv."""
    fields = (
        grant.id,
        encode_field(plugin_subject(grant.plugin_id)),
        grant.permission.kind.value,
        grant.permission.level.word,
        encode_field(grant.scope),
        grant.condition,
        "allow",
    )
    return rule_line(fields, why=grant.why)
