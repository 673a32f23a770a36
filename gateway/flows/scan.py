"""To scan a plugin's code: bandit reads the snapshot in a cell of its own, and what it finds may hold an approval."""

import importlib.metadata
import importlib.util
from pathlib import Path

from gateway.domain.caller import Caller
from gateway.domain.decision import timestamp
from gateway.domain.permission import Level
from gateway.domain.request import Json
from gateway.domain.scan import Finding, Scan
from gateway.errors import ConflictError, MalformedError, NotFoundError
from gateway.flows.authorize import authorize
from gateway.flows.event import event
from gateway.flows.inspection import Reading, read_snapshot
from gateway.flows.lifecycle import find
from gateway.flows.parts import Parts
from gateway.registry.plugins import Plugin

_SCAN_S = 60.0
_MEMORY_MB = 512


async def scan_plugin(parts: Parts, caller: Caller, plugin_id: str) -> Scan:
    """Scan the code that a plugin has now, and keep what is found with its digest.

    Raises:
        DeniedError: the caller may not.
        ConflictError: it has no code, or bandit is not installed.
    """
    await authorize(parts, caller, Level.ADMIN, f"plugins/{plugin_id}", key_scope="approve")
    return await scan_code(parts, caller, find(parts, plugin_id))


async def read_scan(parts: Parts, caller: Caller, plugin_id: str) -> Scan:
    """Give the scan of the code that a plugin has now.

    Raises:
        DeniedError: the caller may not.
        NotFoundError: that code was not scanned.
    """
    await authorize(parts, caller, Level.READ, f"plugins/{plugin_id}")
    plugin = find(parts, plugin_id)
    scan = parts.registry.vetting.scan(plugin.id, plugin.digest)
    if scan is None:
        raise NotFoundError(
            f"the code of `{plugin.id}` was not scanned", way_out=f"`hearthgate plugin scan {plugin.id}`"
        )
    return scan


async def accept_scan(parts: Parts, caller: Caller, plugin_id: str, digest: str, reason: str) -> Scan:
    """Take what the scan of this very code found upon oneself, so that it may be approved all the same.

    Raises:
        DeniedError: the caller may not.
        MalformedError: no reason is given.
        NotFoundError: there is no scan of that code.
    """
    await authorize(parts, caller, Level.ADMIN, f"plugins/{plugin_id}", key_scope="approve")
    plugin = find(parts, plugin_id)
    if not reason.strip():
        raise MalformedError("reason: say why the findings are accepted")
    scan = parts.registry.vetting.scan(plugin.id, digest)
    if scan is None:
        raise NotFoundError(f"there is no scan of `{plugin.id}` with the digest `{digest[:80]}`")
    facts: dict[str, Json] = {"digest": scan.digest, "counts": scan.counts, "accepted": True, "reason": reason}
    await parts.log.append(event(parts, caller, "security_scan", plugin.id, facts))
    parts.registry.vetting.accept_scan(scan, by=caller.user_id, at=parts.now(), reason=reason)
    return parts.registry.vetting.scan(plugin.id, digest) or scan


async def scan_code(parts: Parts, caller: Caller, plugin: Plugin) -> Scan:
    """Scan a plugin's code, and record and keep what is found; a scanner that failed is a finding, too.

    Raises:
        ConflictError: it has no code, or bandit is not installed.
    """
    if plugin.digest is None:
        raise ConflictError(f"`{plugin.id}` has no code", way_out=f"put it in plugins/{plugin.id}/")
    scanner, packages = _bandit(plugin)
    reading = Reading(
        file="bandit_scan.py",
        function="scan",
        packages=str(packages),
        timeout_s=_SCAN_S,
        memory_mb=_MEMORY_MB,
        processes=8,
    )
    facts: dict[str, Json] = {"digest": plugin.digest, "scanner": scanner}
    try:
        told = await read_snapshot(parts, plugin.id, plugin.digest, reading)
    except MalformedError as error:
        # SECURITY: code that its scanner cannot finish is kept as what it is, not tried again by every call.
        told = {"findings": [{"rule": "HG004", "severity": "high", "confidence": "high", "text": error.message}]}
    scan = Scan(
        plugin_id=plugin.id,
        digest=plugin.digest,
        scanner=scanner,
        at=timestamp(parts.now()),
        findings=tuple(Finding.read(each) for each in told["findings"]),
    )
    facts |= {"counts": scan.counts, "findings": len(scan.findings), "passed": scan.passed}
    record = event(parts, caller, "security_scan", plugin.id, facts)
    await parts.log.append(record)
    parts.registry.vetting.keep_scan(scan)
    return scan


def _bandit(plugin: Plugin) -> tuple[str, Path]:
    found = importlib.util.find_spec("bandit")
    if found is None or found.origin is None:
        # INVARIANT: a scan that was asked for is never passed over in silence.
        raise ConflictError(
            f"`{plugin.id}` wants a security scan, and bandit is not installed",
            way_out="pip install bandit where the gateway runs, and restart it",
        )
    return f"bandit {importlib.metadata.version('bandit')}", Path(found.origin).resolve().parents[1]
