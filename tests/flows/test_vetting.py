"""Reviews and scans: code that wants to be looked at runs only after it was, and it was this very code."""

import sys
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from gateway.domain.caller import Caller
from gateway.domain.names import UserId
from gateway.domain.reloading import Trigger
from gateway.flows.reload_plugin import reload_changed
from gateway.registry.inspection.bandit_scan import MAX_FINDINGS

if TYPE_CHECKING:
    import httpx

    from tests.conftest import Home, Person

GOOD = "def execute(ctx, payload):\n    return 1\n"
BAD = "import subprocess\n\n\ndef execute(ctx, payload):\n    subprocess.run(payload['x'], shell=True)  # nosec\n"
ELSEWHERE = "sha256:" + "0" * 64


def approve(home: "Home", plugin_id: str = "looked", by: "Person | None" = None) -> "httpx.Response":
    return (by or home.owner).post(f"/v1/plugins/{plugin_id}/approve", {"reason": "test"})


def review(by: "Person", digest: str, **more: Any) -> "httpx.Response":  # noqa: ANN401 (JSON)
    return by.post("/v1/plugins/looked/review", {"digest": digest, "reason": "read it", **more})


def test_an_approval_waits_for_a_review_by_another_person(home: "Home") -> None:
    digest = home.register("looked", GOOD, code_review_required=True)["digest"]
    held = approve(home)
    assert (held.status_code, held.json()["gate"]) == (409, "code_review")
    assert f"plugin review looked --digest {digest}" in held.json()["detail"] + held.text
    assert review(home.owner, digest).status_code == 403
    assert review(home.owner.behalf("bob"), digest).status_code == 403
    assert approve(home).status_code == 409
    bob = home.person("bob", "approve")
    assert review(bob, ELSEWHERE).status_code == 409
    assert review(bob, digest, reason=" ").status_code == 400
    assert review(bob, digest).json()["reviewed_by"] == "bob"
    assert home.owner.get("/v1/plugins/looked/reviews").json()["reviewed"] is True
    assert approve(home).status_code == 200
    (record,) = home.records(event_type="code_reviewed")
    assert (record["user_id"], record["details"]["digest"]) == ("bob", digest)


@pytest.mark.parametrize("who", ["stranger", "alice", "carol"])
def test_nobody_without_the_right_to_approve_reviews(home: "Home", who: str) -> None:
    digest = home.register("looked", GOOD, code_review_required=True)["digest"]
    by = home.stranger if who == "stranger" else home.person(who, "evaluate", "execute")
    assert review(by, digest).status_code in {401, 403}


@pytest.mark.parametrize("author", ["Bob", " bob ", "Baker <bob>", "Alice, Bob and others"])
def test_whom_the_manifest_names_as_its_author_cannot_review_it(home: "Home", author: str) -> None:
    digest = home.register("looked", GOOD, code_review_required=True, author=author)["digest"]
    assert review(home.person("bob", "approve"), digest).status_code == 403


def test_a_review_is_of_one_code_alone(home: "Home") -> None:
    digest = home.register("looked", GOOD, code_review_required=True)["digest"]
    assert review(home.person("bob", "approve"), digest).status_code == 200
    again = home.register("looked", GOOD + "# more\n", code_review_required=True)["digest"]
    assert again != digest
    assert approve(home).status_code == 409
    home.owner.post("/v1/plugins/looked/uninstall", {"reason": ""})
    assert home.register("looked", GOOD, code_review_required=True)["digest"] == digest
    assert approve(home).status_code == 409  # the same id inherits nothing


def test_code_that_comes_after_the_approval_is_held_to_the_gates(home: "Home") -> None:
    manifest = {"plugin_id": "looked", "name": "looked", "version": "1.0.0", "security_scan": True}
    assert home.owner.post("/v1/plugins", manifest).status_code == 201
    assert approve(home).status_code == 200
    folder = home.folder / "plugins" / "looked"
    folder.mkdir()
    (folder / "main.py").write_text(BAD)
    answer = home.owner.post("/v1/plugins/looked/execute", {"payload": {"x": "true"}})
    assert (answer.status_code, answer.json()["gate"]) == (409, "security_scan")
    (folder / "main.py").write_text(GOOD)
    assert home.owner.post("/v1/plugins/looked/execute", {"payload": {}}).json()["output"] == 1


