"""The page on approvals: its commands work one after the other, its table names every call there is."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.flows.call_approval import APPROVED_FOR, LONGEST
from gateway.flows.deeds import DEEDS
from gateway.flows.exact import BLOB_OF, SCOPE_OF
from gateway.registry.call_approvals import DENIED_FOR, MOST_PENDING, PENDING_FOR

PAGE = (Path(__file__).parents[1] / "docs" / "approvals.md").read_text("utf-8")


SCRIPTS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("script", SCRIPTS, ids=["calls", "grants and consents"])
def test_its_commands_work_as_they_stand(tmp_path: Path, script: str) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HEARTHGATE_")}
    typed = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={**clean, "PATH": f"{Path(sys.executable).parent}:{clean['PATH']}"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert typed.returncode == 0, typed.stdout + typed.stderr
    for told in re.findall(r'\|\| echo "(refused: .*?)"', script):
        assert told in typed.stdout, typed.stdout + typed.stderr


def test_it_says_of_each_call_which_arguments_are_bound() -> None:
    table = PAGE[PAGE.index("| call | arguments |") : PAGE.index("A connection through the relay")]
    rows = [
        [re.findall(r"`([^`]+)`", cell) for cell in line.split("|")[1:3]] for line in table.splitlines()[2:] if line
    ]
    told = {call: arguments for calls, arguments in rows for call in calls}
    assert set(SCOPE_OF) == set(DEEDS) <= set(told)
    for op, scope in SCOPE_OF.items():
        assert scope not in told[op]
        assert (op in BLOB_OF) == (BLOB_OF.get(op) in told[op])


def test_its_times_and_bounds_are_the_gateways() -> None:
    assert (PENDING_FOR.days, LONGEST.days) == (1, 7)
    assert APPROVED_FOR.total_seconds() == DENIED_FOR.total_seconds() == 3600
    assert f"At most {MOST_PENDING} calls" in PAGE
