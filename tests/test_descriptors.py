"""Descriptors: as many connections as the kernel gives room for, and some kept back for everything else."""

import json
import subprocess
import sys

import pytest

SHOW = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
from gateway import descriptors
print(json.dumps([descriptors.raise_limit(), descriptors.room()]))
"""
ENOUGH, MOST = 14_336, 12_288


@pytest.mark.parametrize(
    ("soft", "hard", "limit", "room"),
    [
        (1024, 20_000, ENOUGH, MOST),
        (1024, ENOUGH, ENOUGH, MOST),
        (1024, 4096, 4096, 2048),
        (1024, 1024, 1024, 256),
        (20_000, 20_000, 20_000, MOST),
    ],
)
def test_the_soft_limit_is_raised_as_far_as_it_may(soft: int, hard: int, limit: int, room: int) -> None:
    shown = subprocess.run(
        [sys.executable, "-c", SHOW, str(soft), str(hard)], check=False, capture_output=True, text=True, timeout=60
    )
    assert json.loads(shown.stdout or "null") == [limit, room], shown.stderr
