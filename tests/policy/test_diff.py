"""A diff names exactly the requests that two policies answer differently: held against asking every request."""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from gateway.domain.condition import Approval, Compare, Consent, From, Hours, RiskAtMost, Until
from gateway.domain.decision import Effect
from gateway.domain.names import Subject
from gateway.domain.permission import LEVELS
from gateway.domain.request import AccessRequest, Facts
from gateway.domain.scope import covers
from gateway.policy.conditions import unmet_terms
from gateway.policy.diff import Difference, compare
from gateway.policy.engine import PolicySet, build_policy_set
from gateway.policy.parse import parse_policy
from gateway.policy.rule import Rule
from gateway.policy.scope_classes import FRESH, covering, is_askable, patterns_over, representatives
from gateway.policy.text import PolicyText

Edited = Callable[..., PolicyText]
SUBJECTS = ("plugin:notes", "group:plugins", "tier:high", "group:family", "user:alice")
KINDS = ("vault", "api", "*", "todo")
SCOPES = ("*", "a", "a/*", "a/b", "a/b/*", "*.x.y")
TERMS = (
    "-", "consent", "approval", "risk<=20", "risk<=60", "consent; risk<=60",
    "context.n == 1", "context.n == true", "context.n <= 5", "context.n in 1|true|x", "context.n startswith x",
    "context.n == context.m", "context.n != x; consent",
    "hours(09:00-17:00 UTC)", "hours(10:00-12:00 Europe/Berlin)", "weekend", "from(2026-06-01T00:00:00Z)",
    "until(2026-09-01T00:00:00Z)", "weekend; from(2026-06-01T00:00:00Z)",
)  # fmt: skip
CALENDAR = (
    '[calendar.weekend]\nzone = "UTC"\nhours = ["00:00-24:00 Sat-Sun", "08:00-16:00 Fri"]\nholidays = ["2026-07-04"]\n'
)
ASKED_OF_A_PERSON = re.compile("consent|approval|risk")
ROLES = ("g, plugin:notes, group:family", "g, user:alice, group:family", "")
ASKED = [
    *itertools.product(("vault",), ("a", "a/b", "a/b/c", "a/z", "z", "z.x.y", "a/z.x.y", "a/b/z.x.y")),
    *itertools.product(("api", "file", "other", "todo"), ("a", "a/b", "a/b/z", "a/z", "z.x.y", "a/z.x.y", "/z")),
]
ADDED: dict[str, tuple[tuple[str, ...], ...]] = {
    "plugin:notes": ((), ("group:plugins", "tier:low"), ("group:plugins", "tier:high")),
    "plugin:other": (("group:plugins", "tier:high"),),
    "user:alice": ((), ("group:users",)),
    "user:bob": (("group:users",),),
}
DIMENSIONS: dict[str, tuple[object, ...]] = {  # every value that the terms can tell from another
    "risk": (10, 40, 90),
    "consent_id": ("c", None),
    "approval_id": ("a", None),
    "attributes": tuple(
        {"context": {name: value for name, value in (("n", n), ("m", m)) if value is not None}}
        for n in (1, 5, 3, 9, 0, True, False, "x", "xy", "z", None)
        for m in (1, True, False, "x", "z", 3, 9, None)
    ),
    "at": tuple(  # a weekday, a Friday, a Saturday and a holiday of each season, at hours that windows begin or end
        datetime(2026, month, day, hour, tzinfo=UTC)
        for month, days in ((5, (5, 8, 9)), (7, (1, 3, 4, 11)), (10, (1, 2, 3)))
        for day in days
        for hour in (3, 8, 9, 10, 11, 15, 16)
    ),
}
ASKS = {RiskAtMost: "risk", Consent: "consent_id", Approval: "approval_id", Compare: "attributes",
        Hours: "at", From: "at", Until: "at"}  # fmt: skip


def rule() -> st.SearchStrategy[tuple[str, ...]]:
    levels = st.sampled_from([*LEVELS, "close", "*"])
    fields = (st.sampled_from(SUBJECTS), st.sampled_from(KINDS), levels, st.sampled_from(SCOPES))
    said = st.tuples(*fields, st.sampled_from(TERMS), st.sampled_from(["allow", "deny"]))
    return said.map(fit).filter(lambda one: one[1] != "vault" or one[3] != "*.x.y")


def fit(said: tuple[str, ...]) -> tuple[str, ...]:
    subject, kind, level, scope, condition, effect = said
    level = "read" if level == "close" and kind not in {"todo", "*"} and effect == "deny" else level
    level = "read" if level == "*" and kind not in {"todo", "*"} else level
    condition = condition if effect == "allow" or not ASKED_OF_A_PERSON.search(condition) else "-"
    return subject, kind, level, scope, condition, effect


