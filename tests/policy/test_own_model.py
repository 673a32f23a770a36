"""A model that the operator wrote: what it may say, and that it means what it means to stock Casbin."""

from datetime import UTC, datetime

import pytest
from casbin.core_enforcer import CoreEnforcer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain.decision import Effect, Reason
from gateway.domain.names import Subject
from gateway.domain.permission import Kind
from gateway.domain.request import AccessRequest, Facts
from gateway.policy.diff import compare
from gateway.policy.engine import PolicySet, build_policy_set
from gateway.policy.impact import Replay
from gateway.policy.model import SHIPPED
from gateway.policy.parse import parse_policy
from gateway.policy.replay import KeptFacts, Recorded
from gateway.policy.selfcheck import differences
from gateway.policy.text import PolicyText
from tests.policy.conftest import Ask, WithEdits
from tests.policy.test_stock_casbin import MEMBERS, ROLES, facts, requests, rule_lines, stock_answer, stock_enforcer

ALLOW = "some(where (p.eft == allow))"
BOTH = f"{ALLOW} && !some(where (p.eft == deny))"
EFFECTS = [ALLOW, BOTH, "priority(p.eft) || deny"]
SHIPPED_MATCHER = SHIPPED.partition("m = ")[2].strip()
COND = "cond(p.cond, p.eft, r.ctx)"
MATCHERS = [
    SHIPPED_MATCHER,
    f'(r.level != "admin" || p.id == "r0") && {SHIPPED_MATCHER}',
    f"{SHIPPED_MATCHER} && !(p.kind == '*')",
    f'(g(r.sub, p.sub) || p.sub == "group:family") && r.kind == p.kind && scope(r.scope, p.scope) && {COND}',
    f'{COND} && r.sub == p.sub && r.kind in ("vault", "todo") && level(r.kind, r.level, p.level, p.eft)',
]


def spelt(effect: str = BOTH, matcher: str = SHIPPED_MATCHER, shipped: str = SHIPPED) -> str:
    return shipped.replace(f"e = {BOTH}", f"e = {effect}").replace(f"m = {SHIPPED_MATCHER}", f"m = {matcher}")


def build_own(starter_text: PolicyText, model: str, lines: list[str]) -> tuple[PolicyText, PolicySet]:
    kept = {name: starter_text.files[name] for name in ("conditions.toml", "risk.toml")}
    rules = "\n".join(f"p, r{number}, {line}, why {number}" for number, line in enumerate(lines))
    own = {"model.conf": model.encode(), "roles.csv": ROLES.encode(), "rules/90-here.csv": rules.encode()}
    text = PolicyText({**kept, **own})
    parsed = parse_policy(text, model=None)
    assert parsed.errors == ()
    return text, build_policy_set(parsed, memberships=MEMBERS, generation=1)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    effect=st.sampled_from(EFFECTS),
    matcher=st.sampled_from(MATCHERS),
    lines=st.lists(rule_lines(), min_size=1, max_size=12, unique=True),
    asked=st.lists(st.tuples(requests(), facts()), min_size=3, max_size=6),
)
def test_every_answer_is_that_of_stock_casbin_under_the_same_model(
    starter_text: PolicyText, effect: str, matcher: str, lines: list[str], asked: list[tuple[AccessRequest, Facts]]
) -> None:
    text, policy = build_own(starter_text, spelt(effect, matcher), lines)
    enforcer = stock_enforcer(text, policy.parsed, MEMBERS)
    for request, given_facts in asked:
        verdict = policy.decide(request, given_facts)
        assert verdict.reason is not Reason.ERROR
        assert (verdict.effect is Effect.ALLOW) is stock_answer(enforcer, request, given_facts)
        if verdict.effect is Effect.ALLOW:
            assert verdict.rule is not None
            spoke = {ref.id for ref, said in verdict.spoke if said is Effect.ALLOW}
            assert verdict.rule.id in spoke
            assert spoke <= {rule.id for rule in policy.candidates(request)}


NAMES = ["r.sub", "r.kind", "r.level", "r.scope", *(f"p.{name}" for name in ("id", "sub", "scope", "cond", "why"))]
LITERALS = ['"vault"', "'read'", '"notes/diary"', '"*"', '"a!=b"', '"x && y"', '"r.sub"']
TEXTS = st.sampled_from(NAMES + LITERALS)
WRITTEN = [
    "g(r.sub, p.sub)",
    "kind(r.kind, p.kind)",
    "scope(r.scope, p.scope)",
    "level(r.kind, r.level, p.level, p.eft)",
]
ATOMS = st.one_of(
    st.sampled_from(WRITTEN),
    st.builds("g(r.sub, {})".format, TEXTS),
    st.builds("{}({}, {})".format, st.sampled_from(["kind", "scope"]), TEXTS, TEXTS),
    st.builds("{} {} {}".format, TEXTS, st.sampled_from(["==", "!=", "<=", ">", "in", "not in"]), TEXTS),
    st.builds("{} in ({}, {})".format, TEXTS, st.sampled_from(LITERALS), st.sampled_from(LITERALS)),
)


