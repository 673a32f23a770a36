"""Who is asking: the socket's peer or a key, and nothing that a request says of itself."""

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gateway.domain.decision import timestamp

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

PROBLEM = "application/problem+json"


def person_at(home: "Home", client: tuple[str, int], **headers: str) -> Any:  # noqa: ANN401 (a Person)
    return type(home.owner)(home, client, headers)


def test_only_health_is_told_to_nobody_known(quiet_home: "Home") -> None:
    assert quiet_home.stranger.get("/healthz").json() == {"status": "alive"}
    for path in ("/readyz", "/v1/plugins", "/v1/doctor", "/v1/audit/checkpoint", "/schema", "/schema/openapi.json"):
        answer = quiet_home.stranger.get(path)
        assert answer.status_code == 401, path
        assert answer.headers["content-type"] == PROBLEM
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["type"] == "urn:hearthgate:problem:unauthenticated"


@pytest.mark.parametrize(
    "client",
    [
        ("127.0.0.1", 1),
        ("::1", 1),
        (f"unix-uid:{os.getuid() + 1}", 0),
        ("unix-uid:", 0),
        (f"unix-uid:{os.getuid()} ", 0),
        (f"unix-uid:+{os.getuid()}", 0),
        (str(os.getuid()), 0),
        ("", 0),
    ],
)
def test_only_the_gateways_own_uid_on_the_socket_is_the_owner(quiet_home: "Home", client: tuple[str, int]) -> None:
    assert person_at(quiet_home, client).get("/v1/plugins").status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-for": f"unix-uid:{os.getuid()}"},
        {"forwarded": f"for=unix-uid:{os.getuid()}"},
        {"x-real-ip": f"unix-uid:{os.getuid()}"},
        {"hearthgate-on-behalf": "alice"},
        {"x-remote-user": "root"},
        {"authorization": ""},
        {"authorization": "Basic cm9vdDpyb290"},
        {"authorization": "Bearer"},
        {"authorization": "Bearer hg_00000000_" + "A" * 43},
        {"authorization": "Bearer " + "x" * 10_000},
        {"cookie": "session=owner"},
    ],
)
def test_no_header_makes_a_stranger_somebody(quiet_home: "Home", headers: dict[str, str]) -> None:
    assert person_at(quiet_home, ("127.0.0.1", 1), **headers).get("/v1/plugins").status_code == 401


def test_a_key_sent_over_the_socket_beats_the_sockets_identity(home: "Home") -> None:
    erin = home.person("erin", "admin")
    key = erin._headers["authorization"]
    over_socket = person_at(home, (f"unix-uid:{os.getuid()}", 0), authorization=key)
    refused = over_socket.get("/v1/plugins")
    assert refused.status_code == 403
    assert refused.json()["decision"]["subject"] == "user:erin"
    wrong = person_at(home, (f"unix-uid:{os.getuid()}", 0), authorization="Bearer nothing")
    assert wrong.get("/v1/plugins").status_code == 401


def test_a_key_is_over_at_the_next_request(home: "Home") -> None:
    dave = home.person("dave", "audit")
    assert dave.get("/v1/audit").status_code == 200
    assert home.owner.delete(f"/v1/keys/{dave.key_id}").status_code == 200
    assert dave.get("/v1/audit").status_code == 401
    assert home.owner.delete(f"/v1/keys/{dave.key_id}").json()["revoked_at"] is not None
    home.reopen()
    assert dave.get("/v1/audit").status_code == 401


def test_a_key_expires_to_the_moment(home: "Home") -> None:
    end = datetime.now(UTC) + timedelta(hours=1)
    dave = home.person("dave", "audit", expires=timestamp(end))
    home.at(end - timedelta(microseconds=1))
    assert dave.get("/v1/audit").status_code == 200
    home.at(end)
    assert dave.get("/v1/audit").status_code == 401


def test_a_keys_secret_is_told_once_and_kept_nowhere(home: "Home") -> None:
    made = home.owner.post("/v1/keys", {"user": "dave", "scopes": ["audit"]}).json()
    assert made["key"].startswith(f"hg_{made['id']}_")
    listed = home.owner.get("/v1/keys").text
    assert made["id"] in listed
    assert made["key"] not in listed
    secret = made["key"].split("_", 2)[2].encode()
    assert [path for path, data in home.contents().items() if secret in data] == []


@pytest.mark.parametrize(
    "body",
    [
        {"user": "dave", "scopes": []},
        {"user": "dave", "scopes": ["owner"]},
        {"user": "da ve", "scopes": ["audit"]},
        {"user": "role:owner", "scopes": ["audit"]},
        {"user": "dave", "scopes": ["audit"], "expires": "2001-01-01T00:00:00Z"},
        {"user": "dave", "scopes": ["audit"], "expires": "2099-01-01"},
        {"user": "dave", "scopes": ["audit"], "expires": "never"},
        {"user": "dave", "scopes": ["audit"], "expires": "9999-12-31T23:59:59-23:59"},
        {"user": "dave", "scopes": ["audit"], "expires": 4102444800},
        {"user": "dave", "scopes": "audit"},
        {"user": "dave", "scopes": ["audit"], "owner": True},
    ],
)
def test_a_key_that_cannot_be_is_not_made(home: "Home", body: dict[str, object]) -> None:
    assert home.owner.post("/v1/keys", body).status_code == 400
    assert home.owner.get("/v1/keys").json()["keys"] == []


