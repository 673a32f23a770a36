"""What a plugin opens by itself is what the policy gives it and its manifest names, and every sight is recorded."""

import os
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Home

OPENER = """\
import os
import time


def execute(ctx, payload):
    found = []
    for path in payload.get("read", ()):
        try:
            with open(path) as file:
                found.append(file.read())
        except OSError as error:
            found.append(error.errno)
    deadline = time.monotonic() + payload.get("stay_s", 0)
    while time.monotonic() < deadline:
        time.sleep(0.01)
    return found
"""


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    (folder / "inner").mkdir(parents=True)
    (folder / "note").write_text("hello")
    (folder / "note").chmod(0o600)
    (folder / "inner" / "deep").write_text("deep")
    return folder


def begin(home: "Home", **payload: object) -> "Future[Any]":
    alice = home.person("alice", "execute", "consent")
    return alice.start("POST", "/v1/plugins/reader/execute", {"payload": payload})


def call(home: "Home", *paths: Path, **payload: object) -> dict[str, Any]:
    answer = begin(home, read=[str(each) for each in paths], **payload).result(20)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def install(home: "Home", *named: Path, wants: tuple[str, ...] = ()) -> None:
    access = [str(each) for each in named]
    home.install("reader", OPENER, wants=wants, sandbox_config={"file_access": access})


def left_out(told: dict[str, Any]) -> str:
    assert told["sandbox_result"]["files"]["shown"] == []
    return str(told["sandbox_result"]["files"]["left_out"])


def test_a_granted_folder_that_the_manifest_names_is_opened_as_any_other(home: "Home", shared: Path) -> None:
    install(home, shared, wants=(f"file_read {shared}",))
    told = call(home, shared / "note", shared / "inner" / "deep")
    assert told["output"] == ["hello", "deep"]
    (seen,) = told["sandbox_result"]["files"]["shown"]
    assert (seen["path"], seen["resolved"], seen["level"]) == (str(shared), str(shared), "read")
    decision = home.decision(seen["decision_id"])
    assert (decision["permission"], decision["scope"], decision["effect"]) == ("file_read", str(shared), "allow")
    rows = [row["event_id"] for row in home.records()]
    began = home.records(event_type="execution_started")[-1]
    assert rows.index(f"audit-{seen['decision_id']}") < rows.index(began["event_id"])
    ended = home.records(event_type="execution_completed")[-1]
    assert ended["details"]["files"]["shown"] == [seen]


@pytest.mark.parametrize("which", ["granted alone", "named alone"])
def test_a_folder_that_is_only_granted_or_only_named_is_not_there(home: "Home", shared: Path, which: str) -> None:
    if which == "granted alone":
        install(home, wants=(f"file_read {shared}",))
        assert call(home, shared / "note")["sandbox_result"]["files"] is None
    else:
        install(home, shared)
        assert "no_rule" in left_out(call(home))
    assert call(home, shared / "note")["output"] == [2]


def test_of_a_named_folder_only_the_granted_part_is_seen(home: "Home", shared: Path) -> None:
    install(home, shared, wants=(f"file_read {shared}/inner",))
    assert call(home, shared / "inner" / "deep", shared / "note")["output"] == ["deep", 2]


def test_a_link_shows_what_it_leads_to_and_only_with_a_right_to_that(home: "Home", shared: Path) -> None:
    link = shared.parent / "link"
    link.symlink_to(shared)
    other = shared.parent / "other"
    other.mkdir()
    (other / "note").write_text("other")
    install(home, link, wants=(f"file_read {link}",))
    assert call(home, link / "note")["output"] == ["hello"]
    assert f"{shared}/*" in home.grants
    link.unlink()
    link.symlink_to(other)
    assert "no_rule" in left_out(call(home))
    assert call(home, link / "note")["output"] == [2]


@pytest.mark.parametrize(
    "rule",
    [
        "p, no, group:plugins, file, read, {shared}/*, -, deny, x",
        "p, no, plugin:reader, file, read, {shared}/inner/deep, -, deny, x",
        "p, no, group:plugins, *, *, {shared}/inner/*, hours(03:00-03:01 Mon UTC), deny, x",
        "p, no, group:plugins, file, read, {parent}/*, -, deny, x",
        "p, no, group:plugins, file, read, {alias}/inner/*, -, deny, x",
        "p, no, group:plugins, file, read, *, user.nothing == 1, deny, x",
    ],
)
def test_a_deny_rule_for_any_of_it_leaves_it_to_the_gateway(home: "Home", shared: Path, rule: str) -> None:
    alias = shared.parent / "alias"
    alias.symlink_to(shared)
    home.rules(
        rule.format(shared=shared, parent=shared.parent, alias=alias).replace("user.nothing", "context.x") + "\n"
    )
    install(home, shared, wants=(f"file_read {shared}",))
    told = call(home, shared / "note")
    assert told["output"] == [2]
    assert "no" in left_out(told)


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ("rate(100/60s)", "rate(100/60s)"),
        ("args.mode == quick", "args.mode"),
        ("resource.owner != nobody", "no file_read"),
        ("approval", "approval"),
    ],
)
def test_what_is_judged_use_by_use_is_left_to_the_gateway(home: "Home", shared: Path, condition: str, why: str) -> None:
    home.rules(f"p, yes, plugin:reader, file, read, {shared}/*, {condition}, allow, x\n")
    install(home, shared)
    assert why in left_out(call(home, mode="quick"))


