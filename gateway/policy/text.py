"""The text of a policy: its files as bytes, and the version that names exactly these bytes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

MODEL = "model.conf"
ROLES = "roles.csv"
GRANTS = "grants.csv"
CONDITIONS = "conditions.toml"
RISK = "risk.toml"
APPROVAL = "approval.toml"
ENTITIES = "entities.toml"
REQUIRED = (MODEL, ROLES, RISK)
KNOWN_FILES = (MODEL, ROLES, GRANTS, CONDITIONS, RISK, APPROVAL, ENTITIES)


@dataclass(frozen=True)
class PolicyText:
    """The files of a policies folder as they were read, by their path inside it."""

    files: Mapping[str, bytes]
    _digests: dict[str, bytes] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", MappingProxyType(dict(sorted(self.files.items()))))

    @cached_property
    def version(self) -> str:
        """The name of exactly these bytes, as `sha256:<hex>`."""
        digest = hashlib.sha256()
        for path in self.files:
            digest.update(path.encode() + b"\0" + self.digest(path))
        return f"sha256:{digest.hexdigest()}"

    def digest(self, path: str) -> bytes:
        """Give the SHA-256 of one file."""
        # WHY: a grant changes one small file; the large ones beside it need not be read through again.
        if path not in self._digests:
            self._digests[path] = hashlib.sha256(self.files[path]).digest()
        return self._digests[path]

    @property
    def rule_files(self) -> tuple[str, ...]:
        """The rules files in the order in which they are merged."""
        return tuple(path for path in self.files if is_rule_file(path))

    @property
    def case_files(self) -> tuple[str, ...]:
        """The files of cases in name order."""
        return tuple(path for path in self.files if is_case_file(path))

    def with_file(self, path: str, data: bytes | None) -> "PolicyText":
        """Give the same text but for one file; None leaves it out."""
        others = {name: content for name, content in self.files.items() if name != path}
        text = PolicyText(others if data is None else {**others, path: data})
        text._digests.update((name, known) for name, known in self._digests.items() if name != path)
        return text


def is_rule_file(path: str) -> bool:
    """Tell whether `path` is one of `rules/*.csv`."""
    return path.startswith("rules/") and path.endswith(".csv") and path.count("/") == 1


def is_case_file(path: str) -> bool:
    """Tell whether `path` is one of `tests/*.toml`."""
    return path.startswith("tests/") and path.endswith(".toml") and path.count("/") == 1
