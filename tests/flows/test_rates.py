"""Rates are counted on over a restart, from the log; asking never uses them up."""

from datetime import timedelta
from pathlib import Path
from typing import Any

MakeHome = Any  # what conftest.py gives
RULES = "p, often, user:zoe, vault, read, a/*, rate(3/1h), allow, now and then\n"


def test_a_restart_forgives_nothing_and_a_dry_run_uses_nothing(make_home: MakeHome) -> None:
    home = make_home(rules=RULES)

    def effect(*, dry_run: bool = False, user: str = "zoe") -> str:
        asked = {"subject": "user:zoe", "permission": "vault_read", "scope": "a/1", "user": user, "dry_run": dry_run}
        answer: str = home.owner.post("/v1/decisions", asked).json()["effect"]
        return answer

    assert [effect(), effect(dry_run=True), effect(dry_run=True), effect()] == ["allow"] * 4
    home.reopen()
    assert [effect(), effect(), effect(user="yann")] == ["allow", "deny", "allow"]
    home.reopen()
    assert [effect(), effect(dry_run=True)] == ["deny", "deny"]
    begun = home.parts.now()
    home.at(begun + timedelta(hours=1, seconds=1))
    assert effect() == "allow"


def test_a_rate_that_was_used_up_is_told_after_a_restart(make_home: MakeHome) -> None:
    home = make_home(rules=RULES)
    asked = {"subject": "user:zoe", "permission": "vault_read", "scope": "a/1"}
    for _ in range(4):
        home.owner.post("/v1/decisions", asked)
    home.reopen()
    last = home.owner.post("/v1/decisions", asked).json()
    assert (last["reason"], last["near_misses"][0]["reasons"]) == (
        "rate_limited", ["3 of 3 calls in 3600 s are used"],
    )  # fmt: skip


def test_calls_at_once_do_not_share_what_a_rate_has_left(make_home: MakeHome, tmp_path: Path) -> None:
    home = make_home()
    # Between judging such a call and recording it the host's files are looked at, in a thread.
    home.install("puppet", sandbox_config={"file_access": [str(tmp_path)]})
    home.rules("p, seldom, user:erin, gateway, execute, plugins/puppet, rate(2/1h), allow, now and then\n")
    erin = home.person("erin", "execute")
    answers = [each.result(20) for each in [erin.begin("puppet") for _ in range(5)]]
    assert sorted(each.status_code for each in answers) == [200, 200, 403, 403, 403]
    assert {each.json()["reason"] for each in answers if each.status_code == 403} == {"rate_limited"}
    assert len(home.records(event_type="execution_started")) == 2
