"""Whose word counts when a user and their key are judged differently, and what a plugin's risk is made of."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome


@pytest.mark.parametrize(
    ("rules", "effect"),
    [
        ("", "deny"),
        ("p, by-user, user:erin, gateway, read, policy, -, allow, x\n", "allow"),
        ("p, by-key, key:KEY, gateway, read, policy, -, allow, x\n", "allow"),
        (
            (
                "p, by-user, user:erin, gateway, read, policy, -, allow, x\n"
                "p, no-key, key:KEY, gateway, read, policy, -, deny, x\n"
            ),
            "deny",
        ),
        (
            (
                "p, no-user, user:erin, gateway, read, policy, -, deny, x\n"
                "p, by-key, key:KEY, gateway, read, policy, -, allow, x\n"
            ),
            "deny",
        ),
        ("p, late, user:erin, gateway, read, policy, until(2001-01-01T00:00:00Z), allow, x\n", "deny"),
    ],
)
def test_a_deny_of_user_or_key_outranks_an_allow_of_the_other(home: "Home", rules: str, effect: str) -> None:
    erin = home.person("erin", "admin")
    home.rules(rules.replace("KEY", erin.key_id) or "# nothing\n")
    assert erin.get("/v1/policy").status_code == (200 if effect == "allow" else 403)


@pytest.mark.parametrize(
    ("roles", "rules"),
    [
        ("", "p, own, plugin:puppet, vault, admin, *, -, allow, x\n"),
        ("", "p, all, group:plugins, vault, admin, *, -, allow, x\n"),
        ("g, plugin:puppet, group:mine\n", "p, mine, group:mine, vault, admin, *, -, allow, x\n"),
        (
            "g, plugin:puppet, group:mine\ng, group:mine, group:more\n",
            "p, more, group:more, vault, admin, *, consent, allow, x\n",
        ),
        ("", "p, low, tier:low, vault, admin, *, -, allow, x\n"),
    ],
)
def test_a_plugins_risk_counts_every_right_however_it_came(make_home: "MakeHome", roles: str, rules: str) -> None:
    home = make_home()
    home.install("puppet")
    assert home.owner.get("/v1/plugins/puppet").json()["risk"]["tier"] == "low"
    with (home.folder / "policies" / "roles.csv").open("a") as file:
        file.write(roles)
    home.write_rules(rules)
    assert [each for each in home.reload().problems if each.severity == "error"] == []
    assert home.owner.get("/v1/plugins/puppet").json()["risk"]["tier"] == "critical"
    policy = home.parts.policy.get()
    assert policy is not None
    assert policy.memberships["plugin:puppet"] == ("group:plugins", "tier:critical")
