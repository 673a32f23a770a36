"""What was found out about an exported file."""

from dataclasses import dataclass, field

from gateway.audit.chunk import MAX_PROBLEMS

MAX_FINDINGS = MAX_PROBLEMS
UNSIGNED_NOTE = "the signer was not checked: without the log's key, whoever made this file may have made it all up"
FILTERED_NOTE = (
    "a filtered export proves that each line is in the log and that the file is as it was exported; "
    "it does not prove that no other record would have matched"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is wrong, and the line it is on; lines count from 1."""

    line: int | None
    message: str

    def __str__(self) -> str:
        return self.message if self.line is None else f"line {self.line} {self.message}"


@dataclass(slots=True, kw_only=True)
class Verification:
    """What a file proves, or why it proves nothing; the first finding is the first bad line."""

    lines: int = 0
    unit: str = "lines"
    first_seq: int | None = None
    last_seq: int | None = None
    size: int | None = None
    root: str | None = None
    origin: str | None = None
    complete: bool = False  # the file holds every record up to its size
    signer_checked: bool = False
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def add(self, line: int | None, message: str) -> None:
        """Note something wrong; beyond some, only the first ones are kept."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(line=line, message=message))

    def as_json(self) -> dict[str, object]:
        """Give the wire shape."""
        return {
            "ok": self.ok,
            "lines": self.lines,
            "first_seq": self.first_seq,
            "last_seq": self.last_seq,
            "size": self.size,
            "root": self.root,
            "origin": self.origin,
            "complete": self.complete,
            "signer_checked": self.signer_checked,
            "findings": [{"line": found.line, "message": found.message} for found in self.findings],
            "notes": self.notes,
        }
