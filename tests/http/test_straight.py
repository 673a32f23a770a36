"""The short way of a decision answers as the framework's way does, whatever is sent; and shares what it records."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from gateway.http.straight import StraightWay

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome, Person

PATH = "/v1/decisions"
JSON = {"content-type": "application/json"}
GOOD = '{"subject":"role:owner","permission":"gateway_read","scope":"policy","dry_run":true}'
VARYING = frozenset({"evaluation_id", "evaluated_at", "binding_token", "expires_at", "decision_id", "at"})
EVALUATION = "/access/v1/evaluation"
ASKED = (
    '{"subject":{"type":"user","id":"carol"},"action":{"name":"view"},'
    '"resource":{"type":"list","id":"a b","properties":{}}}'
)
EVALUATIONS = [
    ASKED,
    "",
    "{}",
    "[]",
    ASKED[:-1],
    ASKED[:-1] + ',"context":{"explain":true}}',
    ASKED[:-1] + ',"context":{"explain":false,"a":[1]}}',
    ASKED[:-1] + ',"context":7}',
    ASKED[:-1] + ',"more":7}',
    ASKED[:-1] + ',"more":7,"more":7}',
    ASKED.replace("carol", "alice"),
    ASKED.replace("carol", "a b/../c"),
    ASKED.replace("carol", "*"),
    ASKED.replace('"user"', '"plugin"'),
    ASKED.replace('"user"', '"robot"'),
    ASKED.replace('"user"', '"role"'),
    ASKED.replace('"user"', '"7"'),
    ASKED.replace('"list"', '"gateway"'),
    ASKED.replace('"list"', '"file"'),
    ASKED.replace('"view"', '""'),
    ASKED.replace('"view"', "7"),
    ASKED.replace('"a b"', '"caf\\u00e9"'),
    ASKED.replace('"a b"', '"cafe\\u0301"'),
    ASKED.replace('"a b"', '"\\ud800"'),
    ASKED.replace('"properties":{}', '"properties":{"type":"x","a":{"b":[null]}}'),
    ASKED.replace('"properties":{}', '"properties":null'),
]


BODIES = [
    GOOD,
    "",
    " ",
    "null",
    "[]",
    "7",
    "{",
    "{}",
    "[" * 20_000,
    '{"context":' * 5_000,
    GOOD + GOOD,
    GOOD + "\x00",
    "\ufeff" + GOOD,
    GOOD[:-1],
    GOOD[:-1] + ',"dry_run":true}',
    GOOD[:-1] + ',"scope":"policy"}',
    GOOD[:-1] + ',"unknown":1}',
    GOOD[:-1] + ',"level":"read"}',
    GOOD[:-1] + ',"level":"write"}',
    GOOD[:-1] + ',"level":7}',
    GOOD[:-1] + ',"level":null,"user":null}',
    GOOD[:-1] + ',"user":"alice"}',
    GOOD[:-1] + ',"user":"a b"}',
    GOOD[:-1] + ',"user":""}',
    GOOD[:-1] + ',"user":7}',
    GOOD[:-1] + ',"context":[]}',
    GOOD[:-1] + ',"context":{"a":1,"a":2}}',
    GOOD[:-1] + ',"context":{"a":NaN}}',
    GOOD[:-1] + ',"context":{"a":1e999}}',
    GOOD[:-1] + ',"context":{"a":123456789012345678901234567890}}',
    GOOD[:-1] + ',"context":{"a":"\\ud800"}}',
    GOOD[:-1] + ',"context":{"subject":{"id":"x"},"resource":7,"args":{"a":1}}}',
    GOOD[:-1] + ',"args":{"\\udfff":1}}',
    GOOD[:-1] + ',"args":{"a":' + "1" * 5000 + "}}",
    GOOD[:-1] + ',"args":{"a":"' + "x" * 66_000 + '"}}',
    GOOD.replace("true", "1"),
    GOOD.replace("true", '"true"'),
    GOOD.replace("true", "false"),
    GOOD.replace("role:owner", "r"),
    GOOD.replace("role:owner", "x" * 300),
    GOOD.replace("role:owner", "owner"),
    GOOD.replace("role:owner", "role:"),
    GOOD.replace("role:owner", "robot:x"),
    GOOD.replace("role:owner", "plugin:A"),
    GOOD.replace("role:owner", "plugin:gateway"),
    GOOD.replace("role:owner", "plugin:notes"),
    GOOD.replace("role:owner", "user:b b"),
    GOOD.replace("role:owner", "user:bob"),
    GOOD.replace("role:owner", "group:\\u202ex"),
    GOOD.replace("gateway_read", "vault_execute"),
    GOOD.replace("gateway_read", "vault_read"),
    GOOD.replace("gateway_read", "x"),
    GOOD.replace('"policy"', '""'),
    GOOD.replace('"policy"', '"a/../b"'),
    GOOD.replace('"policy"', '"*"'),
    GOOD.replace('"policy"', '"' + "x" * 1025 + '"'),
    GOOD.replace('"policy"', "7"),
    GOOD.replace('"policy"', '"caf\\u00e9"'),
    GOOD.replace('"policy"', '"cafe\\u0301"'),
    GOOD.replace('"subject":', '"Subject":'),
]
HEADERS: list[dict[str, str]] = [
    JSON,
    {},
    {"content-type": "text/plain"},
    {"content-type": "Application/JSON; charset=utf-8"},
    {**JSON, "host": "evil.example"},
    {**JSON, "host": "localhost:99999999"},
    {**JSON, "origin": "http://evil.example"},
    {**JSON, "origin": "http://localhost"},
    {**JSON, "authorization": "Bearer nonsense"},
    {**JSON, "authorization": "Basic eDp5"},
    {**JSON, "authorization": ""},
    {**JSON, "hearthgate-on-behalf": "alice"},
    {**JSON, "hearthgate-on-behalf": "a b"},
    {**JSON, "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"},
    {**JSON, "traceparent": "nonsense"},
    {**JSON, "accept": "text/html"},
    {**JSON, "content-length": "70000"},
    {**JSON, "content-length": "-1"},
    {**JSON, "content-length": "x"},
]
METHODS = ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "POST"]
PATHS = [PATH, PATH + "/", PATH + "?reason=x", PATH + "?reason=" + "x" * 2001, "//v1/decisions", PATH + "/x"]


def told(answer: httpx.Response) -> tuple[int, dict[str, str], Any]:
    """Give what an answer says, but for what is new in each."""

    def steady(value: Any) -> Any:  # noqa: ANN401 (any JSON)
        if isinstance(value, dict):
            return {name: steady(each) for name, each in value.items() if name not in VARYING}
        return [steady(each) for each in value] if isinstance(value, list) else value

    body = steady(answer.json()) if answer.content else None
    headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
    if "x-decision-id" in headers:
        headers["x-decision-id"] = "new in each"
    return answer.status_code, headers, body


def both(home: "Home", person: "Person", method: str, path: str, **given: Any) -> list[tuple[int, dict[str, str], Any]]:  # noqa: ANN401 (httpx's own arguments)
    """Ask the same on the short way and on the framework's."""
    straight = home.house.asgi
    assert isinstance(straight, StraightWay)

    async def send(asgi: Any) -> httpx.Response:  # noqa: ANN401 (an application)
        headers = {**person._headers, **given.get("headers", {})}
        transport = httpx.ASGITransport(asgi, client=person._client)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **{**given, "headers": headers})

    return [told(home.do(send(asgi))) for asgi in (straight, straight.application)]


