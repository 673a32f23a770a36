import dataclasses
from collections.abc import Callable
from datetime import datetime

import pytest
from msgspec import structs

from gateway.domain.condition import Rate
from gateway.domain.decision import Effect, Reason
from gateway.domain.request import AccessRequest, Facts
from gateway.errors import PolicyBrokenError
from gateway.policy.engine import PolicySet, build_policy_set
from gateway.policy.expression import Unproven
from gateway.policy.parse import parse_policy
from gateway.policy.text import PolicyText

Build = Callable[..., PolicySet]
Ask = Callable[[str, str, str, str], AccessRequest]
Edited = Callable[..., PolicyText]
RULES = """\
p, notes-all,     plugin:notes, vault,   write,   notes/*,         -,                      allow, notes
p, notes-secret,  plugin:notes, vault,   write,   notes/secret/*,  -,                      deny,  secrets are read only
p, notes-diary,   plugin:notes, vault,   read,    user_data/*,     business_hours; consent, allow, the diary
p, notes-diary-2, plugin:notes, vault,   read,    user_data/*,     consent,                allow, the diary
p, notes-web,     plugin:notes, network, read,    *.example.com,   rate(2/60s),            allow, the web
p, notes-run,     plugin:notes, system,  execute, /bin/ls,         approval,               allow, list
p, notes-mild,    plugin:notes, core,    read,    state,           risk<=10,               allow, state
p, notes-soon,    plugin:notes, core,    read,    later,           from(2027-01-01T00:00:00Z), allow, later
p, notes-own,     plugin:notes, user,    read,    profile,         resource.owner == subject.id, allow, own
p, guard-own,     plugin:notes, api,     read,    *,               context.safe != true,   deny,  unsafe
p, notes-api,     plugin:notes, api,     read,    shop/*,          -,                      allow, the shop
p, todo-close,    robot:r2,     todo,    close,   list/*,          -,                      allow, closing
p, todo-any,      robot:r2,     memo,    *,       *,               -,                      allow, memos
p, all-read,      user:alice,   *,       read,    *,               -,                      allow, alice reads all
p, all-see,       user:bob,     *,       can_see, *,               -,                      allow, bob sees all
p, people-see,    user:carol,   user,    can_see, *,               -,                      allow, carol sees people
p, people-hide,   user:carol,   user,    admin,   hidden/*,        -,                      deny,  but not these
p, all-all,       user:dave,    *,       *,       *,               -,                      allow, dave does all
"""
VERDICTS = [
    # who, kind, level, scope -> effect, reason, rule
    ("plugin:notes vault read notes/today", "allow rule notes-all"),
    ("plugin:notes vault write notes/today", "allow rule notes-all"),
    ("plugin:notes vault admin notes/today", "deny no_rule -"),
    ("plugin:notes vault read notes", "allow rule notes-all"),
    ("plugin:notes vault read notesx", "deny no_rule -"),
    ("plugin:notes vault read notes/secret/key", "allow rule notes-all"),
    ("plugin:notes vault write notes/secret/key", "deny rule notes-secret"),
    ("plugin:notes vault admin notes/secret/key", "deny rule notes-secret"),
    ("plugin:notes vault read user_data/diary", "deny consent_required notes-diary"),
    ("plugin:notes network read a.example.com", "allow rule notes-web"),
    ("plugin:notes network read a.example.com:8443", "deny no_rule -"),
    ("plugin:notes network read example.com", "deny no_rule -"),
    ("plugin:notes system execute /bin/ls", "deny approval_required notes-run"),
    ("plugin:notes core read state", "deny risk_too_high notes-mild"),
    ("plugin:notes core read later", "deny condition notes-soon"),
    ("plugin:notes user read profile", "deny condition notes-own"),
    ("plugin:notes api read shop/cart", "deny rule guard-own"),
    ("plugin:other vault read notes/today", "deny no_rule -"),
    ("robot:r2 todo close list/1", "allow rule todo-close"),
    ("robot:r2 todo open list/1", "deny no_rule -"),
    ("robot:r2 memo anything-at-all x", "allow rule todo-any"),
    ("user:alice vault read notes/today", "allow rule all-read"),
    ("user:alice todo read list/1", "allow rule all-read"),
    ("user:alice todo close list/1", "deny no_rule -"),
    ("user:alice gateway read policy", "deny no_rule -"),
    ("user:alice vault frobnicate notes", "deny no_rule -"),
    ("user:bob user can_see alice", "allow rule all-see"),
    ("user:bob todo can_see list/1", "allow rule all-see"),
    ("user:bob user read alice", "deny no_rule -"),
    ("user:bob gateway can_see policy", "deny no_rule -"),
    ("user:carol user can_see alice", "allow rule people-see"),
    ("user:carol user can_see hidden/alice", "deny rule people-hide"),
    ("user:carol user can_fire alice", "deny no_rule -"),
    ("user:dave user can_fire alice", "allow rule all-all"),
    ("user:dave gateway can_fire policy", "deny no_rule -"),
]