def policies() -> st.SearchStrategy[tuple[list[tuple[str, ...]], str]]:
    rules = st.lists(rule(), max_size=5, unique=True)
    return st.tuples(rules, st.sampled_from(ROLES))


def text_of(edited: Edited, rules: list[tuple[str, ...]], roles: str) -> PolicyText:
    lines = [f"p, r{n}, {', '.join(said)}, why" for n, said in enumerate(rules)]
    always = "p, always, user:zoe, vault, read, never, -, allow, why"
    return edited(
        {**dict.fromkeys(("rules/10-guardrails.csv", "rules/20-tiers.csv", "rules/50-people.csv")),
         **dict.fromkeys(("tests/people.toml", "tests/guardrails.toml", "tests/tiers.toml")),
         "conditions.toml": CALENDAR, "roles.csv": roles, "rules/90-here.csv": "\n".join([always, *lines])}
    )  # fmt: skip


def everything() -> Iterator[tuple[str, tuple[str, ...], AccessRequest]]:
    for subject, standings in ADDED.items():
        for added, (kind, scope), level in itertools.product(standings, ASKED, [*LEVELS, "close", "other"]):
            if (level in LEVELS or kind != "gateway") and is_askable(kind, scope):
                request = AccessRequest(subject=Subject(subject), user=None, kind=kind, level=level, scope=scope)
                yield subject, added, request


Known = dict[tuple[tuple[Rule, ...], ...], bool]


def differ(one: PolicySet, other: PolicySet, request: AccessRequest, known: Known) -> bool:
    """Tell whether both answer differently under some facts that their rules ask for."""
    both = one.candidates(request), other.candidates(request)
    if both not in known:
        asked = {ASKS[type(term)] for rules in both for rule in rules for _, term in rule.condition.terms}
        chosen = [values if name in asked else values[:1] for name, values in DIMENSIONS.items()]
        every = (Facts(**dict(zip(DIMENSIONS, values, strict=True))) for values in itertools.product(*chosen))  # type: ignore[arg-type] # each of its own type
        known[both] = any(says(both[0], facts) != says(both[1], facts) for facts in every)
    return known[both]


def says(rules: Iterable[Rule], facts: Facts) -> bool:
    # WHY: what stock Casbin says of it is held elsewhere; asking it here would take minutes.
    spoke = {rule.effect for rule in rules if not unmet_terms(rule.condition, facts, effect=rule.effect)}
    return spoke == {Effect.ALLOW}


def named(difference: Difference, subject: str, added: tuple[str, ...]) -> bool:
    prefix = subject.split(":", maxsplit=1)[0]
    tier = next((one for one in added if one.startswith("tier:")), "not active")
    how = tier if prefix == "plugin" else ("with a key" if added else "without a key")
    names = {label for who in (subject, f"{prefix}:…") for label in (who, f"{who} ({how})")}
    return not names.isdisjoint(difference.subjects)


Written = tuple[list[tuple[str, ...]], str]


