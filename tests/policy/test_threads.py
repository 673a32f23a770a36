"""Decisions of one thread do not depend on what another decides meanwhile."""

import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from gateway.domain.decision import Reason
from gateway.domain.names import Subject, UserId
from gateway.domain.request import AccessRequest, Facts
from gateway.policy.engine import build_policy_set
from gateway.policy.parse import parse_policy
from gateway.policy_files import read_policy_folder, starter_folder


@pytest.fixture
def _hasty() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_hasty")
def test_threads_that_decide_at_once_get_the_answers_of_one() -> None:
    parsed = parse_policy(read_policy_folder(starter_folder()))
    policy = build_policy_set(parsed, memberships={"plugin:notes": ("group:plugins",)}, generation=1)
    request = AccessRequest(
        subject=Subject("plugin:notes"), user=UserId("alice"), kind="file", level="read", scope="/etc/passwd"
    )
    facts = Facts(at=datetime(2026, 11, 23, tzinfo=UTC))
    with ThreadPoolExecutor(4) as threads:
        reasons = Counter(threads.map(lambda _: policy.decide(request, facts).reason, range(6000)))
    assert reasons == {Reason.RULE: 6000}
