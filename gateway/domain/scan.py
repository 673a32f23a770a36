"""What a security scan found in a plugin's code."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from gateway.domain.request import Json

SEVERITIES = ("high", "medium", "low")
_LEVELS = {"high": "error", "medium": "warning", "low": "note"}
_MAX_TEXT = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was found, at its place."""

    rule: str
    severity: str  # one of SEVERITIES
    confidence: str
    file: str
    line: int
    text: str

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {
            "rule": self.rule,
            "severity": self.severity,
            "confidence": self.confidence,
            "file": self.file,
            "line": self.line,
            "text": self.text,
        }

    @classmethod
    def read(cls, raw: Mapping[str, Json]) -> "Finding":
        """Take the wire shape; what is no severity counts as the highest."""
        severity = str(raw.get("severity", "")).lower()
        line = raw.get("line")
        return cls(
            rule=str(raw.get("rule", ""))[:40],
            severity=severity if severity in SEVERITIES else SEVERITIES[0],
            confidence=str(raw.get("confidence", "")).lower()[:10],
            file=str(raw.get("file", ""))[:_MAX_TEXT],
            line=line if isinstance(line, int) and not isinstance(line, bool) and line > 0 else 1,
            text=str(raw.get("text", ""))[:_MAX_TEXT],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """The scan of one snapshot; `accepted_by` took what it found upon themselves."""

    plugin_id: str
    digest: str
    scanner: str
    at: str
    findings: tuple[Finding, ...]
    accepted_by: str | None = None
    accepted_at: str | None = None
    reason: str | None = None

    @property
    def counts(self) -> dict[str, Json]:
        """How many findings there are of each severity."""
        found = Counter(each.severity for each in self.findings)
        return {severity: found[severity] for severity in SEVERITIES}

    @property
    def passed(self) -> bool:
        """Whether nothing of high severity was found."""
        return not self.counts[SEVERITIES[0]]

    @property
    def stands(self) -> bool:
        """Whether it lets the code be approved."""
        return self.passed or self.accepted_by is not None

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {
            "plugin_id": self.plugin_id,
            "digest": self.digest,
            "scanner": self.scanner,
            "at": self.at,
            "passed": self.passed,
            "counts": self.counts,
            "accepted_by": self.accepted_by,
            "accepted_at": self.accepted_at,
            "reason": self.reason,
            "findings": [each.as_json() for each in self.findings],
        }

    def as_sarif(self) -> dict[str, Json]:
        """Give it as SARIF 2.1.0, for programs that show findings beside code."""
        name, _, version = self.scanner.partition(" ")
        rules: list[Json] = [{"id": each} for each in sorted({each.rule for each in self.findings})]
        return {
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [
                {
                    "tool": {"driver": {"name": name, "version": version, "rules": rules}},
                    "automationDetails": {"id": f"{self.plugin_id}/{self.digest}"},
                    "results": [_result(each) for each in self.findings],
                }
            ],
        }


def _result(finding: Finding) -> Json:
    place: Json = {
        "physicalLocation": {
            "artifactLocation": {"uri": quote(finding.file), "uriBaseId": "PLUGIN"},
            "region": {"startLine": finding.line},
        }
    }
    return {
        "ruleId": finding.rule,
        "level": _LEVELS[finding.severity],
        "message": {"text": finding.text},
        "locations": [place],
        "properties": {"severity": finding.severity, "confidence": finding.confidence},
    }
