"""What AuthZEN's words cost: the same questions over `POST /v1/decisions` and `/access/v1/evaluation`, in turns.

Both are recorded durably by one gateway on one core; each is asked on its straight way and on the framework's, which
an evaluation takes when its client gives it an id.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import wrk
from benchmarks.log import ASKED, RULES, Server, Turn, compare, follower_of, gateway, take_turn
from benchmarks.log_workload import make_home
from benchmarks.typed_decisions import PATH as TYPED_PATH

CONNECTIONS = (1, 32)
MOST = 1.3
_WAYS = {"straight": ("/v1/decisions", {}), "framework": (TYPED_PATH, {"X-Request-ID": "1"})}


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=4)
    options.add_argument("--seconds", type=int, default=3)
    chosen = options.parse_args()
    if not wrk.installed():
        sys.exit(wrk.HOW_TO_GET)
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("two cores are needed: one for the server, one for the load")
    with tempfile.TemporaryDirectory() as name:
        home = Path(name) / "home"
        ours = make_home(home, RULES, ASKED).ours
        with gateway(home, "on") as (process, told):
            key = {"Authorization": f"Bearer {told['key']}"}
            asked = {"decisions": [_dry(body) for body in ours], "evaluation": [_evaluation(body) for body in ours]}
            pairs = {}
            for way, (path, more) in _WAYS.items():
                paths = {"decisions": path, "evaluation": "/access/v1/evaluation"}
                pairs[way] = [
                    Server(
                        name=f"{words}, {way}", url=f"http://127.0.0.1:{told['port']}{paths[words]}", process=process,
                        questions=wrk.write_questions(_folder(home, f"{words}-{way}"), asked[words], {**key, **more}),
                        follower=follower_of(process), data=home / "data", bodies=asked[words],
                        headers={**key, **more}, allowed=_allowed,
                    )
                    for words in asked
                ]  # fmt: skip
            compare([server for pair in pairs.values() for server in pair])
            for connections in CONNECTIONS:
                for way, pair in pairs.items():
                    turns: list[list[Turn]] = [[], []]
                    for _ in range(chosen.rounds):
                        for server, taken in zip(pair, turns, strict=True):
                            taken.append(take_turn(server, connections, chosen.seconds))
                    tell(way, connections, turns)


def tell(way: str, connections: int, turns: Sequence[Sequence[Turn]]) -> None:
    """Print what one pair came to."""
    costs = [statistics.median(turn.cpu_us for turn in each) for each in turns]
    rates = [statistics.median(turn.load.rate for turn in each) for each in turns]
    late = [statistics.median(turn.load.p99_us for turn in each) / 1000 for each in turns]
    for words, rate, cost, p99 in zip(("decisions", "evaluation"), rates, costs, late, strict=True):
        print(f"{way:9} {connections:3} connections  {words:10} {rate:7.0f}/s  p99 {p99:6.2f} ms  {cost:5.0f} cpu us")
    print(f"{way:9} {connections:3} connections  costs {costs[1] / costs[0]:.2f} of a decision (promised: {MOST})")


def _folder(home: Path, name: str) -> Path:
    folder = home.parent / name
    folder.mkdir()
    return folder


def _dry(body: bytes) -> bytes:
    return json.dumps({**json.loads(body), "dry_run": True}).encode()


def _evaluation(body: bytes) -> bytes:
    asked = json.loads(body)
    kind, name = asked["subject"].split(":", 1)
    what, _, level = asked["permission"].rpartition("_")
    return json.dumps(
        {
            "subject": {"type": kind, "id": name, "properties": {"user": asked["user"]}},
            "action": {"name": level},
            "resource": {"type": what, "id": asked["scope"]},
            "context": asked["context"],
        }
    ).encode()


def _allowed(found: dict[str, Any], _number: int) -> bool:
    return found["decision"] is True if "decision" in found else found["effect"] == "allow"


if __name__ == "__main__":
    main()
