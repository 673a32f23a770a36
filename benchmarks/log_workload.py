"""What the servers are asked: the rules of the policy benchmark, their conditions over what comes with the question."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.cerbos_server import question
from benchmarks.workload import Workload, make_workload
from gateway.app import init_home
from gateway.domain.permission import PERMISSIONS
from gateway.domain.request import AccessRequest
from gateway.policy.engine import PolicySet, build_policy_set
from gateway.policy.parse import parse_policy
from gateway.policy_files import read_policy_folder

USER = "host"
CONTEXT = {"consent": True, "open": True, "used": 0, "safe": False}
# WHY: so that the answer depends on nothing that a server counts or looks up for itself, whatever the hour.
_SENT = {
    "consent": "context.consent == true",
    "hours(08:00-18:00 Mon-Fri Europe/Berlin)": "context.open == true",
    "rate(100/60s)": "context.used < 100",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """One workload, and its questions as each server takes them."""

    workload: Workload
    policy: PolicySet
    ours: tuple[bytes, ...]
    cerbos: tuple[bytes, ...]


def make_home(folder: Path, rules: int, asked: int) -> Questions:
    """Make a home whose policy has the rules of the workload beside the starter's, and give its questions."""
    made = make_workload(rules, asked=asked)
    # WHY: the route takes names of permissions, and not every kind has every level.
    workload = replace(made, asked=tuple(each for each in made.asked if each.permission in PERMISSIONS))
    sent = tuple(replace(rule, condition=_over_what_is_sent(rule.condition)) for rule in workload.rules)
    text = replace(workload, rules=sent).text
    init_home(folder)
    policies = folder / "policies"
    for name in ("roles.csv", "rules/50-bench.csv"):
        with (policies / name).open("ab") as file:
            file.write(text.files[name])
    with (policies / "roles.csv").open("a") as file:
        file.write(f"g, user:{USER}, role:operator\n")
    policy = build_policy_set(parse_policy(read_policy_folder(policies)), memberships={}, generation=1)
    return Questions(
        workload=workload,
        policy=policy,
        ours=tuple(json.dumps(_question(each)).encode() for each in workload.asked),
        cerbos=tuple(
            json.dumps(question(policy, [each], {**CONTEXT, "risk": policy.score(each).score})).encode()
            for each in workload.asked
        ),
    )


def _over_what_is_sent(condition: str) -> str:
    return "; ".join(_SENT.get(term, term) for term in condition.split("; "))


def _question(asked: AccessRequest) -> Mapping[str, object]:
    return {
        "subject": asked.subject,
        "permission": asked.permission,
        "scope": asked.scope,
        "user": "alice",
        "context": CONTEXT,
    }
