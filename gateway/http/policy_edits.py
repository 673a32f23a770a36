"""Edits of the policy over HTTP: what they would change, what they changed, and the way back."""

import asyncio
from functools import partial
from typing import Any

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from gateway.audit.query import LogReader
from gateway.domain.caller import Caller
from gateway.domain.permission import Level
from gateway.errors import ConflictError
from gateway.flows.authorize import authorize
from gateway.flows.build_policy import build_aside
from gateway.flows.impact import impact
from gateway.flows.parts import Parts
from gateway.flows.policy_history import history, look_back
from gateway.flows.reload_policy import announce, reload_policy
from gateway.http.bodies import PolicyFilesBody, ReloadBody
from gateway.http.policy import MAX_POLICY_BYTES, posted_text
from gateway.policy.engine import PolicySet


@post("/v1/policy/impact", status_code=200, request_max_body_size=MAX_POLICY_BYTES)
async def replayed(
    data: JSONBody[PolicyFilesBody], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Judge every recorded decision by posted policy files; nothing comes into force."""
    await authorize(parts, caller, Level.READ, "policy")
    await authorize(parts, caller, Level.READ, "audit")
    now = in_force(parts)
    edited = await asyncio.to_thread(build_aside, parts, posted_text(data))
    found = await asyncio.to_thread(impact, parts.home / "data", now, edited)
    return found.as_json()


@get("/v1/policy/log")
async def log(
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    reader: NamedDependency[LogReader],
    limit: FromQuery[int] = 20,
) -> dict[str, Any]:
    """Give the newest generations, with who, when and the difference."""
    await authorize(parts, caller, Level.READ, "policy")
    return {"generations": await asyncio.to_thread(partial(history, parts, reader, limit=limit))}


@get("/v1/policy/generations/{generation:int}")
async def earlier(
    generation: FromPath[int],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    reader: NamedDependency[LogReader],
) -> dict[str, Any]:
    """Give what people wrote for an earlier generation, and what it would mean today; nothing is written."""
    await authorize(parts, caller, Level.READ, "policy")
    return dict(await look_back(parts, reader, generation))


@post("/v1/policy/reload", status_code=200)
async def reloaded(
    data: JSONBody[ReloadBody], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Judge the policy files now, in the caller's name."""
    await authorize(parts, caller, Level.ADMIN, "policy", key_scope="admin")
    why = data.reason or "asked for"
    if data.announce is not None:
        announce(parts, data.announce, by=caller.user_id, why=why)
    found = await reload_policy(parts, by=caller.user_id, why=why)
    return {
        "activated": found.activated,
        "generation": found.generation,
        "problems": [problem.as_json() for problem in found.problems],
    }


def in_force(parts: Parts) -> PolicySet:
    """Give the policy in force.

    Raises:
        ConflictError: there is none.
    """
    policy = parts.policy.get()
    if policy is None:
        raise ConflictError("no policy is in force", way_out="`hearthgate policy check` names the problems")
    return policy


ROUTES = [replayed, log, earlier, reloaded]
