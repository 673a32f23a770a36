"""A call: two questions, recorded before it runs; however it ends, that is recorded and answered."""

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from gateway.domain.record import Record

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

OFFER = """\
import os
import sys
import time


def add(ctx, a, b):
    return a + b


async def shout(ctx, text):
    return text.upper()


def lie(ctx):
    return "no number"


def odd(ctx, what):
    return {"nan": float("nan"), "inf": float("inf"), "half": "\\ud800", "set": {1}, "ctx": ctx, "bytes": b"x"}[what]


def fail(ctx):
    raise ValueError("the milk is off")


def leave(ctx):
    os._exit(3)


def wait(ctx, seconds):
    time.sleep(seconds)


def eat(ctx):
    return len(bytearray(1 << 30))


def flood(ctx):
    for _ in range(400):
        sys.stdout.write("x" * 65536)
        sys.stdout.flush()
    return "done"


def read(ctx, scope):
    return ctx.vault.read(scope)


def greet(ctx, whom, times=2):
    return [f"hello {whom}"] * times
"""
CAPABILITIES: list[dict[str, Any]] = [
    {"name": "add", "parameters": {"a": "integer", "b": "number"}, "return_type": "number", "batch_support": True},
    {"name": "shout", "parameters": {"text": "string"}, "return_type": "string", "async_support": True},
    {"name": "lie", "parameters": {}, "return_type": "number"},
    {"name": "odd", "parameters": {"what": "string"}, "return_type": "any"},
    {"name": "fail", "parameters": {}},
    {"name": "leave", "parameters": {}},
    {"name": "wait", "parameters": {"seconds": "number"}},
    {"name": "eat", "parameters": {}},
    {"name": "flood", "parameters": {}, "return_type": "string"},
    {
        "name": "greet",
        "parameters": {
            "type": "object",
            "properties": {"whom": {"type": "string", "maxLength": 9}, "times": {"type": "integer", "maximum": 40}},
            "required": ["whom"],
        },
        "return_type": {"type": "array", "items": {"type": "string"}, "maxItems": 20},
    },
    {
        "name": "read",
        "parameters": {"scope": "string"},
        "requires": [{"permission": "vault_read", "scope": "notes/a"}],
        "batch_support": True,
    },
]


def install_offer(home: "Home", **manifest: Any) -> None:  # noqa: ANN401 (members of a manifest)
    home.install("offer", OFFER, capabilities=CAPABILITIES, **manifest)


@pytest.fixture(scope="module")
def offering(quiet_home: "Home") -> "Home":
    """Give a home, shared by the tests of this module, whose plugin they only call."""
    install_offer(quiet_home)
    return quiet_home


def execute(home: "Home", payload: object, plugin: str = "offer", **members: object) -> Any:  # noqa: ANN401 (an httpx.Response)
    return home.person("alice", "execute").post(f"/v1/plugins/{plugin}/execute", {"payload": payload, **members})


