"""To diagnose: what this home and its host lack, and what would mend it."""

import importlib.metadata
import sqlite3
from collections.abc import Mapping

from gateway import descriptors
from gateway.domain.request import Json
from gateway.flows.neighbours import neighbours
from gateway.flows.parts import Parts

# SQLite before this has a bug by which two connections that write at once can corrupt a WAL database.
_SQLITE_WAL_FIXED = (3, 51, 3)


def readiness(parts: Parts) -> list[Json]:
    """Name what is missing for a call to be decided, recorded and confined; empty when ready."""
    missing: list[Json] = []
    if parts.policy.get() is None:
        missing.append("no policy is in force: `hearthgate policy check` names the problems")
    if not parts.log.healthy:
        missing.append(f"the decision log cannot be written: {parts.log.why}")
    if not parts.host.guarantees:
        missing.append("the sandbox is not proven yet")
    missing += [f"sandbox: {each.name}: {each.detail}: {each.fix}" for each in parts.host.missing]
    return missing


def diagnose(parts: Parts, *, asking: int | None = None) -> Mapping[str, Json]:
    """Prove the host anew and tell everything that is missing; `ok` only if nothing is that is needed.

    `asking` is the process that wants to know, and is no neighbour of the gateway for that.
    """
    parts.host.prove()
    missing = readiness(parts)
    host: list[Json] = [*parts.host.as_json()]
    return {
        "ok": not missing,
        "missing": missing,
        "warnings": _warnings(parts, asking),
        "host": host,
        "versions": {
            "hearthgate": importlib.metadata.version("hearthgate"),
            "casbin": importlib.metadata.version("casbin"),
            "sqlite": sqlite3.sqlite_version,
        },
    }


def _warnings(parts: Parts, asking: int | None) -> list[Json]:
    warnings: list[Json] = [str(problem) for problem in parts.policy.problems]
    if sqlite3.sqlite_version_info < _SQLITE_WAL_FIXED:
        warnings.append(
            f"SQLite {sqlite3.sqlite_version} has a WAL bug that two writing connections can hit; "
            "the gateway keeps one for each database, so let no other program write them"
        )
    if (others := neighbours(asking)) is not None:
        warnings.append(others)
    descriptors.raise_limit()
    if (room := descriptors.room()) < descriptors.MOST_CONNECTIONS:
        warnings.append(
            f"there are descriptors for {room} connections at each address, not {descriptors.MOST_CONNECTIONS}: "
            f"raise the hard limit (`LimitNOFILE={descriptors.ENOUGH}` of a unit, `ulimit -Hn`)"
        )
    warnings += [
        f"sandbox: {each.name}: {each.detail}: {each.fix}"
        for each in parts.host.guarantees
        if not each.held and not each.mandatory
    ]
    warnings += [
        f"plugin `{each.id}` declines its sandbox: "
        + ("hearthgate.toml accepts it" if each.id in parts.unconfined else "hearthgate.toml does not name it any more")
        for each in parts.registry.plugins.all()
        if not each.manifest.sandbox
    ]
    return warnings
