"""A model that the operator wrote: what it may say, and that it means what it means to stock Casbin."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain.decision import Effect, Reason
from gateway.domain.request import AccessRequest, Facts
from gateway.policy.engine import PolicySet, build_policy_set
from gateway.policy.model import SHIPPED
from gateway.policy.parse import parse_policy
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
