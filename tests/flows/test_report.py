import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

RULES = """\
p, diary, plugin:notes, vault, read, user_data/diary, consent, allow, notes read notes
p, city, plugin:weather, vault, read, user_data/city, -, allow, where it rains
"""
LESS = "p, diary, plugin:notes, vault, read, user_data/diary, consent, allow, notes read notes\n"


def asked(home: "Home", **params: object) -> dict[str, Any]:
    answer = home.owner.get("/v1/audit/report", **params)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def decide(home: "Home", plugin: str, user: str, scope: str = "user_data/diary") -> str:
    wish = {"subject": f"plugin:{plugin}", "permission": "vault_read", "scope": scope, "user": user}
    effect: str = home.owner.post("/v1/decisions", wish).json()["effect"]
    return effect


@pytest.fixture
def lively(make_home: "MakeHome") -> "Home":
    """Give a home in which things happened to alice's data."""
    home = make_home(rules=RULES)
    home.install("notes", wants=("vault_read notes",))
    home.install("weather")
    consent = {"user_id": "alice", "plugin_id": "notes", "permission": "vault_read", "scope": "user_data/diary"}
    assert home.person("alice", "consent").post("/v1/consents", consent).status_code == 201
    assert [decide(home, "notes", "alice") for _ in range(3)] == ["allow"] * 3
    assert decide(home, "notes", "bob") == "deny"
    assert decide(home, "weather", "alice", "user_data/city") == "allow"
    home.rules(LESS)
    assert decide(home, "weather", "alice", "user_data/city") == "deny"
    home.owner.post("/v1/plugins/weather/suspend", {"reason": "it rained too much"})
    return home


def test_who_could_read_a_persons_data_and_who_did(lively: "Home") -> None:
    body = asked(lively, subject_data="alice")
    uses = {(each["subject"], each["scope"]): each["count"] for each in body["data_uses"]["rows"]}
    assert uses == {("plugin:notes", "user_data/diary"): 3, ("plugin:weather", "user_data/city"): 1}
    could = {(*each["subjects"], each["scope"]): each for each in body["could_read"]["rows"]}
    assert could["plugin:notes", "user_data/diary"]["terms"] == "allow if consent"
    ((_, ended),) = could["plugin:weather", "user_data/city"]["times"]
    activations = [row for row in body["policy"]["rows"] if "city, plugin:weather" in (row["difference"] or "")]
    assert ended == activations[-1]["at"]
    assert body["could_read"]["not_kept"] == []
    assert asked(lively, subject_data="bob")["data_uses"]["rows"] == []


def test_what_was_approved_changed_and_denied_is_told_with_by_whom_and_why(lively: "Home") -> None:
    body = asked(lively)
    assert {(each["plugin"], each["why"]) for each in body["approvals"]["rows"]} >= {("notes", "test")}
    suspended = [each for each in body["permissions"]["rows"] if each["event_type"] == "suspended"]
    assert [each["why"] for each in suspended] == ["it rained too much"]
    assert len(body["consents"]["rows"]) == 1
    assert "-p, city" in body["policy"]["rows"][-2]["difference"] + body["policy"]["rows"][-1]["difference"]
    counts = {each["name"]: (each["allowed"], each["denied"]) for each in body["decisions"]["by_plugin"]}
    assert counts["weather"][1] == 1
    assert counts["weather"][0] >= 1
    assert body["decisions"]["allowed"] == sum(each["allowed"] for each in body["decisions"]["over_time"])
    denied = {(each["subject"], each["reason"]) for each in body["decisions"]["denials"]}
    assert ("plugin:notes", "consent_required") in denied


def test_a_period_shows_what_lies_in_it_and_the_policy_that_was_in_force_before(lively: "Home") -> None:
    at = lively.parts.now()
    assert decide(lively, "notes", "alice") == "allow"
    body = asked(lively, since=at.isoformat(), until=(at + timedelta(hours=1)).isoformat())
    assert [each["count"] for each in body["data_uses"]["rows"]] == [1]
    assert [each["in_force_before"] for each in body["policy"]["rows"]] == [True]
    assert ("plugin:notes",) in {tuple(each["subjects"]) for each in body["could_read"]["rows"]}
    later = asked(lively, since=(at + timedelta(hours=1)).isoformat(), until=(at + timedelta(hours=2)).isoformat())
    assert (later["records"], later["integrity"]) == (0, None)


def test_a_report_verifies_what_it_tells_and_names_a_changed_record(lively: "Home") -> None:
    body = asked(lively)
    assert body["integrity"]["ok"] is True
    assert body["integrity"]["checkpoints"] >= 1
    assert body["integrity"]["newest"]["size"] == body["integrity"]["last_seq"]
    lively.close()
    with closing(sqlite3.connect(lively.folder / "data" / "audit.db")) as connection:
        connection.execute("DROP TRIGGER record_keeps")
        connection.execute("UPDATE record SET committed = replace(committed, 'activated', 'suspended') WHERE seq = 5")
        connection.execute("UPDATE record SET committed = replace(committed, '\"v\":1', '\"v\":1 ') WHERE seq = 5")
        connection.commit()
    lively.open()
    found = asked(lively)["integrity"]
    assert found["ok"] is False
    assert "record 5: its content is not what was recorded" in found["findings"]


def test_a_report_goes_on_over_closed_files(lively: "Home") -> None:
    before = asked(lively)
    assert lively.owner.post("/v1/audit/rotate", {"reason": "test"}).status_code == 200
    assert decide(lively, "notes", "alice") == "allow"
    after = asked(lively)
    assert after["integrity"]["ok"] is True
    assert after["records"] > before["records"]
    assert len(after["retention"]["segments"]) == 1


def test_the_page_has_the_same_and_its_own_policy(lively: "Home") -> None:
    answer = lively.owner.get("/v1/audit/report", format="html", subject_data="alice")
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "plugin:weather" in answer.text
    assert "it rained too much" in answer.text


@pytest.mark.parametrize(
    "params",
    [
        {"format": "pdf"},
        {"since": "yesterday"},
        {"since": "2026-02-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"},
        {"subject_data": ""},
    ],
)
def test_a_report_that_cannot_be_understood_is_an_error(quiet_home: "Home", params: dict[str, str]) -> None:
    assert quiet_home.owner.get("/v1/audit/report", **params).status_code == 400


def test_only_who_may_read_the_log_gets_a_report_follows_it_or_makes_the_index_anew(home: "Home") -> None:
    alice, dave = home.person("alice", "evaluate"), home.person("dave", "audit")
    for path in ("/v1/audit/report", "/v1/audit/follow", "/v1/audit/index"):
        assert alice.get(path).status_code == 403
    assert dave.get("/v1/audit/report").status_code == 200
    assert dave.post("/v1/audit/reindex", {}).status_code == 403
    assert home.owner.post("/v1/audit/reindex", {}).status_code == 202
    home.until(lambda: home.owner.get("/v1/audit/index").json()["why"] is None)
    state = home.parts.index
    home.until(lambda: state.state.indexed == state.state.records)
    assert json.loads(home.owner.get("/v1/audit", q="index").text)["records"]
