"""Cerbos beside us: a server of its own over the same rules, asked over a unix socket with its REST API.

In Cerbos a deny of one role does not outrank an allow of another, as here and in Casbin it does. So that the
answers are the same, each question is two actions of one request: may it, and is it forbidden.
"""

import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from benchmarks.workload import FACTS, KINDS, BenchRule, Workload
from gateway.domain.permission import LEVELS
from gateway.domain.request import AccessRequest
from gateway.policy.engine import PolicySet

PATH = "/api/check/resources"
BATCH = 50  # resources that Cerbos takes in one request as it is delivered
_FOLDER = Path(__file__).with_name("cerbos")
PROGRAM = _FOLDER / "node_modules" / "@cerbos" / "cerbos-linux-x64" / "cerbos-linux-x64"
_LOOK_S = 0.05
_INSTALL_S = 300
_TERMS: Mapping[str, str] = {
    "consent": "P.attr.consent",
    "risk<=40": "P.attr.risk <= 40",
    "risk<=60": "P.attr.risk <= 60",
    "hours(08:00-18:00 Mon-Fri Europe/Berlin)": "P.attr.open",
    "rate(100/60s)": "P.attr.used < 100",
    "context.safe != true": "!P.attr.safe",
}
_KNOWN = {"consent": True, "risk": FACTS.risk, "open": True, "used": 0, "safe": False}


class NotRunError(Exception):
    """Cerbos cannot be measured here; the text says why."""


def install() -> None:
    """Install the program that package-lock.json names by its hash.

    Raises:
        NotRunError: it cannot be had.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise NotRunError("no npm")
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", "--prefix", str(_FOLDER)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_INSTALL_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise NotRunError(f"npm could not install it: {type(error).__name__}") from None
    if not PROGRAM.is_file():
        raise NotRunError("its program is for Linux on x86-64")


class Cerbos:
    """A running server; `ask` and `ask_all` take questions, `cpu_s` is what it has worked."""

    def __init__(self, process: psutil.Process, connection: "_UnixConnection", policy: PolicySet) -> None:
        self._process, self._connection, self._policy = process, connection, policy

    def cpu_s(self) -> float:
        """Give the processor time that the server has used."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def resident_bytes(self) -> int:
        """Give the memory of the server."""
        return int(self._process.memory_info().rss)

    def ask(self, request: AccessRequest) -> bool:
        """Ask one question."""
        return self.ask_all([request])[0]

    def ask_all(self, requests: Sequence[AccessRequest]) -> list[bool]:
        """Ask questions of one subject in one request."""
        found = self._connection.post(PATH, question(self._policy, requests, _KNOWN))
        return answers(found, requests)


def question(policy: PolicySet, requests: Sequence[AccessRequest], known: Mapping[str, object]) -> dict[str, Any]:
    """Give the body that asks questions of one subject, of whom `known` is told."""
    closure = policy.roles.closure(requests[0].subject)
    return {
        "principal": {"id": str(requests[0].subject), "roles": [_role(name) for name in closure], "attr": {**known}},
        "resources": [
            {
                "resource": {"kind": each.kind, "id": str(number), "attr": {"scope": each.scope}},
                "actions": [f"may-{each.level}", f"forbid-{each.level}"],
            }
            for number, each in enumerate(requests)
        ],
    }


def answers(found: Mapping[str, Any], requests: Sequence[AccessRequest]) -> list[bool]:
    """Take what was answered as truth values."""
    return [
        one["actions"][f"may-{asked.level}"] == "EFFECT_ALLOW"
        and one["actions"][f"forbid-{asked.level}"] == "EFFECT_DENY"
        for one, asked in zip(found["results"], requests, strict=True)
    ]


