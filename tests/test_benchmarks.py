"""What the benchmarks start, and no other test does: it must still be there when somebody measures."""

import http.client
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.log_workload import make_home
from benchmarks.typed_decisions import PATH as TYPED

ROOT = Path(__file__).parents[1]
PATIENCE_S = 60


@pytest.mark.parametrize("log", ["on", "off"])
def test_the_gateway_that_is_measured_answers_as_one_that_serves(tmp_path: Path, log: str) -> None:
    questions = make_home(tmp_path / "home", 20, 5)
    command = [sys.executable, "-m", "benchmarks.log_house", str(tmp_path / "home"), "--core", "0", "--log", log]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        told = json.loads(started.stdout.readline())
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {told['key']}"}
        for path in ("/v1/decisions", TYPED):
            effects = set()
            for body in questions.ours:
                connection = http.client.HTTPConnection("127.0.0.1", told["port"], timeout=PATIENCE_S)
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                assert answer.status == 200
                effects.add(json.loads(answer.read())["effect"])
                connection.close()
            assert effects <= {"allow", "deny"}
        started.send_signal(signal.SIGTERM)
        assert started.wait(PATIENCE_S) == 0