@pytest.mark.parametrize(
    ("payload", "output"),
    [
        ({"action": "add", "a": 1, "b": 2.5}, 3.5),
        ({"action": "shout", "text": "hä"}, "HÄ"),
        ({"action": "greet", "whom": "al"}, ["hello al", "hello al"]),
        ({"action": "greet", "whom": "al", "times": 1}, ["hello al"]),
        ({"action": "add", "batch": [{"a": 1, "b": 1}, {"a": 2, "b": 2}]}, [2, 4]),
    ],
)
def test_a_capability_gets_its_parameters_and_gives_its_result(
    offering: "Home", payload: object, output: object
) -> None:
    answer = execute(offering, payload).json()
    assert (answer["success"], answer["outcome"], answer["output"], answer["error"]) == (True, "returned", output, None)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({}, "payload.action"),
        ({"action": "destroy"}, "`destroy` is none of them"),
        ({"action": 7}, "payload.action"),
        ({"action": "__init__"}, "the capabilities of"),
        ({"action": "add"}, "`a` is missing, `b` is missing"),
        ({"action": "add", "a": 1, "b": 1, "c": 1}, "`c` is not known"),
        ({"action": "add", "a": 1.5, "b": 1}, "payload.a: integer"),
        ({"action": "add", "a": True, "b": 1}, "payload.a: integer"),
        ({"action": "add", "a": "1", "b": 1}, "payload.a: integer"),
        ({"action": "add", "a": None, "b": 1}, "payload.a: integer"),
        ({"action": "greet", "times": 1}, "`whom` is missing; `greet` takes whom: string, times: integer (optional)"),
        ({"action": "greet", "whom": "somebody else"}, "payload.whom: it is longer than 9 characters"),
        ({"action": "greet", "whom": "al", "times": 41}, "payload.times: it is greater than the maximum of 40"),
        ({"action": "shout", "batch": [{"text": "x"}]}, "one call at a time"),
        ({"action": "add", "batch": []}, "1 to 100"),
        ({"action": "add", "batch": [{"a": 1, "b": 1}] * 101}, "1 to 100"),
        ({"action": "add", "batch": {"a": 1, "b": 1}}, "1 to 100"),
        ({"action": "add", "batch": [{"a": 1, "b": 1}], "a": 1}, "nothing beside it"),
        ({"action": "add", "batch": [{"a": 1, "b": 1}, {"a": 1}]}, "payload.batch[1]: `b` is missing"),
        ({"action": "add", "batch": [7]}, "payload.batch[0]"),
    ],
)
def test_a_payload_that_is_not_the_manifests_is_malformed_and_nothing_runs(
    offering: "Home", payload: object, words: str
) -> None:
    began = len(offering.records(event_type="execution_started"))
    decided = len(offering.decided(subject="user:alice", effect="allow"))
    answer = execute(offering, payload)
    assert answer.status_code == 400
    assert words in answer.json()["detail"]
    assert len(offering.records(event_type="execution_started")) == began
    assert len(offering.decided(subject="user:alice", effect="allow")) == decided + 1  # it was decided, so it is told


@pytest.mark.parametrize(
    ("payload", "members", "ending", "words"),
    [
        ({"action": "fail"}, {}, "failed", "the milk is off"),
        ({"action": "leave"}, {}, "failed", "exit status 3"),
        ({"action": "lie"}, {}, "failed", "not of type number"),
        ({"action": "greet", "whom": "al", "times": 30}, {}, "failed", "not of type array: it has more than 20 items"),
        ({"action": "odd", "what": "nan"}, {}, "failed", ""),
        ({"action": "odd", "what": "inf"}, {}, "failed", ""),
        ({"action": "odd", "what": "set"}, {}, "failed", ""),
        ({"action": "odd", "what": "ctx"}, {}, "failed", ""),
        ({"action": "odd", "what": "bytes"}, {}, "failed", ""),
        ({"action": "odd", "what": "half"}, {}, "failed", ""),
        ({"action": "wait", "seconds": 60}, {"timeout_s": 0.3}, "timed_out", "0.3 s"),
        ({"action": "eat"}, {}, "killed|failed", ""),
    ],
)
def test_a_plugin_that_does_not_return_is_an_answer_and_a_record(
    offering: "Home", payload: object, members: dict[str, object], ending: str, words: str
) -> None:
    response = execute(offering, payload, **members)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["success"] is False
    assert answer["outcome"] in ending.split("|")
    assert words in answer["error"]
    assert answer["output"] is None
    event_type = "execution_timeout" if ending == "timed_out" else "execution_failed"
    record = offering.records(event_type=event_type)[-1]
    assert record["resolution"] == answer["outcome"]
    assert record["details"]["execution_id"] == answer["execution_id"]
    assert execute(offering, {"action": "add", "a": 1, "b": 1}).json()["output"] == 2  # and the next call is as any


def test_a_plugin_that_prints_without_end_is_read_and_cut(offering: "Home") -> None:
    answer = execute(offering, {"action": "flood"}).json()
    assert (answer["outcome"], answer["output"]) == ("returned", "done")
    assert 1000 < len(answer["sandbox_result"]["stdout"]) <= 64 << 10