SCOPES = ("evaluate", "execute", "approve", "consent", "admin", "audit")
DOORS = [
    ("execute", "POST", "/v1/plugins/absent/execute", {"payload": {}}),
    ("approve", "POST", "/v1/plugins/absent/approve", {"reason": ""}),
    ("approve", "POST", "/v1/permission-requests/x/approve", {"reason": ""}),
    ("approve", "POST", "/v1/permission-requests/x/deny", {"reason": ""}),
    ("admin", "POST", "/v1/plugins", {"folder": "absent"}),
    ("admin", "POST", "/v1/plugins/absent/suspend", {"reason": ""}),
    ("admin", "POST", "/v1/plugins/absent/resume", {"reason": ""}),
    ("admin", "POST", "/v1/plugins/absent/revoke", {"reason": ""}),
    ("admin", "POST", "/v1/plugins/absent/uninstall", {"reason": ""}),
    ("admin", "POST", "/v1/plugins/absent/permissions/revoke", {"reason": ""}),
    ("admin", "POST", "/v1/lockdown", {"scope": "plugin:absent", "reason": ""}),
    ("admin", "DELETE", "/v1/lockdown/x", {"reason": "x"}),
    ("admin", "POST", "/v1/keys", {"user": "x", "scopes": ["audit"]}),
    ("admin", "DELETE", "/v1/keys/x", None),
    (
        "admin",
        "POST",
        "/v1/permission-requests",
        {"plugin_id": "absent", "permissions": [{"permission": "vault_read", "scope": "x"}]},
    ),
    (
        "consent",
        "POST",
        "/v1/consents",
        {"user_id": "frank", "plugin_id": "absent", "permission": "vault_read", "scope": "x"},
    ),
    ("audit", "GET", "/v1/audit", None),
    ("audit", "GET", "/v1/audit/export", None),
    ("audit", "GET", "/v1/audit/checkpoint", None),
    ("evaluate", "POST", "/v1/decisions", {"subject": "plugin:absent", "permission": "vault_read", "scope": "x"}),
]


@pytest.fixture(scope="module")
def franks_home(quiet_home: "Home") -> "Home":
    """Give a home, shared by the tests of this module, in which frank may do everything."""
    quiet_home.rules("p, frank-all, user:frank, gateway, admin, *, -, allow, everything\n")
    return quiet_home


@pytest.mark.parametrize(("needed", "method", "path", "body"), DOORS, ids=[f"{d[1]} {d[2]}" for d in DOORS])
def test_a_key_does_only_what_it_is_for(franks_home: "Home", needed: str, method: str, path: str, body: object) -> None:
    others = franks_home.person("frank", *(scope for scope in SCOPES if scope != needed))
    refused = others.ask(method, path, body)
    assert refused.status_code == 403
    assert refused.json()["reason"] == "credential"
    assert franks_home.records(event_type="access_denied")[-1]["user_id"] == "frank"
    reached = franks_home.person("frank", needed).ask(method, path, body)
    assert reached.status_code in {200, 201, 404}, reached.text


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/plugins/puppet/execute", {"payload": {"do": []}}),
        ("POST", "/v1/plugins/puppet/suspend", {"reason": ""}),
        ("POST", "/v1/lockdown", {"scope": "all", "reason": ""}),
        ("POST", "/v1/keys", {"user": "x", "scopes": ["admin"]}),
    ],
)
def test_a_socket_set_to_read_changes_nothing(make_home: "MakeHome", method: str, path: str, body: object) -> None:
    home = make_home()
    home.install("puppet")
    home.close()
    (home.folder / "hearthgate.toml").write_text('[http]\nsocket = "read"\n')
    home.open()
    assert home.owner.get("/v1/plugins/puppet").json()["status"] == "active"
    refused = home.owner.ask(method, path, body)
    assert refused.status_code == 403
    assert refused.json()["reason"] == "credential"


def test_a_socket_set_to_off_knows_nobody(make_home: "MakeHome") -> None:
    home = make_home(settings='[http]\nsocket = "off"\n')
    assert home.owner.get("/v1/plugins").status_code == 401


def test_only_the_owner_speaks_for_others(home: "Home") -> None:
    home.install("puppet", wants=("vault_read notes", "vault_write notes"))
    home.owner.behalf("alice").run("puppet", ["vault.write", "notes/a", 1])
    assert home.person("alice", "execute").run("puppet", ["vault.list", "notes"]) == [["notes/a"]]
    bob = home.person("bob", "execute").behalf("alice")
    assert bob.run("puppet", ["vault.list", "notes"]) == [[]]
    assert home.owner.behalf("not a name").get("/v1/plugins").status_code == 400


def test_a_key_may_be_given_less_than_its_user_has_by_a_rule_on_the_key(home: "Home") -> None:
    home.install("puppet")
    alice = home.person("alice", "execute")
    assert alice.run("puppet") == []
    home.rules(f"p, not-this-key, key:{alice.key_id}, gateway, execute, plugins/puppet, -, deny, lent out\n")
    refused = alice.begin("puppet").result(20)
    assert refused.status_code == 403
    assert refused.json()["decision"]["rule"]["id"] == "not-this-key"
