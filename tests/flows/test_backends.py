"""Who makes the cells is chosen by settings and policy, told everywhere, and never replaced by another."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.domain.risk import Tier
from gateway.errors import ConfigError
from gateway.flows.isolation import backends_used
from sandbox.backends import bwrap, outside, runsc

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

BY_BWRAP = '[sandbox]\nbackend = "bwrap"\n'
needs_bwrap = pytest.mark.skipif(
    not any(map(os.path.exists, bwrap.PROGRAMS)), reason="bwrap is not installed, so it is NOT TESTED here"
)
needs_runsc = pytest.mark.skipif(
    os.getuid() != 0 or not any(map(os.path.exists, runsc.PROGRAMS)),
    reason="runsc is not installed, or not for this user, so it is NOT TESTED here",
)
KERNEL = "import os\ndef execute(ctx, payload):\n    return os.uname().release\n"


def runsc_from(home: "Home", tier: str) -> None:
    risk = home.folder / "policies" / "risk.toml"
    risk.write_text(f'{risk.read_text()}runsc_from = "{tier}"\n')


def zygote_without_programs(folder: Path) -> Path:
    """Make a zygote, for tests alone, that looks for the programs where there are none."""
    library = Path(outside.__file__).parents[2]
    script = folder / "zygote.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(library)!r})\nfrom sandbox import zygote\n"
        "from sandbox.backends import outside\n"
        "outside._PROGRAMS = {name: (f'/nowhere/{name}',) for name in outside._PROGRAMS}\nzygote.main()\n"
    )
    return script


@needs_bwrap
def test_bubblewrap_makes_every_cell_where_it_is_set(make_home: "MakeHome") -> None:
    home = make_home(settings=BY_BWRAP)
    home.install("puppet", wants=("vault_read notes", "vault_write notes"))
    alice = home.person("alice", "execute")
    told = alice.run("puppet", ["vault.write", "notes/today", "sunny"], ["vault.read", "notes/today"])
    assert told[1] == "sunny", told
    answer = alice.post("/v1/plugins/puppet/execute", {"payload": {"do": []}}).json()
    assert answer["sandbox_result"]["backend"] == "bwrap"
    assert home.owner.get("/v1/plugins/puppet").json()["isolation"]["backend"] == "bwrap"
    assert home.records(event_type="execution_completed")[-1]["details"]["backend"] == "bwrap"
    guarantees = {each.name: each for each in home.parts.host.prove()}
    assert guarantees["bwrap"].held
    assert guarantees["bwrap_no_host_files"].mandatory


@needs_bwrap
def test_code_is_read_and_scanned_in_cells_of_the_same_maker(
    make_home: "MakeHome", monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(settings=BY_BWRAP)
    made: list[str] = []
    run = home.parts.pool.run

    async def noted(job: Any, spec: Any, *given: Any, **named: Any) -> Any:  # noqa: ANN401 (what the pool takes)
        made.append(spec.backend)
        return await run(job, spec, *given, **named)

    monkeypatch.setattr(home.parts.pool, "run", noted)
    code = "import subprocess\n\n\ndef go(ctx):\n    return subprocess.call(input(), shell=True)\n"
    home.register("looked", code, capabilities=[{"name": "go"}], security_scan=True)
    scanned = home.owner.post("/v1/plugins/looked/scan", {}).json()
    assert [each["rule"] for each in scanned["findings"] if each["severity"] == "high"], scanned
    assert made == ["bwrap"] * len(made)
    assert len(made) == 2


@needs_runsc
def test_gvisor_makes_the_cells_of_a_tier_and_above(make_home: "MakeHome") -> None:
    home = make_home(opened=False)
    runsc_from(home, "moderate")
    home.open()
    home.install("quiet", KERNEL)
    home.install("loud", KERNEL, wants=("vault_write notes", "vault_read diary"))
    alice = home.person("alice", "execute")
    told = {name: alice.post(f"/v1/plugins/{name}/execute", {"payload": {}}).json() for name in ("quiet", "loud")}
    assert told["quiet"]["output"] == os.uname().release
    assert told["quiet"]["sandbox_result"]["backend"] == "native"
    assert told["loud"]["sandbox_result"]["backend"] == "runsc"
    assert told["loud"]["success"], told["loud"]
    assert told["loud"]["output"] != os.uname().release
    assert {each.name: each.held for each in home.parts.host.prove()}["runsc_kernel"]


@needs_runsc
def test_a_plugin_with_a_way_out_is_refused_where_gvisor_would_have_to_carry_it(make_home: "MakeHome") -> None:
    home = make_home(opened=False)
    runsc_from(home, "low")
    home.open()
    home.install("puppet", wants=("network_read example.org",))
    answer = home.person("alice", "execute").post("/v1/plugins/puppet/execute", {"payload": {"do": []}})
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:hearthgate:problem:host_cannot_keep")
    assert "has no relay" in answer.json()["detail"]
    assert home.records(event_type="execution_failed")[-1]["resolution"] == "refused"


@pytest.mark.parametrize("backend", ["bwrap", "runsc"])
def test_a_program_that_is_missing_is_a_refusal_and_no_other_stands_in(
    make_home: "MakeHome", monkeypatch: pytest.MonkeyPatch, tmp_path: Path, backend: str
) -> None:
    monkeypatch.setattr("sandbox.launcher._ZYGOTE", str(zygote_without_programs(tmp_path)))
    home = make_home(settings=BY_BWRAP if backend == "bwrap" else "", opened=False)
    if backend == "runsc":
        runsc_from(home, "low")
    home.open()
    home.install("puppet")
    answer = home.person("alice", "execute").post("/v1/plugins/puppet/execute", {"payload": {"do": []}})
    assert answer.status_code == 503, answer.text
    assert f"`/nowhere/{backend}` is not there; apt-get install" in answer.json()["detail"]
    failed = home.records(event_type="execution_failed")[-1]
    assert failed["resolution"] == "refused"
    guarantee = {each.name: each for each in home.parts.host.prove()}[backend]
    assert not guarantee.held
    assert guarantee.mandatory == (backend == "bwrap")
    assert "apt-get install" in guarantee.fix


def test_a_tier_that_there_is_not_gives_every_plugin_its_own_kernel(home: "Home") -> None:
    runsc_from(home, "hi")
    (problem,) = home.reload().problems
    assert "`isolation.runsc_from` must be one of low, moderate, high, critical" in str(problem)


def test_a_backend_that_there_is_not_is_an_error_of_the_settings(make_home: "MakeHome") -> None:
    with pytest.raises(ConfigError, match="settings that cannot be"):
        make_home(settings='[sandbox]\nbackend = "none"\n')


def test_only_what_is_chosen_is_proven(home: "Home") -> None:
    policy = home.parts.policy.get()
    assert backends_used("native", policy) == {}
    assert backends_used("bwrap", policy) == {"bwrap": True}
    assert policy is not None
    object.__setattr__(policy.parsed.risk, "runsc_from", Tier.HIGH)
    assert backends_used("native", policy) == {"runsc": False}
    object.__setattr__(policy.parsed.risk, "runsc_from", None)
