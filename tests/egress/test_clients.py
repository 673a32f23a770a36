"""Ordinary clients, as they are, work from inside a cell where a rule allows it, and are told no where none does."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.executor import confine

if TYPE_CHECKING:
    from tests.conftest import Home
    from tests.egress.conftest import Internet

PLUGINS = Path(__file__).parents[2] / "plugins"
CLIENTS = ("by_urllib", "by_requests", "by_httpx", "by_httpx_async")
Travel = Callable[..., "Home"]


@pytest.fixture
def home(travel: Travel) -> "Home":
    return travel(clients=True)


def test_every_client_reaches_an_allowed_host_with_and_without_tls(home: "Home", internet: "Internet") -> None:
    deeds = [
        [client, method, f"{scheme}://good.test:{port}/{client}", *body]
        for client in CLIENTS
        for scheme, port in (("http", internet.http), ("https", internet.https))
        for method, body in (("GET", ()), ("POST", (f"by {client}",)))
    ]
    told = home.person("alice", "execute").run("puppet", *deeds)
    for (client, method, _, *body), answer in zip(deeds, told, strict=True):
        assert answer.get("status") == 200, answer
        assert answer["body"] == " ".join([method, f"/{client}", *body])
    decided = home.decided(subject="plugin:puppet", kind="network")
    assert len(decided) == len(deeds)
    # A tunnel hides its method, so it asks for write; plain GET asks for read.
    levels = [each["level"] for each in decided]
    assert levels == ["read", "write", "write", "write"] * len(CLIENTS)


def test_the_example_plugin_tells_what_a_feed_says(
    travel: Travel, internet: "Internet", monkeypatch: pytest.MonkeyPatch
) -> None:
    home = travel("")
    monkeypatch.setattr(confine.certifi, "where", lambda: str(internet.ca))
    shutil.copytree(PLUGINS / "headlines", home.folder / "plugins" / "headlines")
    assert home.owner.post("/v1/plugins", {"folder": "headlines"}).status_code == 201
    assert home.owner.post("/v1/plugins/headlines/approve", {"reason": "test"}).status_code == 200
    payload = {"action": "headlines", "feed": f"https://good.test:{internet.https}/feed", "most": 2}
    alice = home.person("alice", "execute")
    refused = alice.post("/v1/plugins/headlines/execute", {"payload": payload}).json()
    assert "Denied by the policy (no_rule)" in refused["error"]
    (record,) = (each for each in home.records(event_type="access_denied") if each["plugin_id"] == "headlines")
    home.rules(record["details"]["would_allow"] + "\n")
    answer = alice.post("/v1/plugins/headlines/execute", {"payload": payload}).json()
    assert answer["output"] == ["rain", "sun"], answer


def test_every_client_is_told_no_with_the_decision_that_says_so(home: "Home", internet: "Internet") -> None:
    internet.names["bad.test"] = [["127.0.0.1"]]
    deeds = [
        [client, "GET", f"{scheme}://bad.test:{port}/"]
        for client in CLIENTS
        for scheme, port in (("http", internet.http), ("https", internet.https))
    ]
    told = home.person("alice", "execute").run("puppet", *deeds)
    refused = home.decided(subject="plugin:puppet", kind="network", effect="deny")
    assert len(refused) == len(deeds)
    for answer, decision in zip(told, refused, strict=True):
        assert decision["decision_id"] in str(answer), answer
        assert "no_rule" in str(answer)
        assert "403" in str(answer)
    assert internet.asked == []
    assert internet.looked_up == []