@pytest.fixture(scope="module")
def policy(build: Build) -> PolicySet:
    return build(RULES)


@pytest.fixture
def risky(noon: Facts) -> Facts:
    return structs.replace(noon, risk=50)


@pytest.mark.parametrize(("asked", "want"), VERDICTS, ids=[asked for asked, _ in VERDICTS])
def test_the_verdict_names_effect_reason_and_rule(
    policy: PolicySet, ask: Ask, risky: Facts, asked: str, want: str
) -> None:
    subject, kind, level, scope = asked.split(" ")
    verdict = policy.decide(ask(subject, kind, level, scope), risky)
    assert f"{verdict.effect} {verdict.reason} {verdict.rule.id if verdict.rule else '-'}" == want


def test_a_near_miss_names_what_is_missing(policy: PolicySet, ask: Ask, noon: Facts) -> None:
    at_night = structs.replace(noon, at=datetime.fromisoformat("2026-11-23T23:00:00+00:00"))
    verdict = policy.decide(ask("plugin:notes", "vault", "read", "user_data/diary"), at_night)
    assert [(miss.rule.id, miss.unmet) for miss in verdict.near_misses] == [
        ("notes-diary", ("business_hours", "consent")),
        ("notes-diary-2", ("consent",)),
    ]
    assert verdict.reason is Reason.CONSENT_REQUIRED
    assert verdict.rule is not None
    assert verdict.rule.id == "notes-diary-2"
    assert verdict.near_misses[0].reasons[0] == "it is outside `business_hours`"


def test_a_deny_that_is_unmet_does_not_speak(policy: PolicySet, ask: Ask, noon: Facts) -> None:
    safe = structs.replace(noon, attributes={"context": {"safe": True}})
    verdict = policy.decide(ask("plugin:notes", "api", "read", "shop/cart"), safe)
    assert (verdict.effect, verdict.near_misses) == (Effect.ALLOW, ())


def test_only_an_allow_charges_its_rate_and_deciding_uses_nothing_up(policy: PolicySet, ask: Ask, noon: Facts) -> None:
    asked: list[str] = []

    def used(rule_id: str, _rate: Rate) -> int:
        asked.append(rule_id)
        return len(asked) - 1

    facts = structs.replace(noon, used=used)
    request = ask("plugin:notes", "network", "read", "a.example.com")
    verdicts = [policy.decide(request, facts) for _ in range(3)]
    assert asked == ["notes-web"] * 3  # asked once for each decision
    assert [verdict.reason for verdict in verdicts] == [Reason.RULE, Reason.RULE, Reason.RATE_LIMITED]
    assert verdicts[0].charge is not None
    assert (verdicts[0].charge.rule_id, verdicts[0].charge.rate.count) == ("notes-web", 2)
    assert verdicts[2].charge is None
    assert [dict(verdict.counters) for verdict in verdicts] == [{"notes-web": used} for used in range(3)]


@pytest.mark.parametrize("scope", ["/etc/../etc/passwd", "etc", "/etc/", "/*", "/a\x00b", "", "/etc//passwd"])
def test_a_request_that_is_not_canonical_is_an_error_and_never_passes(
    build: Build, ask: Ask, noon: Facts, scope: str
) -> None:
    policy = build("p, a, plugin:notes, file, admin, *, -, allow, why")
    verdict = policy.decide(ask("plugin:notes", "file", "read", scope), noon)
    assert (verdict.effect, verdict.reason) == (Effect.DENY, Reason.ERROR)


