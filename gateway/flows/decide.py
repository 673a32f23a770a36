"""To decide: gather the facts and ask the rules. Nothing is used up or recorded here."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from time import perf_counter

from msgspec import Struct
from msgspec.structs import replace

from gateway.domain.condition import Approval, Consent, Rate, Term
from gateway.domain.decision import Decision, Effect, Reason, Verdict
from gateway.domain.exact_call import ExactCall
from gateway.domain.lifecycle import State
from gateway.domain.names import split_subject
from gateway.domain.permission import KNOWN_KINDS, Kind, Permission
from gateway.domain.request import AccessRequest, Facts, Json
from gateway.domain.risk import Risk, Tier
from gateway.errors import HearthgateError
from gateway.flows.binding import bind, lacks_approval
from gateway.flows.parts import Parts
from gateway.policy.engine import PolicySet
from gateway.policy.entities import ROOTS
from gateway.policy.replay import kept_facts, pass_over_held
from gateway.policy.rule import Rule

_PLUGIN = "plugin:"
_UNJUDGED = Risk(score=100, tier=Tier.CRITICAL)  # without a policy nothing is known to be harmless


class Context(Struct, frozen=True, kw_only=True):
    """What accompanies a request; none of it can overrule what the gateway knows itself."""

    session_id: str | None = None
    sent: Mapping[str, Json] = {}
    args: Mapping[str, Json] = {}
    trace_id: str | None = None
    execution_id: str | None = None
    at: datetime | None = None  # another moment than now, for questions that are not acted on
    asked_by: str | None = None  # the user who asked about another subject
    right: str | None = None  # the decision by which they might ask
    exact: ExactCall | None = None  # the very call, where a person may approve it
    shows_way_in: bool = False  # a record of "no rule" tells the line of a rule that would allow it


NO_CONTEXT = Context()
_OWN_ROOTS = frozenset({"context", "args"})  # filled by what accompanies a question, not by members of these names


class Judged(Struct, frozen=True, kw_only=True):
    """What the rules said of one request, and by what they judged it: a decision that has no name yet."""

    request: AccessRequest
    at: datetime
    policy: PolicySet | None
    risk: Risk
    facts: Facts
    sent: Mapping[str, Mapping[str, Json]]
    rules: Sequence[Rule]
    held: frozenset[str]
    verdict: Verdict

    @property
    def allowed(self) -> bool:
        """Whether the answer is allow; anything else is a deny."""
        return self.verdict.effect is Effect.ALLOW


def judge(parts: Parts, request: AccessRequest, context: Context = NO_CONTEXT) -> Judged:
    """Give what the rules say of one request; uses up nothing and records nothing."""
    began = perf_counter()
    at = context.at or parts.now()
    # INVARIANT: asked for once, so a decision sees one generation of the policy.
    policy = parts.policy.get()
    risk = _UNJUDGED if policy is None else policy.score(request)
    sent = _sent(context)
    facts = Facts(
        at=at,
        risk=risk.score,
        consent_id=_consent_id(parts, request, context, at),
        used=_used(parts, request, at),
        # SECURITY: what the gateway knows is merged last, so that nothing sent can stand in for it.
        attributes=sent if policy is None else policy.attributes(request, sent),
    )
    rules = _candidates(policy, request)
    held = _held(parts, request)
    verdict = standing(parts, request) or _judge(policy, request, facts, rules, held)
    if context.exact is not None and lacks_approval(verdict):
        binding = bind(parts, request, context.exact, rules, held)
        approval = None if binding is None else parts.registry.approvals.approved(binding.key, at)
        if approval is not None:
            facts = replace(facts, approval_id=approval.id)
            verdict = _judge(policy, request, facts, rules, held)
    took = perf_counter() - began
    parts.meter.decide.took(took)
    if parts.spans is not None:
        said = {"hearthgate.effect": verdict.effect.value, "hearthgate.reason": verdict.reason.value}
        parts.spans.took("hearthgate.decide", took, said)
    return Judged(
        request=request,
        at=at,
        policy=policy,
        risk=risk,
        facts=facts,
        sent=sent,
        rules=rules,
        held=held,
        verdict=verdict,
    )


def name(parts: Parts, judged: Judged, *, dry_run: bool = False) -> Decision:
    """Make a decision of what was judged: it gets an id, and all that is needed to judge it again."""
    policy, facts, verdict = judged.policy, judged.facts, judged.verdict
    rule = _deciding_rule(judged.rules, verdict)
    used_consent = facts.consent_id if rule is not None and _asks(rule, Consent) else None
    used_approval = facts.approval_id if rule is not None and _asks(rule, Approval) else None
    judged_by: dict[str, Json] = kept_facts(facts, verdict, judged.rules, judged.sent)
    if policy is not None and (groups := policy.memberships.get(judged.request.subject)):
        judged_by["memberships"] = [*groups]
    if judged.held:
        judged_by["held"] = [*sorted(judged.held)]
    return Decision(
        decision_id=parts.new_id(),
        at=judged.at,
        request=judged.request,
        verdict=verdict,
        risk=judged.risk,
        policy_version="none" if policy is None else policy.version,
        generation=0 if policy is None else policy.generation,
        consent_id=used_consent,
        approval_id=used_approval,
        degraded=_degraded(parts, judged.request.subject),
        dry_run=dry_run,
        judged_by=judged_by,
    )


def _degraded(parts: Parts, subject: str) -> tuple[str, ...]:
    """Name what the operator accepts to be missing where this plugin runs."""
    if not subject.startswith(_PLUGIN):
        return ()
    if parts.unconfined:
        plugin = parts.registry.plugins.get(subject.removeprefix(_PLUGIN))
        if plugin is not None and not plugin.manifest.sandbox:
            return (*parts.host.degraded, "sandbox_declined")
    return parts.host.degraded


def decide(parts: Parts, request: AccessRequest, context: Context = NO_CONTEXT, *, dry_run: bool = False) -> Decision:
    """Give the answer to one request; uses up nothing and records nothing."""
    return name(parts, judge(parts, request, context), dry_run=dry_run)


def _used(parts: Parts, request: AccessRequest, at: datetime) -> Callable[[str, Rate], int]:
    def used(rule_id: str, rate: Rate) -> int:
        return parts.registry.rates.used(rule_id, rate, subject=request.subject, user=request.user, at=at)

    return used


def _sent(context: Context) -> dict[str, Mapping[str, Json]]:
    """Give the attributes that came with the question, by their root."""
    sent: dict[str, Mapping[str, Json]] = {"args": context.args}
    others: dict[str, Json] = {}
    for key, value in context.sent.items():
        if key not in ROOTS:
            others[key] = value
        elif key not in _OWN_ROOTS and isinstance(value, Mapping):
            sent[key] = value
    sent["context"] = others
    return sent


def _consent_id(parts: Parts, request: AccessRequest, context: Context, at: datetime) -> str | None:
    prefix, plugin_id = split_subject(request.subject)
    level = request.level_rank
    if prefix != "plugin" or request.user is None or level is None or request.kind not in KNOWN_KINDS:
        return None
    consent = parts.registry.consents.covering(
        user_id=request.user,
        plugin_id=plugin_id,
        permission=Permission(Kind(request.kind), level),
        scope=request.scope,
        session_id=context.session_id,
        at=at,
    )
    return None if consent is None else consent.id


def standing(parts: Parts, request: AccessRequest) -> Verdict | None:
    """Deny what no rule may allow: a lockdown, and a plugin that is not active."""
    prefix, name = split_subject(request.subject)
    if parts.registry.holds.locked(subject=request.subject, user=request.user, kind=request.kind) is not None:
        return Verdict(effect=Effect.DENY, reason=Reason.LOCKED_DOWN)
    if prefix == "plugin":
        plugin = parts.registry.plugins.get(name)
        if plugin is not None and plugin.state is not State.ACTIVE:
            return Verdict(effect=Effect.DENY, reason=Reason.INACTIVE)
    return None


def _judge(
    policy: PolicySet | None, request: AccessRequest, facts: Facts, rules: Sequence[Rule], held: frozenset[str]
) -> Verdict:
    if policy is None:
        return Verdict(effect=Effect.DENY, reason=Reason.NO_POLICY)
    return pass_over_held(rules, policy.decide(request, facts), held)


def _candidates(policy: PolicySet | None, request: AccessRequest) -> Sequence[Rule]:
    try:
        return () if policy is None else policy.candidates(request)
    except HearthgateError:
        return ()  # WHY: what has no candidates to tell of is an error to `decide` as well, and so denied


def _held(parts: Parts, request: AccessRequest) -> frozenset[str]:
    prefix, name = split_subject(request.subject)
    return parts.registry.holds.held_grants(name) if prefix == "plugin" else frozenset()


def _deciding_rule(rules: Sequence[Rule], verdict: Verdict) -> Rule | None:
    if verdict.effect is not Effect.ALLOW or verdict.rule is None:
        return None
    return next((rule for rule in rules if rule.id == verdict.rule.id), None)


def _asks(rule: Rule, kind: type[Term]) -> bool:
    return any(isinstance(term, kind) for _, term in rule.condition.terms)
