"""The probe tells what this host keeps: as root all of it, as an ordinary user what such a one can have."""
# ruff: noqa: ANN401  # the fixture's class lies in conftest, which tests do not import

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from sandbox.launcher import Launcher
from sandbox.probe import _probe_code, probe

NEEDS_ROOT_OR_DELEGATION = {"uid_per_plugin", "cg_memory", "cg_pids", "cg_cpu"}


def test_every_mandatory_guarantee_is_held(host: Any) -> None:
    told = {each["name"]: each for each in host.probe()}
    assert len(told) > 20
    missing = {name: each for name, each in told.items() if not each["held"]}
    assert set(missing) <= NEEDS_ROOT_OR_DELEGATION, missing
    assert not any(each["mandatory"] for each in missing.values())
    assert all(each["fix"] for each in missing.values()), "what is missing names a way out"


def test_what_is_held_follows_what_the_host_offers(host: Any) -> None:
    told = {each["name"]: each["held"] for each in host.probe()}
    assert told["uid_per_plugin"] == (host.uid == 0)
    for name in ("memory", "pids", "cpu"):
        assert told[f"cg_{name}"] == (name in host.started["controllers"])


@pytest.mark.parametrize("interpreter", ["/bin/true", "/nonexistent"])
def test_a_host_where_no_cell_can_be_made_is_told_so(interpreter: str) -> None:
    [told] = probe(Launcher(interpreter=interpreter))
    assert (told.name, told.held, told.mandatory) == ("cell", False, True)


def test_what_a_killed_probe_left_is_removed_by_a_later_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name, age_s in {"hearthgate-probe-old": 7200, "hearthgate-probe-new": 0, "other-old": 7200}.items():
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    (tmp_path / "hearthgate-probe-link").symlink_to(elsewhere)
    with _probe_code() as folder:
        assert Path(folder, "main.py").is_file()
        left = {each.name for each in tmp_path.iterdir()} - {Path(folder).name}
    assert left == {"hearthgate-probe-new", "hearthgate-probe-link", "other-old", "elsewhere"}
    assert elsewhere.is_dir()