def test_both_questions_and_the_intent_are_recorded_before_the_outcome(home: "Home") -> None:
    home.install("puppet", wants=("vault_write notes",))
    answer = home.person("alice", "execute").begin("puppet", ["vault.write", "notes/a", 1]).result(20).json()
    rows = [row for row in home.records() if row["seq"] > 0 and row["plugin_id"] == "puppet"][-6:]
    by_caller, by_plugin, intent, asked, outcome = (
        next(row for row in rows if wanted(row))
        for wanted in (
            lambda row: row["decision"] and row["decision"]["kind"] == "gateway" and row["user_id"] == "alice",
            lambda row: row["decision"] and row["decision"]["permission"] == "plugin_execute",
            lambda row: row["event_type"] == "execution_started",
            lambda row: row["decision"] and row["decision"]["permission"] == "vault_write",
            lambda row: row["event_type"] == "execution_completed",
        )
    )
    assert (by_caller["decision"]["subject"], by_caller["decision"]["scope"]) == ("user:alice", "plugins/puppet")
    assert by_plugin["decision"]["subject"] == "plugin:puppet"
    assert by_plugin["decision"]["decision_id"] == answer["decision_id"]
    seqs = [row["seq"] for row in (by_caller, by_plugin, intent, asked, outcome)]
    assert seqs == sorted(seqs)
    assert intent["resolution"] == "pending"
    assert asked["details"]["execution_id"] == answer["execution_id"]


def test_who_may_not_execute_is_denied_and_that_is_recorded(home: "Home") -> None:
    home.install("puppet")
    refused = home.person("erin", "execute").begin("puppet").result(20)
    assert refused.status_code == 403
    assert refused.json()["type"] == "urn:hearthgate:problem:denied"
    assert home.decision(refused.json()["decision_id"])["effect"] == "deny"
    assert home.records(event_type="execution_started") == []


def test_a_plugin_whose_own_right_was_taken_is_denied(home: "Home") -> None:
    home.install("puppet")
    home.owner.post("/v1/plugins/puppet/permissions/revoke", {"permission": "plugin_execute", "reason": "x"})
    refused = home.person("alice", "execute").begin("puppet").result(20)
    assert refused.status_code == 403
    decided = home.decision(refused.json()["decision_id"])
    assert (decided["subject"], decided["permission"]) == ("plugin:puppet", "plugin_execute")


def test_what_a_capability_requires_is_asked_before_it_runs(offering: "Home") -> None:
    began = len(offering.records(event_type="execution_started"))
    refused = execute(offering, {"action": "read", "scope": "notes/a"})
    assert refused.status_code == 403
    assert offering.decision(refused.json()["decision_id"])["permission"] == "vault_read"
    assert len(offering.records(event_type="execution_started")) == began


def test_a_batch_decides_each_call_and_tells_how_each_ended(make_home: "MakeHome") -> None:
    home = make_home(rules="p, twice, plugin:offer, vault, read, notes/a, rate(2/60s), allow, x\n")
    install_offer(home)
    answer = execute(home, {"action": "read", "batch": [{"scope": "other"}] * 3})
    assert answer.status_code == 200
    told = answer.json()
    assert told["success"] is False
    assert len(told["output"]) == 3
    assert len(home.records(event_type="execution_started")) == 2  # the third was refused before it began
    assert home.records(event_type="access_denied")[-1]["decision"]["reason"] == "rate_limited"


@pytest.mark.parametrize("plugin_id", ["absent", "UPPER", "a", "gateway"])
def test_an_unknown_plugin_is_not_found_by_who_may_execute(home: "Home", plugin_id: str) -> None:
    assert execute(home, {}, plugin_id).status_code == 404