@pytest.mark.parametrize("who", ["owner", "operator", "member", "nobody", "stranger"])
@pytest.mark.parametrize("body", BODIES, ids=lambda body: body[-60:])
def test_every_body_is_answered_alike(quiet_home: "Home", who: str, body: str) -> None:
    people = {
        "owner": lambda: quiet_home.owner,
        "operator": lambda: quiet_home.person("carol", "evaluate"),
        "member": lambda: quiet_home.person("alice", "evaluate"),
        "nobody": lambda: quiet_home.person("erin", "execute"),
        "stranger": lambda: quiet_home.stranger,
    }
    short, whole = both(quiet_home, people[who](), "POST", PATH, content=body.encode(), headers=JSON)
    assert short == whole


@pytest.mark.parametrize("who", ["owner", "member", "stranger"])
@pytest.mark.parametrize("body", EVALUATIONS, ids=lambda body: body[-60:])
@pytest.mark.parametrize("headers", [JSON, {**JSON, "x-request-id": "7"}, {}], ids=["json", "an id", "no type"])
def test_every_evaluation_is_answered_alike(quiet_home: "Home", who: str, body: str, headers: dict[str, str]) -> None:
    people = {
        "owner": lambda: quiet_home.owner,
        "member": lambda: quiet_home.person("carol", "evaluate"),
        "stranger": lambda: quiet_home.stranger,
    }
    short, whole = both(quiet_home, people[who](), "POST", EVALUATION, content=body.encode(), headers=headers)
    assert short == whole


