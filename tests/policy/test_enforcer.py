"""Our enforcer answers what stock `casbin.Enforcer` answers: the decision, and the row that explains it."""

from collections.abc import Sequence

import casbin
import pytest
from casbin.effect import Effector
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.permission import KNOWN_KINDS
from gateway.domain.request import Facts
from gateway.domain.scope import canonical_scope, covers, is_canonical, is_plain_pattern
from gateway.errors import MalformedError
from gateway.policy.anchors import kind_probes, scope_probes
from gateway.policy.enforcer import GateEnforcer
from gateway.policy.functions import build_functions
from gateway.policy.model import SHIPPED
from gateway.policy.rule import kind_matches

MODEL = """\
[request_definition]
r = sub, obj, act
[policy_definition]
p = {ruled}
[role_definition]
g = _, _
[policy_effect]
e = {effect}
[matchers]
m = {matcher}
"""
EFFECTS = [
    "some(where (p.eft == allow))",
    "!some(where (p.eft == deny))",
    "some(where (p.eft == allow)) && !some(where (p.eft == deny))",
    "priority(p.eft) || deny",
]
MATCHERS = [
    "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act",
    "r.sub == p.sub && r.obj == p.obj && r.act == p.act",
    'g(r.sub, p.sub) && keyMatch(r.obj, p.obj) || r.sub == "root"',
    "p.act == r.act && !(r.sub == p.sub) && r.obj in ('/a', '/b')",
    "keyMatch(r.obj, p.obj) && g(r.sub, p.sub) && regexMatch(r.act, p.act)",
    "r.sub == p.sub || g(r.sub, p.sub) && r.obj != p.obj",
    "!g(r.sub, p.sub) && r.act >= p.act",
    "scope(r.obj, p.obj) && g(r.sub, p.sub) && r.act == p.act",
    "g(r.sub, p.sub) && (scope(r.obj, p.obj) || kind(r.act, p.act))",
    "r.act in p.act && scope(r.obj, p.obj)",
    '(r.sub == p.sub && r.obj == "/a") && r.act == p.act',
    "r.sub == p.sub == r.sub && r.obj == p.obj",
]
WHO = ["u", "v", "w", "x", "root", "y", "stranger"]
WHAT = ["/a", "/b", "/a/*", "*", "/a/b", "a.b", "*.b", "/*", "*./*"]
HOW = ["read", "write", "*", "vault"]
NAMES = st.sampled_from(WHO)
LINKS = st.lists(st.tuples(NAMES, NAMES).filter(lambda link: link[0] != link[1]), max_size=6, unique=True)
ROWS = st.tuples(NAMES, st.sampled_from(WHAT), st.sampled_from(HOW), st.sampled_from(["allow", "deny", "Deny"]))
ASKED = [(who, what, how) for who in WHO for what in ("/a", "/b", "/a/b", "x.a.b", "*") for how in HOW[:3]]
# Decisions in all: 100 examples, each 12 of the questions before and 8 after an edit, at each of 12 matchers.
EXAMPLES = 100


class FirstWord(Effector):
    """An effector of somebody's own that looks whether some rule did not match."""

    def intermediate_effect(self, effects: set[int]) -> int:
        return Effector.DENY if {Effector.DENY, Effector.INDETERMINATE} <= effects else Effector.INDETERMINATE

    def final_effect(self, effects: set[int]) -> int:
        if Effector.INDETERMINATE in effects and Effector.DENY in effects:
            return Effector.DENY
        return Effector.ALLOW if Effector.ALLOW in effects else Effector.DENY


def pair(effect: str, matcher: str, *, ruled: str = "sub, obj, act, eft") -> tuple[casbin.Enforcer, GateEnforcer]:
    text = MODEL.format(effect=effect, matcher=matcher, ruled=ruled)
    stock, ours = (
        casbin.Enforcer(casbin.Enforcer.new_model(text=text)),
        GateEnforcer(casbin.Enforcer.new_model(text=text)),
    )
    for enforcer in (stock, ours):
        for name, function in build_functions({}).items():
            enforcer.add_function(name, function)
    return stock, ours


