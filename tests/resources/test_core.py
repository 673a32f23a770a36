from datetime import UTC, datetime

import pytest

from gateway.errors import NotFoundError
from gateway.resources.core import Core


def test_core_tells_its_facts_and_no_others() -> None:
    ticks = iter([100.0, 102.5])
    at = datetime(2026, 11, 22, 10, 0, 0, 5, tzinfo=UTC)
    core = Core(version="1.2.3", now=lambda: at, monotonic=lambda: next(ticks))
    assert core.get("version") == "1.2.3"
    assert core.get("time") == "2026-11-22T10:00:00.000005Z"
    assert core.get("uptime") == 2.5
    assert core.get("topics") == ["version", "time", "uptime", "topics"]
    with pytest.raises(NotFoundError, match=r"hostname.*version, time"):
        core.get("hostname")
