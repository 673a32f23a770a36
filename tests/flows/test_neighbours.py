"""Who shares the gateway's user is named, for each of them is the owner."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from gateway.flows import neighbours as module
from gateway.flows.neighbours import neighbours


def test_a_program_of_the_same_user_is_named_and_our_own_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_NAMED", 10_000)
    program = tmp_path / "an-agent"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    own = subprocess.Popen([program, "60"])
    try:
        assert "an-agent" not in (neighbours() or "")
        # a shell that ends leaves its program to whoever looks after orphans
        told = subprocess.run(
            ["sh", "-c", f"{program} 60 >/dev/null 2>&1 & echo $!"], check=True, capture_output=True, text=True
        )
        other = int(told.stdout)
        try:
            after = neighbours()
            assert after is not None
            assert "an-agent" in after
            assert f"uid {os.geteuid()}" in after
            assert "an-agent" not in (neighbours(asking=other) or "")
        finally:
            os.kill(other, signal.SIGKILL)
    finally:
        own.kill()
        own.wait()


def test_who_is_alone_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "geteuid", lambda: 0x6000_0042)
    assert neighbours() is None
