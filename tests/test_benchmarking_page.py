"""The page on benchmarking: its commands work one after the other, its tiers are the gateway's."""

import os
import re
import subprocess
import sys
from pathlib import Path

from gateway.bench.tiers import EDGES, Tier, sample_needed
from gateway.http.benchmarks import MAX_CONCURRENCY, MAX_DURATION_S, BenchmarkBody

PAGE = (Path(__file__).parents[1] / "docs" / "benchmarking.md").read_text("utf-8")


def test_its_commands_work_as_they_stand(tmp_path: Path) -> None:
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
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
    assert "calls a second" in typed.stdout


def test_its_tiers_and_bounds_are_the_gateways() -> None:
    numbers = {
        "response_time": ("500 ms", "1,000 ms", "2,000 ms"),
        "error_rate": ("0.1 %", "1 %", "5 %"),
        "cpu": ("50 %", "75 %", "90 %"),
        "memory": ("50 %", "75 %", "90 %"),
        "disk": ("50 %", "75 %", "90 %"),
        "throughput": ("20", "5", "1"),
    }
    assert set(numbers) == set(EDGES)
    for dimension, edges in EDGES.items():
        scale = 100 if dimension == "error_rate" else 1
        told = [float(each.split()[0].replace(",", "")) for each in numbers[dimension]]
        assert told == [round(value * scale, 6) for value in edges.values]
        assert all(each in PAGE for each in numbers[dimension])
    assert [sample_needed(tier) for tier in Tier] == [1000, 100, 20, 20]
    assert "1,000 for platinum, 100 for gold, 20 below" in PAGE
    assert f"up to {MAX_DURATION_S}" in PAGE
    assert f"up to {MAX_CONCURRENCY}" in PAGE
    assert all(f"`{name}`" in PAGE for name in BenchmarkBody.model_fields if name != "payload")
