"""What no web page can make a browser send, and what cannot be read in two ways."""

from typing import TYPE_CHECKING

import pytest

from gateway.app.rounds import tell_refusals
from gateway.http.doors import Refusals

if TYPE_CHECKING:
    from tests.conftest import Home

JSON = {"content-type": "application/json"}
ASK = {"subject": "role:owner", "permission": "gateway_read", "scope": "policy", "dry_run": True}
GOOD = b'{"subject":"role:owner","permission":"gateway_read","scope":"policy","dry_run":true}'


def assert_problem(answer: object, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text  # type: ignore[attr-defined] # an httpx.Response
    assert answer.headers["content-type"] == "application/problem+json"  # type: ignore[attr-defined] # same
    told = answer.json()  # type: ignore[attr-defined] # same
    assert told["type"] == f"urn:hearthgate:problem:{code}"
    assert told["status"] == status
    assert told["title"]
    assert told["detail"]


@pytest.mark.parametrize("host", ["localhost", "localhost:8642", "127.0.0.1", "127.0.0.1:1", "[::1]:8642", "LOCALHOST"])
def test_own_hosts_are_answered(quiet_home: "Home", host: str) -> None:
    assert quiet_home.owner.ask("GET", "/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8642",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "",
        "localhost@evil",
        "[::2]:1",
    ],
)
@pytest.mark.parametrize("path", ["/healthz", "/v1/plugins"])
def test_a_name_that_points_here_is_not_ours(quiet_home: "Home", host: str, path: str) -> None:
    assert_problem(quiet_home.owner.ask("GET", path, headers={"host": host}), 421, "misdirected")


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://localhost:3000", "https://localhost.evil.example", "localhost", ""],
)
def test_pages_of_other_origins_are_refused(quiet_home: "Home", origin: str) -> None:
    answer = quiet_home.owner.ask("POST", "/v1/decisions", ASK, headers={"origin": origin})
    assert_problem(answer, 403, "denied")
    assert answer.json()["reason"] == "origin"


def test_a_page_of_our_own_origin_is_answered(quiet_home: "Home") -> None:
    assert quiet_home.owner.ask("POST", "/v1/decisions", ASK, headers={"origin": "http://localhost"}).status_code == 200


@pytest.mark.parametrize(
    "media",
    [
        {"content-type": "text/plain"},
        {"content-type": "text/plain; application/json"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/msgpack"},
        {"content-type": "application/jsonx"},
        {},
        {"transfer-encoding": "chunked"},
    ],
)
def test_only_json_is_read_as_json(quiet_home: "Home", media: dict[str, str]) -> None:
    answer = quiet_home.owner.ask("POST", "/v1/decisions", content=GOOD, headers=media)
    assert_problem(answer, 415, "unsupported_media_type")


def test_a_delete_with_another_body_is_refused_too(quiet_home: "Home") -> None:
    answer = quiet_home.owner.ask(
        "DELETE", "/v1/lockdown/x", content=b'{"reason":"x"}', headers={"content-type": "text/plain"}
    )
    assert_problem(answer, 415, "unsupported_media_type")


def test_the_charset_of_json_may_be_named(quiet_home: "Home") -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert quiet_home.owner.ask("POST", "/v1/decisions", content=GOOD, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"7",
        b"{",
        b'{"payload":{}} {"payload":{}}',
        b"[" * 20_000,
        b'{"payload":' * 20_000,
        b'{"payload":{"do":[]},"payload":{"do":[]}}',
        b'{"payload":{"do":[],"do":[1]}}',
        b'{"payload":{"do":[]},"unknown":1}',
        b'{"payload":{"do":NaN}}',
        b'{"payload":{"do":Infinity}}',
        b'{"payload":{"do":1e999}}',
        b'{"payload":{"do":"\\ud800"}}',
        b'{"payload":{"\\udfff":1}}',
        b'{"payload":{"do":"\xff"}}',
        b'{"payload":{"do":' + b"1" * 5000 + b"}}",
        b'{"payload":[]}',
        b'{"payload":{},"timeout_s":"1"}',
        b'{"payload":{},"timeout_s":true}',
        b'{"payload":{},"timeout_s":0}',
        b'{"payload":{},"timeout_s":-1}',
        b'{"payload":{},"timeout_s":1e9}',
        b'{"payload":{},"session_id":7}',
        b'{"payload":{},"session_id":""}',
        b'{"payload":{},"session_id":"a b"}',
        b'{"payload":{},"idempotency_key":""}',
        b"\xef\xbb\xbf{}",
        b'{"payload":{}}\x00',
    ],
)
def test_a_body_that_has_not_one_reading_is_malformed(quiet_home: "Home", body: bytes) -> None:
    answer = quiet_home.owner.ask("POST", "/v1/plugins/absent/execute", content=body, headers=JSON)
    assert_problem(answer, 400, "malformed")
    assert "ExecuteBody" not in answer.text
    assert not quiet_home.records(plugin="absent")


def test_a_body_of_nobody_known_is_not_even_read(quiet_home: "Home") -> None:
    for body in (b"{", b"[" * 60_000, b"x" * 2_000_000):
        answer = quiet_home.stranger.ask("POST", "/v1/decisions", content=body, headers=JSON)
        assert_problem(answer, 401, "unauthenticated")


@pytest.mark.parametrize(
    ("path", "most"),
    [("/v1/decisions", 64 << 10), ("/v1/plugins", 1 << 20), ("/v1/plugins/absent/execute", 1 << 20)],
)
def test_a_body_has_a_largest_size(quiet_home: "Home", path: str, most: int) -> None:
    just = b'{"payload":{"x":"' + b"a" * (most - 19) + b'"}}'
    assert quiet_home.owner.ask("POST", path, content=just[:most], headers=JSON).status_code in {400, 404}
    assert_problem(quiet_home.owner.ask("POST", path, content=b" " * (most + 1), headers=JSON), 413, "too_large")


@pytest.mark.parametrize(("method", "path"), [("PUT", "/v1/plugins"), ("GET", "/v1/decisions"), ("POST", "/healthz")])
def test_other_methods_are_refused(quiet_home: "Home", method: str, path: str) -> None:
    assert_problem(quiet_home.owner.ask(method, path, {}), 405, "method_not_allowed")


def test_unknown_routes_are_not_found(quiet_home: "Home") -> None:
    assert_problem(quiet_home.owner.get("/v2/plugins"), 404, "not_found")


def test_what_was_turned_away_is_counted_in_one_record(home: "Home") -> None:
    refusals = Refusals()
    for status in (400, 401, 401):
        refusals.count(status)
    home.do(tell_refusals(home.parts, refusals))
    home.do(tell_refusals(home.parts, refusals))
    (told,) = home.records(event_type="requests_refused")
    assert told["details"]["by_status"] == {"400": 1, "401": 2}


def test_refusals_at_the_doors_are_told_when_the_gateway_closes(home: "Home") -> None:
    home.stranger.get("/v1/plugins")
    home.owner.ask("POST", "/v1/decisions", content=b"{", headers=JSON)
    home.reopen()
    (told,) = home.records(event_type="requests_refused")
    assert told["details"]["by_status"] == {"400": 1, "401": 1}
