"""What an agent and a plugin try through `/mcp` leads nowhere that the other doors do not lead."""

from typing import TYPE_CHECKING, Any

import pytest
from mcp.shared.exceptions import MCPError

from tests.app.served import until
from tests.http.mcp.conftest import MODES

if TYPE_CHECKING:
    from tests.http.mcp.conftest import Served


@pytest.fixture
def rules(served: "Served") -> Any:  # noqa: ANN401 (a function)
    """Give a function that adds rules to the served home until the test is over."""
    path = served.gateway.folder / "policies" / "rules" / "95-test.csv"

    def version() -> str:
        return str(served.gateway.ask("GET", "/v1/policy").json()["version"])

    def put(text: str) -> None:
        before = version()
        path.write_text(text)
        until(lambda: version() != before)

    yield put
    put("")


@pytest.mark.parametrize("mode", MODES)
def test_an_approval_that_is_needed_is_asked_for_and_used_once(served: "Served", mode: str, rules: Any) -> None:  # noqa: ANN401
    rules("p, ask-first, user:erin, gateway, execute, plugins/demo, approval, allow, each call is looked at\n")
    key = served.key("erin")
    assert served.tools(mode, key)[0].name == "demo__add"
    result = served.call(mode, "demo__add", key, a=1, b=2)
    told = result.structured_content
    assert (result.is_error, told["reason"]) == (True, "approval_required")
    yes = served.gateway.ask("POST", f"/v1/call-approvals/{told['decision']['approval_id']}/approve", {"reason": "t"})
    assert yes.status_code == 200, yes.text
    # Bound to the very call: other arguments ask anew.
    assert served.call(mode, "demo__add", key, a=1, b=3).is_error
    assert served.call(mode, "demo__add", key, a=1, b=2).content[0].text == "3"
    assert served.call(mode, "demo__add", key, a=1, b=2).is_error


@pytest.mark.parametrize("mode", MODES)
def test_a_deny_hides_what_a_role_would_show(served: "Served", mode: str, rules: Any) -> None:  # noqa: ANN401
    rules("p, not-alice, user:alice, gateway, execute, plugins/demo, -, deny, not hers\n")
    assert served.tools(mode, served.key("alice")) == []
    with pytest.raises(MCPError, match="there is no tool `demo__add`"):
        served.call(mode, "demo__add", a=1, b=2)


@pytest.mark.parametrize("mode", MODES)
def test_a_lockdown_holds_here_too(served: "Served", mode: str) -> None:
    locked = served.gateway.ask("POST", "/v1/lockdown", {"scope": "plugin:demo", "reason": "test"}).json()
    try:
        result = served.call(mode, "demo__add", a=1, b=2)
        assert (result.is_error, result.structured_content["reason"]) == (True, "locked_down")
    finally:
        served.gateway.ask("DELETE", f"/v1/lockdown/{locked['id']}", {"reason": "test"})
    assert served.call(mode, "demo__add", a=1, b=2).content[0].text == "3"


@pytest.mark.parametrize("mode", MODES)
def test_what_a_plugin_may_not_do_it_may_not_do_for_an_agent(served: "Served", mode: str) -> None:
    """The vault that is read is the caller's own, whatever the tool is told."""
    served.call(mode, "demo__wait", served.key("alice"), for_s=0)
    mine = {row["user_id"] for row in served.gateway.rows(plugin="demo") if row["event_type"] == "execution_started"}
    assert mine <= {"alice", "erin", "bob"}
    asked = [row["decision"] for row in served.gateway.rows(plugin="demo") if row["decision"] is not None]
    assert {each["user"] for each in asked if each["permission"] == "vault_write"} == {"alice"}


@pytest.mark.parametrize("scope", ["evaluate", "approve", "consent", "admin", "audit"])
def test_a_key_for_something_else_is_of_no_use(served: "Served", scope: str) -> None:
    key = served.gateway.key("alice", scope)
    assert served.tools("auto", key) == []
    with pytest.raises(MCPError, match="there is no tool"):
        served.call("auto", "demo__add", key, a=1, b=2)