@pytest.mark.parametrize("plugin_id", ["absent", "UPPER", "a", "gateway"])
def test_who_may_execute_none_learns_of_no_id_whether_it_is_one(home: "Home", plugin_id: str) -> None:
    for scopes in (("evaluate",), ("execute",)):
        stranger = home.person("mallory", *scopes)
        told = stranger.post(f"/v1/plugins/{plugin_id}/execute", {"payload": {}})
        assert told.status_code == 403
    assert home.records(event_type="access_denied")


def test_an_idempotency_key_runs_once_and_answers_twice(home: "Home") -> None:
    home.install("puppet", wants=("vault_read notes", "vault_write notes"))
    alice = home.person("alice", "execute")
    both = [alice.begin("puppet", ["sleep", 0.2], ["vault.list", "notes"], idempotency_key="k1") for _ in range(2)]
    first, second = (each.result(20).json() for each in both)
    assert first == second
    assert len(home.records(event_type="execution_started")) == 1
    other = alice.begin("puppet", ["vault.list", "notes"], idempotency_key="k1").result(20)
    assert other.status_code == 409
    assert alice.begin("puppet", idempotency_key="k2").result(20).json()["execution_id"] != first["execution_id"]


def test_an_idempotency_key_is_its_users_own_and_asks_for_the_right_key(home: "Home") -> None:
    home.install("puppet")
    given = home.person("alice", "execute").begin("puppet", idempotency_key="k").result(20).json()
    boss = home.owner.begin("puppet", idempotency_key="k").result(20).json()
    assert boss["execution_id"] != given["execution_id"]
    agent = home.person("alice", "evaluate").begin("puppet", idempotency_key="k").result(20)
    assert agent.status_code == 403


def test_a_refused_call_can_be_made_again_with_its_key(home: "Home") -> None:
    home.register("puppet")
    alice = home.person("alice", "execute")
    assert alice.begin("puppet", idempotency_key="k").result(20).status_code == 409
    home.owner.post("/v1/plugins/puppet/approve", {"reason": ""})
    assert alice.begin("puppet", idempotency_key="k").result(20).status_code == 200


@pytest.mark.parametrize(
    ("manifest", "asked_s", "limit_s"),
    [
        ({"sandbox_config": {"timeout": 7}}, None, 7),
        ({"sandbox_config": {"timeout": 7, "max_execution_time": 5}}, 6, 5),
        ({"resource_limits": {"max_execution_time": 4}}, 60, 4),
        ({}, 3600, 30),
        ({}, 2, 2),
    ],
)
def test_the_shortest_of_all_time_limits_holds(
    home: "Home", manifest: dict[str, object], asked_s: float | None, limit_s: float
) -> None:
    home.install(
        "clock", "def execute(ctx, payload):\n    import time\n    return ctx.deadline - time.time()\n", **manifest
    )
    left = execute(home, {}, "clock", timeout_s=asked_s).json()["output"]
    assert limit_s - 2 < left <= limit_s


def test_a_call_acts_for_its_own_user_and_session_alone(home: "Home") -> None:
    home.install(
        "puppet",
        "def execute(ctx, payload):\n    return [ctx.user_id, ctx.session_id]\n",
    )
    payload = {"user_id": "bob", "user": "bob", "session_id": "s2"}
    assert execute(home, payload, "puppet", session_id="s1").json()["output"] == ["alice", "s1"]


