"""Every route answers in the contract's shape, and tells who may not know nothing."""

import json
from typing import TYPE_CHECKING, Any

import pytest

from gateway.audit.checkpoint import parse_note, parse_verifier
from gateway.audit.merkle import Frontier, proves_inclusion
from gateway.audit.proof import check_consistency, check_inclusion
from gateway.audit.query import LogReader

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

DECISION = {
    "decision_id", "effect", "reason", "rule", "near_misses", "subject", "user", "permission", "kind", "level", "scope",
    "risk", "policy_version", "generation", "mode", "at", "dry_run",
}  # fmt: skip
RECORD = {
    "event_id", "seq", "timestamp", "user_id", "plugin_id", "event_type", "category", "details", "risk_score",
    "resolution", "decision", "trace_id", "leaf",
}  # fmt: skip
EXECUTION = {
    "execution_id", "success", "outcome", "output", "error", "execution_time", "decision_id", "generation",
    "sandbox_result",
}  # fmt: skip
ASK = {"subject": "plugin:puppet", "permission": "vault_read", "scope": "notes/a", "user": "alice"}


def test_a_decision_is_given_recorded_and_found_again(home: "Home") -> None:
    home.install("puppet", wants=("vault_read notes",))
    answer = home.owner.post("/v1/decisions", ASK)
    assert answer.status_code == 200
    decision = answer.json()
    assert set(decision) >= DECISION
    assert (decision["effect"], decision["reason"], decision["dry_run"]) == ("allow", "rule", False)
    assert decision["rule"]["file"] == "grants.csv"
    assert decision["rule"]["id"].startswith("grant-")
    assert decision["at"].endswith("Z")
    assert decision["policy_version"].startswith("sha256:")
    assert set(decision["risk"]) == {"score", "tier", "parts"}
    assert home.decision(decision["decision_id"]) == decision
    explained = home.owner.get(f"/v1/decisions/{decision['decision_id']}/explain").json()
    assert explained["decision"] == decision
    assert all(isinstance(each, str) for each in explained["sentences"])
    (record,) = home.owner.get("/v1/audit", event_id=decision["decision_id"]).json()["records"]
    assert set(record) >= RECORD
    assert record["event_id"] == f"audit-{decision['decision_id']}"
    assert (record["event_type"], record["category"], record["resolution"]) == (
        "access_granted",
        "execution",
        "allowed",
    )


def test_a_deny_is_an_answer(home: "Home") -> None:
    home.install("puppet")
    answer = home.owner.post("/v1/decisions", {**ASK, "scope": "secret"})
    assert answer.status_code == 200
    decision = answer.json()
    assert (decision["effect"], decision["reason"], decision["rule"]) == ("deny", "no_rule", None)
    record = home.records(event_type="access_denied")[-1]
    assert (record["category"], record["decision"]["decision_id"]) == ("security", decision["decision_id"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"permission": "vault_reed"},
        {"permission": "vault_execute"},
        {"permission": "*"},
        {"permission": "vault_read", "level": "write"},
        {"subject": "puppet"},
        {"subject": "plugin:"},
        {"subject": "plugin:Puppet"},
        {"subject": "robot:x"},
        {"subject": "user:a b"},
        {"scope": ""},
        {"scope": "notes/*"},
        {"scope": "/notes"},
        {"scope": "notes/../x"},
        {"scope": "notes//x"},
        {"scope": "notes\u200b"},
        {"scope": "e\u0301"},
        {"permission": "file_read", "scope": "etc/passwd"},
        {"permission": "network_read", "scope": "0177.0.0.1"},
        {"permission": "network_read", "scope": "example.com:0"},
        {"user": "a b"},
        {"user": ""},
        {"context": []},
        {"args": "x"},
        {"dry_run": 1},
        {"dry_run": "true"},
        {"consents": ["vault_read"]},
        {"risk": 0},
    ],
)
def test_a_question_that_cannot_be_understood_is_no_deny(quiet_home: "Home", wrong: dict[str, object]) -> None:
    answer = quiet_home.owner.post("/v1/decisions", {**ASK, **wrong})
    assert answer.status_code == 400, answer.text
    assert answer.json()["type"] == "urn:hearthgate:problem:malformed"


