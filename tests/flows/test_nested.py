"""A plugin that calls another gets nothing by it that it could not have by itself."""

import asyncio
from typing import TYPE_CHECKING, Any

from gateway.domain.names import UserId
from gateway.domain.record import Record

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

KEEPING = """
KEPT = []


def execute(ctx, payload):
    if payload.get("read"):
        KEPT.append(ctx.vault.read(payload["read"]))
    return KEPT
"""
COUNTING = "def count(ctx, n):\n    return n\n"


def call(home: "Home", payload: dict[str, Any], to: str = "inner") -> Any:  # noqa: ANN401 (what the plugin returned)
    (told,) = home.person("alice", "execute").run("outer", ["plugins.call", to, payload])
    return told


def test_what_a_called_plugin_remembers_does_not_reach_its_caller(home: "Home") -> None:
    home.install("filler", wants=("vault_write notes",))
    home.install("inner", KEEPING, wants=("vault_read notes",), isolation="shared")
    home.install("outer", wants=("plugin_execute inner",))
    alice = home.person("alice", "execute")
    alice.run("filler", ["vault.write", "notes/a", "secret"])
    path, body = "/v1/plugins/inner/execute", {"payload": {"read": "notes/a"}}
    first = alice.post(path, body).json()
    again = alice.post(path, {"payload": {}}).json()
    assert first["sandbox_result"]["isolation"] == "shared"
    assert again["output"] == ["secret"]  # the cell stays, and so would what it remembers
    assert call(home, {}) == []


def test_what_a_capability_requires_its_caller_must_hold_too(home: "Home") -> None:
    needs = [{"permission": "vault_read", "scope": "notes/a"}]
    home.install(
        "inner",
        COUNTING,
        wants=("vault_read notes",),
        capabilities=[{"name": "count", "parameters": {"n": "number"}, "requires": needs}],
    )
    home.install("outer", wants=("plugin_execute inner",))
    assert "failed" in call(home, {"action": "count", "n": 1})
    assert [each["subject"] for each in home.decided(scope="notes/a", effect="deny")] == ["plugin:outer"]
    home.install("trusted", wants=("plugin_execute inner", "vault_read notes"))
    alice = home.person("alice", "execute")
    assert alice.run("trusted", ["plugins.call", "inner", {"action": "count", "n": 1}]) == [1]


def test_a_batch_is_counted_call_by_call(make_home: "MakeHome") -> None:
    home = make_home(
        rules="p, test-rate, plugin:outer, plugin, execute, inner, rate(3/60s), allow, seldom\n",
        settings="[sandbox]\nmax_asks = 20\n",
    )
    batch = {"name": "count", "parameters": {"n": "number"}, "batch_support": True}
    home.install("inner", COUNTING, capabilities=[batch])
    home.install("outer")
    told = call(home, {"action": "count", "batch": [{"n": number} for number in range(10)]})
    assert "failed" in told
    started = [row for row in home.records(event_type="execution_started") if row["plugin_id"] == "inner"]
    assert len(started) == 3
    home.install("freer", wants=("plugin_execute inner",))
    payload = {"action": "count", "batch": [{"n": 1}] * 30}
    (told,) = home.person("alice", "execute").run("freer", ["plugins.call", "inner", payload])
    assert "overloaded" in told["failed"]


def test_no_circle_and_no_chain_without_end(home: "Home") -> None:
    names = [f"link{number}" for number in range(6)]
    for name in names:
        home.install(name, wants=tuple(f"plugin_execute {other}" for other in names if other != name))
    # Whoever called must hold the right on all that follow, on itself besides.

    def ask(left: list[str]) -> list[Any]:
        return ["plugins.call", left[0], {"do": [ask(left[1:])] if left[1:] else []}]

    alice = home.person("alice", "execute")
    assert "circle" in str(alice.run(names[0], ask([names[1], names[0]])))
    assert "more than 4 deep" in str(alice.run(names[0], ask(names[1:])))


def test_a_called_plugin_acts_for_the_same_user(home: "Home") -> None:
    home.install("inner", wants=("vault_read notes", "vault_write notes"))
    home.install("outer", wants=("plugin_execute inner", "vault_read notes", "vault_write notes"))
    home.person("bob", "execute").run("inner", ["vault.write", "notes/a", "of bob"])
    told = call(home, {"do": [["vault.read", "notes/a"]]})
    assert "nothing is kept" in told[0]["failed"]
    assert {each["user"] for each in home.decided(subject="plugin:outer", kind="vault")} == {"alice"}


def test_the_callers_consent_is_needed_beside_the_called_ones(make_home: "MakeHome") -> None:
    rules = "".join(
        f"p, test-{each}, plugin:{each}, vault, read, notes/*, consent, allow, x\n" for each in ("inner", "outer")
    )
    home = make_home(rules=rules)
    home.install("inner")
    home.install("outer", wants=("plugin_execute inner",))
    consent = {"user_id": "alice", "permission": "vault_read", "scope": "notes"}
    alice = home.person("alice", "consent", "execute")
    assert alice.post("/v1/consents", {**consent, "scope": "notes/*", "plugin_id": "inner"}).status_code == 201
    assert call(home, {"do": [["vault.read", "notes/a"]]})[0]["denied"] == "consent_required"
    assert alice.post("/v1/consents", {**consent, "scope": "notes/*", "plugin_id": "outer"}).status_code == 201
    assert "nothing is kept" in call(home, {"do": [["vault.read", "notes/a"]]})[0]["failed"]


def test_a_call_whose_caller_ends_while_its_intent_is_recorded_has_an_end_too(home: "Home") -> None:
    home.install("inner", wants=("vault_write notes",))
    home.install("outer", wants=("plugin_execute inner", "vault_write notes"))
    alice = home.person("alice", "execute")
    append = home.parts.log.append

    async def late(*records: Record, **how: bool) -> tuple[int, ...]:
        numbers = await append(*records, **how)
        if any((each.event_type, each.plugin_id) == ("execution_started", "inner") for each in records):
            home.owner.start("POST", "/v1/plugins/outer/suspend", {"reason": "stop"})
            while not any(task.cancelling() for task in asyncio.all_tasks()):  # noqa: ASYNC110 (nobody tells of it)
                await asyncio.sleep(0)
        return numbers

    home.parts.log.append = late  # type: ignore[method-assign] # to end the caller at this very moment
    write = ["plugins.call", "inner", {"do": [["vault.write", "notes/a", "late"]]}]
    assert alice.begin("outer", write).result(20).json()["outcome"] == "killed"
    home.until(lambda: len(home.records(event_type="execution_failed")) == 2)
    assert [each["resolution"] for each in home.records(event_type="execution_failed")] == ["killed"] * 2
    assert home.parts.resources.vault.list(UserId("alice"), "notes") == []