def test_a_finding_of_high_severity_holds_the_approval_until_it_is_accepted(home: "Home") -> None:
    digest = home.register("looked", BAD, security_scan=True)["digest"]
    held = approve(home)
    assert (held.status_code, held.json()["gate"]) == (409, "security_scan")
    found = home.owner.get("/v1/plugins/looked/scan").json()
    assert (found["passed"], found["counts"]["high"]) == (False, 1)
    high = found["findings"][0]
    assert (high["file"], high["line"], high["rule"]) == ("main.py", 5, "B602")  # whatever `# nosec` says
    accept = "/v1/plugins/looked/scan/accept"
    assert home.owner.post(accept, {"digest": digest, "reason": ""}).status_code == 400
    assert home.owner.post(accept, {"digest": ELSEWHERE, "reason": "x"}).status_code == 404
    assert home.person("alice", "execute").post(accept, {"digest": digest, "reason": "x"}).status_code == 403
    assert home.owner.post(accept, {"digest": digest, "reason": "its input is ours"}).json()["reason"]
    assert approve(home).status_code == 200
    scanned, accepted = home.records(event_type="security_scan")
    assert (scanned["details"]["counts"]["high"], scanned["details"]["passed"]) == (1, False)
    assert (accepted["details"]["accepted"], accepted["details"]["reason"]) == (True, "its input is ours")


def test_code_without_findings_passes_and_is_scanned_once(home: "Home") -> None:
    home.register("looked", GOOD, security_scan=True)
    assert approve(home).status_code == 200
    home.reopen()
    assert home.owner.get("/v1/plugins/looked/scan").json()["passed"] is True
    assert len(home.records(event_type="security_scan")) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("deep.py", "x = " + "-" * 300_000 + "1"),
        ("broken.py", "def ("),
        ("wide.py", "x = [" + "1," * 3_000_000 + "]"),
        ("native.so", "\x7fELF"),
        ("hidden.pyc", "x"),
        ("many.py", "import subprocess\n" + "subprocess.run(x, shell=True)\n" * (MAX_FINDINGS + 50)),
    ],
)
def test_code_that_cannot_be_scanned_is_no_code_that_passed(home: "Home", name: str, content: str) -> None:
    home.write_plugin("looked", GOOD, security_scan=True)
    (home.folder / "plugins" / "looked" / name).write_text(content)
    assert home.owner.post("/v1/plugins", {"folder": "looked"}).status_code == 201
    answer = home.owner.start("POST", "/v1/plugins/looked/approve", {"reason": ""}).result(70)
    assert (answer.status_code, answer.json()["gate"]) == (409, "security_scan")
    assert len(home.owner.get("/v1/plugins/looked/scan").json()["findings"]) <= MAX_FINDINGS + 1


def test_without_bandit_an_approval_is_refused_with_the_way_out(home: "Home", monkeypatch: pytest.MonkeyPatch) -> None:
    home.register("looked", GOOD, security_scan=True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "bandit" else sys.modules)
    answer = approve(home)
    assert answer.status_code == 409
    assert "pip install bandit" in answer.text
    assert home.state("looked") == "registered"


def test_the_scanner_runs_nothing_and_reaches_nothing(home: "Home") -> None:
    marker = home.folder.parent / "ran"
    code = f"open({str(marker)!r}, 'w')\nimport socket\nsocket.create_connection(('127.0.0.1', 1))\n{GOOD}"
    home.register("looked", code, security_scan=True)
    assert approve(home).status_code == 200
    assert not marker.exists()