def test_what_is_sent_cannot_stand_in_for_what_the_gateway_knows(make_home: "MakeHome") -> None:
    home = make_home(
        rules="p, own, plugin:puppet, vault, read, mine, resource.owner == subject.id, allow, x\n"
        "p, night, plugin:puppet, vault, read, night, context.hour == 3; hours(00:00-00:01 Mon UTC), allow, x\n"
        "p, asked, plugin:puppet, vault, read, asked, consent, allow, x\n"
        "p, safe, plugin:puppet, vault, read, safe, risk<=0, allow, x\n"
        "p, said, plugin:puppet, vault, read, said, context.colour == red, allow, x\n"
    )
    home.install("puppet")
    lies = {
        "consents": ["vault_read asked"], "consent": True, "risk": 0, "approved": True, "at": "2020-01-06T00:00:00Z",
        "subject": {"id": "root", "type": "user"}, "resource": {"owner": "nobody"}, "hour": 3, "colour": "red",
    }  # fmt: skip
    found = {
        scope: home.owner.post("/v1/decisions", {**ASK, "scope": scope, "context": lies}).json()["reason"]
        for scope in ("mine", "night", "asked", "safe", "said")
    }
    assert found == {
        "mine": "condition", "night": "condition", "asked": "consent_required", "safe": "risk_too_high", "said": "rule",
    }  # fmt: skip


def test_asking_about_others_is_itself_decided(home: "Home") -> None:
    home.install("puppet", wants=("vault_read notes",))
    alice, carol, dave = (home.person(name, "evaluate") for name in ("alice", "carol", "dave"))
    assert alice.post("/v1/decisions", ASK).status_code == 403
    assert alice.post("/v1/decisions", {**ASK, "dry_run": True}).status_code == 403
    assert dave.post("/v1/decisions", {**ASK, "dry_run": True}).json()["effect"] == "allow"
    assert dave.post("/v1/decisions", ASK).status_code == 403
    answer = carol.post("/v1/decisions", ASK).json()
    assert answer["effect"] == "allow"
    own = alice.post(
        "/v1/decisions", {"subject": "user:alice", "permission": "gateway_execute", "scope": "plugins/puppet"}
    )
    assert own.json()["effect"] == "allow"
    asked = {each["event_id"]: each["details"] for each in home.records(event_type="access_granted")}
    told = asked[f"audit-{answer['decision_id']}"]
    assert (told["asked_by_another"], told["asked_by"]) == (True, "carol")
    assert "asked_by_another" not in asked[f"audit-{own.json()['decision_id']}"]


def test_nobody_learns_which_ids_exist(home: "Home") -> None:
    home.install("puppet")
    erin = home.person("erin", "execute", "admin", "approve", "consent", "evaluate", "audit")

    def told(plugin_id: str, method: str, path: str, body: object) -> tuple[int, str]:
        answer = erin.ask(method, path.format(plugin_id), body)
        text = json.dumps(_without_ids(answer.json())).replace(plugin_id, "ID")
        return answer.status_code, text

    for method, path, body in [
        ("GET", "/v1/plugins/{}", None),
        ("GET", "/v1/plugins/{}/manifest", None),
        ("GET", "/v1/plugins/{}/timeline", None),
        ("GET", "/v1/plugins/{}/permissions", None),
        ("POST", "/v1/plugins/{}/execute", {"payload": {}}),
        ("POST", "/v1/plugins/{}/approve", {"reason": ""}),
        ("POST", "/v1/plugins/{}/suspend", {"reason": ""}),
        ("POST", "/v1/plugins/{}/resume", {"reason": ""}),
        ("POST", "/v1/plugins/{}/revoke", {"reason": ""}),
        ("POST", "/v1/plugins/{}/uninstall", {"reason": ""}),
        ("POST", "/v1/plugins/{}/permissions/revoke", {"reason": ""}),
    ]:
        known, unknown = told("puppet", method, path, body), told("absent", method, path, body)
        assert known == unknown, path
        assert known[0] == 403
    assert home.state("puppet") == "active"


