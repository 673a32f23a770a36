"""To evaluate: a question in a client's own words (AuthZEN 1.0), answered by the same rules, and recorded.

Always advisory: nothing is used up, started or made by it. What is stored about somebody wins over what was sent.
"""

import asyncio
from collections.abc import Mapping, Sequence
from enum import StrEnum

from msgspec import Struct

from gateway.domain.caller import Caller
from gateway.domain.decision import Decision
from gateway.domain.exact_call import ExactCall
from gateway.domain.names import Subject, UserId, parse_user_id
from gateway.domain.permission import Kind, Level
from gateway.domain.record import Record, Resolution
from gateway.domain.request import NO_ATTRIBUTES, AccessRequest, Json
from gateway.domain.scope import canonical_scope
from gateway.errors import HearthgateError, LogUnavailableError, MalformedError
from gateway.flows.ask import Question, ask, ask_scope
from gateway.flows.authorize import authorize
from gateway.flows.decide import Context
from gateway.flows.parts import Parts
from gateway.policy.entities import ROOTS

# SECURITY: what somebody belongs to is the policy's own business, and its gateway nobody's resource.
UNANSWERED_SUBJECTS = frozenset({"role", "group", "tier", "key"})
_HOW_TO_ANSWER = frozenset({"explain", "approval"})
UNANSWERED_KINDS = frozenset({Kind.GATEWAY.value})


class Entity(Struct, frozen=True):
    """Somebody or something, by type and id, with what a client says of it."""

    type: str
    id: str
    properties: Mapping[str, Json] = NO_ATTRIBUTES

    @property
    def subject(self) -> Subject:
        """Its name as a subject of rules."""
        return Subject(f"{self.type}:{self.id}")


class Evaluation(Struct, frozen=True, kw_only=True):
    """The question whether `subject` may do `action` on `resource`."""

    subject: Entity
    action: str
    resource: Entity
    action_properties: Mapping[str, Json] = NO_ATTRIBUTES
    context: Mapping[str, Json] = NO_ATTRIBUTES

    @property
    def answerable(self) -> bool:
        """Whether it is of a kind that is answered at all; what is not is false."""
        return self.subject.type not in UNANSWERED_SUBJECTS and self.resource.type not in UNANSWERED_KINDS


class Semantic(StrEnum):
    """When several questions are enough."""

    ALL = "execute_all"
    FIRST_DENY = "deny_on_first_deny"
    FIRST_PERMIT = "permit_on_first_permit"


Answer = Decision | None  # None: never answered about, so false
_LAST_OF: Mapping[Semantic, bool] = {Semantic.FIRST_DENY: False, Semantic.FIRST_PERMIT: True}


async def evaluate(parts: Parts, caller: Caller, evaluation: Evaluation) -> Answer:
    """Answer one question.

    Raises:
        MalformedError: one of its ids has no canonical spelling.
        DeniedError: the caller may not ask about that subject; recorded.
        LogUnavailableError: nothing was recorded.
    """
    if evaluation.answerable:
        return await ask(parts, caller, as_question(evaluation, caller))
    await authorize(parts, caller, Level.READ, ask_scope(evaluation.subject.subject), key_scope="evaluate")
    await parts.log.append(_unanswered(parts, caller, evaluation))
    return None


async def evaluate_each(
    parts: Parts, caller: Caller, evaluations: Sequence[Evaluation | HearthgateError], semantic: Semantic
) -> list[Answer | HearthgateError]:
    """Answer several questions in their order; one that cannot be answered is an error in its place.

    Raises:
        LogUnavailableError: not all could be recorded.
    """

    async def one(evaluation: Evaluation | HearthgateError) -> Answer | HearthgateError:
        if isinstance(evaluation, HearthgateError):
            return evaluation
        try:
            return await evaluate(parts, caller, evaluation)
        except LogUnavailableError:
            raise
        except HearthgateError as error:
            return error

    if semantic is Semantic.ALL:
        return list(await asyncio.gather(*map(one, evaluations)))
    answers: list[Answer | HearthgateError] = []
    for evaluation in evaluations:
        answers.append(await one(evaluation))
        if permits(answers[-1]) is _LAST_OF[semantic]:
            break
    return answers


def permits(answer: Answer | HearthgateError) -> bool:
    """Tell whether an answer is yes."""
    return isinstance(answer, Decision) and answer.allowed


def as_question(evaluation: Evaluation, caller: Caller) -> Question:
    """Take a question in a client's words as one in ours.

    Raises:
        MalformedError: one of its ids has no canonical spelling.
    """
    subject, resource = evaluation.subject, evaluation.resource
    request = AccessRequest(
        subject=Subject(canonical_scope("subject", subject.subject)),
        user=_user(subject, caller),
        kind=resource.type,
        level=canonical_scope("action", evaluation.action),
        scope=canonical_scope(resource.type, resource.id),
    )
    context = Context(
        sent=sent_with(evaluation),
        trace_id=caller.trace_id,
        asked_by=None if request.user == caller.user_id else caller.user_id,
        # WHY: a person may have approved this very question, asked by this caller; to look uses nothing up.
        exact=ExactCall(op="evaluation", args=words_of(evaluation), by=caller.user_id),
    )
    return Question(request=request, context=context, dry_run=True)


def words_of(evaluation: Evaluation) -> dict[str, Json]:
    """Give all that a client says in a question, but for how it wants it answered."""
    return {
        "subject": dict(evaluation.subject.properties),
        "action": dict(evaluation.action_properties),
        "resource": dict(evaluation.resource.properties),
        # SECURITY: an approval is known to the gateway; what a client says of one is no part of a question.
        "context": {name: value for name, value in evaluation.context.items() if name not in _HOW_TO_ANSWER},
    }


def sent_with(evaluation: Evaluation) -> dict[str, Json]:
    """Give what a client says besides, as the attributes of conditions."""
    # INVARIANT: no member of the context stands in for the properties of an entity.
    sent = {name: value for name, value in evaluation.context.items() if name not in ROOTS}
    sent["subject"] = dict(evaluation.subject.properties)
    sent["action"] = dict(evaluation.action_properties)
    sent["resource"] = dict(evaluation.resource.properties)
    return sent


def _user(subject: Entity, caller: Caller) -> UserId | None:
    named = subject.id if subject.type == "user" else subject.properties.get("user")
    if subject.type not in {"user", "plugin"}:
        return None
    if not isinstance(named, str):
        return caller.acts_for
    try:
        return parse_user_id(named)
    except MalformedError:
        return None


def _unanswered(parts: Parts, caller: Caller, evaluation: Evaluation) -> Record:
    return Record(
        event_id=parts.event_id(),
        at=parts.now(),
        event_type="access_denied",
        resolution=Resolution.DENIED,
        user_id=caller.user_id,
        details={"why": "a type that is not answered about", "kind": evaluation.resource.type},
        personal={"subject": evaluation.subject.subject, "scope": evaluation.resource.id},
        trace_id=caller.trace_id,
    )
