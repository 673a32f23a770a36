"""To ask what somebody may: may the asker know, and what is the answer.

Both are decided for each question, and recorded together. A right that stands in the log already, and is given
again by the same rules without conditions, is not written again for an hour: the answer names the decision that did.
"""

import re
from urllib.parse import quote

from msgspec import Struct
from msgspec.structs import replace

from gateway.domain.caller import Caller
from gateway.domain.decision import Decision
from gateway.domain.permission import Level
from gateway.domain.request import AccessRequest
from gateway.flows.authorize import authorize, check_credential, denied, is_known, judge_right, keep_right, known_right
from gateway.flows.decide import Context, decide, name
from gateway.flows.parts import Parts
from gateway.flows.record import record_together

_SAFE = ":@+-._~"
_PLAIN = re.compile(f"[A-Za-z0-9{re.escape(_SAFE)}]*")  # as most are: nothing to quote


class Question(Struct, frozen=True, kw_only=True):
    """A request that somebody asks about, with what accompanies it; a dry run uses nothing up."""

    request: AccessRequest
    context: Context
    dry_run: bool


async def ask(parts: Parts, caller: Caller, question: Question) -> Decision:
    """Answer a question, durably recorded; people ask about themselves always, about others as the policy says.

    Raises:
        DeniedError: the key is not meant for questions, or the policy says no; recorded.
        LogUnavailableError: nothing was recorded and nothing used up.
    """
    request, dry_run = question.request, question.dry_run
    if _asks_of_self(caller, request) and is_known(parts, caller):
        decision = decide(parts, request, question.context, dry_run=dry_run)
        return (await record_together(parts, [(decision, question.context)]))[-1]
    level, scope = _right(request, dry_run=dry_run)
    await check_credential(parts, caller, level, scope, key_scope="evaluate")
    judged = judge_right(parts, caller, level, scope)
    if known := known_right(parts, judged):
        context = replace(question.context, right=known)
        decision = decide(parts, request, context, dry_run=dry_run)
        return (await record_together(parts, [(decision, context)]))[-1]
    own, right = Context(trace_id=caller.trace_id), name(parts, judged)
    if not right.allowed:
        await record_together(parts, [(right, own)])
        raise denied(right)
    context = replace(question.context, right=right.decision_id)
    decision = decide(parts, request, context, dry_run=dry_run)
    # INVARIANT: the right to ask is recorded before the answer, and neither without the other.
    recorded = await record_together(parts, [(right, own), (decision, context)])
    keep_right(parts, judged, right)
    return recorded[-1]


async def authorize_question(parts: Parts, caller: Caller, request: AccessRequest, *, dry_run: bool) -> None:
    """Let a caller ask about a subject: about themself always, about others as the policy says.

    Raises:
        DeniedError: the key is not meant for questions, or the policy says no.
        LogUnavailableError: the answer could not be recorded.
    """
    if not _asks_of_self(caller, request):
        level, scope = _right(request, dry_run=dry_run)
        await authorize(parts, caller, level, scope, key_scope="evaluate")


def _asks_of_self(caller: Caller, request: AccessRequest) -> bool:
    own = request.subject == caller.subject and request.user in {caller.user_id, caller.on_behalf}
    return own and caller.holds("evaluate")


def ask_scope(subject: str | None) -> str:
    """Name, as a scope of the gateway, whom a question is about; None is everybody."""
    # WHY: ids of other types are any text, and scopes are paths; those of ours stay as they are.
    if subject is None:
        return "decisions"
    return f"decisions/{subject if _PLAIN.fullmatch(subject) else quote(subject, safe=_SAFE)}"


def _right(request: AccessRequest, *, dry_run: bool) -> tuple[Level, str]:
    return Level.READ if dry_run else Level.EXECUTE, ask_scope(request.subject)
