"""The policy over HTTP: what is in force, checked, explained."""

import asyncio
from typing import Any

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from gateway.domain.caller import Caller
from gateway.domain.permission import Level
from gateway.flows.ask import authorize_question
from gateway.flows.authorize import authorize
from gateway.flows.build_policy import check_policy
from gateway.flows.decide import Context, decide
from gateway.flows.parts import Parts
from gateway.flows.quiet import breathe
from gateway.http.bodies import ExplainBody, PolicyFilesBody
from gateway.http.decisions import access_request, asked_user
from gateway.policy.explain import explain
from gateway.policy.text import PolicyText

MAX_POLICY_BYTES = 32 << 20


@get("/v1/policy")
async def status(parts: NamedDependency[Parts], caller: NamedDependency[Caller]) -> dict[str, Any]:
    """Tell what is in force, and what is wrong with the last edit."""
    await authorize(parts, caller, Level.READ, "policy")
    found: dict[str, Any] = dict(parts.policy.status())
    vain = await asyncio.to_thread(parts.policy.vain, breathe)
    found["warnings"] += [problem.as_json() for problem in vain]
    return found


@post("/v1/policy/check", status_code=200, request_max_body_size=MAX_POLICY_BYTES)
async def check(
    data: JSONBody[PolicyFilesBody], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Read and test posted policy files; nothing comes into force."""
    await authorize(parts, caller, Level.READ, "policy")
    text = posted_text(data)
    problems = await asyncio.to_thread(check_policy, parts, text)
    return {
        "ok": all(problem.severity != "error" for problem in problems),
        "version": text.version,
        "problems": [problem.as_json() for problem in problems],
    }


@post("/v1/policy/explain", status_code=200)
async def explained(
    data: JSONBody[ExplainBody], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Say in sentences what would be decided; uses up nothing."""
    request = access_request(data.subject, data.permission, None, data.scope, asked_user(data.user, caller))
    await authorize_question(parts, caller, request, dry_run=True)
    decision = decide(parts, request, Context(at=data.at), dry_run=True).as_json()
    return {"decision": decision, "sentences": explain(decision)}


def posted_text(data: PolicyFilesBody) -> PolicyText:
    """Take posted files as the text of a policy."""
    return PolicyText({path: content.encode("utf-8", "surrogatepass") for path, content in data.files.items()})


ROUTES = [status, check, explained]