def test_nothing_runs_while_the_log_cannot_be_written(home: "Home") -> None:
    home.install("puppet", wants=("vault_write notes",))
    alice = home.person("alice", "execute")
    began = alice.begin("puppet", ["sleep", 2], ["vault.write", "notes/late", 1], timeout_s=10)
    home.until(lambda: home.running("puppet"))
    data = home.folder / "data"
    before = home.records()[-1]["seq"]
    (data / "audit.db").rename(data / "away.db")
    refused = alice.begin("puppet", ["vault.write", "notes/a", 1]).result(20)
    assert refused.status_code == 503
    assert refused.json()["type"] == "urn:hearthgate:problem:log_unavailable"
    assert int(refused.headers["retry-after"]) >= 1
    for method, path, body in [
        ("GET", "/v1/plugins", None),
        ("POST", "/v1/decisions", {"subject": "plugin:puppet", "permission": "vault_read", "scope": "x"}),
        ("POST", "/v1/plugins/puppet/permissions/revoke", {"reason": ""}),
        ("POST", "/v1/keys", {"user": "x", "scopes": ["admin"]}),
    ]:
        assert home.owner.ask(method, path, body).status_code == 503, path
    ready = home.owner.get("/readyz")
    assert ready.status_code == 503
    assert "log" in ready.text
    unknown = began.result(20)
    assert unknown.status_code == 504
    assert unknown.json()["type"] == "urn:hearthgate:problem:outcome_unknown"
    (data / "away.db").rename(data / "audit.db")
    home.until(lambda: home.owner.get("/v1/plugins").status_code == 200)
    rows = [row for row in home.records() if row["seq"] > before]
    assert "recovered" in {row["event_type"] for row in rows}
    assert home.parts.resources.vault.list("alice", "notes") == []
    assert len(home.owner.get("/v1/keys").json()["keys"]) == 1
    home.until(lambda: home.records(event_type="execution_completed"))
    (started,) = home.records(event_type="execution_started")
    (ended,) = home.records(event_type="execution_completed")
    assert ended["details"]["execution_id"] == started["details"]["execution_id"]
    home.reopen()
    assert home.records(event_type="execution_lost") == []


def test_an_answer_names_the_generation_and_what_was_used(home: "Home") -> None:
    install_offer(home)
    answer = execute(home, {"action": "add", "a": 1, "b": 1}).json()
    assert answer["generation"] == 1
    assert answer["execution_time"] > 0
    assert answer["sandbox_result"]["usage"]["wall_s"] > 0
    row = home.records(event_type="execution_completed")[-1]
    assert row["details"]["digest"] == home.owner.get("/v1/plugins/offer").json()["digest"]
    assert "milk" not in json.dumps(row)


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (34, "SIGRTMIN"), (40, "40"), (64, "SIGRTMAX")])
def test_a_plugin_that_ends_itself_by_any_signal_is_an_answer(home: "Home", number: int, name: str) -> None:
    home.install("puppet", "import os\n\n\ndef execute(ctx, payload):\n    os.kill(os.getpid(), payload['by'])\n")
    alice = home.person("alice", "execute")
    answer = alice.post("/v1/plugins/puppet/execute", {"payload": {"by": number}})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["outcome"], answer.json()["error"]) == ("killed", f"it was ended by signal {name}")
    assert home.records(event_type="execution_failed")[-1]["resolution"] == "killed"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/plugins/puppet/suspend", {"reason": "stop"}),
        ("/v1/plugins/puppet/revoke", {"reason": "stop"}),
        ("/v1/plugins/puppet/uninstall", {"reason": "stop"}),
        ("/v1/plugins/puppet/permissions/revoke", {"reason": "stop"}),
        ("/v1/lockdown", {"scope": "user:alice", "reason": "stop"}),
    ],
)
def test_a_call_that_is_stopped_while_its_intent_is_recorded_does_not_run(
    home: "Home", monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, object]
) -> None:
    home.install("puppet", "def execute(ctx, payload):\n    print('I run')\n")
    alice = home.person("alice", "execute")
    append = home.parts.log.append

    async def stopped_meanwhile(*records: Record, **how: bool) -> tuple[int, ...]:
        seqs = await append(*records, **how)
        if any(each.event_type == "execution_started" for each in records):
            answer = await asyncio.wrap_future(home.owner.start("POST", path, body))
            assert answer.is_success, answer.text
        return seqs

    monkeypatch.setattr(home.parts.log, "append", stopped_meanwhile)
    answer = alice.post("/v1/plugins/puppet/execute", {"payload": {}}).json()
    assert (answer["outcome"], answer["sandbox_result"]["stdout"]) == ("killed", "")
    assert home.records(event_type="execution_failed")[-1]["resolution"] == "killed"