@settings(
    max_examples=60,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(before=policies(), after=policies(), alike=st.booleans())
def test_a_diff_is_what_asking_everything_finds(before: Written, after: Written, alike: bool, edited: Edited) -> None:  # noqa: FBT001 (hypothesis gives it)
    after = (before[0][1:] + after[0][:1], before[1]) if alike else after
    parsed = [parse_policy(text_of(edited, *each)) for each in (before, after)]
    assume(all(each.ok for each in parsed))
    found = compare(*parsed).differences
    sets = [build_policy_set(each, memberships={}, generation=1) for each in parsed]
    layers: dict[object, list[PolicySet]] = {}
    known: Known = {}
    for subject, added, request in everything():
        one, other = layers.setdefault((subject, added), [each.with_memberships({subject: added}, 1) for each in sets])
        if differ(one, other, request, known):
            ids = [{rule.id for rule in each.candidates(request)} for each in (one, other)]
            assert any(
                named(each, subject, added)
                and each.kind in {request.kind, "…"}
                and each.level in {request.level, "…"}
                and [set(each.rules_before), set(each.rules_after)] == ids
                for each in found
            ), (request, added)
    for each in found:
        for subject, added in standings(each):
            one, other = (policy.with_memberships({subject: added}, 1) for policy in sets)
            kind, level, scope = (text.replace("…", FRESH) for text in (each.kind, each.level, each.scope))
            request = AccessRequest(subject=Subject(subject), user=None, kind=kind, level=level, scope=scope)
            assert differ(one, other, request, known), each


def standings(difference: Difference) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Give one who asks for each label of a difference."""
    for label in difference.subjects:
        subject, _, how = label.removeprefix("whoever is in ").partition(" (")
        how = how.removesuffix(")")
        subject = subject.replace("…", "other")
        if label.startswith("whoever"):
            yield "user:other", (subject,)
        elif how.startswith("tier:"):
            yield subject, ("group:plugins", how)
        elif how:
            yield subject, ("group:users",) if how == "with a key" else ()
        else:
            for added in ADDED[subject]:
                yield subject, added


@pytest.mark.parametrize("kind", ["vault", "file", "api", "network", "todo"])
def test_representatives_miss_no_class_of_scopes(kind: str) -> None:
    pieces = ["a", "b", "z", "x.y", "z.x.y", "q.x.y"]
    asked = {"/".join(parts) for n in (1, 2, 3) for parts in itertools.product(pieces, repeat=n)}
    asked = {scope for scope in asked | {"/" + one for one in asked} if is_askable(kind, scope)}
    patterns = {"a", "a/*", "a/b/*", "/a/*", "/a/b", "*.x.y", "*.y", "z.x.y", "*"}

    def covered(scope: str) -> frozenset[str]:
        return frozenset(pattern for pattern in patterns if covers(pattern, scope))

    every = {covered(scope) for scope in asked}
    assert every == {covered(scope) for scope in representatives(kind, patterns)} & every
    assert all(FRESH not in pattern for pattern in patterns)


@given(st.lists(st.sampled_from(["a", "b.c", ".", "/", "x"]), min_size=1, max_size=7).map("".join))
def test_patterns_over_a_scope_are_all_that_cover_it(scope: str) -> None:
    ends = {"*", scope, *("*" + scope[i:] for i in range(len(scope)) if scope[i] == ".")}
    begins = {scope[:i] + "/*" for i in range(len(scope) + 1)}
    wanted = {pattern for pattern in ends | begins if covers(pattern, scope)}
    assert {pattern for pattern in patterns_over(scope) if covers(pattern, scope)} == wanted
    assert covering(scope, {pattern: [pattern] for pattern in wanted}) != []


SAME = {
    "other names, places and order": ("a x -; b y -", "c y -; d x -"),
    "a rule that another holds": ("a x/* -", "a x/* -; b x/y consent"),
    "an allow that a deny covers": ("a x - deny", "a x - deny; b x consent"),
    "terms in another order": ("a x consent+risk<=60", "a x risk<=60+consent"),
    "hours and their name": ("a x business_hours", "a x office"),
    "a score that all have": ("a x -", "a x risk<=100"),
    "a tighter score that a wider one holds": ("a x risk<=60", "a x risk<=60; b x risk<=20"),
}


def lines(short: str) -> str:
    """Give rules from `id scope condition [effect]`, `;` between them."""
    found = []
    for each in short.split("; "):
        id_, scope, condition, *effect = each.split(" ")
        terms = condition.replace("+", "; ")
        found.append(f"p, {id_}, plugin:notes, vault, read, {scope}, {terms}, {(effect or ['allow'])[0]}, why {id_}")
    return "\n".join(found)


@pytest.mark.parametrize("name", SAME)
def test_equal_policies_written_differently_differ_in_nothing(name: str, edited: Edited) -> None:
    office = '[calendar.office]\nzone = "Europe/Berlin"\nhours = ["09:00-17:00 Mon-Fri"]\nholidays = ["2026-12-25"]\n'
    both = office + office.replace("office", "business_hours")
    parsed = [parse_policy(edited({"rules/90-here.csv": lines(text), "conditions.toml": both})) for text in SAME[name]]
    assert all(each.ok for each in parsed)
    assert [each.as_json() for each in compare(*parsed).differences] == []
    assert compare(*parsed).same


def test_a_rate_split_in_two_is_another_rate(edited: Edited) -> None:
    written = ("a x/* rate(5/60s)", "a x/a rate(5/60s); b x/* rate(5/60s)")
    parsed = [parse_policy(edited({"rules/90-here.csv": lines(text)})) for text in written]
    assert [each.scope for each in compare(*parsed).differences] == ["x/a"]


def test_a_difference_says_who_what_and_how(edited: Edited) -> None:
    line = "p, a, plugin:notes, vault, write, x/*, {}, allow, w"
    one, other = (parse_policy(edited({"rules/90-here.csv": line.format(cond)})) for cond in ("-", "consent; risk<=60"))
    told = [(each.subjects, each.kind, each.level, each.scope, str(each.before), str(each.after), each.widens)
            for each in compare(one, other).differences]  # fmt: skip
    assert told == [
        (("plugin:notes",), "vault", level, scope, "allow", "allow if consent; risk<=60", False)
        for scope in ("x", "x/…")
        for level in ("read", "write")
    ]
    assert all(each.widens for each in compare(other, one).differences)


def test_a_risk_table_that_says_something_else_is_told(edited: Edited, starter_text: PolicyText) -> None:
    risk = starter_text.files["risk.toml"].decode().replace("read = 10", "read = 11", 1)
    assert compare(parse_policy(starter_text), parse_policy(edited({"risk.toml": risk}))).other_files == ("risk.toml",)
