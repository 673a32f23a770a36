"""A plugin's risk: computed from what it may do and what it did, whatever its author declares."""

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.behaviour import Behaviour
from gateway.domain.permission import PERMISSIONS
from gateway.domain.risk import TIER_ORDER, Tier
from gateway.flows.plugin_risk import requested_risk
from gateway.registry.manifest import parse_manifest

if TYPE_CHECKING:
    from tests.conftest import Home

asked = st.tuples(
    st.sampled_from([name for name in PERMISSIONS if name != "plugin_execute"]), st.sampled_from(["a", "a/b", "*"])
)


@given(st.lists(asked, max_size=12))
def test_asking_for_more_never_lowers_the_risk(quiet_home: "Home", wants: list[tuple[str, str]]) -> None:
    scopes = {name: (f"/{scope}" if name.startswith("file") and scope != "*" else scope) for name, scope in wants}
    listed = [{"permission": name, "scope": scope.replace("/", ".") if _is_host(name) else scope} for name, scope in scopes.items()]  # fmt: skip  # noqa: E501 (one list)
    risks = [
        requested_risk(
            quiet_home.parts,
            parse_manifest(
                {"plugin_id": "asking", "name": "x", "version": "1.0.0", "requested_permissions": listed[:so_many]}  # type: ignore[dict-item] # JSON
            ),
        )
        for so_many in range(len(listed) + 1)
    ]
    for less, more in pairwise(risks):
        assert less.score <= more.score
        assert TIER_ORDER.index(less.tier) <= TIER_ORDER.index(more.tier)


def _is_host(name: str) -> bool:
    return name.startswith(("network", "api"))


@given(*[st.integers(0, 1000)] * 3)
def test_what_it_did_never_lowers_the_risk(violations: int, denials: int, kills: int) -> None:
    parts = Behaviour(violations=violations, denials=denials, kills=kills).parts
    assert all(each.points > 0 for each in parts)
    assert sum(each.points for each in parts) <= 50


@pytest.mark.parametrize(("declared", "understated"), [("low", True), ("critical", False), (None, False)])
def test_a_tier_that_is_declared_too_low_is_flagged(home: "Home", declared: str | None, *, understated: bool) -> None:
    wants = [{"permission": "vault_admin", "scope": "*"}]
    shown = home.register("asking", requested_permissions=wants, risk_tier=declared)
    assert (shown["declared_tier"], shown["understated"]) == (declared, understated)
    (record,) = home.records(event_type="risk_assessment")
    assert (record["details"]["declared"], record["details"]["understated"]) == (declared, understated)
    assert record["details"]["computed"] != Tier.LOW.value


def test_a_change_of_risk_is_recorded_with_what_it_was_before(home: "Home") -> None:
    home.install("asking")
    path = "/v1/plugins/asking/risk"
    before = home.owner.get(path).json()["computed"]["score"]
    home.until(lambda: home.records(event_type="policy_activated"))
    home.rules("p, test-more, plugin:asking, vault, admin, *, -, allow, more\n")
    home.until(lambda: home.owner.get(path).json()["computed"]["score"] > before)
    home.until(lambda: [row for row in home.records(event_type="risk_assessment") if "before" in row["details"]])
    row = home.records(event_type="risk_assessment")[-1]
    assert row["details"]["before"]["score"] < row["details"]["score"] == row["risk_score"]


def test_what_a_plugin_did_counts_beside_its_rights(home: "Home") -> None:
    home.install("asking")
    home.owner.run("asking", *[["vault.read", "diary"]] * 3)
    path = "/v1/plugins/asking/risk"
    home.until(lambda: home.owner.get(path).json()["behaviour"]["denials"] == 3)
    told = home.owner.get(path).json()
    assert told["computed"]["score"] == told["rights"]["score"] + 3
    assert {"name": "behaviour.denials", "points": 3} in told["computed"]["parts"]
