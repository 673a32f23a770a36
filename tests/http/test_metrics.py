"""Metrics tell what happened, in the format of Prometheus, to who may see them, and name nobody."""

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

Home = Any  # what conftest.py gives
SECRET = "gustav-and-his-diary"  # noqa: S105 (a name that must not be told)


def told(home: Home, person: Any = None) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:  # noqa: ANN401 (a Person)
    answer = (person or home.owner).get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(found: dict[Any, float], name: str, **labels: str) -> float:
    return found.get((name, tuple(sorted(labels.items()))), 0.0)


def test_what_happens_is_counted(home: Home) -> None:
    home.install("worker", "def execute(ctx, payload):\n    return payload['do'] / 1\n")
    alice = home.person("alice", "execute")
    before = told(home)
    for do in (1, 1, "x"):
        alice.post("/v1/plugins/worker/execute", {"payload": {"do": do}})
    home.owner.post("/v1/decisions", {"subject": "plugin:worker", "permission": "vault_read", "scope": "notes"})
    home.rules("p, more, plugin:worker, vault, read, notes, -, allow, more\n")
    home.write_rules("p, broken\n")
    home.reload()
    after = told(home)

    def grew(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    execution = "hearthgate_executions_total"
    assert grew(execution, plugin="worker", outcome="returned", isolation="pristine") == 2
    assert grew(execution, plugin="worker", outcome="failed", isolation="pristine") == 1
    assert grew("hearthgate_execution_seconds_count") == 3
    assert 0 < grew("hearthgate_execution_seconds_sum") < 60
    assert grew("hearthgate_decisions_total", effect="deny", reason="no_rule", dry_run="false") == 1
    assert grew("hearthgate_decisions_total", effect="allow", reason="rule", dry_run="false") >= 6
    assert grew("hearthgate_decide_seconds_count") >= 7
    assert grew("hearthgate_reloads_total", what="policy", result="activated") == 1
    assert grew("hearthgate_reloads_total", what="policy", result="rejected") == 1
    assert grew("hearthgate_log_records_total") == grew("hearthgate_log_size")
    assert 1 <= grew("hearthgate_log_commit_seconds_count") <= grew("hearthgate_log_records_total")
    assert value(after, "hearthgate_log_commit_seconds_bucket", le="+Inf") == value(
        after, "hearthgate_log_commit_seconds_count"
    )
    assert value(after, "hearthgate_plugins", state="active") == 1
    assert value(after, "hearthgate_cells", state="running") == 0
    assert value(after, "hearthgate_ready") == (home.owner.get("/readyz").status_code == 200)


def test_who_may_see_it_is_the_policys_and_looking_again_writes_nothing(home: Home) -> None:
    operator = home.person("carol", "audit")
    assert home.stranger.get("/metrics").status_code == 401
    assert home.person("carol", "evaluate").get("/metrics").status_code == 403
    assert home.person("erin", "audit").get("/metrics").status_code == 403
    told(home, operator)
    size = home.parts.log.size
    for _ in range(3):
        told(home, operator)
    assert home.parts.log.size == size


def test_nobody_and_nothing_asked_for_is_named(home: Home) -> None:
    home.install("worker", f"def execute(ctx, payload):\n    ctx.vault.read('{SECRET}')\n")
    home.owner.behalf(SECRET).post("/v1/plugins/worker/execute", {"payload": {"who": SECRET}})
    home.owner.post("/v1/decisions", {"subject": f"user:{SECRET}", "permission": "vault_read", "scope": SECRET})
    assert SECRET not in home.owner.get("/metrics").text


def test_a_plugin_that_is_gone_is_counted_no_longer(home: Home) -> None:
    home.install("worker", "def execute(ctx, payload):\n    return 1\n")
    home.owner.post("/v1/plugins/worker/execute", {"payload": {}})
    assert "worker" in home.owner.get("/metrics").text
    home.owner.post("/v1/plugins/worker/uninstall", {"reason": "test"})
    assert "worker" not in home.owner.get("/metrics").text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_metrics_are_only_read(home: Home, method: str) -> None:
    assert home.owner.ask(method, "/metrics").status_code == 405