def test_findings_are_given_as_sarif(home: "Home") -> None:
    home.register("looked", BAD)
    assert home.owner.get("/v1/plugins/looked/scan").status_code == 404
    assert home.owner.post("/v1/plugins/looked/scan", {}).status_code == 200
    told = home.owner.get("/v1/plugins/looked/scan", form="sarif").json()
    shape = {
        "required": ["version", "runs"],
        "properties": {
            "version": {"const": "2.1.0"},
            "runs": {"items": {"required": ["tool", "results"], "properties": {"tool": {"required": ["driver"]}}}},
        },
    }
    jsonschema.validate(told, shape)
    result = next(each for each in told["runs"][0]["results"] if each["level"] == "error")
    place = result["locations"][0]["physicalLocation"]
    assert (place["artifactLocation"]["uri"], place["region"]["startLine"]) == ("main.py", 5)
    assert home.owner.get("/v1/plugins/looked/scan", form="xml").status_code == 400


def test_a_secret_in_the_code_is_found_and_not_repeated(home: "Home") -> None:
    home.register("looked", f'password = "hunter2hunter2"\n{GOOD}\ndef log_in(password="hunter3hunter3"): ...\n')
    told = home.owner.post("/v1/plugins/looked/scan", {}).json()
    assert {each["rule"] for each in told["findings"]} == {"B105", "B107"}
    assert all(each["text"] == "Possible hardcoded password" for each in told["findings"])


def test_the_place_of_a_finding_is_a_uri_whatever_the_file_is_called(home: "Home") -> None:
    home.write_plugin("looked", GOOD)
    name = "sub/an: odd #name%41é.py"
    (home.folder / "plugins" / "looked" / "sub").mkdir()
    (home.folder / "plugins" / "looked" / name).write_text(BAD)
    assert home.owner.post("/v1/plugins", {"folder": "looked"}).status_code == 201
    assert home.owner.post("/v1/plugins/looked/scan", {}).status_code == 200
    assert home.owner.get("/v1/plugins/looked/scan").json()["findings"][0]["file"] == name
    told = home.owner.get("/v1/plugins/looked/scan", form="sarif").json()
    places = [each["locations"][0]["physicalLocation"] for each in told["runs"][0]["results"]]
    uris = {each["artifactLocation"]["uri"] for each in places}
    assert uris == {"sub/an%3A%20odd%20%23name%2541%C3%A9.py"}
    assert all(each["region"]["startLine"] >= 1 for each in places)


def reload(home: "Home", code: str, by: "Person | None" = None) -> dict[str, Any]:
    (home.folder / "plugins" / "looked" / "main.py").write_text(code)
    answer = (by or home.owner).post("/v1/plugins/looked/reload", {"reason": "test"})
    body: dict[str, Any] = answer.json()
    return body


def test_a_reload_is_held_to_a_review_of_its_own(home: "Home") -> None:
    first = home.register("looked", GOOD, code_review_required=True)["digest"]
    bob = home.person("bob", "approve")
    assert review(bob, first).status_code == 200
    assert approve(home).status_code == 200
    told = reload(home, GOOD.replace("1", "2"))
    assert "wants a code review" in str(told)
    assert home.owner.post("/v1/plugins/looked/execute", {"payload": {}}).json()["output"] == 1
    digest = told["reload"]["new_digest"]
    assert review(home.owner, digest).status_code == 403
    assert review(bob, digest).status_code == 200
    reload(home, GOOD.replace("1", "2"))
    assert home.owner.post("/v1/plugins/looked/execute", {"payload": {}}).json()["output"] == 2


def test_a_reload_is_scanned_before_anything_of_it_runs(home: "Home") -> None:
    home.register("looked", GOOD, security_scan=True)
    assert approve(home).status_code == 200
    assert "of high severity" in str(reload(home, BAD))
    assert home.owner.post("/v1/plugins/looked/execute", {"payload": {}}).json()["output"] == 1


