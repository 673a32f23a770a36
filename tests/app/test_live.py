"""Plugins that wish it are reloaded by themselves, by what they want watched and by nothing else."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway import watch
from gateway.registry.watched import check_watch_paths, watched_files, watched_folders

if TYPE_CHECKING:
    from tests.conftest import Home

CODE = "from src import words\n\n\ndef execute(ctx, payload):\n    return words.WORD\n"
LIVE = {"manifest_version": "2.0.0", "sandbox_config": {"live_reload": True, "watch_paths": ["src/"]}}


def write_words(home: "Home", word: str, name: str = "words.py") -> Path:
    place = home.folder / "plugins" / "teller" / "src"
    place.mkdir(exist_ok=True)
    path: Path = place / name
    path.write_text(f"WORD = {word!r}\n")
    return path


def install(home: "Home", **manifest: Any) -> None:  # noqa: ANN401 (members of a manifest)
    home.write_plugin("teller")
    write_words(home, "first")
    home.install("teller", CODE, **{**LIVE, **manifest})


def events(home: "Home") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = home.owner.get("/v1/plugins/teller/reloads").json()["events"]
    return found


def said(home: "Home") -> Any:  # noqa: ANN401 (whatever a plugin returns)
    return home.person("alice", "execute").begin("teller").result(20).json()["output"]


def test_an_edit_of_what_is_watched_is_taken_over_and_told(home: "Home") -> None:
    install(home)
    assert said(home) == "first"
    write_words(home, "second")
    home.until(lambda: said(home) == "second")
    (event,) = events(home)
    assert (event["success"], event["reason"], event["details"]["trigger"]) == (True, "its files changed", "watch")
    assert event["user_id"] == home.parts.owner


def test_a_broken_edit_is_told_once_and_the_mended_one_is_taken(home: "Home") -> None:
    install(home)
    write_words(home, "second").write_text("WORD = \n")
    home.until(lambda: [each["success"] for each in events(home)] == [False])
    assert said(home) == "first"
    write_words(home, "third")
    home.until(lambda: said(home) == "third")
    assert [each["success"] for each in events(home)] == [False, True]


def test_what_is_not_watched_begins_nothing(home: "Home") -> None:
    install(home)
    folder = home.folder / "plugins" / "teller"
    (folder / "README.md").write_text("read me\n")
    (folder / "other").mkdir()
    (folder / "other" / "x.py").write_text("x = 1\n")
    (folder / "src" / "__pycache__").mkdir()
    (folder / "src" / "__pycache__" / "x.pyc").write_text("x")
    write_words(home, "second")
    home.until(lambda: said(home) == "second")
    assert len(events(home)) == 1


def test_manifest_entry_point_and_new_folders_below_are_watched(home: "Home") -> None:
    install(home)
    folder = home.folder / "plugins" / "teller"
    home.write_plugin("teller", CODE, version="1.1.0", **LIVE)
    home.until(lambda: home.owner.get("/v1/plugins/teller").json()["version"] == "1.1.0")
    (folder / "main.py").write_text(CODE + "# more\n")
    home.until(lambda: len(events(home)) == 2)
    (folder / "src" / "deep").mkdir()
    (folder / "src" / "deep" / "new.py").write_text("x = 1\n")
    home.until(lambda: len(events(home)) == 3)
    (folder / "src" / "deep" / "new.py").write_text("x = 2\n")
    home.until(lambda: len(events(home)) == 4)
    assert all(each["success"] for each in events(home))


def test_an_edit_that_asks_for_more_waits_and_is_asked_once(home: "Home") -> None:
    install(home)
    asked = [{"permission": "vault_read", "scope": "notes"}]
    home.write_plugin("teller", CODE, requested_permissions=asked, **LIVE)
    home.until(lambda: home.owner.get("/v1/permission-requests", status="pending").json()["requests"])
    (folder := home.folder / "plugins" / "teller" / "main.py").write_text(CODE)
    os.utime(folder)
    write_words(home, "second")
    home.until(lambda: home.owner.get("/v1/permission-requests", status="expired").json()["requests"])
    (request,) = home.owner.get("/v1/permission-requests", status="pending").json()["requests"]
    assert said(home) == "first"
    assert home.owner.post(f"/v1/permission-requests/{request['id']}/approve", {"reason": ""}).status_code == 200
    assert said(home) == "second"


def test_an_edit_while_the_gateway_was_stopped_or_the_plugin_suspended_is_taken_later(home: "Home") -> None:
    install(home)
    home.close()
    write_words(home, "second")
    home.open()
    home.until(lambda: said(home) == "second")
    home.owner.post("/v1/plugins/teller/suspend", {"reason": ""})
    write_words(home, "third")
    home.until(lambda: home.house is not None and _settled(home))
    assert home.state("teller") == "suspended"
    assert len(events(home)) == 1
    home.owner.post("/v1/plugins/teller/resume", {"reason": ""})
    home.until(lambda: said(home) == "third")


def _settled(home: "Home") -> bool:
    """Wait until an edit of another plugin, made later, was noticed."""
    home.write_plugin("other", "def execute(ctx, payload):\n    return 1\n", **LIVE)
    if home.parts.registry.plugins.get("other") is None:
        home.install("other", "def execute(ctx, payload):\n    return 1\n", **LIVE)
    (home.folder / "plugins" / "other" / "main.py").write_text("def execute(ctx, payload):\n    return 2\n")
    home.until(lambda: home.owner.get("/v1/plugins/other/reloads").json()["events"])
    return True


def test_a_plugin_that_does_not_wish_it_is_left_alone(home: "Home") -> None:
    install(home, sandbox_config={"watch_paths": ["src/"]})
    write_words(home, "second")
    assert _settled(home)
    assert said(home) == "first"
    assert events(home) == []


def test_where_the_system_tells_nothing_it_is_looked_for(home: "Home", monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError("inotify watch limit reached")

    monkeypatch.setattr(watch, "Observer", refuse)
    install(home)
    write_words(home, "second")
    home.until(lambda: said(home) == "second")


def test_a_link_that_is_put_there_later_leads_nowhere(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "plugin"
    for each in (outside, folder):
        each.mkdir()
    (outside / "secret.py").write_text("x = 1\n")
    check_watch_paths(folder, ["src"])
    (folder / "src").symlink_to(outside)
    assert watched_files(folder, ["src"], "main.py") == (folder / "main.py", folder / "manifest.json")
    assert watched_folders(folder, ["src"]) == (folder,)


def test_a_day_of_edits_leaves_no_thread_behind(home: "Home") -> None:
    import threading

    def lasting() -> int:
        # The loop keeps what threads it once needed for its work, few as they are.
        return sum(not each.name.startswith("asyncio_") for each in threading.enumerate())

    install(home)
    write_words(home, "0")
    home.until(lambda: said(home) == "0")
    before = lasting()
    for number in range(1, 6):
        write_words(home, str(number), f"more{number}.py")
        write_words(home, str(number))
        home.until(lambda number=number: said(home) == str(number))
    deadline = time.monotonic() + 20
    while lasting() > before + 4:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_gateway_that_ends_at_once_finishes_what_it_began(home: "Home") -> None:
    install(home, self_test="execute")
    home.close()
    home.write_plugin("teller", CODE, self_test="proves", **LIVE)
    slow = "import time\n\n\ndef proves(ctx):\n    time.sleep(1)\n"
    (home.folder / "plugins" / "teller" / "main.py").write_text(CODE + slow)
    write_words(home, "second")
    home.open()
    home.until(lambda: home.parts.reloads.is_under_way("teller"))
    home.close()
    home.open()
    assert [each["success"] for each in events(home)] == [True]
    assert said(home) == "second"