def joined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(st.builds("({} && {})".format, parts, parts), st.builds("({} || {})".format, parts, parts),
                     st.builds("!({})".format, parts))  # fmt: skip


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    effect=st.sampled_from(EFFECTS),
    said=st.lists(st.recursive(ATOMS, joined, max_leaves=6), min_size=1, max_size=4),
    lines=st.lists(rule_lines(), min_size=1, max_size=8, unique=True),
    asked=st.lists(st.tuples(requests(), facts()), min_size=2, max_size=4),
)
def test_whatever_a_matcher_may_say_no_answer_fails_or_differs(
    starter_text: PolicyText, effect: str, said: list[str], lines: list[str], asked: list[tuple[AccessRequest, Facts]]
) -> None:
    matcher = " && ".join([*said, COND])
    if parse_policy(starter_text.with_file("model.conf", spelt(effect, matcher).encode()), model=None).errors:
        return
    text, policy = build_own(starter_text, spelt(effect, matcher), lines)
    assert policy.fallback_reason is None
    enforcer = stock_enforcer(text, policy.parsed, MEMBERS)
    for request, given_facts in asked:
        verdict = policy.decide(request, given_facts)
        assert verdict.reason is not Reason.ERROR
        assert (verdict.effect is Effect.ALLOW) is stock_answer(enforcer, request, given_facts)


def test_what_keeps_a_rule_from_speaking_is_told(starter_text: PolicyText, ask: Ask, noon: Facts) -> None:
    lines = ["plugin:notes, vault, read, diary, consent, allow", "plugin:notes, vault, read, mail, -, allow"]
    _, policy = build_own(starter_text, spelt(matcher=f'r.scope != "mail" && {SHIPPED_MATCHER}'), lines)
    verdict = policy.decide(ask("plugin:notes", "vault", "read", "diary"), noon)
    assert (verdict.effect, verdict.reason) == (Effect.DENY, Reason.CONSENT_REQUIRED)
    assert [near.rule.id for near in verdict.near_misses] == ["r0"]
    verdict = policy.decide(ask("plugin:notes", "vault", "read", "mail"), noon)
    assert (verdict.effect, verdict.reason) == (Effect.DENY, Reason.NO_RULE)


