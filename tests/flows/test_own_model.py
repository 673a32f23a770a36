"""A model of the operator's own: only where they say so, in force from a start to the next, and never a way around."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.conftest import Home

OWN = 'm = (r.kind != "vault" || r.level == "read") && '


def model(home: "Home") -> Path:
    return home.folder / "policies" / "model.conf"


def write_own(home: "Home", matcher: str = OWN) -> None:
    text = model(home).read_text()
    (model(home).parent / ".model.conf").write_text(text.replace("m = ", matcher))
    (model(home).parent / ".model.conf").rename(model(home))


def allow_own(home: "Home") -> None:
    with (home.folder / "hearthgate.toml").open("a") as settings:
        settings.write("\n[policy]\ncustom_model = true\n")


def decided(home: "Home", level: str) -> dict[str, Any]:
    asked = {"subject": "plugin:notes", "permission": f"vault_{level}", "scope": "notes/a", "user": "alice"}
    answer = home.owner.post("/v1/decisions", asked)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_a_model_of_ones_own_is_an_error_until_the_settings_say_so(home: "Home") -> None:
    write_own(home)
    told = [str(each) for each in home.reload().problems]
    assert any("model.conf:" in each and "custom_model = true" in each for each in told)
    assert home.owner.get("/v1/policy").json()["in_force"] is True


def test_it_decides_from_the_next_start_on_and_is_never_exchanged_meanwhile(home: "Home") -> None:
    home.install("notes", wants=("vault_write notes",))
    assert decided(home, "write")["effect"] == "allow"
    allow_own(home)
    write_own(home)
    home.reopen()
    assert (decided(home, "write")["effect"], decided(home, "read")["effect"]) == ("deny", "allow")
    in_force = home.owner.get("/v1/policy").json()["version"]
    write_own(home, "m = r.kind != 'vault' && ")
    told = [str(each) for each in home.reload().problems]
    assert any("model.conf:" in each and "start the gateway anew" in each for each in told)
    assert home.owner.get("/v1/policy").json()["version"] == in_force
    assert decided(home, "read")["effect"] == "allow"
    home.reopen()
    assert decided(home, "read")["effect"] == "deny"


def test_taking_away_needs_no_model_that_is_sound(home: "Home") -> None:
    allow_own(home)
    write_own(home)
    home.reopen()
    home.install("notes", wants=("vault_read notes",))
    assert decided(home, "read")["effect"] == "allow"
    model(home).write_text("[matchers]\nm = true\n")
    home.reopen()
    assert decided(home, "read")["effect"] == "allow"
    revoked = home.owner.post("/v1/plugins/notes/permissions/revoke", {"permission": "vault_read", "reason": "test"})
    assert revoked.status_code == 200, revoked.text
    assert decided(home, "read")["effect"] == "deny"


def test_without_the_setting_nothing_of_it_is_left_in_force(home: "Home") -> None:
    before = (home.folder / "hearthgate.toml").read_text()
    allow_own(home)
    write_own(home, "m = (g(r.sub, p.sub) || p.eft == 'allow') && ")
    home.reopen()
    assert home.owner.get("/v1/policy").json()["in_force"] is True
    (home.folder / "hearthgate.toml").write_text(before)
    home.reopen()
    policy = home.owner.get("/v1/policy")
    assert policy.status_code in {200, 403}
    assert home.parts.policy.get() is None


def test_under_it_a_folder_is_shown_to_no_cell(home: "Home", tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "note").write_text("hello")
    wants = (f"file_read {shared}",)
    code = "def execute(ctx, payload):\n    return open(payload['path']).read()\n"
    home.install("reader", code, wants=wants, sandbox_config={"file_access": [str(shared)]})
    payload = {"payload": {"path": str(shared / "note")}}
    assert home.owner.post("/v1/plugins/reader/execute", payload).json()["output"] == "hello"
    allow_own(home)
    write_own(home)
    home.reopen()
    told = home.owner.post("/v1/plugins/reader/execute", payload).json()
    assert told["success"] is False
    assert "operator's own" in str(told["sandbox_result"]["files"]["left_out"])


PRIORITY = "e = priority(p.eft) || deny"
RULES = """\
p, looked-at, plugin:puppet, vault, write, notes/*, approval; rate(1/60s), allow, each write is looked at
p, no-more, plugin:puppet, vault, write, *, -, deny, nothing else
p, may-ask, user:alice, gateway, execute, decisions/plugin:puppet, -, allow, alice's agent host asks
"""


def test_a_call_that_its_effect_would_allow_once_approved_can_be_approved(home: "Home") -> None:
    home.install("puppet")
    home.write_rules(RULES, "00-first.csv")
    allow_own(home)
    both = "e = some(where (p.eft == allow)) && !some(where (p.eft == deny))"
    model(home).write_text(model(home).read_text().replace(both, PRIORITY))
    home.reopen()
    assert home.owner.get("/v1/policy").json()["model"] == "own"
    asker = home.person("alice", "execute", "evaluate")
    write = ["vault.write", "notes/a", "hello"]
    assert asker.run("puppet", write)[0]["denied"] == "approval_required"
    (waits,) = home.owner.get("/v1/call-approvals", status="pending").json()["approvals"]
    assert waits["rule"] == "looked-at"
    approver = home.person("bob", "approve")
    assert approver.post(f"/v1/call-approvals/{waits['id']}/approve", {"reason": "seen"}).status_code == 200
    assert asker.run("puppet", write, write)[0] is None
    assert home.decided(permission="vault_write")[-1]["reason"] in {"rate_limited", "approval_required"}
    assert asker.run("puppet", ["vault.write", "other", ""])[0]["denied"] == "rule"


def test_its_owner_can_stop_all_whatever_it_says(home: "Home") -> None:
    home.install("notes", wants=("vault_read notes",))
    for cases in (home.folder / "policies" / "tests").glob("*.toml"):
        cases.unlink()
    allow_own(home)
    write_own(home, 'm = r.kind in ("vault", "plugin") && ')
    home.reopen()
    assert home.owner.get("/v1/policy").json()["model"] == "own"
    assert decided(home, "read")["effect"] == "allow"
    revoked = home.owner.post("/v1/plugins/notes/permissions/revoke", {"permission": "vault_read", "reason": "test"})
    assert revoked.status_code == 200, revoked.text
    assert decided(home, "read")["effect"] == "deny"
    assert home.owner.post("/v1/plugins/notes/suspend", {"reason": "test"}).status_code == 200
    assert home.owner.get("/v1/audit").status_code == 200
    assert home.owner.post("/v1/lockdown", {"scope": "all", "reason": "test"}).status_code == 201


def test_a_report_does_not_tell_by_the_rules_alone_what_it_allows(home: "Home") -> None:
    allow_own(home)
    write_own(home)
    home.reopen()
    period = {"since": "2020-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}
    told = home.owner.get("/v1/audit/report", format="json", **period).json()["could_read"]
    assert told["own_model"] == [home.owner.get("/v1/policy").json()["version"]]
    page = home.owner.get("/v1/audit/report", format="html", **period).text
    assert "1 policies of the period have a model that the operator wrote" in page
