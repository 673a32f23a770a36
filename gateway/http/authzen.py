"""AuthZEN 1.0 (OpenID Authorization API): evaluations and searches that any client of that standard can ask."""

from typing import Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from pydantic import ValidationError

from gateway.domain.caller import Caller
from gateway.domain.decision import Decision
from gateway.errors import HearthgateError, MalformedError
from gateway.flows import evaluate as evaluations
from gateway.flows import search_access
from gateway.flows.evaluate import Answer, Entity, Evaluation, Semantic, evaluate_each
from gateway.flows.parts import Parts
from gateway.flows.search_access import Sought
from gateway.http.access_requests import CAPABILITY, requestable
from gateway.http.access_requests import PATH as REQUESTS
from gateway.http.authzen_bodies import (
    ActionSearchBody,
    EvaluationBody,
    EvaluationsBody,
    ResourceSearchBody,
    SubjectSearchBody,
    as_entity,
    as_evaluation,
    as_members,
)
from gateway.http.public_url import PublicUrl
from gateway.http.search_pages import paged

BASE = "/access/v1"
EVALUATION = f"{BASE}/evaluation"
METADATA = "/.well-known/authzen-configuration"
DECISION_ID = "X-Decision-ID"


@post(EVALUATION, status_code=200)
async def evaluation(
    data: JSONBody[EvaluationBody], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> Response[dict[str, Any]]:
    """Answer one question; a deny is an answer. The decision's id is in the header X-Decision-ID."""
    return await _evaluated(parts, caller, as_evaluation(data))


@post(f"{BASE}/evaluations", status_code=200)
async def evaluate_several(
    data: JSONBody[EvaluationsBody], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> Response[dict[str, Any]]:
    """Answer several questions in their order; with none, the one that stands beside them."""
    given = data.model_dump(include={"subject", "action", "resource", "context"}, exclude_none=True)
    if not data.evaluations:
        asked = _parsed(given)
        if isinstance(asked, HearthgateError):
            raise asked
        return await _evaluated(parts, caller, asked)
    each = [_parsed({**given, **one} if isinstance(one, dict) else one) for one in data.evaluations]
    answers = await evaluate_each(parts, caller, each, Semantic(data.options.evaluations_semantic))
    # WHY: cut short, there are fewer answers than questions.
    told = [_told(parts, caller, answer, asked) for answer, asked in zip(answers, each, strict=False)]
    return Response({"evaluations": told})


@post(f"{BASE}/search/subject", status_code=200)
async def search_subject(
    data: JSONBody[SubjectSearchBody], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Name who may do the action on the resource, of those that the gateway knows."""
    like = Evaluation(
        subject=Entity(data.subject.type, "", as_members(data.subject.properties)),
        action=data.action.name,
        resource=as_entity(data.resource),
        action_properties=as_members(data.action.properties),
        context=as_members(data.context),
    )
    found = await search_access.search(parts, caller, Sought.SUBJECT, like)
    return paged([{"type": data.subject.type, "id": each} for each in found], data)


@post(f"{BASE}/search/resource", status_code=200)
async def search_resource(
    data: JSONBody[ResourceSearchBody], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Name on which resources the subject may do the action, of those that the gateway knows."""
    like = Evaluation(
        subject=as_entity(data.subject),
        action=data.action.name,
        resource=Entity(data.resource.type, "", as_members(data.resource.properties)),
        action_properties=as_members(data.action.properties),
        context=as_members(data.context),
    )
    found = await search_access.search(parts, caller, Sought.RESOURCE, like)
    return paged([{"type": data.resource.type, "id": each} for each in found], data)


@post(f"{BASE}/search/action", status_code=200)
async def search_action(
    data: JSONBody[ActionSearchBody], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Name what the subject may do on the resource, of the actions that rules speak of."""
    like = Evaluation(
        subject=as_entity(data.subject), action="", resource=as_entity(data.resource), context=as_members(data.context)
    )
    found = await search_access.search(parts, caller, Sought.ACTION, like)
    return paged([{"name": each} for each in found], data)


@get(METADATA)
async def metadata(request: Request[Any, Any, Any], public_url: NamedDependency[PublicUrl]) -> dict[str, Any]:
    """Tell where what is answered."""
    base = public_url.of(request)
    return {
        "policy_decision_point": base,
        "access_evaluation_endpoint": f"{base}{BASE}/evaluation",
        "access_evaluations_endpoint": f"{base}{BASE}/evaluations",
        "search_subject_endpoint": f"{base}{BASE}/search/subject",
        "search_resource_endpoint": f"{base}{BASE}/search/resource",
        "search_action_endpoint": f"{base}{BASE}/search/action",
        "access_request_endpoint": f"{base}{REQUESTS}",
        "capabilities": [CAPABILITY],
    }


def explanation(decision: Decision) -> dict[str, Any]:
    """Say why, for a client that asks for it with `context.explain`."""
    rule = decision.verdict.rule
    return {
        "decision_id": decision.decision_id,
        "reason": decision.verdict.reason.value,
        "rule": None if rule is None else {"id": rule.id, "why": rule.why},
        "near_misses": [miss.as_json() for miss in decision.verdict.near_misses],
        "policy_version": decision.policy_version,
    }


async def _evaluated(parts: Parts, caller: Caller, asked: Evaluation) -> Response[dict[str, Any]]:
    answer = await evaluations.evaluate(parts, caller, asked)
    headers = {DECISION_ID: answer.decision_id} if isinstance(answer, Decision) else {}
    return Response(_told(parts, caller, answer, asked), headers=headers)


def _told(
    parts: Parts, caller: Caller, answer: Answer | HearthgateError, asked: Evaluation | HearthgateError
) -> dict[str, Any]:
    told: dict[str, Any] = {"decision": evaluations.permits(answer)}
    if isinstance(answer, HearthgateError):
        told["context"] = {"error": {"status": answer.status, "message": answer.message}}
    elif answer is not None and isinstance(asked, Evaluation) and asked.context.get("explain") is True:
        told["context"] = {**explanation(answer), **requestable(parts, caller, asked, answer)}
    return told


def _parsed(given: object) -> Evaluation | HearthgateError:
    try:
        return as_evaluation(EvaluationBody.model_validate(given))
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False, include_context=False)
        told = [f"{'.'.join(map(str, each['loc'])) or 'it'}: {each['msg']}" for each in wrong]
        return MalformedError("; ".join(told)[:1000])


ROUTES = [
    evaluation,
    evaluate_several,
    search_subject,
    search_resource,
    search_action,
    metadata,
]
