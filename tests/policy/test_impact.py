"""A replay that skips what an edit does not touch finds just what judging every decision by both policies finds."""

import itertools
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.domain.decision import Effect, Reason
from gateway.domain.names import PluginId, Subject
from gateway.domain.permission import FAMILIES, LEVELS, Kind, Level, Permission
from gateway.domain.request import AccessRequest
from gateway.domain.risk import Tier
from gateway.policy.diff import compare
from gateway.policy.engine import PolicySet, build_policy_set
from gateway.policy.impact import Replay
from gateway.policy.parse import ParsedPolicy, parse_policy
from gateway.policy.plugin_risk import plugin_risks
from gateway.policy.replay import KeptFacts, Recorded, judge_again, tier_among
from gateway.policy.rule import Rule
from gateway.policy.text import PolicyText

Edited = Callable[..., PolicyText]
Line = tuple[str, ...]
SUBJECTS = ("plugin:notes", "group:plugins", "group:family", "tier:low", "tier:moderate", "tier:critical", "user:alice")
SCOPES = ("*", "a", "a/*", "a/b", "z/*")
TERMS = (
    "-", "consent", "risk<=20", "risk<=60", "consent; risk<=60", "context.n == 1", "resource.colour == red",
    "rate(2/60s)", "day", "hours(09:00-17:00 UTC)", "until(2026-09-01T00:00:00Z)",
)  # fmt: skip
ASKED_OF_A_PERSON = re.compile("consent|risk|rate")
ROLES = ("g, plugin:notes, group:family", "g, user:alice, group:family", "")
CALENDARS = ("09:00-17:00 Mon-Fri", "09:00-12:00")
COLOURS = ("red", "blue")
EDGES = ((25, 50, 75), (10, 20, 30), (60, 61, 62), (97, 98, 99))
TIERED = ((), *(("group:plugins", f"tier:{tier}") for tier in Tier))
AT = [datetime(2026, 7, 3, hour, tzinfo=UTC) for hour in (7, 10, 14, 18)] + [datetime(2026, 10, 3, 10, tzinfo=UTC)]


def lines() -> st.SearchStrategy[Line]:
    often = ("-",) * len(TERMS)
    fields = (SUBJECTS, ("vault", "*", "core"), tuple(LEVELS), SCOPES, (*often, *TERMS), ("allow", "allow", "deny"))
    return st.tuples(*map(st.sampled_from, fields)).filter(
        lambda line: line[5] == "allow" or not ASKED_OF_A_PERSON.search(line[4])
    )


Written = tuple[list[Line], str, str, str, tuple[int, int, int], int]


def policies() -> st.SearchStrategy[Written]:
    return st.tuples(
        st.lists(lines(), min_size=2, max_size=6, unique=True),
        st.sampled_from(ROLES),
        st.sampled_from(CALENDARS),
        st.sampled_from(COLOURS),
        st.sampled_from(EDGES),
        st.sampled_from((10, 18)),
    )


def parsed(edited: Edited, written: Written, starter: PolicyText) -> ParsedPolicy:
    rules, roles, hours, colour, (moderate, high, critical), points = written
    said = [f"p, r{n}, {', '.join(line)}, why" for n, line in enumerate(rules)]
    risk = starter.files["risk.toml"].decode().replace("read = 10", f"read = {points}")
    risk = re.sub(r"(?s)\[tiers\].*", f"[tiers]\nmoderate = {moderate}\nhigh = {high}\ncritical = {critical}\n", risk)
    files: dict[str, str | None] = dict.fromkeys(
        path for path in starter.files if path.startswith(("rules/", "tests/"))
    )
    files |= {
        "rules/90-here.csv": "\n".join(["p, always, user:zoe, vault, read, never, -, allow, why", *said]),
        "roles.csv": roles,
        "conditions.toml": f'[calendar.day]\nzone = "UTC"\nhours = ["{hours}"]\n',
        "entities.toml": f'[vault.a]\ncolour = "{colour}"\n',
        "risk.toml": risk,
    }
    return parse_policy(edited(files))


