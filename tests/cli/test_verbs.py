"""Every verb does what it says, with a gateway running on the home and without one."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
Ask = Callable[..., Any]

HEARTHGATE = str(Path(sys.executable).with_name("hearthgate"))


@pytest.fixture(params=["alone", "served"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Give a home with the example plugins, once without and once with a gateway that serves it."""
    folder = tmp_path / "house"
    subprocess.run([HEARTHGATE, "init", folder, "--plugins"], check=True, capture_output=True, timeout=60)
    if request.param == "alone":
        yield folder
        return
    command = [HEARTHGATE, "serve", "--home", folder, "--listen", "127.0.0.1:0"]
    gateway = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert gateway.stdout is not None
    for line in gateway.stdout:
        if "hearthgate.sock" in line:
            break
    yield folder
    gateway.terminate()
    gateway.wait(30)
    gateway.stdout.close()


@pytest.fixture
def ask(hearthgate: Run, home: Path) -> Ask:
    """Give a function that runs a verb with `--json` and gives its document."""

    def run(*arguments: object, status: int = 0, stdin: str = "") -> Any:  # noqa: ANN401 (any JSON value)
        left = hearthgate("--home", home, "--json", *arguments, stdin=stdin)
        assert left.returncode == status, left.stdout + left.stderr
        assert "Traceback" not in left.stderr
        return json.loads(left.stdout)

    return run


def test_a_plugin_goes_its_whole_way(ask: Ask) -> None:
    assert ask("plugin", "register", "notes")["status"] == "registered"
    assert ask("permission", "requests")["requests"][0]["plugin_id"] == "notes"
    assert ask("plugin", "run", "notes", "{}", status=1)["type"].endswith("illegal_transition")
    assert ask("plugin", "approve", "notes", "--reason", "read its code")["status"] == "active"
    assert {grant["permission"] for grant in ask("permission", "grants", "notes")["grants"]} > {"vault_read"}
    ran = ask("plugin", "run", "notes", '{"action": "remember", "text": "buy bread"}')
    assert (ran["success"], ran["outcome"]) == (True, "returned")
    ran = ask("plugin", "run", "notes", "-", stdin='{"action": "recall", "word": "bread"}')
    assert ran["output"] == ["buy bread"]
    assert ask("plugin", "suspend", "notes", "--reason", "lunch")["status"] == "suspended"
    assert ask("plugin", "resume", "notes", "--reason", "back")["status"] == "active"
    assert ask("permission", "revoke", "notes", "--permission", "vault_write", "--reason", "no more")["revoked"]
    ran = ask("plugin", "run", "notes", '{"action": "remember", "text": "more"}', status=1)
    assert ran["outcome"] == "failed"
    assert ask("plugin", "revoke", "notes", "--reason", "enough")["status"] == "revoked"
    events = [event["event_type"] for event in ask("plugin", "timeline", "notes")["events"]]
    assert events[:3] == ["registered", "approved", "activated"]
    assert events[-1] == "revoked"
    assert ask("plugin", "list", "--status", "active")["plugins"] == []
    assert ask("plugin", "uninstall", "notes", "--reason", "gone")["status"] == "uninstalled"
    assert ask("plugin", "show", "notes", status=1)["type"].endswith("not_found")


def test_consents_keys_and_lockdowns_come_and_go(ask: Ask) -> None:
    ask("plugin", "register", "notes")
    ask("plugin", "approve", "notes", "--reason", "x")
    what = ["--user", "alice", "--plugin", "notes", "--permission", "vault_read", "--scope", "user_data/diary"]
    given = ask("consent", "add", *what)
    assert [one["id"] for one in ask("consent", "list", "--user", "alice")["consents"]] == [given["id"]]
    ask("consent", "withdraw", given["id"], "--reason", "changed my mind")
    key = ask("key", "add", "alice", "--scope", "execute")
    assert key["key"]
    assert [one["id"] for one in ask("key", "list")["keys"]] == [key["id"]]
    assert "key" not in ask("key", "list")["keys"][0]
    ask("key", "revoke", key["id"], "--reason", "lost")
    lockdown = ask("lockdown", "on", "plugin:notes", "--reason", "strange")
    assert [one["scope"] for one in ask("lockdown", "list")["lockdowns"]] == ["plugin:notes"]
    denied = ask("plugin", "run", "notes", '{"action": "recall", "word": ""}', status=3)
    assert denied["type"].endswith("denied")
    ask("lockdown", "off", lockdown["id"], "--reason", "harmless")
    ask("lockdown", "on", "plugin:notes", "--reason", "strange again")
    assert ask("lockdown", "off", "plugin:notes", "--reason", "harmless again")["scope"] == "plugin:notes"
    assert ask("lockdown", "list")["lockdowns"] == []
    assert ask("plugin", "run", "notes", '{"action": "recall", "word": ""}')["output"] == []