@pytest.mark.parametrize("forbidden", ["/proc", "/sys", "/dev", "/run", "/", "home", "home data", "code", "above"])
def test_what_no_plugin_ever_gets_is_not_shown_whatever_rule_says_otherwise(home: "Home", forbidden: str) -> None:
    path = {
        "home": home.folder,
        "home data": home.folder / "data" / "keys",
        "above": home.folder.parent,
        "code": Path(__file__).parents[2] / "gateway",
    }.get(forbidden, Path(forbidden))
    home.rules("p, all, plugin:reader, file, admin, *, -, allow, x\n")
    install(home, path)
    told = left_out(call(home))
    assert "never within a plugin's reach" in told or "a cell has its own" in told


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_what_is_neither_folder_nor_file_is_not_shown(home: "Home", shared: Path) -> None:
    os.mkfifo(shared / "pipe")
    home.rules(f"p, all, plugin:reader, file, admin, {shared.parent}/*, -, allow, x\n")
    install(home, shared / "pipe", shared / "missing", shared / "note")
    told = call(home, shared / "note")
    assert told["output"] == ["hello"]
    assert "neither a folder nor a plain file" in str(told["sandbox_result"]["files"]["left_out"])
    assert "does not exist" in str(told["sandbox_result"]["files"]["left_out"])


def test_a_call_dies_with_the_right_to_what_it_sees(home: "Home", shared: Path) -> None:
    home.rules(f"p, yes, plugin:reader, file, read, {shared}/*, -, allow, x\n")
    install(home, shared)
    running = begin(home, read=[str(shared / "note")], stay_s=60)
    home.until(lambda: home.running("reader"))
    home.rules("")
    told = running.result(20).json()
    assert told["outcome"] == "killed"
    assert "its right to" in told["error"]


def test_a_call_dies_when_its_right_can_no_longer_be_judged(
    home: "Home", shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.rules(f"p, yes, plugin:reader, file, read, {shared}/*, -, allow, x\n")
    install(home, shared)
    running = begin(home, stay_s=60)
    home.until(lambda: home.running("reader"))
    monkeypatch.setattr("gateway.flows.show_files.why_not", lambda *_: {}["surprise"])
    told = running.result(20).json()
    assert (told["outcome"], "KeyError" in told["error"]) == ("killed", True)
    assert home.records(event_type="execution_failed")[-1]["resolution"] == "killed"


def test_a_consent_shows_it_until_it_is_withdrawn(home: "Home", shared: Path) -> None:
    home.rules(f"p, yes, plugin:reader, file, read, {shared}/*, consent, allow, x\n")
    install(home, shared)
    assert "consent_required" in left_out(call(home))
    alice = home.person("alice", "execute", "consent")
    wish = {"user_id": "alice", "plugin_id": "reader", "permission": "file_read", "scope": str(shared)}
    consent = alice.post("/v1/consents", wish).json()
    assert call(home, shared / "note")["output"] == ["hello"]
    running = begin(home, stay_s=60)
    home.until(lambda: home.running("reader"))
    assert alice.delete(f"/v1/consents/{consent['id']}").status_code == 200
    assert running.result(20).json()["outcome"] == "killed"
    alice.post("/v1/consents", wish | {"once": True})
    assert "for one use" in left_out(call(home))


def test_a_sight_is_read_only(home: "Home", shared: Path) -> None:
    install(home, shared, wants=(f"file_read {shared}",))
    home.install(
        "writer",
        OPENER.replace("open(path)", "open(path, 'w')"),
        wants=(f"file_read {shared}",),
        sandbox_config={"file_access": [str(shared)]},
    )
    (shared / "note").chmod(0o666)
    alice = home.person("alice", "execute")
    answer = alice.post("/v1/plugins/writer/execute", {"payload": {"read": [str(shared / "note")]}})
    assert answer.json()["output"][0] in {13, 30}
    assert (shared / "note").read_text() == "hello"


def test_a_called_plugin_sees_what_both_may_see(home: "Home", shared: Path) -> None:
    install(home, shared, wants=(f"file_read {shared}",))
    caller = "def execute(ctx, payload):\n    return ctx.plugins.call('reader', payload)\n"
    home.install("poor", caller, wants=("plugin_execute reader",))
    home.install("rich", caller, wants=("plugin_execute reader", f"file_read {shared}"))
    alice = home.person("alice", "execute")

    def read(plugin_id: str) -> object:
        payload = {"read": [str(shared / "note")]}
        return alice.post(f"/v1/plugins/{plugin_id}/execute", {"payload": payload}).json()["output"]

    assert read("poor") == [2]
    assert read("rich") == ["hello"]