def answer(enforcer: casbin.Enforcer, asked: Sequence[object]) -> object:
    try:
        return enforcer.enforce_ex(*asked)
    except Exception as error:  # noqa: BLE001 (what stock raises we must raise)
        return type(error)


def compare(stock: casbin.Enforcer, ours: GateEnforcer, asked: Sequence[Sequence[object]]) -> None:
    for values in asked:
        assert answer(ours, values) == answer(stock, values), values


@pytest.mark.parametrize("matcher", MATCHERS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(
    effect=st.sampled_from(EFFECTS),
    rows=st.lists(ROWS, min_size=1, max_size=8, unique=True),
    links=LINKS,
    asked=st.lists(st.sampled_from(ASKED), min_size=20, max_size=20),
    edit=st.tuples(st.integers(0, 3), ROWS, st.tuples(NAMES, NAMES)),
    own=st.booleans(),
)
def test_decision_and_explanation_are_those_of_stock_casbin(  # noqa: PLR0913, PLR0917 (what hypothesis draws)
    matcher: str,
    effect: str,
    rows: list[tuple[str, ...]],
    links: list[tuple[str, str]],
    asked: list[tuple[str, ...]],
    edit: tuple[int, tuple[str, ...], tuple[str, str]],
    own: bool,  # noqa: FBT001 (hypothesis draws it)
) -> None:
    stock, ours = pair(effect, matcher)
    for enforcer in (stock, ours):
        enforcer.add_policies([list(row) for row in rows])
        enforcer.add_grouping_policies([list(link) for link in links])
        if own:
            enforcer.set_effector(FirstWord())
    compare(stock, ours, asked[:12])
    which, row, link = edit
    for enforcer in (stock, ours):
        change(enforcer, which, rows[0], row, link)
    compare(stock, ours, asked[12:])


def change(enforcer: casbin.Enforcer, which: int, old: Sequence[str], new: Sequence[str], link: Sequence[str]) -> None:
    """Edit the live enforcer by the management API."""
    if which == 0:
        enforcer.add_policy(*new)
    elif which == 1:
        enforcer.remove_policy(*old)
    elif which == 2:
        enforcer.update_policy(list(old), list(new))
    elif link[0] != link[1]:
        enforcer.add_grouping_policy(*link)


@pytest.mark.parametrize("matcher", [each for each in MATCHERS if "== r.sub" not in each])
def test_these_matchers_are_compiled(matcher: str) -> None:
    _, ours = pair(EFFECTS[2], matcher)
    ours.add_policy("u", "/a", "read", "allow")
    assert ours.fallback_reason is None


@pytest.mark.parametrize(
    ("matcher", "why"),
    [
        ("eval(p.sub) && r.obj == p.obj", "eval()"),
        ("r.sub.name == p.sub", "left to stock Casbin"),
        ("nobody(r.sub)", "left to stock Casbin"),
        ("r.sub + p.sub == r.obj", "left to stock Casbin"),
        ("r.sub == p.sub; r.obj == p.obj", "not one expression"),
    ],
)
def test_what_is_not_proven_equal_is_left_to_stock_casbin(matcher: str, why: str) -> None:
    stock, ours = pair(EFFECTS[0], matcher)
    for enforcer in (stock, ours):
        enforcer.add_policy("u", "/a", "read", "allow")
    assert why in str(ours.fallback_reason)
    compare(stock, ours, [("u", "/a", "read")])


ODD = [
    ("u",), ("u", "/a", "read", "more"), (None, "/a", "read"), (1, "/a", "read"), (["u"], "/a", "read"),
    ("u", "/a", object()), ("u", "/a", 3), (True, False, 1.5),
]  # fmt: skip


@pytest.mark.parametrize("matcher", MATCHERS)
def test_odd_requests_end_as_in_stock_casbin(matcher: str) -> None:
    stock, ours = pair(EFFECTS[2], matcher)
    for enforcer in (stock, ours):
        enforcer.add_policies([["u", "/a", "read", "allow"], ["v", "/a", "read", "deny"]])
    compare(stock, ours, ODD)


@pytest.mark.parametrize("row", [["u", "/a"], ["u", "/%zz", "read", "allow"], ["u", 3, "read", "allow"]])
def test_odd_rows_end_as_in_stock_casbin(row: list[object]) -> None:
    stock, ours = pair(EFFECTS[2], MATCHERS[7])
    for enforcer in (stock, ours):
        enforcer.add_policy("u", "/a", "read", "allow")
        enforcer.get_model()["p"]["p"].policy.append(row)
    assert ours.fallback_reason is not None
    compare(stock, ours, [("u", "/a", "read"), ("v", "/a", "read")])


def test_functions_that_raise_raise_as_in_stock_casbin() -> None:
    stock, ours = pair(EFFECTS[2], "r.sub == p.sub && boom(r.obj) && r.act == p.act")
    for enforcer in (stock, ours):
        enforcer.add_function("boom", lambda what: 1 // (what != "/b"))
        enforcer.add_policies([["u", "/a", "read", "allow"], ["u", "/b", "write", "deny"]])
    assert ours.fallback_reason is None
    assert answer(ours, ("u", "/b", "write")) is ZeroDivisionError
    compare(stock, ours, [("u", "/b", "write"), ("v", "/b", "write"), ("u", "/a", "read")])


def test_every_setting_drops_what_was_compiled() -> None:
    _, ours = pair(EFFECTS[2], MATCHERS[0])
    ours.add_policy("u", "/a", "read", "allow")
    for edit in (
        lambda: ours.add_policy("v", "/a", "read", "allow"),
        lambda: ours.add_function("kind", lambda *_: True),
        lambda: ours.set_effector(FirstWord()),
        lambda: ours.add_named_matching_func("g", lambda one, two: one == two),
        lambda: ours.add_role_for_user("v", "u"),
        lambda: ours.remove_filtered_policy(0, "v"),
        ours.build_role_links,
        ours.clear_policy,
    ):
        ours.compiled()
        edit()
        assert ours._compiled is None


def test_a_role_manager_with_patterns_is_left_to_stock_casbin() -> None:
    stock, ours = pair(EFFECTS[0], MATCHERS[0])
    for enforcer in (stock, ours):
        enforcer.add_policy("team-1", "/a", "read", "allow")
        enforcer.add_named_matching_func("g", lambda one, two: one.startswith(two[:4]))
        enforcer.add_grouping_policy("team-x", "team-1")
    compare(stock, ours, [("team-y", "/a", "read"), ("u", "/a", "read")])


@pytest.mark.parametrize("hops", [8, 9, 10, 11])
def test_a_long_chain_of_roles_is_cut_where_stock_casbin_cuts_it(hops: int) -> None:
    stock, ours = pair(EFFECTS[0], MATCHERS[0])
    for enforcer in (stock, ours):
        enforcer.add_policy(f"r{hops}", "/a", "read", "allow")
        enforcer.add_grouping_policies([[f"r{at}", f"r{at + 1}"] for at in range(hops)] + [["r3", "r0"]])
    compare(stock, ours, [("r0", "/a", "read"), ("r1", "/a", "read"), ("r2", "/a", "read")])


def test_many_roles_and_strangers_are_answered_alike_and_leave_nothing() -> None:
    stock, ours = pair(EFFECTS[0], MATCHERS[0])
    for enforcer in (stock, ours):
        enforcer.add_policies([[f"r{number}", "/a", "read", "allow"] for number in range(0, 600, 7)])
        enforcer.add_grouping_policies([["u", f"r{number}"] for number in range(600)])
    compare(stock, ours, [("u", "/a", "read"), ("r7", "/a", "read"), ("r8", "/a", "read")])
    known = len(ours.get_role_manager().all_roles)
    for number in range(100):
        assert ours.enforce(f"stranger-{number}", "/a", "read") is False
    assert len(ours.get_role_manager().all_roles) == known


def test_rules_without_effects_and_a_disabled_enforcer_are_answered_alike() -> None:
    stock, ours = pair(EFFECTS[0], "r.sub == p.sub && r.obj == p.obj", ruled="sub, obj")
    for enforcer in (stock, ours):
        enforcer.add_policy("u", "/a")
    compare(stock, ours, [("u", "/a", "read"), ("v", "/a", "read")])
    for enforcer in (stock, ours):
        enforcer.enable_enforce(False)  # noqa: FBT003 (casbin's own way)
    compare(stock, ours, [("v", "/a", "read")])


def test_the_shipped_model_is_compiled() -> None:
    ours = GateEnforcer(casbin.Enforcer.new_model(text=SHIPPED), opaque=(Facts,))
    for name, function in build_functions({}).items():
        ours.add_function(name, function)
    ours.add_policy("id", "plugin:notes", "vault", "read", "notes/*", "-", "allow", "why")
    assert ours.fallback_reason is None


TEXTS = st.text(alphabet="ab/.*-", max_size=7)


@settings(max_examples=2000, deadline=None)
@given(pattern=TEXTS, scope=TEXTS)
def test_a_scope_is_covered_by_exactly_the_patterns_it_probes_for(pattern: str, scope: str) -> None:
    probes = scope_probes(scope)
    assert covers(pattern, scope) is (pattern in probes)
    assert len(set(probes)) == len(probes)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["vault", "gateway", "*", "todo"]), st.sampled_from(["vault", "gateway", "*", "todo", "file"]))
