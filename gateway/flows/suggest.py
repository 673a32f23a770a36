"""To suggest: find the smallest change that would allow a denied call, and prove each by applying it aside."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gateway.audit.decisions import read_decision
from gateway.domain.decision import Effect, Reason, Verdict
from gateway.domain.names import split_subject
from gateway.domain.request import Json
from gateway.errors import ConflictError, HearthgateError
from gateway.flows.build_policy import build
from gateway.flows.impact import impact
from gateway.flows.parts import Parts
from gateway.policy.engine import PolicySet
from gateway.policy.fulfil import fulfilments
from gateway.policy.impact import Replay
from gateway.policy.replay import NotKeptError, Recorded, judge_again
from gateway.policy.suggest import Edit, edits

_CONDITION = 5  # of a rule's fields
_ALWAYS = "-"
_NO_EDIT = {
    Reason.INACTIVE: "The plugin was not active: no edit of the policy changes that; `hearthgate plugin resume` may.",
    Reason.LOCKED_DOWN: "A lockdown was in force: no edit of the policy changes that.",
    Reason.HELD: "The right was revoked: an approval can give it again.",
    Reason.NO_POLICY: "No policy was in force: mend the files first.",
    Reason.ERROR: "Something went wrong while deciding: no edit of the policy changes that.",
}


@dataclass(frozen=True, slots=True)
class Suggestions:
    """Sentences, and changes that would allow the call, the smallest first."""

    sentences: list[str]
    changes: list[dict[str, Json]]

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {"possible": bool(self.changes), "sentences": [*self.sentences], "suggestions": [*self.changes]}


async def suggest(parts: Parts, decision_id: str, *, flips: bool = True) -> Suggestions:
    """Give what would allow a recorded call; with `flips` each edit's effect on all recorded decisions is told.

    Raises:
        LogUnavailableError: the log cannot be read.
        ConflictError: no policy is in force.
    """
    recorded = await asyncio.to_thread(read_decision, parts.home / "data", decision_id)
    if recorded is None:
        return Suggestions(["Its record no longer tells what was asked."], [])
    if recorded.reason in _NO_EDIT:
        return Suggestions([_NO_EDIT[recorded.reason]], [])
    policy = parts.policy.get()
    if policy is None:
        raise ConflictError("no policy is in force", way_out="`hearthgate policy check` names the problems")
    return await asyncio.to_thread(_of, parts, policy, recorded, flips)


def _of(parts: Parts, policy: PolicySet, recorded: Recorded, flips: bool) -> Suggestions:  # noqa: FBT001 (passed on)
    here = _as_of(policy, recorded)
    try:
        verdict = judge_again(here, recorded)
    except NotKeptError as error:
        return Suggestions([f"Its record does not tell {error}."], [])
    if verdict.effect is Effect.ALLOW:
        return Suggestions(["The policy in force allows it."], [])
    if guards := [*_guards(policy, verdict)]:
        return Suggestions(guards, [])
    changes = [*_conditions(parts, here, recorded, verdict, flips), *_edits(parts, here, recorded, verdict, flips)]
    # WHY: what flips least is the smallest; most conditions that can be fulfilled change no other answer at all.
    changes.sort(key=_order)
    return Suggestions([_told(change) for change in changes] or ["No single line would allow it."], changes)


def _as_of(policy: PolicySet, recorded: Recorded) -> PolicySet:
    subject, then = recorded.subject, recorded.facts.memberships
    if policy.memberships.get(subject, ()) == then:
        return policy
    return policy.with_memberships({**policy.memberships, subject: then}, policy.generation)


def _guards(policy: PolicySet, verdict: Verdict) -> Iterator[str]:
    conditions = {rule.id: rule.fields[_CONDITION] for rule in policy.rules if rule.effect is Effect.DENY}
    for rule, effect in verdict.spoke:
        if effect is Effect.DENY:
            condition = conditions.get(rule.id, _ALWAYS)
            where = "" if condition == _ALWAYS else f" where `{condition}` holds or cannot be told"
            yield (
                f"Rule `{rule.id}` ({rule.file}:{rule.line}) denies it{where}, and a deny outranks every allow: no edit"
                " but taking that guardrail out would allow it."
            )


def _conditions(
    parts: Parts,
    policy: PolicySet,
    recorded: Recorded,
    verdict: Verdict,
    flips: bool,  # noqa: FBT001 (passed on)
) -> Iterator[dict[str, Json]]:
    for found in fulfilments(policy, recorded, verdict.near_misses):
        edited = policy
        if found.entities != policy.entities:
            edited = replace(policy, parsed=replace(policy.parsed, entities=found.entities))
        if _allows(edited, found.recorded):
            told = _flips(parts, policy, edited) if flips and edited is not policy else {}
            yield found.as_json() | told


def _edits(
    parts: Parts,
    policy: PolicySet,
    recorded: Recorded,
    verdict: Verdict,
    flips: bool,  # noqa: FBT001 (passed on)
) -> Iterator[dict[str, Json]]:
    for group in edits(policy, recorded, verdict.near_misses):
        for edit in group:
            edited = _applied(parts, policy, edit)
            if edited is not None and _flips_to_allow(policy, edited, recorded):
                yield edit.as_json() | (_flips(parts, policy, edited) if flips else {})
                break


def _flips(parts: Parts, policy: PolicySet, edited: PolicySet) -> dict[str, Json]:
    told = impact(parts.home / "data", policy, edited).as_json()
    return {name: told[name] for name in ("flips", "flipped", "cannot_replay", "tiers")}


def _applied(parts: Parts, policy: PolicySet, edit: Edit) -> PolicySet | None:
    """Build the policy with an edit; None if it would not be accepted, or a case would fail."""
    try:
        return build(parts, edit.applied(policy.parsed.text), generation=policy.generation)
    except HearthgateError:
        return None


def _flips_to_allow(policy: PolicySet, edited: PolicySet, recorded: Recorded) -> bool:
    replay = Replay(policy, edited)
    replay.add([recorded])
    return any(flip.after is Effect.ALLOW for flip in replay.finish().flips)


def _allows(policy: PolicySet, recorded: Recorded) -> bool:
    try:
        return judge_again(policy, recorded).effect is Effect.ALLOW
    except NotKeptError:
        return False


def _order(change: dict[str, Json]) -> tuple[int, int]:
    flipped = change.get("flipped", 0)
    return (flipped if isinstance(flipped, int) else 0, ("condition", "role", "rule").index(str(change["type"])))


def _told(change: dict[str, Json]) -> str:
    flips = f"; of the recorded decisions it changes {change['flipped']}" if "flipped" in change else ""
    if change["type"] == "condition":
        return f"{str(change['sentence']).removesuffix('.')}{flips}."
    line = str(change["line"])
    plugin = split_subject(line.split(", ")[2 if change["type"] == "rule" else 1])[0] == "plugin"
    usual = " (an approval of a permission request does the same)" if plugin and change["type"] == "rule" else ""
    return f"This line in {change['file']} would allow it: {line}{usual}{flips}."