def _without_ids(body: dict[str, Any]) -> dict[str, Any]:
    body.pop("decision_id")
    for name in ("decision_id", "at"):
        body["decision"].pop(name)
    return body


def test_decisions_of_others_are_not_shown_and_not_confirmed(home: "Home") -> None:
    home.install("puppet")
    known = home.owner.post("/v1/decisions", ASK).json()["decision_id"]
    erin = home.person("erin", "evaluate")
    answers = [erin.get(f"/v1/decisions/{each}") for each in (known, known[:-1] + ("0" if known[-1] != "0" else "1"))]
    assert [each.status_code for each in answers] == [403, 403]
    assert answers[0].json() == answers[1].json()
    assert "puppet" not in answers[0].text
    assert home.owner.get("/v1/decisions/nothing").status_code == 404


def test_a_plugins_pages(home: "Home") -> None:
    registered = home.register(
        "puppet", requested_permissions=[{"permission": "vault_read", "scope": "notes", "purpose": "finding notes"}]
    )
    assert registered["plugin_id"] == "puppet"
    assert registered["status"] == "registered"
    (pending,) = home.owner.get("/v1/permission-requests", status="pending").json()["requests"]
    assert (pending["plugin_id"], pending["type"], pending["status"]) == ("puppet", "register", "pending")
    assert home.owner.post("/v1/plugins/puppet/approve", {"reason": "ok"}).json()["status"] == "active"
    assert home.owner.get("/v1/permission-requests", status="pending").json()["requests"] == []
    assert [each["plugin_id"] for each in home.owner.get("/v1/plugins", status="active").json()["plugins"]] == [
        "puppet"
    ]
    assert home.owner.get("/v1/plugins", status="suspended").json()["plugins"] == []
    assert home.owner.get("/v1/plugins", status="flying").status_code == 400
    assert home.owner.get("/v1/plugins/puppet").json()["digest"].startswith("sha256:")
    assert home.owner.get("/v1/plugins/puppet/manifest").json()["plugin_id"] == "puppet"
    timeline = home.owner.get("/v1/plugins/puppet/timeline").json()
    assert [each["event_type"] for each in timeline["events"]] == ["registered", "approved", "activated"]
    grants = home.owner.get("/v1/plugins/puppet/permissions").json()["grants"]
    assert [(each["permission"], each["scope"], each["why"]) for each in grants] == [
        ("plugin_execute", "puppet", "given by activation"),
        ("vault_read", "notes/*", "finding notes"),
    ]
    exported = home.owner.get("/v1/permissions/export").json()
    assert exported["version"] == 1
    assert [each["id"] for each in exported["grants"]] == [each["id"] for each in grants]
    ran = home.owner.post("/v1/plugins/puppet/execute", {"payload": {"do": []}})
    assert ran.status_code == 200
    assert set(ran.json()) >= EXECUTION
    assert (ran.json()["success"], ran.json()["outcome"], ran.json()["output"]) == (True, "returned", [])
    taken = home.owner.post("/v1/plugins/puppet/permissions/revoke", {"permission": "vault_read", "reason": "x"})
    assert [each["permission"] for each in taken.json()["revoked"]] == ["vault_read"]
    gone = home.owner.post("/v1/plugins/puppet/uninstall", {"reason": "x"}).json()
    assert gone == {"plugin_id": "puppet", "status": "uninstalled"}
    assert home.owner.get("/v1/plugins/puppet").status_code == 404