@pytest.mark.parametrize("headers", HEADERS, ids=str)
def test_every_head_is_answered_alike(quiet_home: "Home", headers: dict[str, str]) -> None:
    short, whole = both(quiet_home, quiet_home.owner, "POST", PATH, content=GOOD.encode(), headers=headers)
    assert short == whole


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:30])
def test_every_method_and_path_is_answered_alike(quiet_home: "Home", method: str, path: str) -> None:
    content = GOOD.encode() if method in {"POST", "PUT", "PATCH"} else b""
    short, whole = both(quiet_home, quiet_home.owner, method, path, content=content, headers=JSON)
    assert short == whole


@pytest.mark.parametrize("bad", [b"\xff", b'{"subject":"\xff"}', GOOD.encode()[:-1] + b',"user":"\xc3"}'])
def test_bytes_that_are_no_text_are_answered_alike(quiet_home: "Home", bad: bytes) -> None:
    short, whole = both(quiet_home, quiet_home.owner, "POST", PATH, content=bad, headers=JSON)
    assert short == whole
    assert short[0] == 400


@pytest.mark.parametrize("pieces", [[GOOD[:20], GOOD[20:]], ["x" * 40_000, "x" * 40_000], [""], [GOOD]])
def test_a_body_in_pieces_is_answered_alike(quiet_home: "Home", pieces: list[str]) -> None:
    short, whole = (
        told(quiet_home.do(_in_pieces(asgi, quiet_home.owner, pieces)))
        for asgi in (quiet_home.house.asgi, quiet_home.house.asgi.application)  # type: ignore[attr-defined] # a StraightWay
    )
    assert short == whole


async def _in_pieces(asgi: Any, person: "Person", pieces: list[str]) -> httpx.Response:  # noqa: ANN401 (an application)
    async def sent() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece.encode()
            await asyncio.sleep(0)

    transport = httpx.ASGITransport(asgi, client=person._client)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.post(PATH, content=sent(), headers=JSON)


def test_the_operation_is_described(quiet_home: "Home") -> None:
    described = quiet_home.owner.get("/schema/openapi.json").json()["paths"][PATH]["post"]
    assert "requestBody" in described


def test_a_revoked_key_is_refused_at_once(home: "Home") -> None:
    carol = home.person("carol", "evaluate")
    question = {"subject": "plugin:notes", "permission": "vault_read", "scope": "notes"}
    assert carol.post(PATH, question).status_code == 200
    assert home.owner.delete(f"/v1/keys/{carol.key_id}").status_code in {200, 204}
    assert carol.post(PATH, question).status_code == 401


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PATH, {"subject": "user:carol", "permission": "vault_read", "scope": "notes"}),
        (PATH, {"subject": "plugin:notes", "permission": "vault_read", "scope": "notes"}),
        ("/v1/plugins/notes/execute", {"payload": {}}),
    ],
)
def test_a_key_that_is_revoked_before_the_body_comes_does_nothing(home: "Home", path: str, body: object) -> None:
    home.install("notes", "def execute(ctx, payload):\n    return 1\n")
    carol = home.person("carol", "evaluate", "execute")
    held = asyncio.Event()

    async def late() -> AsyncIterator[bytes]:
        await held.wait()
        yield json.dumps(body).encode()

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(home.house.asgi, client=carol._client)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            asked = asyncio.create_task(client.post(path, content=late(), headers={**carol._headers, **JSON}))
            for _ in range(50):
                await asyncio.sleep(0)
            key = home.parts.registry.keys.get(carol.key_id)
            assert key is not None
            home.parts.registry.keys.revoke(key, at=home.parts.now())
            held.set()
            return await asked

    answer = home.do(send())
    assert answer.status_code in {401, 403}, answer.text


