"""Decisions: asked for, looked up, explained."""

import asyncio
from typing import Any

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from gateway.audit.query import LogReader
from gateway.domain.caller import Caller
from gateway.domain.exact_call import ExactCall
from gateway.domain.names import SUBJECT_PREFIXES, Subject, parse_plugin_id, parse_user_id, split_subject
from gateway.domain.permission import Level
from gateway.domain.request import AccessRequest
from gateway.domain.scope import canonical_scope
from gateway.errors import DeniedError, MalformedError, NotFoundError
from gateway.flows import ask as questions
from gateway.flows.ask import Question
from gateway.flows.authorize import authorize
from gateway.flows.decide import Context
from gateway.flows.parts import Parts
from gateway.flows.suggest import suggest
from gateway.http.bodies import DecisionBody, as_json, asked_permission, user_or_none
from gateway.policy.explain import explain

PATH = "/v1/decisions"


@post(PATH, status_code=200)
async def ask(
    data: JSONBody[DecisionBody], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Decide and record; a deny is an answer, not an error."""
    decision = await questions.ask(parts, caller, as_question(data, caller))
    return decision.as_json()


def as_question(data: DecisionBody, caller: Caller) -> Question:
    """Take a body as the question of a caller.

    Raises:
        MalformedError: it cannot be understood.
    """
    request = access_request(data.subject, data.permission, data.level, data.scope, asked_user(data.user, caller))
    context = Context(
        sent=as_json(data.context),
        args=as_json(data.args),
        trace_id=caller.trace_id,
        asked_by=None if request.user == caller.user_id else caller.user_id,
        exact=ExactCall(op="decision", args=as_json(data.args), by=caller.user_id),
    )
    return Question(request=request, context=context, dry_run=data.dry_run)


@get("/v1/decisions/{decision_id:str}")
async def show(
    decision_id: FromPath[str],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    reader: NamedDependency[LogReader],
) -> dict[str, Any]:
    """Give a decision as it was recorded."""
    return await _recorded(decision_id, parts, caller, reader)


@get("/v1/decisions/{decision_id:str}/explain")
async def explained(
    decision_id: FromPath[str],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    reader: NamedDependency[LogReader],
) -> dict[str, Any]:
    """Give a decision in sentences, from its record alone, and the smallest change that would allow it today."""
    decision = await _recorded(decision_id, parts, caller, reader)
    found: dict[str, Any] = {"decision": decision, "sentences": explain(decision)}
    if decision["effect"] != "allow" and parts.policy.get() is not None:
        found["suggestion"] = (await suggest(parts, decision_id, flips=False)).as_json()
    return found


@get("/v1/decisions/{decision_id:str}/suggest")
async def suggested(
    decision_id: FromPath[str],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    reader: NamedDependency[LogReader],
) -> dict[str, Any]:
    """Give the changes that would allow a denied call, each proven aside, with what else they would change."""
    decision = await _recorded(decision_id, parts, caller, reader)
    await authorize(parts, caller, Level.READ, "policy")
    await authorize(parts, caller, Level.READ, "audit")
    if decision["effect"] == "allow":
        return {"decision_id": decision_id, "possible": False, "sentences": ["It was allowed."], "suggestions": []}
    return {"decision_id": decision_id, **(await suggest(parts, decision_id)).as_json()}


def asked_user(user: str | None, caller: Caller) -> str:
    """Give the user a question is about: the one it names, else the one who asks."""
    return caller.acts_for if user is None else user


def access_request(subject: str, permission: str, level: str | None, scope: str, user: str | None) -> AccessRequest:
    """Take a question's texts as a request.

    Raises:
        MalformedError: one of them cannot be understood.
    """
    prefix, name = split_subject(subject)
    if prefix == "plugin":
        parse_plugin_id(name)
    elif prefix == "user":
        parse_user_id(name)
    elif prefix not in SUBJECT_PREFIXES or not name:
        raise MalformedError(f"subject `{subject[:80]}`", way_out="as plugin:notes or user:alice")
    kind, word = asked_permission(permission, level)
    canonical_scope("subject", subject)
    return AccessRequest(
        subject=Subject(subject),
        user=user_or_none(user),
        kind=kind,
        level=word,
        scope=canonical_scope(kind, scope),
    )


async def _recorded(decision_id: str, parts: Parts, caller: Caller, reader: LogReader) -> dict[str, Any]:
    try:
        row = await asyncio.to_thread(reader.decision, decision_id)
    except MalformedError:
        row = None
    decision: dict[str, Any] | None = None if row is None else row["decision"]
    subject = "unknown" if decision is None else decision["subject"]
    if decision is None or subject != caller.subject:
        try:
            await authorize(parts, caller, Level.READ, questions.ask_scope(subject))
        except DeniedError as error:
            # SECURITY: the same words for every id, so that they tell neither that it exists nor of whom it speaks.
            raise DeniedError(
                f"`{caller.subject}` may not see this decision", extra={"reason": error.extra.get("reason")}
            ) from None
    if decision is None:
        raise NotFoundError(
            f"there is no decision `{decision_id[:80]}`", way_out="`hearthgate audit search` finds them"
        )
    return decision


ROUTES = [ask, show, explained, suggested]
