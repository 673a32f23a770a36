"""To build the set that a policy text makes, aside: read, checked, its cases judged; nothing comes into force."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from gateway.domain.names import PluginId
from gateway.errors import Place, PolicyBrokenError, Problem
from gateway.flows.memberships import memberships
from gateway.flows.parts import Parts
from gateway.flows.quiet import breathe, collector_resting, let_go
from gateway.policy.case_file import Case
from gateway.policy.cases import run_cases
from gateway.policy.changes import with_grants
from gateway.policy.engine import PolicySet, build_policy_set
from gateway.policy.model import SHIPPED_MODEL, Model
from gateway.policy.parse import GrantIds, ParsedPolicy, parse_policy
from gateway.policy.pauses import Pause, never
from gateway.policy.reach import check_reach
from gateway.policy.text import GRANTS, PolicyText


def build(
    parts: Parts,
    text: PolicyText,
    *,
    joining: Iterable[PluginId] = (),
    new_grants: frozenset[str] = frozenset(),
    generation: int | None = None,
) -> PolicySet:
    """Build and test the set that `text` makes, aside; `new_grants` are about to be written to the registry.

    It gets the next generation unless one is named.

    Raises:
        PolicyBrokenError: with every problem, or every failing case.
    """
    with collector_resting():
        parsed = parse(parts, text, new_grants=new_grants)
        if not parsed.ok:
            error, pieces = _broken(parsed), [[*parsed.rules]]
            del parsed
            let_go(pieces)
            raise error
        policy = build_policy_set(
            parsed,
            memberships=memberships(parts, parsed, breathe, joining=joining),
            generation=generation or parts.registry.memory.next_generation(),
            pause=breathe,
        )
    if failing := _failing(policy, breathe):
        pieces = policy.pieces()
        del policy, parsed
        let_go(pieces)
        raise _unjudged(failing)
    return replace(policy, judged=True)


def build_granted(
    parts: Parts, text: PolicyText, grants: bytes, *, joining: Iterable[PluginId] = (), new_grants: frozenset[str]
) -> PolicySet:
    """Build and test the set that `text` makes with other grants, of the set in force where that is the same text.

    Raises:
        PolicyBrokenError: with every problem, or every failing case.
    """
    current = parts.policy.get()
    if current is not None and text.files == current.parsed.text.files:
        generation = parts.registry.memory.next_generation()
        wider = with_grants(current, grants, _grant_ids(parts, new_grants), generation=generation)
        if wider is not None:
            facts = memberships(parts, wider, joining=joining)
            if facts != wider.memberships:
                wider = wider.with_memberships(facts, generation)
            if failing := _failing(wider, wanted=_touched(current, wider)):
                raise _unjudged(failing)
            return replace(wider, judged=True)
    return build(parts, text.with_file(GRANTS, grants), joining=joining, new_grants=new_grants)


def _touched(before: PolicySet, after: PolicySet) -> Callable[[Case], bool]:
    """Tell which cases may be answered otherwise since the same files were judged with fewer grants."""
    if not before.judged:
        return _every
    known, new = before.memberships, after.memberships
    moved = {who for who in {**known, **new} if known.get(who) != new.get(who)}
    # INVARIANT: an answer depends on the rules and on what the asking subject belongs to, on nobody else's belongings.
    return lambda case: case.with_grants or case.ask.subject in moved


def _every(_case: Case) -> bool:
    return True


def _unjudged(failing: tuple[Problem, ...]) -> PolicyBrokenError:
    return PolicyBrokenError("the policy's own cases fail", way_out="`hearthgate policy test`", problems=failing)


def build_aside(parts: Parts, text: PolicyText) -> PolicySet:
    """Build the set that `text` makes, to ask it questions; it never comes into force, so its cases are not judged.

    Raises:
        PolicyBrokenError: with every problem.
    """
    parsed = parse(parts, text)
    if not parsed.ok:
        raise _broken(parsed)
    return build_policy_set(parsed, memberships=memberships(parts, parsed), generation=0)


def _broken(parsed: ParsedPolicy) -> PolicyBrokenError:
    return PolicyBrokenError(
        "the policy files have errors", way_out="`hearthgate policy check`", problems=parsed.problems
    )


def check_policy(parts: Parts, text: PolicyText) -> tuple[Problem, ...]:
    """Give everything that is wrong with a policy text, its failing cases included; nothing comes into force."""
    parsed = parse(parts, text)
    if not parsed.ok:
        return parsed.problems
    policy = build_policy_set(parsed, memberships=memberships(parts, parsed), generation=0)
    return (*parsed.problems, *check_reach(parsed), *_failing(policy))


def _failing(
    policy: PolicySet, pause: Pause = never, *, wanted: Callable[[Case], bool] = _every
) -> tuple[Problem, ...]:
    return tuple(
        Problem(place=Place(file=each.file, line=each.line), message=f"case `{each.name}`: {each.message}")
        for each in run_cases(policy, pause, wanted=wanted)
        if not each.passed
    )


def parse(parts: Parts, text: PolicyText, *, new_grants: frozenset[str] = frozenset()) -> ParsedPolicy:
    """Read a policy text, its grants checked against the registry."""
    return parse_policy(text, model=wanted_model(parts), grant_ids=_grant_ids(parts, new_grants), pause=breathe)


def wanted_model(parts: Parts) -> Model | None:
    """Give the model that a policy must have, None if its own file says it."""
    if not parts.custom_model:
        return SHIPPED_MODEL
    # SECURITY: what a rule means changes when the gateway starts, and never under those who work.
    current = parts.policy.get()
    return None if current is None else current.parsed.model


def _grant_ids(parts: Parts, new_grants: frozenset[str]) -> GrantIds:
    live, ended = parts.registry.grants.ids()
    return GrantIds(live=live | new_grants, dead=ended)
