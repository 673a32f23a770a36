"""Rates: an allow counts, once, for its rule, subject and user; nothing else does."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

RULES = """\
p, thrice, plugin:puppet, vault, read, a/*, rate(3/60s), allow, x
p, one, plugin:puppet, vault, read, b/*, rate(1/60s), allow, x
p, guard, plugin:puppet, vault, read, a/secret, -, deny, x
"""
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def home(make_home: "MakeHome") -> "Home":
    home = make_home(rules=RULES)
    home.install("puppet")
    home.at(NOW)
    return home


def ask(home: "Home", scope: str = "a/x", user: str = "alice", **members: object) -> str:
    body = {"subject": "plugin:puppet", "permission": "vault_read", "scope": scope, "user": user, **members}
    reason: str = home.owner.post("/v1/decisions", body).json()["reason"]
    return reason


def test_allows_count_and_denials_and_questions_do_not(home: "Home") -> None:
    for _ in range(5):
        assert ask(home, "a/secret") == "rule"  # by the deny rule
        assert ask(home, dry_run=True) == "rule"
    assert [ask(home) for _ in range(5)] == ["rule"] * 3 + ["rate_limited"] * 2
    assert ask(home, dry_run=True) == "rate_limited"


def test_a_rate_is_each_users_and_each_rules_own(home: "Home") -> None:
    assert [ask(home) for _ in range(4)][-1] == "rate_limited"
    assert ask(home, user="bob") == "rule"
    assert [ask(home, "b/x") for _ in range(2)] == ["rule", "rate_limited"]


def test_a_rate_slides(home: "Home") -> None:
    for second in (0, 20, 40):
        home.at(NOW + timedelta(seconds=second))
        assert ask(home) == "rule"
    home.at(NOW + timedelta(seconds=59))
    assert ask(home) == "rate_limited"
    home.at(NOW + timedelta(seconds=60))
    assert ask(home) == "rule"
    assert ask(home) == "rate_limited"


def test_calls_at_once_do_not_slip_through(home: "Home") -> None:
    body = {"subject": "plugin:puppet", "permission": "vault_read", "scope": "a/x", "user": "alice"}
    asked = [home.owner.start("POST", "/v1/decisions", body) for _ in range(12)]
    assert sorted(each.result(20).json()["reason"] for each in asked) == ["rate_limited"] * 9 + ["rule"] * 3


def test_what_could_not_be_recorded_did_not_count(home: "Home") -> None:
    from gateway.domain.names import Subject, UserId
    from gateway.domain.request import AccessRequest
    from gateway.errors import LogUnavailableError
    from gateway.flows.decide import decide_and_record

    request = AccessRequest(
        subject=Subject("plugin:puppet"), user=UserId("alice"), kind="vault", level="read", scope="b/x"
    )
    database = home.folder / "data" / "audit.db"
    database.rename(database.with_name("away.db"))
    for _ in range(3):
        with pytest.raises(LogUnavailableError):
            home.do(decide_and_record(home.parts, request))
    database.with_name("away.db").rename(database)
    home.until(lambda: home.owner.get("/v1/policy").status_code == 200)
    assert [ask(home, "b/x"), ask(home, "b/x")] == ["rule", "rate_limited"]


def test_a_plugins_own_calls_count_too(home: "Home") -> None:
    told = home.person("alice", "execute").run("puppet", *[["vault.read", "b/x"]] * 3)
    assert [each.get("denied") for each in told] == [None, "rate_limited", "rate_limited"]
    assert told[1]["near_misses"] == [{"id": "one", "unmet": ["rate"]}]
