"""Registration: what the manifest says of the code is looked at, and what only the operator may accept is theirs."""

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

ASYNC = "async def fetch(ctx):\n    return 1\n"


def answer_to(home: "Home", plugin_id: str, code: str, **manifest: Any) -> Any:  # noqa: ANN401 (an answer)
    home.write_plugin(plugin_id, code, **manifest)
    return home.owner.post("/v1/plugins", {"folder": plugin_id})


def test_an_async_function_without_async_support_is_refused_with_its_line(home: "Home") -> None:
    code = "def other(ctx):\n    pass\n\n\n" + ASYNC
    answer = answer_to(home, "caller", code, capabilities=[{"name": "fetch"}, {"name": "other"}])
    assert answer.status_code == 400
    (problem,) = answer.json()["problems"]
    assert (problem["file"], problem["line"]) == ("main.py", 5)
    assert "`fetch` is an `async def`" in problem["message"]
    assert home.owner.get("/v1/plugins/caller").status_code == 404


def test_an_async_function_with_async_support_is_called(home: "Home") -> None:
    home.install("caller", ASYNC, capabilities=[{"name": "fetch", "async_support": True}])
    answer = home.owner.post("/v1/plugins/caller/execute", {"payload": {"action": "fetch"}})
    assert answer.json()["output"] == 1


def test_code_that_comes_later_is_looked_at_as_well(home: "Home") -> None:
    manifest = home.write_plugin("late", None, capabilities=[{"name": "fetch"}])
    (home.folder / "plugins" / "late" / "manifest.json").unlink()
    assert home.owner.post("/v1/plugins", manifest).status_code == 201
    assert home.owner.post("/v1/plugins/late/approve", {"reason": ""}).status_code == 200
    (home.folder / "plugins" / "late" / "main.py").write_text(ASYNC)
    answer = home.owner.post("/v1/plugins/late/execute", {"payload": {"action": "fetch"}})
    assert (answer.status_code, answer.json()["problems"][0]["line"]) == (400, 1)


@pytest.mark.parametrize(
    "code",
    ["x = " + "-" * 200_000 + "1", "x = " + "a." * 200_000 + "b", "def (", "x = 1\0", "\xff", "x=" + "1," * 2_000_000],
    ids=["deep", "long", "no Python", "a zero", "no UTF-8", "wide"],
)
def test_code_that_no_reader_takes_harms_nobody(home: "Home", code: str) -> None:
    answer_to(home, "odd", code, capabilities=[{"name": "fetch"}])
    assert home.owner.get("/healthz").status_code == 200
    answer = home.owner.post("/v1/plugins/odd/execute", {"payload": {"action": "fetch"}})
    assert answer.status_code in {404, 409}


def test_declining_the_sandbox_is_refused_unless_the_operator_names_the_plugin(home: "Home") -> None:
    answer = answer_to(home, "free", ASYNC, sandbox=False)
    assert answer.status_code == 400
    assert '[sandbox] unconfined = ["free"]' in answer.text.replace("\\", "")


def test_a_named_plugin_is_marked_everywhere_and_its_walls_stay(make_home: "MakeHome") -> None:
    home = make_home(settings='[sandbox]\nunconfined = ["free"]\n')
    code = "def execute(ctx, payload):\n    return open(payload['path']).read()\n"
    home.install("free", code, sandbox=False)
    home.install("bound", code)
    secret = home.folder / "hearthgate.toml"
    for plugin_id, degraded in (("free", ["sandbox_declined"]), ("bound", [])):
        answer = home.owner.post(f"/v1/plugins/{plugin_id}/execute", {"payload": {"path": str(secret)}}).json()
        assert "FileNotFoundError" in answer["error"]
        told = home.decision(answer["decision_id"]).get("degraded", [])
        assert [each for each in told if each != "cg_cpu"] == degraded
    (registered,) = home.records(event_type="registered", plugin="free")
    assert registered["details"]["sandbox"] is False
    assert "plugin `free` declines its sandbox: hearthgate.toml accepts it" in home.owner.get("/v1/doctor").text


def test_what_is_named_in_the_settings_is_a_plugin_id(make_home: "MakeHome") -> None:
    from gateway.config import read_settings
    from gateway.errors import ConfigError

    home = make_home(opened=False)
    (home.folder / "hearthgate.toml").write_text('[sandbox]\nunconfined = ["*"]\n')
    with pytest.raises(ConfigError, match="is not a plugin id"):
        read_settings(home.folder)