@contextmanager
def cerbos(workload: Workload, policy: PolicySet, *, limit_s: float) -> Iterator[Cerbos]:
    """Run a server over the rules of a workload until the block ends.

    Raises:
        NotRunError: it did not come up in `limit_s`.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_config(folder)
        write_policies(workload, folder / "policies")
        command = [str(PROGRAM), "server", f"--config={folder / 'config.json'}", "--log-level=error"]
        environment = {"PATH": os.environ["PATH"], "HOME": name, "CERBOS_NO_TELEMETRY": "1"}
        with (folder / "log").open("wb") as log:
            started = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            _wait(started, folder, limit_s)
            with _UnixConnection(folder / "http.sock") as connection:
                yield Cerbos(psutil.Process(started.pid), connection, policy)
        finally:
            started.kill()
            started.wait()


def _wait(started: subprocess.Popen[bytes], folder: Path, limit_s: float) -> None:
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if started.poll() is not None:
            raise NotRunError(f"it ended: {(folder / 'log').read_text(encoding='utf-8')[-300:]}")
        try:
            with _UnixConnection(folder / "http.sock") as connection:
                if connection.is_well():
                    return
        except OSError:
            pass
        time.sleep(_LOOK_S)
    raise NotRunError(f"not loaded in the {limit_s:.0f} s that it was given")


def _write_config(folder: Path) -> None:
    config = {
        "server": {"httpListenAddr": f"unix:{folder / 'http.sock'}", "grpcListenAddr": f"unix:{folder / 'grpc.sock'}"},
        "storage": {"driver": "disk", "disk": {"directory": str(folder / "policies"), "watchForChanges": False}},
        "audit": {"enabled": False},
        "telemetry": {"disabled": True},
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def write_policies(workload: Workload, folder: Path) -> None:
    """Write the rules of a workload as Cerbos reads them, into a new folder."""
    folder.mkdir()
    for kind in KINDS:
        rules = [_rule(rule) for rule in workload.rules if rule.kind == kind]
        policy = {
            "apiVersion": "api.cerbos.dev/v1",
            "resourcePolicy": {"resource": kind, "version": "default", "rules": rules},
        }
        (folder / f"{kind}.json").write_text(json.dumps(policy), encoding="utf-8")


def _rule(rule: BenchRule) -> dict[str, Any]:
    rank = LEVELS[rule.level]
    allows = rule.effect == "allow"
    word = "may" if allows else "forbid"
    levels = [name for name, level in LEVELS.items() if (level <= rank if allows else level >= rank)]
    terms = [_scope(rule.scope)]
    terms += [] if rule.condition == "-" else [_TERMS[term] for term in rule.condition.split("; ")]
    return {
        "name": rule.id,
        "actions": [f"{word}-{level}" for level in levels],
        "roles": [_role(rule.subject)],
        "effect": "EFFECT_ALLOW",
        "condition": {"match": {"expr": " && ".join(terms)}},
    }


def _scope(scope: str) -> str:
    if scope.endswith("/*"):
        return f'(R.attr.scope == "{scope[:-2]}" || R.attr.scope.startsWith("{scope[:-1]}"))'
    if scope.startswith("*."):
        return f'R.attr.scope.endsWith("{scope[1:]}")'
    return f'R.attr.scope == "{scope}"'


def _role(subject: str) -> str:
    return subject.replace(":", "_")


class _UnixConnection:
    """One connection that stays open."""

    def __init__(self, path: Path) -> None:
        self._http = http.client.HTTPConnection("localhost")
        self._http.sock = socket.socket(socket.AF_UNIX)
        self._http.sock.connect(str(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def is_well(self) -> bool:
        self._http.request("GET", "/_cerbos/health")
        answer = self._http.getresponse()
        answer.read()
        return answer.status == http.HTTPStatus.OK

    def post(self, path: str, body: object) -> dict[str, Any]:
        self._http.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = self._http.getresponse()
        data = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise NotRunError(f"it answered {answer.status}: {data[:200].decode(errors='replace')}")
        found: dict[str, Any] = json.loads(data)
        return found