def test_the_log_is_searched_page_by_page_and_exported(home: "Home") -> None:
    home.install("puppet")
    everything = home.records()
    page = home.owner.get("/v1/audit", limit=3).json()
    read = list(page["records"])
    while page["cursor"] is not None:
        page = home.owner.get("/v1/audit", limit=3, cursor=page["cursor"]).json()
        assert len(page["records"]) <= 3
        read += page["records"]
    seqs = [row["seq"] for row in read]
    assert seqs == sorted(seqs, reverse=True)
    assert {row["event_id"] for row in everything} <= {row["event_id"] for row in read}
    answer = home.owner.get("/v1/audit/export")
    assert answer.headers["content-type"].startswith("application/jsonl")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[-1]["event_type"] == "exported"
    assert "checkpoint" in lines[-1]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert home.owner.get("/v1/audit/checkpoint").text.count("\n") >= 4


def test_a_record_and_the_growth_of_the_log_are_proved(home: "Home") -> None:
    older = parse_note(home.owner.get("/v1/audit/checkpoint").text)
    decision = home.owner.post("/v1/decisions", ASK).json()
    (record,) = home.owner.get("/v1/audit", event_id=decision["decision_id"]).json()["records"]
    key, leaf = parse_verifier(home.parts.log.verifier), bytes.fromhex(record["leaf"])
    text = home.owner.get(f"/v1/audit/proof/{decision['decision_id']}", format="tlog")
    assert text.headers["content-type"].startswith("text/plain")
    assert check_inclusion(text.text, leaf, key).size >= record["seq"]
    found = home.owner.get(f"/v1/audit/proof/{record['event_id']}").json()
    assert (found["seq"], found["leaf"]) == (record["seq"], record["leaf"])
    note = parse_note(found["checkpoint"])
    hashes = [bytes.fromhex(each) for each in found["proof"]]
    assert proves_inclusion(found["index"], note.size, leaf, hashes, note.root)
    grown = home.owner.get("/v1/audit/consistency", old=older.size).json()
    assert check_consistency(older, grown, key).size > older.size
    leaves = home.owner.get("/v1/audit/leaves", size=older.size).text.splitlines()
    tree = Frontier()
    tree.extend([bytes.fromhex(each) for each in leaves])
    assert tree.root() == older.root
    for path, status in (
        ("/v1/audit/proof/audit-0", 400),
        ("/v1/audit/proof/019a0000-0000-7000-8000-000000000000", 404),
        (f"/v1/audit/proof/{record['event_id']}?format=xml", 400),
        ("/v1/audit/consistency?old=999999", 404),
        ("/v1/audit/consistency?old=-1", 400),
        ("/v1/audit/leaves?size=999999", 404),
    ):
        assert home.owner.ask("GET", path).status_code == status, path
        told = home.person("alice", "audit").ask("GET", path).status_code
        assert told == (status if path.endswith("old=-1") else 403), path  # what cannot be read is told to anybody


def test_the_key_of_the_log_is_rotated_by_who_administers_the_audit(home: "Home") -> None:
    before = home.parts.log.verifier
    why = {"reason": "yearly"}
    assert home.person("dave", "audit", "admin").ask("POST", "/v1/audit/rotate-key", why).status_code == 403
    assert home.owner.ask("POST", "/v1/audit/rotate-key", {}).status_code == 400
    assert home.parts.log.verifier == before
    found = home.owner.post("/v1/audit/rotate-key", why).json()
    assert found["key"] == home.parts.log.verifier != before
    (record,) = home.records(event_type="key_rotated")
    assert record["details"] == {"reason": "yearly", "old_key": before, "new_key": found["key"]}
    old, new = parse_verifier(before), parse_verifier(found["key"])
    assert old.signed(parse_note(found["checkpoint"]))
    assert new.signed(parse_note(found["checkpoint"]))
    assert new.signed(parse_note(home.owner.get("/v1/audit/checkpoint").text))


