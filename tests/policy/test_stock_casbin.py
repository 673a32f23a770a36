"""The policy files mean to stock Casbin, read by its own FileAdapter, what they mean to us."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import casbin
import pytest
from casbin.persist.adapters import FileAdapter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain.condition import Rate
from gateway.domain.decision import Effect, Reason
from gateway.domain.names import Subject
from gateway.domain.request import AccessRequest, Facts
from gateway.policy.encode import encode_field
from gateway.policy.engine import PolicySet, build_policy_set
from gateway.policy.functions import build_functions
from gateway.policy.parse import ParsedPolicy, parse_policy
from gateway.policy.text import PolicyText

SUBJECTS = ["plugin:notes", "plugin:weather", "group:plugins", "group:family", "tier:low", "user:alice", "robot:r%2C2"]
KINDS = ["vault", "file", "network", "*", "todo"]
LEVELS = ["read", "write", "execute", "admin"]
SCOPES = {
    "vault": ["notes/*", "notes/diary", "notes/a%2Cb", "*", "n%C3%B6tes/*", "odd (one)/*"],
    "file": ["/etc/*", "/etc/passwd", "/*", "*", "/home/a b/*"],
    "network": ["example.com", "*.example.com", "example.com:8443", "*", "[::1]:8080"],
    "todo": ["*", "list/*", "list/1", "a b%2Cc"],
    "*": ["*", "notes/*"],
}
ASKED = {
    "vault": ["notes", "notes/diary", "notes/a,b", "notesx", "nötes/x", "odd (one)/x"],
    "file": ["/etc", "/etc/passwd", "/etcetera", "/home/a b/c"],
    "network": ["example.com", "a.example.com", "example.com:8443", "a.example.com:8443", "[::1]:8080"],
    "todo": ["list/1", "list", "a b,c"],
}
BOTH = ["-", "business_hours", "hours(22:00-06:00 Mon-Fri UTC)", "until(2026-11-24T00:00:00Z)", "context.size <= 10",
        "resource.owner == subject.id", "context.word in a|b%2Cc", "context.word startswith b%2C", "args.flag == true",
]  # fmt: skip
ALLOWS = [*BOTH, "consent", "approval; consent", "rate(3/60s)", "risk<=40; business_hours"]
ASKING = ["plugin:notes", "plugin:weather", "user:alice", "robot:r,2", "plugin:stranger"]
MEMBERS = {"plugin:notes": ("group:plugins", "tier:low"), "plugin:weather": ("group:plugins", "tier:high")}
ROLES = "g, user:alice, group:family\ng, plugin:weather, group:family\n"


@st.composite
def rule_lines(draw: st.DrawFn) -> str:
    kind = draw(st.sampled_from(KINDS))
    level = draw(st.sampled_from(LEVELS if kind != "todo" else ["read", "close", "*"]))
    effect = draw(st.sampled_from(["allow", "allow", "deny"]))
    condition = draw(st.sampled_from(ALLOWS if effect == "allow" else BOTH))
    fields = (draw(st.sampled_from(SUBJECTS)), kind, level, draw(st.sampled_from(SCOPES[kind])), condition, effect)
    return ", ".join(fields)


@st.composite
def requests(draw: st.DrawFn) -> AccessRequest:
    kind = draw(st.sampled_from(list(ASKED)))
    level = draw(st.sampled_from(LEVELS if kind != "todo" else ["read", "close"]))
    subject = Subject(draw(st.sampled_from(ASKING)))
    return AccessRequest(subject=subject, user=None, kind=kind, level=level, scope=draw(st.sampled_from(ASKED[kind])))


@st.composite
def facts(draw: st.DrawFn) -> Facts:
    used = draw(st.integers(0, 5))

    def use(_rule_id: str, _rate: Rate) -> int:
        return used

    values = st.sampled_from([None, True, "b,c", "a", "alice", 3, 30.5, [1], {"x": 1}])
    return Facts(
        at=datetime(2026, 11, 23, tzinfo=UTC) + timedelta(hours=draw(st.integers(0, 60))),
        risk=draw(st.integers(0, 100)),
        consent_id=draw(st.sampled_from([None, "c"])),
        approval_id=draw(st.sampled_from([None, "a"])),
        used=use,
        attributes={
            "context": draw(st.dictionaries(st.sampled_from(["size", "word"]), values)),
            "resource": draw(st.dictionaries(st.just("owner"), values)),
            "args": draw(st.dictionaries(st.just("flag"), values)),
            "subject": {"id": "alice"},
        },
    )


def stock_enforcer(text: PolicyText, parsed: ParsedPolicy, members: Mapping[str, tuple[str, ...]]) -> casbin.Enforcer:
    """Give a stock enforcer over the very files, with the memberships as the gateway exports them."""
    with TemporaryDirectory() as folder:
        names = [name for name in ("roles.csv", *text.rule_files, "grants.csv") if name in text.files]
        links = [f"g, {encode_field(who)}, {whole}" for who, wholes in members.items() for whole in wholes]
        parts = [text.files[name] for name in names] + ["\n".join(links).encode()]
        policy, model = Path(folder, "policy.csv"), Path(folder, "model.conf")
        policy.write_bytes(b"\n".join(parts))
        model.write_bytes(text.files["model.conf"])
        enforcer = casbin.Enforcer(str(model), FileAdapter(str(policy)))
    for name, function in build_functions(parsed.calendars).items():
        enforcer.add_function(name, function)
    return enforcer


def stock_answer(enforcer: casbin.Enforcer, request: AccessRequest, given_facts: Facts) -> bool:
    subject = encode_field(request.subject)
    return enforcer.enforce(subject, request.kind, request.level, request.scope, given_facts) is True


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(rule_lines(), min_size=1, max_size=12, unique=True),
    asked=st.lists(st.tuples(requests(), facts()), min_size=3, max_size=6),
)
def test_every_answer_is_that_of_stock_casbin(
    starter_text: PolicyText, lines: list[str], asked: list[tuple[AccessRequest, Facts]]
) -> None:
    kept = {name: starter_text.files[name] for name in ("model.conf", "conditions.toml", "risk.toml")}
    text = PolicyText({**kept, "roles.csv": ROLES.encode()})
    rules = "\n".join(f"p, r{number}, {line}, why {number}" for number, line in enumerate(lines))
    text = text.with_file("rules/90-here.csv", rules.encode())
    parsed = parse_policy(text)
    assert parsed.errors == ()
    policy = build_policy_set(parsed, memberships=MEMBERS, generation=1)
    enforcer = stock_enforcer(text, parsed, MEMBERS)
    assert [list(rule.fields) for rule in parsed.rules] == enforcer.get_policy()
    for request, given_facts in asked:
        verdict = policy.decide(request, given_facts)
        assert verdict.reason is not Reason.ERROR
        assert (verdict.effect is Effect.ALLOW) is stock_answer(enforcer, request, given_facts)


def starter_requests(parsed: ParsedPolicy) -> Iterator[AccessRequest]:
    for case in parsed.cases:
        yield case.ask


@pytest.mark.parametrize("tier", ["low", "critical"])
def test_the_starter_files_load_in_stock_casbin_and_answer_alike(
    starter: ParsedPolicy, starter_text: PolicyText, noon: Facts, tier: str
) -> None:
    members = {"plugin:some-plugin": ("group:plugins", f"tier:{tier}"), "user:some-user": ("role:operator",)}
    policy = build_policy_set(starter, memberships=members, generation=1)
    enforcer = stock_enforcer(starter_text, starter, members)
    assert enforcer.get_policy() == [list(rule.fields) for rule in starter.rules]
    answers = [
        ((policy.decide(request, noon).effect is Effect.ALLOW), stock_answer(enforcer, request, noon))
        for request in starter_requests(starter)
    ]
    assert all(ours is theirs for ours, theirs in answers)
    assert {ours for ours, _ in answers} == {True, False}


def test_strangers_leave_nothing_behind(build: object, noon: Facts) -> None:
    policy: PolicySet = build("p, a, plugin:notes, vault, read, x, -, allow, why")  # type: ignore[operator]
    compiled = policy.enforcer.compiled()
    assert compiled is not None
    for number in range(200):
        stranger = Subject(f"plugin:stranger-{number}")
        asked = AccessRequest(subject=stranger, user=None, kind="vault", level="read", scope="x")
        assert policy.decide(asked, noon).reason is Reason.NO_RULE
    assert len(compiled._branches) == 0
    assert policy.enforcer.get_role_manager().get_roles("plugin:stranger-1") == []
