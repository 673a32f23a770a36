from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain.permission import FAMILIES, LEVELS, PERMISSIONS, Permission
from gateway.domain.risk import TIER_ORDER, Tier
from gateway.policy.parse import ParsedPolicy, parse_policy
from gateway.policy.score import UNRATED, is_private_host
from gateway.policy.text import PolicyText

HELD = st.tuples(
    st.sampled_from(sorted(PERMISSIONS.values())), st.sampled_from([None, "*", "notes/*", "notes", "127.0.0.1"])
)
READ = PERMISSIONS["vault_read"]
Edited = Callable[..., PolicyText]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(held=st.lists(HELD, max_size=10), more=HELD)
def test_holding_more_never_scores_less(
    starter: ParsedPolicy, held: list[tuple[Permission, str | None]], more: tuple[Permission, str | None]
) -> None:
    before, after = starter.risk.score_plugin(held), starter.risk.score_plugin([*held, more])
    assert before.score <= after.score <= 100
    assert TIER_ORDER.index(before.tier) <= TIER_ORDER.index(after.tier)
    assert after.score == min(sum(part.points for part in after.parts), 100)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_higher_level_never_scores_less(starter: ParsedPolicy, kind: str) -> None:
    scores = [
        starter.risk.score_request(kind, level, "x").score for level in LEVELS if f"{kind}_{level}" in PERMISSIONS
    ]
    assert scores == sorted(scores)


def test_a_request_shows_the_parts_of_its_score(starter: ParsedPolicy) -> None:
    risk = starter.risk.score_request("network", "write", "10.0.0.1:8080", plugin_tier=Tier.HIGH)
    assert [(part.name, part.points) for part in risk.parts] == [
        ("network.write", 30),
        ("private_host", 20),
        ("plugin_high", 10),
    ]
    assert (risk.score, risk.tier) == (60, Tier.HIGH)


def test_the_tiers_begin_where_risk_toml_says(starter: ParsedPolicy) -> None:
    edges = [0, 24, 25, 49, 50, 74, 75, 100]
    assert [starter.risk.tier_of(score).value for score in edges] == [
        "low", "low", "moderate", "moderate", "high", "high", "critical", "critical",
    ]  # fmt: skip


def test_what_nobody_rated_counts_as_the_worst_known(starter: ParsedPolicy) -> None:
    assert starter.risk.score_request("vault", "frobnicate", "x").score == 80
    assert starter.risk.score_request("todo", "close", "1").score == 20
    assert UNRATED.score_request("vault", "read", "x").score == 100
    assert UNRATED.tier_of(0) is Tier.CRITICAL


@pytest.mark.parametrize(
    ("scope", "private"),
    [
        ("127.0.0.1", True), ("127.0.0.1:8642", True), ("[::1]", True), ("[fd00::1]:80", True), ("10.1.2.3", True),
        ("169.254.169.254", True), ("[::]", True), ("localhost", True), ("db.internal:5432", True),
        ("*.localhost", True), ("[::ffff:127.0.0.1]", True), ("example.com", False), ("8.8.8.8", False),
        ("*.example.com", False), ("notlocalhost", False), ("shop/cart", False),
    ],
)  # fmt: skip
def test_private_hosts_are_told_from_the_world(scope: str, *, private: bool) -> None:
    assert is_private_host(scope) is private


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("read = 10\nwrite = 30", "read = 40\nwrite = 30"), "`write` of `vault` counts less than `read`"),
        (("admin = 80", "admin = 101"), "`base.vault.admin` must be a whole number from 0 to 100"),
        (("admin = 80", "admin = true"), "`base.vault.admin` must be a whole number from 0 to 100"),
        (("admin = 80", "admin = -1"), "`base.vault.admin` must be a whole number from 0 to 100"),
        (("[base.vault]", "[base.vualt]"), "unknown key `base.vualt`: did you mean `vault`?"),
        (("admin = 80\n", ""), "`base.vault.admin` is missing"),
        (("high = 50", "high = 20"), "the tiers must begin one after the other"),
        (("moderate = 25", "moderate = 0"), "the tiers must begin one after the other"),
        (("high = 50\n", ""), "`tiers.high` must be a whole number"),
        (("wide_scope", "wide_scoop"), "unknown key `modifiers.wide_scoop`: did you mean `wide_scope`?"),
    ],
)
def test_a_risk_table_that_cannot_be_believed_is_refused_at_its_line(
    starter_text: PolicyText, change: tuple[str, str], told: str
) -> None:
    text = starter_text.files["risk.toml"].decode().replace(*change, 1)
    problems = [str(problem) for problem in parse_policy(starter_text.with_file("risk.toml", text.encode())).problems]
    assert any(told in problem for problem in problems), problems
    assert all(problem.startswith("risk.toml:") for problem in problems)
