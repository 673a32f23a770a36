"""Any order of verbs leaves a plugin where a simple model says, with the grants that it says."""

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from hypothesis.strategies import sampled_from

from gateway.domain.lifecycle import State
from gateway.flows.reload_policy import refresh_memberships

if TYPE_CHECKING:
    from tests.conftest import Home

NEXT = {
    ("registered", "approve"): "active",
    ("registered", "revoke"): "revoked",
    ("registered", "register"): "registered",
    ("active", "suspend"): "suspended",
    ("active", "revoke"): "revoked",
    ("suspended", "resume"): "active",
    ("suspended", "revoke"): "revoked",
    ("active", "reload"): "active",
    ("failed", "reload"): "active",
    ("failed", "revoke"): "revoked",
    ("failed", "uninstall"): "absent",
    ("revoked", "register"): "registered",
    ("absent", "register"): "registered",
    ("registered", "uninstall"): "absent",
    ("active", "uninstall"): "absent",
    ("suspended", "uninstall"): "absent",
    ("revoked", "uninstall"): "absent",
}


class Life(RuleBasedStateMachine):
    """One plugin of a home that is shared by all runs; each run begins without it."""

    home: "Home"

    def __init__(self) -> None:
        super().__init__()
        self.state = "absent"
        self.grants: set[str] = set()
        if self.home.parts.registry.plugins.get("puppet") is not None:
            self.home.owner.post("/v1/plugins/puppet/uninstall", {"reason": ""})

    def step(self, verb: str) -> bool:
        path, body = f"/v1/plugins/puppet/{verb}", {"reason": "x"}
        answer = self.home.owner.post("/v1/plugins", {"folder": "puppet"}) if verb == "register" else None
        answer = answer or self.home.owner.post(path, body)
        wanted = NEXT.get((self.state, verb))
        if wanted is None:
            assert answer.status_code == (404 if self.state == "absent" else 409), answer.text
            return False
        assert answer.status_code in {200, 201}, answer.text
        self.state = wanted
        return True

    @rule()
    def register(self) -> None:
        self.step("register")

    @rule()
    def approve(self) -> None:
        if self.step("approve"):
            self.grants |= {"plugin_execute", "vault_read"}

    @rule()
    def suspend(self) -> None:
        self.step("suspend")

    @rule()
    def resume(self) -> None:
        self.step("resume")

    @rule()
    def revoke(self) -> None:
        if self.step("revoke"):
            self.grants = set()

    @rule()
    def uninstall(self) -> None:
        if self.step("uninstall"):
            self.grants = set()

    @rule(word=sampled_from(["one", "two"]))
    def reload(self, word: str) -> None:
        (self.home.folder / "plugins" / "puppet" / "main.py").write_text(f"def execute(ctx, payload): return {word!r}")
        generation = self.generation()
        if self.step("reload"):
            assert self.generation() >= generation
        else:
            assert self.generation() == generation

    @precondition(lambda self: self.state == "active")
    @rule()
    def reload_broken_code(self) -> None:
        main = self.home.folder / "plugins" / "puppet" / "main.py"
        before, generation = main.read_text(), self.generation()
        main.write_text("def execute(ctx, payload:")
        assert self.home.owner.post("/v1/plugins/puppet/reload", {"reason": ""}).status_code == 409
        main.write_text(before)
        assert self.generation() == generation

    @precondition(lambda self: self.state == "active")
    @rule()
    def fail(self) -> None:
        plugins = self.home.parts.registry.plugins
        plugin = plugins.get("puppet")
        assert plugin is not None
        plugins.move(plugin, State.FAILED, reason="host_cannot_keep", at=self.home.parts.now())
        self.home.do(refresh_memberships(self.home.parts, by="test", why="it failed"))
        self.state = "failed"

    def generation(self) -> int:
        plugin = self.home.parts.registry.plugins.get("puppet")
        return 0 if plugin is None else plugin.generation

    @precondition(lambda self: self.state in {"registered", "active", "suspended"})
    @rule()
    def request_more(self) -> None:
        body = {"plugin_id": "puppet", "permissions": [{"permission": "core_read", "scope": "x"}]}
        answer = self.home.owner.post("/v1/permission-requests", body)
        assert answer.status_code == 201
        approved = self.home.owner.post(f"/v1/permission-requests/{answer.json()['id']}/approve", {"reason": ""})
        assert approved.json()["status"] == "approved"
        self.grants |= {"core_read"}

    @precondition(lambda self: "vault_read" in self.grants)
    @rule()
    def take_vault(self) -> None:
        body = {"permission": "vault_read", "reason": ""}
        assert self.home.owner.post("/v1/plugins/puppet/permissions/revoke", body).status_code == 200
        self.grants -= {"vault_read"}

    @invariant()
    def is_where_the_model_says(self) -> None:
        plugin = self.home.parts.registry.plugins.get("puppet")
        assert (plugin.state.value if plugin else "absent") == self.state
        lines = [line.split(",") for line in self.home.grants.splitlines() if line.startswith("p,")]
        assert {f"{line[3].strip()}_{line[4].strip()}" for line in lines} == self.grants
        policy = self.home.parts.policy.get()
        assert policy is not None
        in_force = {f"{each.kind}_{each.level}" for each in policy.rules if each.subject == "plugin:puppet"}
        assert in_force == self.grants
        assert ("plugin:puppet" in policy.memberships) == (self.state == "active")
        asked = {"subject": "plugin:puppet", "permission": "vault_read", "scope": "notes/a", "dry_run": True}
        effect = self.home.owner.post("/v1/decisions", asked).json()["effect"]
        assert (effect == "allow") == (self.state == "active" and "vault_read" in self.grants)
        assert self.home.parts.policy.problems == ()
        assert self.home.parts.registry.holds.holds == {}


@pytest.mark.timeout(100)
def test_every_order_of_verbs_ends_as_the_model_says(home: "Home") -> None:
    home.write_plugin("puppet", requested_permissions=[{"permission": "vault_read", "scope": "notes"}])
    machine = type("LifeOfOneHome", (Life,), {"home": home})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=8,
            stateful_step_count=15,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