def test_a_permission_is_asked_for_checked_and_seen_in_the_timeline(ask: Ask, hearthgate: Run, home: Path) -> None:
    ask("plugin", "register", "notes")
    ask("plugin", "approve", "notes", "--reason", "x")
    wish = ["notes", "--permission", "core_read", "--scope", "version", "--purpose", "which one it is"]
    conditions = ["--conditions", '{"rate_limit": 3}']
    assert ask("permission", "check", "notes", "core_read", "version", status=3)["reason"] == "no_rule"
    asked = ask("permission", "request", *wish, *conditions, "--reason", "help pages")
    assert (asked["status"], asked["reason"]) == ("pending", "help pages")
    (wanted,) = asked["permissions"]
    assert (wanted["condition"], wanted["purpose"]) == ("rate(3/60s)", "which one it is")
    ask("permission", "approve", asked["id"], "--reason", "harmless", "--until", "2999-01-01T00:00:00Z")
    listed = hearthgate("--home", home, "permission", "requests", "--status", "approved").stdout
    assert "core_read version/*: given with rate(3/60s); until(2999-01-01T00:00:00.000000Z)" in listed
    for _ in range(5):  # asking uses up nothing
        assert ask("permission", "check", "notes", "core_read", "version/now", "--user", "alice")["effect"] == "allow"
    ask("permission", "request", *wish, "--conditions", '{"moon": "full"}', status=1)
    main = home / "plugins" / "notes" / "main.py"
    good = main.read_text()
    main.write_text(good + "# the same, with a word more\n")
    ask("plugin", "reload", "notes", "--reason", "a word more")
    main.write_text("nothing = 1\n")
    ask("plugin", "reload", "notes", "--reason", "oops", status=1)
    lines = hearthgate("--home", home, "plugin", "timeline", "notes").stdout.splitlines()
    assert "same_version, generation 2" in lines[-2]
    assert "failed: version" in lines[-1]
    assert "has no `remember`" in lines[-1]


def test_what_a_benchmark_is_wished_to_meet_decides_the_exit(ask: Ask, home: Path) -> None:
    folder = home / "plugins" / "meter"
    folder.mkdir()
    quick = {"name": "quick", "description": "", "return_type": "object", "idempotent": True}
    manifest = {"plugin_id": "meter", "name": "Meter", "version": "1.0.0", "capabilities": [quick]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "main.py").write_text(
        "def quick(ctx): return {'kept': open(ctx.scratch + '/x', 'w').write('x' * 70000)}\n"
    )
    ask("plugin", "register", "meter")
    ask("plugin", "approve", "meter", "--reason", "x")
    wishes = ["--response-time", "60000", "--error-rate", "0", "--max-cpu", "1000", "--max-memory", "900"]
    command = ["plugin", "bench", "meter", '{"action": "quick"}', "--duration", "0.3", *wishes]
    measured = ask(*command, "--max-disk", "5")
    assert all(each["met"] for each in measured["thresholds"].values())
    assert len(measured["thresholds"]) == 5
    above = ask(*command, "--max-disk", "0.01", status=1)["thresholds"]["max_disk_mb"]
    assert above["met"] is False
    assert 0.06 < above["measured"] < 1
    assert len(ask("plugin", "bench", "meter")["benchmarks"]) >= 2


def test_a_reason_is_kept_with_whatever_a_verb_changes(ask: Ask) -> None:
    ask("plugin", "register", "notes", "--reason", "we need notes")
    ask("plugin", "approve", "notes", "--reason", "read its code")
    key = ask("key", "add", "alice", "--scope", "execute", "--reason", "for her bot")["id"]
    wanted = ("--user", "alice", "--plugin", "notes", "--permission", "vault_read", "--scope", "user_data/diary")
    consent = ask("consent", "add", *wanted, "--reason", "she said so")["id"]
    ask("consent", "withdraw", consent, "--reason", "she changed her mind")
    ask("key", "revoke", key, "--reason", "the bot is gone")
    ask("plugin", "suspend", "notes", "--reason", "for a while")
    records = ask("audit", "search", "--limit", "200")["records"]
    told = {record["event_type"]: record["details"].get("reason") for record in records}
    assert told["registered"] == "we need notes"
    assert told["approved"] == "read its code"
    assert told["key_added"] == "for her bot"
    assert told["consent_given"] == "she said so"
    assert told["consent_withdrawn"] == "she changed her mind"
    assert told["key_revoked"] == "the bot is gone"
    assert told["suspended"] == "for a while"


