"""To spend what decisions use up (rates, consents for one use, approvals of exact calls), and ask for what they lack.

Taken before the record is awaited, so that neither a second call nor a restart can have it again; given back if the
record fails.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from gateway.domain.call_approval import CallApproval
from gateway.domain.decision import Decision, Reason, timestamp
from gateway.domain.record import Record, Resolution
from gateway.domain.request import Json
from gateway.errors import DeniedError
from gateway.flows.binding import bind, plugin_of
from gateway.flows.decide import Context, decide
from gateway.flows.parts import Parts
from gateway.registry.call_approvals import PENDING_FOR
from gateway.registry.consents import ConsentRecord

Decided = tuple[Decision, Context]


def still_good(parts: Parts, decided: Sequence[Decided]) -> list[Decided]:
    """Judge again what rests on a consent, an approval or a rate that was withdrawn or used up since it was judged."""
    return [
        each if _rests_on_what_is_there(parts, each[0]) else (decide(parts, each[0].request, each[1]), each[1])
        for each in decided
    ]


def _rests_on_what_is_there(parts: Parts, decision: Decision) -> bool:
    if not decision.allowed or decision.dry_run:
        return True
    charge, request = decision.verdict.charge, decision.request
    if charge is not None and not parts.registry.rates.has_room(
        charge, subject=request.subject, user=request.user, at=decision.at
    ):
        return False
    consent, approval = decision.consent_id, decision.approval_id
    if consent is not None and parts.registry.consents.get(consent) is None:
        return False
    return approval is None or parts.registry.approvals.is_usable(approval, parts.now())


@dataclass(slots=True)
class Spent:
    """What some decisions used up, and what they ask a person for; with the records that tell of it."""

    charged: list[Decision] = field(default_factory=list)
    consents: list[ConsentRecord] = field(default_factory=list)
    approvals: list[CallApproval] = field(default_factory=list)
    asked: list[CallApproval] = field(default_factory=list)
    decided: list[Decided] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    on_behalf: set[str] = field(default_factory=set)  # decisions that rest on a consent that another gave for the user

    def give_back(self, parts: Parts) -> None:
        """Undo all of it, for it could not be recorded."""
        for each in self.charged:
            _give_back(parts, each)
        for consent in self.consents:
            parts.registry.consents.put_back(consent)
        for approval in self.approvals:
            parts.registry.approvals.put_back(approval)
        for approval in self.asked:
            parts.registry.approvals.drop(approval)

    def settle(self, parts: Parts) -> None:
        """Take note that it is recorded."""
        for consent in self.consents:
            parts.registry.consents.settle(consent)
        for approval in self.approvals:
            parts.registry.approvals.settle(approval)


def spend(parts: Parts, decided: Sequence[Decided]) -> Spent:
    """Use up what the allows use up, and put before a person what the denials lack; waits for nothing.

    Raises:
        DeniedError: two of them rest on one approval; nothing is used up.
    """
    spent = Spent()
    # WHY: what is decided together is one deed; where one answer refuses it nothing is done, and no approval is used.
    whole = all(decision.allowed for decision, _ in decided)
    for decision, context in decided:
        if decision.dry_run:
            spent.decided.append((decision, context))
        elif not decision.allowed:
            spent.decided.append((_ask(parts, spent, decision, context), context))
        else:
            spent.decided.append((_use(parts, spent, decision, use_approval=whole), context))
    return spent


def _use(parts: Parts, spent: Spent, decision: Decision, *, use_approval: bool) -> Decision:
    charge, request = decision.verdict.charge, decision.request
    if charge is not None:
        parts.registry.rates.charge(charge, subject=request.subject, user=request.user, at=decision.at)
    spent.charged.append(decision)
    consent = parts.registry.consents.get(decision.consent_id or "")
    if consent is not None:
        parts.registry.consents.note_use(consent.id, decision.at)
        if consent.on_behalf:
            spent.on_behalf.add(decision.decision_id)
    if consent is not None and consent.once:
        parts.registry.consents.use_up(consent, at=decision.at)
        spent.consents.append(consent)
    if decision.approval_id is not None and use_approval:
        approval = parts.registry.approvals.use(decision.approval_id, decision_id=decision.decision_id, at=parts.now())
        if approval is None:
            # SECURITY: two answers that rest on one approval are two uses of it.
            spent.give_back(parts)
            raise DeniedError("the approval of this call is used up", extra={"reason": decision.verdict.reason.value})
        spent.approvals.append(approval)
        spent.records.append(_used_record(parts, approval, decision))
    return decision


def _ask(parts: Parts, spent: Spent, decision: Decision, context: Context) -> Decision:
    """Put an exact call before a person, once; gives the denial that names what stands for it."""
    policy = parts.policy.get()
    rule = decision.verdict.rule
    if (
        decision.verdict.reason is not Reason.APPROVAL_REQUIRED
        or context.exact is None
        or policy is None
        or rule is None
    ):
        return decision
    request = decision.request
    rules = policy.candidates(request)
    name = plugin_of(request)
    held = frozenset[str]() if name is None else parts.registry.holds.held_grants(name)
    binding = bind(parts, request, context.exact, rules, held)
    if binding is None:
        return decision
    standing = parts.registry.approvals.asked(binding.key, decision.at)
    if standing is not None:
        return replace(decision, approval_id=standing.id)
    approval = CallApproval(
        id=parts.new_id(),
        key=binding.key,
        subject=request.subject,
        plugin_id=name,
        user_id=request.user,
        by_user=context.exact.by,
        op=context.exact.op,
        permission=request.permission,
        scope=request.scope,
        args_sha256=binding.args_sha256,
        args=binding.shown_args,
        code=" ".join(binding.code),
        rule=rule.id,
        rules_sha256=binding.rules_sha256,
        decision_id=decision.decision_id,
        requested_at=timestamp(decision.at),
        expires_at=timestamp(decision.at + PENDING_FOR),
    )
    if not parts.registry.approvals.add(approval, decision.at):
        return decision
    spent.asked.append(approval)
    spent.records.append(_asked_record(parts, approval, decision))
    return replace(decision, approval_id=approval.id)


def facts_of(approval: CallApproval) -> dict[str, Json]:
    """Give what a record tells of an approval in public: digests, and nothing of what they are digests of."""
    return {
        "approval_id": approval.id,
        "op": approval.op,
        "permission": approval.permission,
        "args_sha256": approval.args_sha256,
        "rules_sha256": approval.rules_sha256,
        "code": approval.code,
        "rule": approval.rule,
        "expires_at": approval.expires_at,
    }


def _asked_record(parts: Parts, approval: CallApproval, decision: Decision) -> Record:
    return Record(
        event_id=parts.event_id(),
        at=decision.at,
        event_type="call_approval_requested",
        resolution=Resolution.PENDING,
        plugin_id=approval.plugin_id,
        user_id=decision.request.user,
        details=facts_of(approval),
        personal={"scope": approval.scope, "asked_by": approval.by_user},
        ref=f"audit-{decision.decision_id}",
    )


def _used_record(parts: Parts, approval: CallApproval, decision: Decision) -> Record:
    return Record(
        event_id=parts.event_id(),
        at=decision.at,
        event_type="call_approval_used",
        resolution=Resolution.COMPLETED,
        plugin_id=approval.plugin_id,
        user_id=decision.request.user,
        details=facts_of(approval),
        personal={"scope": approval.scope, "asked_by": approval.by_user, "approved_by": approval.decided_by},
        ref=f"audit-{decision.decision_id}",
    )


def _give_back(parts: Parts, decision: Decision) -> None:
    charge, request = decision.verdict.charge, decision.request
    if charge is not None:
        parts.registry.rates.give_back(charge, subject=request.subject, user=request.user, at=decision.at)