WRONG = {
    "an allow of what no rule allows": (spelt("!some(where (p.eft == deny))"), 8, "one of"),
    "other columns": (SHIPPED.replace("cond, eft, why", "cond, eft"), 4, "only effect and matcher may differ"),
    "another question": (SHIPPED.replace("r = sub, kind", "r = kind, sub"), 2, "only effect and matcher may differ"),
    "a second matcher": (f"{SHIPPED}m2 = true\n", 11, "a section has one line"),
    "an unknown section": (f"{SHIPPED}[extra]\nx = 1\n", 11, "the sections are"),
    "no matcher": (SHIPPED.partition("[matchers]")[0], 1, "[matchers] is missing"),
    "rules without their conditions": (spelt(matcher="g(r.sub, p.sub)"), 10, "cond(p.cond, p.eft, r.ctx)"),
    "a condition that can be passed by": (spelt(matcher=f"r.sub == p.sub || {COND}"), 10, "stands in it"),
    "facts that are read beside it": (spelt(matcher=f"r.ctx == p.why && {COND}"), 10, "nowhere else"),
    "rules that are programs": (spelt(matcher=f"eval(p.why) && {COND}"), 10, "eval"),
    "a program": (spelt(matcher=f"__import__('os').system('id') && {COND}"), 10, "the matcher"),
    "no expression": (spelt(matcher=f"r.sub == && {COND}"), 10, "cannot be parsed"),
    "words that run together": (spelt(matcher=f"r.sub == p.sub&&{COND}"), 10, "the matcher"),
    "a line that goes on": (spelt(matcher=f"r.sub == p.sub && {COND} \\"), 10, "the matcher"),
    "a remark within": (spelt(matcher=f"r.sub == p.sub && {COND} # always"), 10, "without `#`"),
    "a section that only we would find": (SHIPPED.replace("[matchers]", "[ matchers ]"), 10, "Casbin reads [matchers]"),
    "a name that only we would find": (SHIPPED.replace("r = sub,", "r = s ub,"), 2, "only effect and matcher"),
    "an effect that only we would know": (spelt(ALLOW.replace(" ", "")), 8, "one of"),
    "too few values": (spelt(matcher=f"level(r.level, p.level) && {COND}"), 10, "`level` takes 4 texts"),
    "too many values": (spelt(matcher=f"g(r.sub, p.sub, p.why) && {COND}"), 10, "`g` takes 2 texts"),
    "a condition twice": (spelt(matcher=f'cond(p.why, p.eft, "x") && {COND}'), 10, "stands in it once"),
    "a text for a truth": (spelt(matcher=f"p.why && {COND}"), 10, "`p_why`"),
    "a truth": (spelt(matcher=f"True && {COND}"), 10, "`True`"),
    "a number": (spelt(matcher=f"r.level > 3 && {COND}"), 10, "`r_level > 3`"),
    "what others belong to": (spelt(matcher=f'g(p.sub, "tier:low") && {COND}'), 10, "what `r.sub` belongs to"),
    "a program in quotes": (spelt(matcher=f'r.scope != " eval(p.why) " && {COND}'), 10, "rules are no programs"),
    "rights over the gateway": (spelt(matcher=f'r.kind != "gateway" && {COND}'), 10, "goes by the shipped model"),
    "depth": (spelt(matcher=f"{'!' * 60}(r.sub == p.sub) && {COND}"), 10, "nested deeper"),
    "no text": ("\x00\xff", 1, "is missing"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_model_says_nothing_else(edited: WithEdits, fault: str) -> None:
    model, line, words = WRONG[fault]
    errors = parse_policy(edited({"model.conf": model}), model=None).errors
    assert any(
        each.place.file == "model.conf" and each.place.line == line and words in each.message for each in errors
    ), [str(each) for each in errors]


def test_the_shipped_model_is_as_fast_where_an_own_one_is_allowed(edited: WithEdits) -> None:
    parsed = parse_policy(edited({"model.conf": f"# as it was\n\n{SHIPPED}"}), model=None)
    assert parsed.errors == ()
    assert build_policy_set(parsed, memberships={}, generation=1).fallback_reason is None


@pytest.mark.parametrize("matcher", [SHIPPED_MATCHER, f'(p.cond == "-" || r.level != "admin") && {SHIPPED_MATCHER}'])
def test_stock_casbin_need_not_try_each_rule(
    starter_text: PolicyText, noon: Facts, monkeypatch: pytest.MonkeyPatch, matcher: str
) -> None:
    rules = ["plugin:notes, vault, read, diary, -, allow", "plugin:notes, vault, read, mail, rate(3/60s), allow"]
    _, policy = build_own(starter_text, spelt(ALLOW, matcher), rules)
    monkeypatch.delattr(CoreEnforcer, "enforce_ex")
    # As the gateway asks for a plugin: the kind is a word of its own, no plain text.
    request = AccessRequest(subject=Subject("plugin:notes"), user=None, kind=Kind.VAULT, level="read", scope="mail")
    assert policy.decide(request, noon).effect is Effect.ALLOW


HIDES = f'(p.kind == "*" || r.kind == p.kind) && r.level != "read" && scope(r.scope, p.scope) && {COND}'


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("matcher", [SHIPPED_MATCHER, HIDES])
def test_what_people_may_do_to_the_gateway_goes_by_the_shipped_model(
    starter_text: PolicyText, ask: Ask, noon: Facts, effect: str, matcher: str
) -> None:
    lines = [
        "user:alice, *, admin, *, -, allow",
        "user:bob, gateway, admin, *, -, allow",
        "user:bob, gateway, write, audit, -, deny",
    ]
    _, policy = build_own(starter_text, spelt(effect, matcher), lines)
    asked = [(who, level, scope) for who in ("alice", "bob", "carol") for level, scope in LEVELS]
    answers = {each: policy.decide(ask(f"user:{each[0]}", "gateway", *each[1:]), noon).effect.value for each in asked}
    assert [each for each, effect in answers.items() if effect == "allow"] == [
        ("bob", "read", "plugins/notes"),
        ("bob", "admin", "plugins/notes"),
        ("bob", "read", "audit"),
    ]
    requests = [ask(f"user:{who}", "gateway", level, scope) for who, level, scope in asked]
    assert list(differences(policy, requests, noon)) == []


LEVELS = [("read", "plugins/notes"), ("admin", "plugins/notes"), ("read", "audit"), ("admin", "audit")]
WAITS = "plugin:notes, vault, read, diary, {}, allow"
DENIES = "plugin:notes, vault, read, *, -, deny"
# Under an effect, by the rules in their order: the reason and the rule that are told of a deny.
TOLD = [
    (ALLOW, [DENIES, WAITS.format("approval")], Reason.APPROVAL_REQUIRED, "r1"),
    (ALLOW, [DENIES], Reason.NO_RULE, None),
    (EFFECTS[2], [WAITS.format("consent"), DENIES], Reason.CONSENT_REQUIRED, "r0"),
    (EFFECTS[2], [WAITS.format("rate(1/60s)"), DENIES], Reason.RATE_LIMITED, "r0"),
    (EFFECTS[2], [DENIES, WAITS.format("consent")], Reason.RULE, "r0"),
    (BOTH, [WAITS.format("consent"), DENIES], Reason.RULE, "r1"),
]


@pytest.mark.parametrize(("effect", "lines", "reason", "rule"), TOLD)
def test_a_deny_names_what_would_have_to_come_true(
    starter_text: PolicyText, ask: Ask, effect: str, lines: list[str], reason: Reason, rule: str | None
) -> None:
    matcher = f'r.kind != "core" && {SHIPPED_MATCHER}'
    _, policy = build_own(starter_text, spelt(effect, matcher), lines)
    given_facts = Facts(at=datetime(2026, 11, 23, 11, tzinfo=UTC), used=lambda _rule_id, _rate: 1)
    verdict = policy.decide(ask("plugin:notes", "vault", "read", "diary"), given_facts)
    assert (verdict.effect, verdict.reason) == (Effect.DENY, reason)
    assert (verdict.rule and verdict.rule.id) == rule


def test_a_replay_sees_an_edit_of_the_order_where_it_decides(starter_text: PolicyText, ask: Ask, noon: Facts) -> None:
    first, second = "plugin:notes, vault, read, diary, -, allow", DENIES
    _, now = build_own(starter_text, spelt(EFFECTS[2]), [first, second])
    text = now.parsed.text.files["rules/90-here.csv"].decode().splitlines()
    edited = parse_policy(now.parsed.text.with_file("rules/90-here.csv", "\n".join(text[::-1]).encode()), model=None)
    request = ask("plugin:notes", "vault", "read", "diary")
    recorded = Recorded(
        decision_id="d", subject=request.subject, user=None, kind=request.kind, level=request.level,
        scope=request.scope, allowed=True, reason=Reason.RULE, facts=KeptFacts(at=noon.at), policy_version=now.version,
    )  # fmt: skip
    replay = Replay(now, build_policy_set(edited, memberships=MEMBERS, generation=0))
    replay.add([recorded])
    assert [(flip.before, flip.after) for flip in replay.finish().flips] == [(Effect.ALLOW, Effect.DENY)]


def test_a_comparison_tells_that_the_models_differ(starter_text: PolicyText) -> None:
    rules = ["plugin:notes, vault, read, diary, -, allow"]
    (_, one), (_, other) = (build_own(starter_text, spelt(effect), rules) for effect in (BOTH, ALLOW))
    found = compare(one.parsed, other.parsed)
    assert (found.same, found.other_files, found.own_model) == (False, ("model.conf",), True)


def test_nobody_prints_who_asks_for_what(
    starter_text: PolicyText, ask: Ask, noon: Facts, capfd: pytest.CaptureFixture[str]
) -> None:
    _, policy = build_own(starter_text, spelt(ALLOW), ["plugin:notes, vault, read, diary, -, allow"])
    policy.decide(ask("plugin:notes", "vault", "read", "secret"), noon)
    assert "secret" not in "".join(capfd.readouterr())


ODD = ["[matchers]", "\nm = true", "!", "||", "'", '"r.sub"', "\\\n", ";", "#", "[0]", "(" * 200, "g(", "r2.sub"]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    at=st.integers(0, len(SHIPPED)),
    length=st.integers(0, 40),
    put=st.one_of(st.text(max_size=12), st.sampled_from(ODD)),
)
def test_whatever_a_model_says_it_is_refused_or_means_what_it_means_to_casbin(
    starter_text: PolicyText, ask: Ask, noon: Facts, at: int, length: int, put: str
) -> None:
    model = SHIPPED[:at] + put + SHIPPED[at + length :]
    rules = b"p, r, plugin:notes, vault, read, diary, -, allow, why"
    kept = {name: starter_text.files[name] for name in ("conditions.toml", "risk.toml")}
    text = {**kept, "model.conf": model.encode("utf-8", "replace"), "roles.csv": b"", "rules/1.csv": rules}
    parsed = parse_policy(PolicyText(text), model=None)
    if not parsed.ok:
        assert any(each.place.file == "model.conf" for each in parsed.errors)
        return
    policy = build_policy_set(parsed, memberships={}, generation=1)
    enforcer = stock_enforcer(parsed.text, parsed, {})
    for subject in ("plugin:notes", "plugin:stranger"):
        request = ask(subject, "vault", "read", "diary")
        try:
            theirs = stock_answer(enforcer, request, noon)
        except Exception:  # noqa: BLE001 (whatever Casbin raises is a deny here)
            theirs = False
        assert (policy.decide(request, noon).effect is Effect.ALLOW) is theirs