def test_the_log_is_searched_shown_exported_and_verified(ask: Ask, hearthgate: Run, home: Path, tmp_path: Path) -> None:
    ask("plugin", "register", "notes")
    newest = ask("audit", "tail", "-n", "3")["records"]
    assert len(newest) == 3
    (registered,) = ask("audit", "search", "--plugin", "notes", "--event-type", "registered")["records"]
    assert ask("audit", "show", registered["event_id"])["seq"] == registered["seq"]
    assert ask("audit", "show", "audit-0", status=1)
    checkpoint = tmp_path / "checkpoint"
    checkpoint.write_text(ask("audit", "checkpoint")["checkpoint"])
    told = ask("audit", "export", "--format", "jsonl", "-o", tmp_path / "log.jsonl")
    lines = (tmp_path / "log.jsonl").read_bytes().splitlines(keepends=True)
    assert told["records"] == len(lines)
    assert (tmp_path / "log.jsonl").stat().st_mode & 0o077 == 0

    key = home / "data" / "keys" / "log.pub"
    verify = ("audit", "verify", tmp_path / "log.jsonl", "--json")
    told = json.loads(hearthgate(*verify, "--key", key, "--since", checkpoint).stdout)
    assert (told["ok"], told["complete"], told["signer_checked"]) == (True, True, True)
    told = json.loads(hearthgate(*verify).stdout)
    assert (told["ok"], told["signer_checked"]) == (True, False)

    told = ask("audit", "export", "--event-type", "registered", "-o", tmp_path / "part.jsonl")
    assert told["records"] == 2
    assert hearthgate("audit", "verify", tmp_path / "part.jsonl", "--key", key).returncode == 0

    at = next(i for i, line in enumerate(lines) if b'"registered"' in line)
    lines[at] = lines[at].replace(b'"registered"', b'"revoked"')
    (tmp_path / "log.jsonl").write_bytes(b"".join(lines))
    left = hearthgate("audit", "verify", tmp_path / "log.jsonl", "--key", key)
    assert left.returncode == 6
    assert f"line {at + 1} was changed" in left.stdout


def test_the_policy_in_force_is_told_and_explained(ask: Ask, home: Path) -> None:
    assert ask("policy", "status")["in_force"]
    asked = ["--subject", "user:alice", "--permission", "gateway_admin", "--scope", "policy"]
    explained = ask("policy", "explain", *asked)
    assert explained["decision"]["effect"] == "deny"
    assert explained["decision"]["dry_run"]
    assert explained["sentences"]
    assert ask("policy", "check")["ok"]
    assert ask("policy", "test")["ok"]
    assert ask("permission", "export")["version"] == 1
    assert home.is_dir()


def test_doctor_tells_what_the_host_gives(ask: Ask) -> None:
    told = ask("doctor")
    assert told["ok"], told["missing"]
    assert told["host"]


def test_tables_for_people_are_plain_away_from_a_terminal(hearthgate: Run, home: Path) -> None:
    hearthgate("--home", home, "plugin", "register", "weather")
    told = hearthgate("--home", home, "plugin", "list")
    assert told.stdout.splitlines()[0].split() == ["id", "status", "version", "risk", "tier", "name"]
    assert told.stdout.splitlines()[1].split()[:2] == ["weather", "registered"]
    assert "\x1b" not in told.stdout


def test_records_are_proved_leaves_kept_and_the_key_rotated(
    ask: Ask, hearthgate: Run, home: Path, tmp_path: Path
) -> None:
    ask("plugin", "register", "notes")
    (registered,) = ask("audit", "search", "--event-type", "registered")["records"]
    assert ask("audit", "proof", registered["event_id"])["leaf"] == registered["leaf"]
    text = hearthgate("--home", home, "audit", "proof", registered["event_id"], "--tlog")
    assert text.stdout.startswith("c2sp.org/tlog-proof@v1\nindex ")
    older, old_key = tmp_path / "older", tmp_path / "old.pub"
    older.write_text(ask("audit", "checkpoint")["checkpoint"])
    old_key.write_text((home / "data" / "keys" / "log.pub").read_text())
    rotated = ask("audit", "rotate-key", "--reason", "yearly")
    assert rotated["key"] == (home / "data" / "keys" / "log.pub").read_text().strip() != old_key.read_text().strip()
    assert ask("audit", "proof", "--from", older)["old"] > 0
    spoilt = tmp_path / "spoilt"
    spoilt.write_text(older.read_text().replace("\n", "\n1", 1))
    assert hearthgate("--home", home, "audit", "proof", "--from", spoilt).returncode in (1, 6)
    assert hearthgate("--home", home, "audit", "proof").returncode == 2
    part, leaves = tmp_path / "part.jsonl", tmp_path / "leaves.txt"
    told = ask("audit", "export", "--event-type", "registered", "-o", part, "--sidecar", leaves)
    assert told["sidecar"] == str(leaves)
    for key in (old_key, home / "data" / "keys" / "log.pub"):
        verify = ("audit", "verify", part, "--key", key, "--leaves", leaves, "--since", older, "--jobs", "2", "--json")
        found = json.loads(hearthgate(*verify).stdout)
        assert (found["ok"], found["signer_checked"]) == (True, True)
        assert "the file shows 2 of the" in found["notes"][0]
    leaves.write_text(leaves.read_text()[65:])
    assert hearthgate("audit", "verify", part, "--leaves", leaves).returncode == 6


