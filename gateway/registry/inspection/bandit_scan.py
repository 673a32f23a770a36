"""Bandit over a snapshot; runs in a cell, which sees bandit among its packages, and the snapshot."""

import logging
from pathlib import Path
from typing import Any

INSPECTED = "/inspected"
MAX_FINDINGS = 500
_COMPILED = frozenset({".pyc", ".pyo", ".so", ".pyd", ".pth", ".egg", ".whl", ".zip"})
_BY_NAME = "HG001"
_UNREAD = "HG002"
_MORE = "HG003"
_PASSWORDS = frozenset({"B105", "B106", "B107"})


def scan(_ctx: object) -> dict[str, Any]:
    """Give the findings, the worst first; what could not be looked at is one of them."""
    from bandit.core.config import BanditConfig  # noqa: PLC0415 (it is there in the cell alone)
    from bandit.core.manager import BanditManager  # noqa: PLC0415 (same)

    logging.disable(logging.CRITICAL)
    # SECURITY: no word of the code itself, as `# nosec`, makes anything unseen.
    manager = BanditManager(BanditConfig(), "file", ignore_nosec=True)
    manager.discover_files([INSPECTED], recursive=True)
    manager.run_tests()
    found = [_finding(issue.as_dict(with_code=False)) for issue in manager.get_issue_list("LOW", "LOW")]
    found += [_told(_UNREAD, name, f"it could not be scanned: {why}") for name, why in manager.get_skipped()]
    found += [
        _told(_BY_NAME, str(path), "compiled or packed code cannot be scanned")
        for path in sorted(Path(INSPECTED).rglob("*"))
        if path.suffix.lower() in _COMPILED
    ]
    order = ["HIGH", "MEDIUM", "LOW"]
    found.sort(key=lambda each: (order.index(each["severity"]), each["file"], each["line"]))
    if len(found) > MAX_FINDINGS:
        rest = _told(_MORE, INSPECTED, f"{len(found) - MAX_FINDINGS} more were found")
        found = [rest, *found[:MAX_FINDINGS]]
    return {"findings": found}


def _finding(issue: dict[str, Any]) -> dict[str, Any]:
    severity, text = issue["issue_severity"], issue["issue_text"]
    # SECURITY: what may be a secret is told of by its place alone.
    text = text.partition(":")[0] if issue["test_id"] in _PASSWORDS else text
    return {
        "rule": issue["test_id"],
        "severity": severity if severity in {"HIGH", "MEDIUM", "LOW"} else "HIGH",
        "confidence": issue["issue_confidence"],
        "file": _inside(issue["filename"]),
        "line": issue["line_number"],
        "text": text,
    }


def _told(rule: str, name: str, text: str) -> dict[str, Any]:
    place = {"rule": rule, "file": _inside(name), "line": 1}
    return {**place, "severity": "HIGH", "confidence": "HIGH", "text": text}


def _inside(name: str) -> str:
    return str(name).removeprefix(f"{INSPECTED}/")
