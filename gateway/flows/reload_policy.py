"""To put a policy in force: read, parse, build aside, test, record, swap. Whatever fails leaves all as it was."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from gateway.domain.record import Record, Resolution
from gateway.domain.request import Json
from gateway.errors import HearthgateError, Place, Problem
from gateway.flows.build_policy import build, parse
from gateway.flows.memberships import memberships
from gateway.flows.parts import Parts
from gateway.flows.quiet import let_go, settle
from gateway.policy.encode import drop_rules
from gateway.policy.engine import PolicySet, build_policy_set
from gateway.policy.text import GRANTS, PolicyText
from gateway.policy_author import Author, author_of
from gateway.policy_files import read_policy_folder
from gateway.registry.memory import LastPolicy

_TOLD_PROBLEMS = 50
_MOST_ANNOUNCED = 16
_log = logging.getLogger("hearthgate.policy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """What became of an edit."""

    activated: bool
    generation: int
    problems: tuple[Problem, ...]


async def open_policy(parts: Parts, *, by: str) -> None:
    """Put the policy files in force at start; with errors the last good set stays in force.

    Where none is kept nothing is in force, and everything is denied. A policy that is what it was when the
    gateway stopped keeps its generation and needs no record.

    Raises:
        LogUnavailableError: the change could not be recorded.
    """
    last = parts.registry.memory.last_policy()
    try:
        text = await asyncio.to_thread(read_policy_folder, parts.policies, parts.policy_files)
        same = last is not None and last.version == text.version
        policy = await asyncio.to_thread(build, parts, text, generation=last.generation if same and last else None)
    except HearthgateError as error:
        await _restore(parts, last, by=by)
        await _reject(parts, error, by=by, why="the gateway started")
        return
    if same:
        parts.policy.swap(policy)
        settle(len(policy.rules))
        _tell_memberships(parts, policy)
    else:
        await activate(parts, policy, by=by, why="the gateway started")


async def _restore(parts: Parts, last: LastPolicy | None, *, by: str) -> None:
    """Put the last good set in force again, but for what was revoked since; where it is not kept, nothing is."""
    text = None if last is None else parts.registry.sets.read(last.version)
    if text is None or last is None:
        return
    _, ended = parts.registry.grants.ids()
    less = text.with_file(GRANTS, drop_rules(text.files.get(GRANTS, b""), ended))
    parsed = await asyncio.to_thread(parse, parts, less)
    if not parsed.ok:
        return
    facts = memberships(parts, parsed)
    same = less.version == text.version
    generation = last.generation if same else parts.registry.memory.next_generation()
    policy = build_policy_set(parsed, memberships=facts, generation=generation)
    if same:
        parts.policy.swap(policy)
        _tell_memberships(parts, policy)
    else:
        await activate(parts, policy, by=by, why="the gateway started, and grants were revoked")


async def reload_policy(parts: Parts, *, by: str | None, why: str) -> Reload:
    """Put what the policy files say now in force, or keep what is in force and say why.

    Without `by` whoever edited the files is found out.

    Raises:
        LogUnavailableError: the change could not be recorded, so it was not made.
    """
    async with parts.editing:
        author = Author(name=by or parts.owner, known_by="verb" if by else "file owner")
        try:
            text = await asyncio.to_thread(read_policy_folder, parts.policies, parts.policy_files)
            current = parts.policy.get()
            if current is not None and text.version == current.version and not parts.policy.problems:
                return Reload(activated=False, generation=current.generation, problems=())
            if text.version in parts.announced:
                name, why = parts.announced.pop(text.version)
                author = Author(name=name, known_by="verb")
            elif by is None:
                changed = _changed(None if current is None else current.parsed.text, text)
                found = await asyncio.to_thread(author_of, parts.policies, text, changed)
                author = found or author
            policy = await asyncio.to_thread(build, parts, text)
        except HearthgateError as error:
            return await _reject(parts, error, by=author.name, why=why)
        await activate(parts, policy, by=author.name, why=why, known_by=author.known_by)
        if current is not None:
            loop = asyncio.get_running_loop()
            # WHY: later, when nobody here holds the set that went any more.
            loop.call_soon(partial(loop.run_in_executor, None, let_go, current.pieces()))
        return Reload(activated=True, generation=policy.generation, problems=policy.parsed.problems)


def announce(parts: Parts, version: str, *, by: str, why: str) -> None:
    """Remember who is about to make the files say `version`: whoever notices it first, it is their edit."""
    while len(parts.announced) >= _MOST_ANNOUNCED:
        parts.announced.pop(next(iter(parts.announced)))
    parts.announced[version] = (by, why)


def _changed(before: PolicyText | None, after: PolicyText) -> tuple[str, ...]:
    known = {} if before is None else before.files
    return tuple(path for path in {*known, *after.files} if known.get(path) != after.files.get(path))


async def activate(
    parts: Parts, policy: PolicySet, *, by: str, why: str, known_by: str = "verb", further: Sequence[Record] = ()
) -> None:
    """Record that a set comes into force, with records that belong to it, and swap it in.

    Raises:
        LogUnavailableError: it could not be recorded, so the old set stays.
    """
    before = parts.policy.get()
    details: dict[str, Json] = {
        "policy_version": policy.version,
        "generation": policy.generation,
        "from_version": None if before is None else before.version,
        "from_generation": 0 if before is None else before.generation,
        "rules": len(policy.rules),
        "why": why,
        "known_by": known_by,
        "warnings": len(policy.parsed.problems),
    }
    record = Record(
        event_id=parts.event_id(),
        at=parts.now(),
        event_type="policy_activated",
        resolution=Resolution.COMPLETED,
        user_id=by,
        details=details,
    )
    await asyncio.gather(parts.log.append(record, *further, sign=True), asyncio.to_thread(_keep, parts, policy))
    if policy.fallback_reason is not None:
        _log.warning("stock casbin answers every request, slowly: %s", policy.fallback_reason)
    if not policy.parsed.model.is_shipped:
        _log.warning("model.conf is the operator's own: rules mean what it says")
    parts.policy.swap(policy)
    parts.meter.reloaded("policy", "activated")
    _log.info("generation %d is in force: %d rules, %s (%s)", policy.generation, len(policy.rules), policy.version, why)
    settle(len(policy.rules))
    parts.registry.memory.note_policy(policy.version, policy.generation)
    with suppress(OSError):
        parts.registry.sets.note_in_force(policy.version)
    # INVARIANT: nothing is awaited once the set is in force, for what callers do next belongs to the same moment.
    _tell_memberships(parts, policy)


def _tell_memberships(parts: Parts, policy: PolicySet) -> None:
    try:
        parts.memberships.say(policy.memberships)
    except OSError as error:
        # WHY: as below; nothing here reads the file.
        _log.error("data/memberships.csv could not be written: %s", error)


def _keep(parts: Parts, policy: PolicySet) -> None:
    try:
        parts.registry.sets.keep(policy.parsed.text)
    except OSError as error:
        # WHY: what takes a right away must not fail because there is no room for its history.
        _log.error("the policy set %s could not be kept: %s", policy.version, error)


async def refresh_memberships(parts: Parts, *, by: str, why: str) -> None:
    """Bring the groups and tiers of the set in force up to what the registry says now.

    Raises:
        LogUnavailableError: it could not be recorded.
    """
    policy = parts.policy.get()
    if policy is None:
        return
    facts = memberships(parts, policy)
    if facts != policy.memberships:
        problems = parts.policy.problems
        await activate(
            parts, policy.with_memberships(facts, generation=parts.registry.memory.next_generation()), by=by, why=why
        )
        # WHY: the files are as broken as they were; only what the registry says has changed.
        parts.policy.reject(problems)


async def _reject(parts: Parts, error: HearthgateError, *, by: str, why: str) -> Reload:
    problems = error.problems or (Problem(place=Place(file="policies"), message=str(error)),)
    current = parts.policy.get()
    generation = 0 if current is None else current.generation
    if problems != parts.policy.problems:
        told: list[Json] = [str(problem) for problem in problems[:_TOLD_PROBLEMS]]
        await parts.log.append(
            Record(
                event_id=parts.event_id(),
                at=parts.now(),
                event_type="policy_rejected",
                resolution=Resolution.REFUSED,
                user_id=by,
                details={"problems": told, "count": len(problems), "kept_generation": generation, "why": why},
            )
        )
        parts.policy.reject(problems)
        parts.meter.reloaded("policy", "rejected")
        _tell_rejected(problems, generation)
    return Reload(activated=False, generation=generation, problems=problems)


def _tell_rejected(problems: Sequence[Problem], kept: int) -> None:
    stays = f"generation {kept} stays in force" if kept else "nothing is in force, so everything is denied"
    _log.warning("the policy files are not taken, problems: %d; %s until they are mended", len(problems), stays)
    for problem in problems[:_TOLD_PROBLEMS]:
        _log.warning("%s", problem)
