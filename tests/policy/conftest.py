from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.domain.names import Subject
from gateway.domain.request import AccessRequest, Facts
from gateway.policy.engine import PolicySet, build_policy_set
from gateway.policy.parse import ParsedPolicy, parse_policy
from gateway.policy.text import PolicyText

STARTER = Path(__file__).parents[2] / "policies"
NOON = datetime(2026, 11, 23, 11, tzinfo=UTC)  # a Monday, noon in Berlin

Edits = Mapping[str, str | bytes | None]
WithEdits = Callable[[Edits], PolicyText]
Build = Callable[..., PolicySet]
Ask = Callable[..., AccessRequest]


@pytest.fixture(scope="session")
def starter_text() -> PolicyText:
    paths = [path for path in STARTER.rglob("*") if path.is_file()]
    return PolicyText({path.relative_to(STARTER).as_posix(): path.read_bytes() for path in paths})


@pytest.fixture(scope="session")
def starter(starter_text: PolicyText) -> ParsedPolicy:
    return parse_policy(starter_text)


@pytest.fixture(scope="session")
def edited(starter_text: PolicyText) -> WithEdits:
    """Give the starter policy with some files replaced, added or (None) left out."""

    def make(edits: Edits) -> PolicyText:
        text = starter_text
        for path, content in edits.items():
            text = text.with_file(path, content.encode() if isinstance(content, str) else content)
        return text

    return make


@pytest.fixture(scope="session")
def build(edited: WithEdits) -> Build:
    """Give the set of the starter policy and `rules` besides."""

    def make(
        rules: str, memberships: Mapping[str, tuple[str, ...]] | None = None, **files: str | bytes | None
    ) -> PolicySet:
        endings = {"_csv": ".csv", "_toml": ".toml"}
        named = {
            name.removesuffix(end) + dot: files[name]
            for name in files
            for end, dot in endings.items()
            if name.endswith(end)
        }
        parsed = parse_policy(edited({"rules/90-here.csv": rules, **named}))
        assert not parsed.errors, [str(problem) for problem in parsed.problems]
        return build_policy_set(parsed, memberships=memberships or {}, generation=1)

    return make


@pytest.fixture(scope="session")
def ask() -> Ask:
    def make(subject: str, kind: str, level: str, scope: str) -> AccessRequest:
        return AccessRequest(subject=Subject(subject), user=None, kind=kind, level=level, scope=scope)

    return make


@pytest.fixture(scope="session")
def noon() -> Facts:
    return Facts(at=NOON)