def test_a_kind_is_covered_by_exactly_the_kinds_it_probes_for(ruled: str, asked: str) -> None:
    assert kind_matches(asked, ruled) is (ruled in kind_probes(asked))


@settings(max_examples=3000, deadline=None)
@given(
    kind=st.sampled_from([*sorted(KNOWN_KINDS), "todo"]),
    scope=st.one_of(
        st.text(alphabet="aB1./:_-*[]%\u00e9 ", max_size=9),
        st.lists(st.sampled_from(["a", "..", ".", "", "b.example", "10", "0x7f", "-a", "_"]), max_size=4).map("/".join),
        st.lists(st.sampled_from(["a", "b-", "1", "0x1", "com", "x_y", ""]), max_size=4).map(".".join),
    ),
)
def test_a_plain_scope_is_known_to_be_canonical_only_where_it_is(kind: str, scope: str) -> None:
    try:
        wanted = canonical_scope(kind, scope) == scope
    except MalformedError:
        wanted = False
    if kind not in KNOWN_KINDS:
        wanted = "*" not in scope
    assert is_canonical(kind, scope) is wanted


@settings(max_examples=3000, deadline=None)
@given(
    kind=st.sampled_from([*sorted(KNOWN_KINDS), "todo", "*"]),
    pattern=st.tuples(
        st.sampled_from(["", "*.", "/"]),
        st.one_of(st.text(alphabet="aB1./:_-*", max_size=6), st.sampled_from(["a/b", "b.example", "a/../b", "10.1"])),
        st.sampled_from(["", "/*", "*"]),
    ).map("".join),
)
def test_a_plain_pattern_is_one_that_is_spelt_as_requests_are(kind: str, pattern: str) -> None:
    if is_plain_pattern(kind, pattern):
        host, path = pattern.removeprefix("*."), pattern.removesuffix("/*")
        if host != pattern:
            assert kind in {"network", "api"}
            assert canonical_scope("network", host) == host
        else:
            assert path == pattern or kind != "network"
            assert canonical_scope(kind, path) == path
