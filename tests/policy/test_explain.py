from collections.abc import Callable
from datetime import UTC, datetime

from msgspec import structs

from gateway.domain.decision import Decision, Reason
from gateway.domain.names import UserId
from gateway.domain.request import AccessRequest, Facts
from gateway.policy.engine import PolicySet
from gateway.policy.explain import explain

Build = Callable[..., PolicySet]
Ask = Callable[[str, str, str, str], AccessRequest]


def decision(policy: PolicySet, request: AccessRequest, facts: Facts) -> Decision:
    return Decision(
        decision_id="019a",
        at=datetime(2026, 11, 23, 11, tzinfo=UTC),
        request=request,
        verdict=policy.decide(request, facts),
        risk=policy.score(request),
        policy_version=policy.version,
        generation=policy.generation,
    )


def test_a_near_miss_is_told_in_sentences_from_the_json_alone(build: Build, ask: Ask, noon: Facts) -> None:
    policy = build("p, diary, plugin:notes, vault, read, user_data/*, consent, allow, the diary")
    request = structs.replace(ask("plugin:notes", "vault", "read", "user_data/x"), user=UserId("alice"))
    assert explain(decision(policy, request, noon).as_json()) == [
        "`plugin:notes`, on behalf of `alice`, may not read `user_data/x` of kind vault.",
        "Rule `diary` (rules/90-here.csv:1) would allow it, but not every one of its conditions holds.",
        "The user can consent.",
        "Rule `diary` (rules/90-here.csv:1) would allow it but for `consent` (the user has not consented).",
        "Its risk is 10 of 100, low (vault.read 10).",
        f"Decided at 2026-11-23T11:00:00.000000Z by generation 1 of the policy, version {policy.version}.",
    ]


def test_a_rule_is_named_for_an_allow_as_for_a_deny(build: Build, ask: Ask, noon: Facts) -> None:
    policy = build(
        "p, a, plugin:notes, vault, write, notes/*, -, allow, notes\n"
        "p, d, plugin:notes, vault, write, notes/*, -, deny, read only"
    )
    allowed = explain(decision(policy, ask("plugin:notes", "vault", "read", "notes/x"), noon).as_json())
    denied = explain(decision(policy, ask("plugin:notes", "vault", "write", "notes/x"), noon).as_json())
    assert allowed[:2] == [
        "`plugin:notes` may read `notes/x` of kind vault.",
        "Rule `a` (rules/90-here.csv:1) allows it: notes.",
    ]
    assert denied[1] == "Rule `d` (rules/90-here.csv:2) denies it: read only."


def test_every_reason_has_its_sentence(build: Build, ask: Ask, noon: Facts) -> None:
    made = decision(
        build("p, a, plugin:notes, vault, read, x, -, allow, why"), ask("user:x", "vault", "read", "y"), noon
    )
    for reason in Reason:
        body = {**made.as_json(), "reason": reason.value, "rule": {"id": "a", "file": "f", "line": 1, "why": "w"}}
        assert len(explain(body)) >= 4, reason


def test_an_old_or_broken_record_is_explained_as_far_as_it_goes() -> None:
    assert explain({})
    assert explain({"risk": 7, "near_misses": "none", "rule": [], "reason": "rule"})


def test_every_rule_that_spoke_is_told(build: Build, ask: Ask, noon: Facts) -> None:
    policy = build(
        "p, a, plugin:notes, vault, write, notes/*, -, allow, notes\n"
        "p, b, plugin:notes, vault, read, notes/x, -, allow, this one\n"
        "p, c, plugin:notes, vault, read, notes/x/*, -, deny, not below\n"
        "p, d, plugin:notes, vault, read, notes/x/y, -, deny, nor here\n"
    )
    told = explain(decision(policy, ask("plugin:notes", "vault", "read", "notes/x/y"), noon).as_json())
    assert told[1:4] == [
        "Rule `c` (rules/90-here.csv:3) denies it: not below.",
        "Rule `a` (rules/90-here.csv:1) allows it, but a deny outranks every allow.",
        "Rule `d` (rules/90-here.csv:4) also denies it: nor here.",
    ]


def test_what_was_erased_is_said_to_be(build: Build, ask: Ask, noon: Facts) -> None:
    policy = build("p, a, user:alice, vault, read, x, consent, allow, why")
    made = decision(policy, ask("user:alice", "vault", "read", "x"), noon).as_json()
    erased = {**made, "subject": None, "scope": None, "user": None, "near_misses": None}
    told = explain(erased)
    assert told[0] == "Somebody whose name was erased may not read something whose name was erased of kind vault."
    assert "Which rules nearly allowed it was erased with a person's data." in told