def decisions(risks: Iterable[int], given: tuple[str, ...]) -> list[Recorded]:
    """Give a record of everything that may be asked, its facts going around."""
    facts = itertools.cycle(itertools.product(AT, ("c", None), (1, "1", None), risks, (0, 2)))
    asked = itertools.product(("plugin:notes", "user:alice"), ("vault", "core"), LEVELS, ("a", "a/b", "a/b/c", "z"))
    return [
        Recorded(
            decision_id=f"d{number}", subject=subject, user=None, kind=kind, level=level, scope=scope, allowed=False,
            reason=Reason.NO_RULE, policy_version="v",
            facts=KeptFacts(
                at=at, risk=risk, consent_id=consent, memberships=given if subject == "plugin:notes" else (),
                counters={f"r{n}": used for n in range(6)}, rates={f"r{n}": 60 for n in range(6)},
                attributes={} if sent is None else {"context.n": sent}, unkept=frozenset({"args"}),
            ),
        )
        for number, ((subject, kind, level, scope), (at, consent, sent, risk, used)) in enumerate(
            zip([*asked] * 2, facts, strict=False)
        )
    ]  # fmt: skip


def naive_tier(policy: PolicySet) -> Tier:
    """Give the tier of the plugin by adding up all that any rule allows it, until nothing is added."""
    groups = {"plugin:notes", "group:plugins"}
    tier: Tier | None = None
    while True:
        counted = groups | ({f"tier:{tier}"} if tier else set())
        counted |= {line.whole for line in policy.parsed.memberships if line.member in counted}
        held = {(Permission(Kind.PLUGIN, Level.EXECUTE), "notes")}
        held |= {
            (Permission(kind, LEVELS[rule.level]), rule.scope)
            for rule in policy.rules
            for kind in FAMILIES
            if rule.effect is Effect.ALLOW and rule.subject in counted and rule.kind in {"*", kind.value}
        }
        found = policy.risk_table.score_plugin(held).tier
        if counted == groups and found == tier:
            return found
        groups, tier = counted, found


def judged(policy: PolicySet, recorded: Recorded, memberships: tuple[str, ...], risk: int) -> Effect:
    given = {recorded.subject: memberships} if memberships else {}
    facts = replace(recorded.facts, risk=risk)
    return judge_again(policy.with_memberships(given, 1), replace(recorded, facts=facts)).effect


def judged_now(now: PolicySet, recorded: Recorded) -> bool:
    return judged(now, recorded, recorded.facts.memberships, recorded.facts.risk) is Effect.ALLOW


def judged_by_both(now: PolicySet, then: PolicySet, recorded: Recorded) -> tuple[Effect, Effect]:
    """Judge a decision by both policies, each with the tier that it gives where they give different ones."""
    before = after = recorded.facts.memberships
    tiers = naive_tier(now), naive_tier(then)
    if before and tiers[0] != tiers[1]:
        after = ("group:plugins", f"tier:{tiers[1]}")
    scores = [
        policy.score(recorded.request, plugin_tier=tier_among(memberships)).score
        for policy, memberships in ((now, before), (then, after))
    ]
    risk = recorded.facts.risk
    return judged(now, recorded, before, risk), judged(
        then, recorded, after, risk if scores[0] == scores[1] else scores[1]
    )


def pairs() -> st.SearchStrategy[tuple[Written, Written]]:
    """Give two policies, the second maybe an edit of the first."""

    def edit(before: Written, after: Written, kept: int, what: str) -> tuple[Written, Written]:
        rules = list(dict.fromkeys([*before[0][:kept], *after[0]]))[:6]
        return before, {
            "rules": (rules, *before[1:]), "roles": (before[0], after[1], *before[2:]),
            "the rest": (*before[:2], *after[2:]), "everything": (rules, *after[1:]),
        }[what]  # fmt: skip

    edits = st.sampled_from(["rules", "roles", "the rest", "everything"])
    return st.builds(edit, policies(), policies(), st.integers(0, 6), edits)


