"""A set that was changed by a grant is the set that its whole text makes."""

import gc
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain.names import Subject
from gateway.domain.request import AccessRequest, Facts
from gateway.policy.changes import with_grants, without_grants
from gateway.policy.encode import add_lines, drop_rules
from gateway.policy.engine import PolicySet, build_policy_set
from gateway.policy.parse import GrantIds, parse_policy
from gateway.policy.rule import Rule
from gateway.policy.text import GRANTS, PolicyText

Edited = Callable[..., PolicyText]
IDS = GrantIds(live=frozenset(f"grant-{number}" for number in range(1, 30)), dead=frozenset({"grant-99"}))
RULES = """\
p, deny-secret, group:plugins, vault, write, notes/secret/*, -, deny, why
p, twin, plugin:notes, vault, read, notes/*, -, allow, why
"""
MEMBERS = {"plugin:notes": ("group:plugins", "tier:low"), "plugin:web": ("group:plugins", "tier:high")}
FIELDS = [
    "plugin:notes, vault, read, notes/*, -",
    "plugin:notes, vault, write, notes/secret/key, consent",
    "plugin:web, network, read, *.example.com, rate(5/60s)",
    "plugin:web, vault, read, notes/today, -",
]
ASKED = [
    ("plugin:notes", "vault", "read", "notes/today"),
    ("plugin:notes", "vault", "write", "notes/secret/key"),
    ("plugin:web", "network", "read", "a.example.com"),
    ("plugin:web", "vault", "read", "notes/today"),
]


def lines(numbers: list[int]) -> list[str]:
    return [f"p, grant-{number}, {FIELDS[number % len(FIELDS)]}, allow, why {number}" for number in numbers]


@pytest.fixture(scope="module")
def granted(edited: Edited) -> Callable[[bytes], PolicySet]:
    def make(grants: bytes) -> PolicySet:
        text = edited({"rules/90-here.csv": RULES, GRANTS: grants})
        parsed = parse_policy(text, grant_ids=IDS)
        assert parsed.ok, parsed.problems
        return build_policy_set(parsed, memberships=MEMBERS, generation=1)

    return make


def looks(policy: PolicySet) -> object:
    """Give all that a set is but the numbers inside it."""
    rules = policy.enforcer.get_policy()
    return policy.parsed, policy.version, policy.rules, policy.memberships, [tuple(rule) for rule in rules]


def answers(policy: PolicySet, noon: Facts) -> object:
    requests = [
        AccessRequest(subject=Subject(subject), user=None, kind=kind, level=level, scope=scope)
        for subject, kind, level, scope in ASKED
    ]
    told = [policy.decide(request, noon) for request in requests]
    stock = [policy.enforcer.enforce_ex(*row[:4], noon) for row in ASKED]
    return told, [(allowed, tuple(rule)) for allowed, rule in stock]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=st.lists(st.integers(1, 12), unique=True, max_size=8),
    more=st.lists(st.integers(13, 29), unique=True, max_size=5),
    taken=st.sets(st.integers(1, 29), max_size=8),
    head=st.sampled_from([b"", b"# by approvals\n\n"]),
)
def test_giving_and_taking_grants_ends_where_reading_it_all_ends(
    granted: Callable[[bytes], PolicySet], noon: Facts, first: list[int], more: list[int], taken: set[int], head: bytes
) -> None:
    before = add_lines(head, lines(first))
    policy = granted(before)
    after = add_lines(before, lines(more))
    wider = with_grants(policy, after, IDS, generation=2)
    assert wider is not None
    assert looks(wider) == looks(granted(after))
    assert answers(wider, noon) == answers(granted(after), noon)
    ids = {f"grant-{number}" for number in taken}
    smaller = without_grants(wider, ids, generation=3)
    assert looks(smaller) == looks(granted(drop_rules(after, ids)))
    assert answers(smaller, noon) == answers(granted(drop_rules(after, ids)), noon)
    again = with_grants(smaller, smaller.parsed.text.files[GRANTS], IDS, generation=4)
    assert again is not None
    assert looks(again) == looks(smaller)
    assert looks(policy) == looks(granted(before))  # what was shared was not touched


@pytest.mark.parametrize(
    "line",
    [
        "p, grant-99, plugin:notes, vault, read, x, -, allow, ended",
        "p, grant-77, plugin:notes, vault, read, x, -, allow, unknown",
        "p, grant-1, plugin:notes, vault, read, x, -, allow, taken",
        "p, grant-2, plugin:notes, vault, raed, x, -, allow, misspelt",
        "p, grant-2, group:plugins, vault, read, x, -, allow, for all",
        "p, grant-2, plugin:notes, vault, read, x, -, deny, no grant",
        "g, plugin:notes, role:owner",
        "nonsense",
    ],
)
def test_a_grant_with_a_fault_is_left_to_the_reading_of_it_all(
    granted: Callable[[bytes], PolicySet], line: str
) -> None:
    before = add_lines(b"", lines([1]))
    assert with_grants(granted(before), add_lines(before, [line]), IDS, generation=2) is None


def test_an_edit_above_is_left_to_the_reading_of_it_all(granted: Callable[[bytes], PolicySet]) -> None:
    before = add_lines(b"", lines([1, 2]))
    assert with_grants(granted(before), add_lines(b"", lines([2, 1, 3])), IDS, generation=2) is None


def test_memberships_change_only_whom_they_name(granted: Callable[[bytes], PolicySet], noon: Facts) -> None:
    policy = granted(add_lines(b"", lines([1, 2, 3])))
    risen = policy.with_memberships({**MEMBERS, "plugin:web": ("group:family",)}, 2)
    fresh = build_policy_set(policy.parsed, memberships={**MEMBERS, "plugin:web": ("group:family",)}, generation=2)
    assert risen.roles == fresh.roles
    assert answers(risen, noon) == answers(fresh, noon)
    assert policy.with_memberships({}, 2).roles.closure("plugin:notes") == {"plugin:notes"}
    assert policy.roles.closure("plugin:notes") == {"plugin:notes", "group:plugins", "tier:low"}


def test_a_set_that_goes_is_freed_without_the_garbage_collector(edited: Edited, noon: Facts) -> None:
    def mine() -> int:
        return sum(type(each) is Rule and each.why == "only here" for each in gc.get_objects())

    parsed = parse_policy(edited({"rules/90-here.csv": "p, a, plugin:notes, vault, read, x, -, allow, only here\n"}))
    policy = build_policy_set(parsed, memberships=MEMBERS, generation=1)
    answers(policy, noon)
    other = policy.with_memberships({}, 2)
    assert mine() == 1
    gc.disable()
    try:
        del parsed, policy, other
        assert mine() == 0
    finally:
        gc.enable()