def rights(home: "Home") -> list[dict[str, Any]]:
    return home.decided(subject="user:carol", kind="gateway", scope="decisions/plugin:notes")


def answers_about(home: "Home", plugin: str) -> list[dict[str, Any]]:
    return [row for row in home.records() if row["decision"] and row["decision"]["subject"] == f"plugin:{plugin}"]


def test_a_right_to_ask_is_written_once_and_every_answer_names_it(home: "Home") -> None:
    carol = home.person("carol", "evaluate")
    question = {"subject": "plugin:notes", "permission": "vault_read", "scope": "notes"}
    for _ in range(3):
        assert carol.post(PATH, question).status_code == 200
    (right,) = rights(home)
    found = answers_about(home, "notes")
    assert len(found) == 3
    assert {row["details"]["right"] for row in found} == {right["decision_id"]}
    assert right["effect"] == "allow"
    carol.post(PATH, {**question, "dry_run": True})
    assert [each["level"] for each in rights(home)] == ["execute", "read"]


def test_a_right_is_written_anew_after_an_hour(home: "Home") -> None:
    carol = home.person("carol", "evaluate")
    question = {"subject": "plugin:notes", "permission": "vault_read", "scope": "notes"}
    began = datetime.now(UTC)
    for minutes in (0, 59, 61, 90):
        home.at(began + timedelta(minutes=minutes))
        assert carol.post(PATH, question).status_code == 200
    assert len(rights(home)) == 2
    assert len(answers_about(home, "notes")) == 4


def test_a_right_is_written_anew_under_another_policy(home: "Home") -> None:
    carol = home.person("carol", "evaluate")
    question = {"subject": "plugin:notes", "permission": "vault_read", "scope": "notes"}
    carol.post(PATH, question)
    (home.folder / "policies" / "rules" / "91-more.csv").write_text(
        "p, more, group:plugins, vault, read, other/*, -, allow, more\n"
    )
    home.reload()
    carol.post(PATH, question)
    first, second = rights(home)
    assert first["generation"] < second["generation"]
    assert [row["details"]["right"] for row in answers_about(home, "notes")] == [
        first["decision_id"],
        second["decision_id"],
    ]


def test_a_right_that_met_a_condition_is_written_each_time(make_home: "MakeHome") -> None:
    home = make_home(rules="p, erin-asks, user:erin, gateway, execute, decisions/*, risk<=100, allow, erin may ask\n")
    erin = home.person("erin", "evaluate")
    question = {"subject": "plugin:notes", "permission": "vault_read", "scope": "notes"}
    for _ in range(2):
        assert erin.post(PATH, question).status_code == 200
    assert len(home.decided(subject="user:erin", kind="gateway", scope="decisions/plugin:notes")) == 2


def test_a_right_that_is_taken_away_is_refused_at_once(home: "Home") -> None:
    carol = home.person("carol", "evaluate")
    question = {"subject": "plugin:notes", "permission": "vault_read", "scope": "notes"}
    assert carol.post(PATH, question).status_code == 200
    assert home.owner.post("/v1/lockdown", {"scope": "user:carol", "reason": "x"}).status_code in {200, 201}
    refused = carol.post(PATH, question)
    assert (refused.status_code, refused.json()["reason"]) == (403, "locked_down")
    assert [each["effect"] for each in rights(home)] == ["allow", "deny"]
    assert len(answers_about(home, "notes")) == 1