LIMITS = settings(
    max_examples=60,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@LIMITS
@given(pair=pairs(), standing=st.sampled_from(TIERED))
def test_a_replay_finds_what_judging_everything_by_both_finds(
    pair: tuple[Written, Written], standing: tuple[str, ...], edited: Edited, starter_text: PolicyText
) -> None:
    both = [parsed(edited, each, starter_text) for each in pair]
    assume(all(each.ok for each in both))
    now, then = (build_policy_set(each, memberships={}, generation=1) for each in both)
    replay = Replay(now, then)
    recorded = [
        each if number % 2 else replace(each, policy_version=now.version, allowed=judged_now(now, each))
        for number, each in enumerate(decisions((10, 40), standing))
    ]
    replay.add(recorded[:100])
    replay.add(recorded[100:])
    found = replay.finish()
    assert (found.replayed, found.missing.total()) == (len(recorded), 0)
    tiers = naive_tier(now), naive_tier(then)
    moved = standing and tiers[0] is not tiers[1]
    assert [*map(str, found.tiers.values())] == ([f"plugin:notes: tier {tiers[0]} -> {tiers[1]}"] if moved else [])
    wanted = {each.decision_id: judged_by_both(now, then, each) for each in recorded}
    assert {flip.recorded.decision_id: (flip.before, flip.after) for flip in found.flips} == {
        decision_id: effects for decision_id, effects in wanted.items() if effects[0] is not effects[1]
    }


@LIMITS
@given(pair=pairs())
def test_a_plugin_is_in_the_tier_of_all_that_it_may_do_and_a_diff_says_who_moves(
    pair: tuple[Written, Written], edited: Edited, starter_text: PolicyText
) -> None:
    one, other = (parsed(edited, each, starter_text) for each in pair)
    assume(one.ok and other.ok)
    now, then = (build_policy_set(each, memberships={}, generation=1) for each in (one, other))
    tiers = naive_tier(now), naive_tier(then)
    notes = PluginId("notes")
    assert tuple(plugin_risks(each).tier(notes) for each in (now, then)) == tiers
    assert tuple(plugin_risks(each).risk(notes).tier for each in (one, other)) == tiers
    found = compare(one, other, active=[notes])
    moved = tiers[0] is not tiers[1]
    assert [str(each) for each in found.tiers] == ([f"plugin:notes: tier {tiers[0]} -> {tiers[1]}"] if moved else [])
    label = f"plugin:notes (tier {tiers[0]} -> {tiers[1]})"
    told = {
        (each.kind, each.level, frozenset(each.rules_before), frozenset(each.rules_after))
        for each in found.differences
        if label in each.subjects
    }
    assert moved or not told
    before, after = (
        policy.with_memberships({"plugin:notes": ("group:plugins", f"tier:{tier}")}, 1)
        for policy, tier in zip((now, then), tiers, strict=True)
    )
    for kind, level, scope in itertools.product(("vault", "core"), LEVELS, ("a", "a/b")):
        request = AccessRequest(subject=Subject("plugin:notes"), user=None, kind=kind, level=level, scope=scope)
        rules = before.candidates(request), after.candidates(request)
        if moved and {plain_effect(rules[0]), plain_effect(rules[1])} == {Effect.ALLOW, Effect.DENY}:
            assert (kind, level, *(frozenset(rule.id for rule in each) for each in rules)) in told


def plain_effect(rules: Iterable[Rule]) -> Effect | None:
    """Give what is answered whatever the facts are, None if they matter."""
    rules = [*rules]
    if any(rule.condition.terms for rule in rules):
        return None
    return Effect.ALLOW if {rule.effect for rule in rules} == {Effect.ALLOW} else Effect.DENY
