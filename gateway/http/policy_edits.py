"""Edits of the policy over HTTP: what they would change."""

import asyncio
from typing import Any

from litestar import post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from gateway.domain.caller import Caller
from gateway.domain.permission import Level
from gateway.errors import ConflictError
from gateway.flows.authorize import authorize
from gateway.flows.impact import impact
from gateway.flows.parts import Parts
from gateway.flows.reload_policy import build_aside
from gateway.http.bodies import PolicyFilesBody
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


def in_force(parts: Parts) -> PolicySet:
    """Give the policy in force.

    Raises:
        ConflictError: there is none.
    """
    policy = parts.policy.get()
    if policy is None:
        raise ConflictError("no policy is in force", way_out="`hearthgate policy check` names the problems")
    return policy


ROUTES = [replayed]