def test_whatever_breaks_while_deciding_is_a_deny(policy: PolicySet, ask: Ask, noon: Facts) -> None:
    broken = structs.replace(noon, used=lambda _rule, _rate: 1 // 0)
    verdict = policy.decide(ask("plugin:notes", "network", "read", "a.example.com"), broken)
    assert (verdict.effect, verdict.reason) == (Effect.DENY, Reason.CONDITION)
    nonsense = structs.replace(ask("plugin:notes", "vault", "read", "notes"), subject=None)  # type: ignore[arg-type]
    assert policy.decide(nonsense, noon).reason is Reason.ERROR


def test_the_shipped_model_never_falls_back_to_stock_casbin(policy: PolicySet) -> None:
    assert policy.fallback_reason is None
    assert policy.with_memberships({"plugin:notes": ("group:plugins",)}, 2).fallback_reason is None


@pytest.fixture
def beside_stock(policy: PolicySet, monkeypatch: pytest.MonkeyPatch) -> PolicySet:
    """Give the same rules with a compiler that proves nothing."""

    def refuse(*_args: object) -> None:
        raise Unproven("nothing is proven")

    monkeypatch.setattr("gateway.policy.enforcer.compile_enforcer", refuse)
    return build_policy_set(policy.parsed, memberships={}, generation=2)


@pytest.mark.parametrize(("asked", "want"), VERDICTS, ids=[asked for asked, _ in VERDICTS])
def test_what_cannot_be_compiled_is_answered_by_stock_casbin_alike(
    beside_stock: PolicySet, ask: Ask, risky: Facts, asked: str, want: str
) -> None:
    subject, kind, level, scope = asked.split(" ")
    assert beside_stock.fallback_reason == "nothing is proven"
    verdict = beside_stock.decide(ask(subject, kind, level, scope), risky)
    assert f"{verdict.effect} {verdict.reason} {verdict.rule.id if verdict.rule else '-'}" == want


def test_a_judge_who_disagrees_with_casbin_lets_nobody_pass(
    policy: PolicySet, beside_stock: PolicySet, build: Build, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    noon = Facts(at=datetime.fromisoformat("2026-11-23T11:00:00+00:00"))
    request = ask("plugin:notes", "vault", "read", "notes/today")
    assert policy.decide(request, noon).effect is Effect.ALLOW
    other = build("p, a, plugin:notes, vault, read, other, -, allow, why")
    for torn in (
        dataclasses.replace(beside_stock, parsed=other.parsed),
        dataclasses.replace(other, enforcer=beside_stock.enforcer),
    ):
        caplog.clear()
        verdict = torn.decide(request, noon)
        assert (verdict.effect, verdict.reason) == (Effect.DENY, Reason.ERROR)
        assert "casbin and its explanation differ" in caplog.text


def test_a_case_of_letters_is_another_subject(policy: PolicySet, ask: Ask, noon: Facts) -> None:
    for subject in ("plugin:Notes", "plugin:notes ", "PLUGIN:notes", "plugin:notes%00", "notes", "plugin:n\u043etes"):
        assert policy.decide(ask(subject, "vault", "read", "notes/today"), noon).reason is Reason.NO_RULE


def test_a_caller_that_names_itself_like_a_group_is_nobody(build: Build, ask: Ask, noon: Facts) -> None:
    policy = build("p, a, robot:r%252C2, vault, read, x, -, allow, why")
    assert policy.decide(ask("robot:r%2C2", "vault", "read", "x"), noon).effect is Effect.ALLOW
    assert policy.decide(ask("robot:r,2", "vault", "read", "x"), noon).effect is Effect.DENY


def test_memberships_change_without_the_rules(build: Build, ask: Ask, noon: Facts) -> None:
    policy = build("p, a, tier:high, vault, read, x, -, deny, why\np, b, plugin:notes, vault, read, x, -, allow, why")
    request = ask("plugin:notes", "vault", "read", "x")
    risen = policy.with_memberships({"plugin:notes": ("group:plugins", "tier:high")}, 2)
    assert policy.decide(request, noon).effect is Effect.ALLOW
    assert risen.decide(request, noon).effect is Effect.DENY
    assert (risen.generation, risen.version, risen.tier_of("plugin:notes")) == (2, policy.version, "high")


def test_text_with_errors_builds_nothing(edited: Edited) -> None:
    parsed = parse_policy(edited({"rules/90-here.csv": "nonsense"}))
    with pytest.raises(PolicyBrokenError, match=r"rules/90-here.csv:1"):
        build_policy_set(parsed, memberships={}, generation=1)


def test_what_is_stored_wins_over_what_was_sent(build: Build, ask: Ask, noon: Facts) -> None:
    rule = "p, a, user:alice, todo, read, 1, subject.clearance == high; resource.owner == subject.id, allow, why"
    policy = build(rule, entities_toml='[user.alice]\nclearance = "low"\n[todo.1]\nowner = "alice"\n')
    request = ask("user:alice", "todo", "read", "1")
    sent = {"subject": {"clearance": "high", "id": "bob"}, "resource": {"owner": "bob"}}
    attributes = policy.attributes(request, sent)
    assert attributes["subject"] == {"clearance": "low", "id": "alice", "type": "user"}
    assert attributes["resource"] == {"owner": "alice", "id": "1", "type": "todo"}
    assert policy.decide(request, structs.replace(noon, attributes=attributes)).reason is Reason.CONDITION


def test_people_settle_consents_of_their_own_whatever_the_caller_sends(build: Build, ask: Ask, noon: Facts) -> None:
    policy = build("p, a, plugin:notes, vault, read, x, -, allow, why", {"user:bob": ("group:users",)})
    for whose, effect in (("bob", Effect.ALLOW), ("alice", Effect.DENY)):
        request = ask("user:bob", "gateway", "write", f"consents/{whose}")
        attributes = policy.attributes(request, {"resource": {"user": "bob"}, "subject": {"id": whose}})
        assert policy.decide(request, structs.replace(noon, attributes=attributes)).effect is effect