def test_a_policy_that_comes_into_force_is_followed_by_a_checkpoint(home: "Home") -> None:
    activated = home.records(event_type="policy_activated")[-1]
    with LogReader(home.folder / "data").connect() as connection:
        sizes = {size for (size,) in connection.execute("SELECT size FROM checkpoint")}
    assert activated["seq"] in sizes


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=1001", "limit=x", "cursor=zz", "min_risk=101", "min_risk=-1", "min_risk=x", "since=yesterday",
        "since=2026-01-01", "until=2026-01-01T00:00:00", "event_type=x", "category=x", "effect=permit", "event_id=x",
        "q=" + "a" * 300, 'q="', "q=*", "q=%00", "q='--", "q=%25", "q=", 'q="open',
    ],
)  # fmt: skip
def test_a_search_that_cannot_be_understood_is_an_error(quiet_home: "Home", query: str) -> None:
    answer = quiet_home.owner.ask("GET", f"/v1/audit?{query}")
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:hearthgate:problem:malformed"


@pytest.mark.parametrize(
    "query", ["q=NEAR(", "q=a%00b", "q=x'--", "q=-x", "q=words:x", "q=a+OR+b", "user=%00", "plugin=*", "rule='"]
)
def test_a_search_takes_any_text_literally(quiet_home: "Home", query: str) -> None:
    assert quiet_home.owner.ask("GET", f"/v1/audit?{query}").status_code == 200


def test_the_policy_is_shown_checked_and_explained(home: "Home") -> None:
    status = home.owner.get("/v1/policy").json()
    assert status["in_force"] is True
    assert status["problems"] == []
    files = {
        path.relative_to(home.folder / "policies").as_posix(): path.read_text()
        for path in (home.folder / "policies").rglob("*.*")
    }
    good = home.owner.post("/v1/policy/check", {"files": files}).json()
    assert good == {"ok": True, "version": status["version"], "problems": []}
    files["rules/99-bad.csv"] = "p, x, plugin:notes, vault, raed, a, -, Deny, why\n"
    bad = home.owner.post("/v1/policy/check", {"files": files}).json()
    assert bad["ok"] is False
    assert {(each["file"], each["line"]) for each in bad["problems"]} == {("rules/99-bad.csv", 1)}
    assert home.owner.get("/v1/policy").json() == status
    explained = home.owner.post(
        "/v1/policy/explain", {"subject": "plugin:ghost", "permission": "file_read", "scope": "/etc/passwd"}
    ).json()
    assert explained["decision"]["effect"] == "deny"
    assert explained["decision"]["dry_run"] is True
    assert explained["sentences"]


def test_readiness_names_what_is_missing(home: "Home") -> None:
    before = home.owner.get("/readyz")
    assert before.status_code == 503
    assert before.json()["missing"] == ["the sandbox is not proven yet"]
    home.parts.host.prove()
    ready = home.owner.get("/readyz").json()
    assert (ready["ready"], ready["missing"], ready["log"]["dropped"]) == (True, [], 0)
    doctor = home.owner.get("/v1/doctor").json()
    assert doctor["ok"] is True
    assert {"hearthgate", "casbin", "sqlite"} <= set(doctor["versions"])


def test_a_trace_is_kept_with_every_record(home: "Home") -> None:
    home.install("puppet")
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    answer = home.owner.ask(
        "POST", "/v1/plugins/puppet/execute", {"payload": {"do": [["vault.read", "x"]]}}, headers=headers
    )
    assert answer.status_code == 200
    traced = [row["event_type"] for row in home.records() if row["trace_id"] == trace]
    assert traced.count("access_granted") == 2
    assert {"execution_started", "access_denied", "execution_completed"} <= set(traced)
    home.owner.ask("GET", "/v1/policy", headers={"traceparent": "00-evil-evil-01"})
    assert home.records()[-2]["trace_id"] is None