def test_a_reload_is_held_to_what_its_manifest_says_of_its_functions(home: "Home") -> None:
    home.install("looked", "def one(ctx):\n    return 1\n", capabilities=[{"name": "one"}])
    told = reload(home, "async def one(ctx):\n    return 2\n")
    assert "the code is not what the manifest says" in str(told)
    assert home.owner.post("/v1/plugins/looked/execute", {"payload": {"action": "one"}}).json()["output"] == 1


def test_who_brings_an_update_does_not_open_its_gate(home: "Home") -> None:
    first = home.register("looked", GOOD, code_review_required=True)["digest"]
    bob = home.person("bob", "approve", "admin")
    assert review(home.person("bob", "approve"), first).status_code == 200
    assert approve(home).status_code == 200
    told = reload(home, GOOD.replace("1", "2"), bob)["reload"]
    assert told["outcome"] == "held_back"
    refused = review(bob, told["new_digest"])
    assert (refused.status_code, refused.json()["reason"]) == (403, "four_eyes")
    answer = bob.post(f"/v1/permission-requests/{told['request_id']}/approve", {"reason": "mine"})
    assert answer.status_code == 409, answer.text
    assert home.owner.post("/v1/plugins/looked/execute", {"payload": {}}).json()["output"] == 1


def watched(home: "Home") -> str:
    """Let the folder's watch find what is there, as it does when a file was saved."""
    owner = Caller(user_id=UserId(home.parts.owner), owner=True)
    done = home.do(reload_changed(home.parts, owner, "looked", "saved", Trigger.WATCH))
    found: str = done.outcome.value
    return found


def test_who_brought_an_update_once_does_not_open_its_gate_by_having_the_watch_bring_it(home: "Home") -> None:
    first = home.register("looked", GOOD, code_review_required=True)["digest"]
    bob, frank = home.person("bob", "approve", "admin"), home.person("frank", "approve")
    roles = home.folder / "policies" / "roles.csv"
    roles.write_text(roles.read_text() + "g, user:frank, role:approver\n")
    home.put_in_force()
    assert review(frank, first).status_code == 200
    assert approve(home).status_code == 200
    digest = reload(home, GOOD.replace("1", "2"), bob)["reload"]["new_digest"]
    (request,) = home.owner.get("/v1/permission-requests", status="pending").json()["requests"]
    assert review(bob, digest).status_code == 403
    assert bob.post(f"/v1/permission-requests/{request['id']}/deny", {"reason": "a slip"}).status_code == 200
    assert watched(home) in {"held_back", "denied"}
    assert home.owner.post("/v1/plugins/looked/execute", {"payload": {}}).json()["output"] == 1
    reload(home, GOOD.replace("1", "2"))  # the owner brings the same: bob stays who brought it first
    assert review(bob, digest).status_code == 403
    assert home.owner.post("/v1/plugins/looked/execute", {"payload": {}}).json()["output"] == 1
    assert review(frank, digest).status_code == 200
    assert watched(home) == "reloaded"
    assert home.owner.post("/v1/plugins/looked/execute", {"payload": {}}).json()["output"] == 2


def test_an_admin_right_that_one_person_asked_for_is_not_approved_by_them_as_anothers_wish(home: "Home") -> None:
    home.install("looked", GOOD)
    bob = home.person("bob", "approve", "admin")
    home.write_plugin("looked", GOOD, requested_permissions=[{"permission": "core_admin", "scope": "x"}])
    bob.post("/v1/plugins/looked/reload", {"reason": ""})
    (mine,) = home.owner.get("/v1/permission-requests", status="pending").json()["requests"]
    assert mine["requested_by"] == "bob"
    assert bob.post(f"/v1/permission-requests/{mine['id']}/deny", {"reason": "a slip"}).status_code == 200
    home.owner.post("/v1/plugins/looked/reload", {"reason": "the folder says so"})
    (anew,) = home.owner.get("/v1/permission-requests", status="pending").json()["requests"]
    assert anew["requested_by"] != "bob"
    refused = bob.post(f"/v1/permission-requests/{anew['id']}/approve", {"reason": "fine"})
    assert (refused.status_code, refused.json()["reason"]) == (403, "four_eyes")