def test_an_export_into_a_closed_pipe_ends_without_a_word(home: Path) -> None:
    command = f"{HEARTHGATE} --home {home} audit export | head -c 1"
    left = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    assert (left.stdout, left.stderr) == ("{", "")


def test_two_verbs_at_once_wait_for_each_other(hearthgate: Run, home: Path) -> None:
    command = [HEARTHGATE, "--home", str(home), "plugin", "list", "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    for one in both:
        told, why = one.communicate(timeout=60)
        assert one.returncode == 0, why
        assert json.loads(told) == {"plugins": []}
    assert hearthgate("--home", home, "plugin", "list").returncode == 0


def test_traffic_is_listed_summed_up_and_exported(ask: Ask, hearthgate: Run, home: Path, tmp_path: Path) -> None:
    assert ask("traffic", "list") == {"transfers": [], "cursor": None}
    ask("plugin", "register", "notes")
    ask("plugin", "approve", "notes", "--reason", "x")
    ask("plugin", "run", "notes", '{"action": "remember", "text": "buy bread"}')
    (row,) = ask("traffic", "list", "--plugin", "notes")["transfers"]
    assert (row["op"], row["outcome"]) == ("vault.write", "returned")
    assert ask("traffic", "summary")["transfers"] == 1
    assert ask("traffic", "summary", "--host", "a.test")["transfers"] == 0
    assert ask("traffic", "active") == {"active": []}
    for form in ("jsonl", "csv"):
        file = tmp_path / f"traffic.{form}"
        assert ask("traffic", "export", "--format", form, "-o", file) == {"file": str(file), "transfers": 1}
        assert row["decision_id"] in file.read_text()
    told = hearthgate("--home", home, "traffic", "list")
    assert "vault.write" in told.stdout
    assert hearthgate("--home", home, "traffic", "summary").stdout.count("notes") == 1
    assert ask("traffic", "export", status=2)["type"].endswith("usage")


def test_a_plugin_is_reloaded_held_back_and_approved(ask: Ask, hearthgate: Run, home: Path) -> None:
    folder = home / "plugins" / "teller"
    folder.mkdir()
    manifest = {"plugin_id": "teller", "name": "Teller", "version": "1.0.0"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "main.py").write_text("def execute(ctx, payload): return 'old'\n")
    ask("plugin", "register", "teller")
    ask("plugin", "approve", "teller", "--reason", "read its code")
    assert ask("plugin", "reload", "teller", "--reason", "nothing")["reload"]["outcome"] == "unchanged"
    (folder / "main.py").write_text("def execute(ctx, payload): return 'new'\n")
    assert ask("plugin", "reload", "teller", "--reason", "Bug fix update")["reload"]["outcome"] == "reloaded"
    assert ask("plugin", "run", "teller", "{}")["output"] == "new"
    (folder / "main.py").write_text("def execute(ctx, payload: return\n")
    assert ask("plugin", "reload", "teller", status=1)["type"] == "urn:hearthgate:problem:reload_failed"
    (folder / "main.py").write_text("def execute(ctx, payload): return 'newer'\n")
    wanted = [{"permission": "vault_read", "scope": "notes"}]
    (folder / "manifest.json").write_text(json.dumps({**manifest, "requested_permissions": wanted}))
    held = ask("plugin", "reload", "teller", status=1)["reload"]
    told = hearthgate("--home", home, "plugin", "reload", "teller")
    assert (told.returncode, "permission: vault_read on `notes/*`" in told.stdout) == (1, True)
    assert held["request_id"] in told.stderr
    assert "permission: vault_read" in hearthgate("--home", home, "permission", "requests").stdout
    assert ask("permission", "approve", held["request_id"], "--reason", "seen")["status"] == "approved"
    assert ask("plugin", "run", "teller", "{}")["output"] == "newer"
    events = ask("plugin", "reloads", "teller")["events"]
    assert [each["success"] for each in events] == [True, False, True]
    table = hearthgate("--home", home, "plugin", "reloads", "teller").stdout
    assert "Bug fix update" in table
    assert "SyntaxError" in table


@pytest.mark.parametrize("payload", ["not json", "[1]"])
def test_a_payload_that_is_none_is_wrong_usage(hearthgate: Run, payload: str) -> None:
    left = hearthgate("plugin", "run", "notes", payload)
    assert left.returncode == 2
    assert "payload is not" in left.stderr
